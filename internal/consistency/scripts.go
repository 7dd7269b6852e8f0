package consistency

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/understudy-dr/understudy/internal/fault"
)

// The phases are directories below the scripts' one.
const (
	phasePre  = "pre-freeze"
	phasePost = "post-thaw"
)

// What the scripts of phasePost are told.
const (
	resultTaken     = "taken"
	resultFailed    = "failed"
	resultAbandoned = "abandoned" // an agent died; this is the next
)

// argument is what each phase's scripts are called with: the word that QEMU's guest agent uses, so that its hooks work.
var argument = map[string]string{phasePre: "freeze", phasePost: "thaw"}

const (
	killAfter   = 2 * time.Second // a script that was told to end
	outputKept  = 2 << 10         // bytes of a script's output, its last
	headRead    = 1 << 10         // where a script names its time-out
	timeoutMark = "understudy-timeout:"
)

type script struct {
	path, name string
	phase      string
	timeout    time.Duration
}

// listScripts lists a phase's scripts in the order to run them. No directory is no scripts.
func listScripts(dir, phase string, timeout time.Duration) ([]script, error) {
	dir = filepath.Join(dir, phase)
	entries, err := os.ReadDir(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fault.New(fault.Invalid, "consistency: scripts", "%w", err)
	}
	if err := trusted(dir, true); err != nil {
		return nil, err
	}
	var out []script
	for _, e := range entries {
		s := script{path: filepath.Join(dir, e.Name()), name: phase + "/" + e.Name(), phase: phase, timeout: timeout}
		info, err := os.Stat(s.path)
		if err != nil || !info.Mode().IsRegular() || info.Mode()&0o111 == 0 || strings.HasPrefix(e.Name(), ".") || strings.HasSuffix(e.Name(), "~") {
			continue
		}
		if err := trusted(s.path, false); err != nil {
			return nil, err
		}
		if err := s.readTimeout(); err != nil {
			return nil, err
		}
		out = append(out, s)
	}
	if phase == phasePost {
		slices.Reverse(out)
	}
	return out, nil
}

// trusted refuses what somebody else could have us run.
func trusted(path string, directory bool) error {
	var st unix.Stat_t
	if err := unix.Stat(path, &st); err != nil {
		return fault.New(fault.Invalid, "consistency: scripts", "%s: %w", path, err)
	}
	if st.Uid != uint32(os.Geteuid()) || st.Mode&0o022 != 0 {
		return fault.New(fault.Denied, "consistency: scripts", "%s could be changed by others than root", path).
			WithHint("chown root and chmod go-w: it is run as root")
	}
	if directory {
		return trusted(filepath.Dir(path), false)
	}
	return nil
}

// readTimeout looks for "understudy-timeout: 90s" near the beginning, as in a comment.
func (s *script) readTimeout() error {
	f, err := os.Open(s.path)
	if err != nil {
		return fault.New(fault.Invalid, "consistency: scripts", "%w", err)
	}
	defer f.Close()
	head := make([]byte, headRead)
	n, _ := f.Read(head) // an empty file names none
	lines := bufio.NewScanner(bytes.NewReader(head[:n]))
	for lines.Scan() {
		_, value, ok := strings.Cut(lines.Text(), timeoutMark)
		if !ok {
			continue
		}
		d, err := time.ParseDuration(strings.TrimSpace(value))
		if err != nil || d < time.Second || d > MaxScriptTimeout {
			return fault.New(fault.Invalid, "consistency: scripts", "%s: %s %q is no duration from 1s to %s", s.path, timeoutMark,
				strings.TrimSpace(value), MaxScriptTimeout)
		}
		s.timeout = d
		return nil
	}
	return nil
}

func environment(phase, id string, mounts []string, result string) []string {
	env := []string{"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "HOME=/", "LC_ALL=C.UTF-8",
		"UNDERSTUDY_PHASE=" + phase, "UNDERSTUDY_POINT=" + id, "UNDERSTUDY_FILE_SYSTEMS=" + strings.Join(mounts, ":")}
	if result != "" {
		env = append(env, "UNDERSTUDY_RESULT="+result)
	}
	return env
}

func (r *run) environment(phase, result string) []string {
	return environment(phase, r.point.ID, r.point.FileSystems, result)
}

// runAfter runs all scripts of phasePost, whatever becomes of each.
func runAfter(ctx context.Context, c Config, env []string) (failed []error) {
	scripts, err := listScripts(c.Dir, phasePost, c.ScriptTimeout)
	if err != nil {
		return []error{err}
	}
	for _, s := range scripts {
		if err := s.run(ctx, env); err != nil {
			failed = append(failed, err)
		}
	}
	return failed
}

// run waits for a script, for as long as it may take. At the end of that its whole process group is ended.
func (s script) run(ctx context.Context, env []string) error {
	ctx, cancel := context.WithTimeout(ctx, s.timeout)
	defer cancel()
	var out tail
	cmd := exec.CommandContext(ctx, s.path, argument[s.phase])
	cmd.Env, cmd.Dir, cmd.Stdout, cmd.Stderr = append(env, "UNDERSTUDY_TIMEOUT="+s.timeout.String()), "/", &out, &out
	cmd.WaitDelay = killAfter
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGTERM) }
	runtime.LockOSThread() // the signal at the parent's death is sent at the death of the thread
	defer runtime.UnlockOSThread()
	err := cmd.Run()
	if ctx.Err() != nil && cmd.Process != nil {
		_ = syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) // whoever is left of its group, if anybody
	}
	switch {
	case errors.Is(ctx.Err(), context.DeadlineExceeded):
		return fault.New(fault.Transient, "consistency: "+s.name, "took longer than %s and was ended%s", s.timeout, out.said()).
			WithHint("a line '# " + timeoutMark + " 2m' near its beginning gives it longer")
	case ctx.Err() != nil:
		return fault.New(fault.Transient, "consistency: "+s.name, "was ended: the agent stops")
	case err != nil && !errors.Is(err, exec.ErrWaitDelay): // which only says that a child keeps its output open
		return fault.New(fault.Conflict, "consistency: "+s.name, "%w%s", err, out.said())
	}
	return nil
}

// tail keeps the end of what is written to it.
type tail struct{ b []byte }

func (t *tail) Write(p []byte) (int, error) {
	t.b = append(t.b, p...)
	if len(t.b) > outputKept {
		t.b = append(t.b[:0], t.b[len(t.b)-outputKept:]...)
	}
	return len(p), nil
}

func (t *tail) said() string {
	if s := strings.TrimSpace(string(t.b)); s != "" {
		return ": " + s
	}
	return ""
}
