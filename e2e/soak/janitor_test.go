package soak

import (
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/understudy-dr/understudy/e2e/harness"
)

// A test's clean-ups do not run when its time-out ends it, or a signal. The janitor is this program once more, in a session of its own:
// when the test is gone and has not said that all is clean, it takes away what is below the test's directory.
const janitorOf = "UNDERSTUDY_SOAK_JANITOR_OF"

const allClean = "clean"

func TestMain(m *testing.M) {
	if root := os.Getenv(janitorOf); root != "" {
		if said, _ := io.ReadAll(os.Stdin); string(said) != allClean {
			for _, err := range sweep(root) {
				fmt.Fprintln(os.Stderr, err)
			}
		}
		return
	}
	os.Exit(m.Run())
}

// workshop is a directory for everything that the test makes. Nothing of it stays, however the test ends.
func workshop(t *testing.T) string {
	t.Helper()
	root, err := os.MkdirTemp("", "understudy-soak-")
	require.NoError(t, err)
	require.NoError(t, os.Chmod(root, 0o755)) // the database's user passes through
	t.Setenv("TMPDIR", root)
	self, err := os.Executable()
	require.NoError(t, err)
	janitor := exec.Command(self)
	janitor.Env = append(os.Environ(), janitorOf+"="+root)
	janitor.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	tell, err := janitor.StdinPipe()
	require.NoError(t, err)
	require.NoError(t, janitor.Start())
	t.Cleanup(func() { // the last: what was made before is gone by now
		if left := leftovers(root); len(left) > 0 {
			t.Errorf("left behind: %v", left)
		} else {
			_, err = io.WriteString(tell, allClean)
			require.NoError(t, err)
			require.NoError(t, os.RemoveAll(root))
		}
		tell.Close()
		require.NoError(t, janitor.Wait())
	})
	return root
}

// mountsBelow are where something is mounted, the newest first.
func mountsBelow(root string) (out []string) {
	b, _ := os.ReadFile("/proc/self/mounts")
	for line := range strings.Lines(string(b)) {
		if f := strings.Fields(line); len(f) > 1 && strings.HasPrefix(f[1], root+"/") {
			out = append([]string{f[1]}, out...)
		}
	}
	return out
}

// loopsBelow are loop devices over files of a directory.
func loopsBelow(root string) (out []string) {
	names, _ := filepath.Glob("/sys/block/loop*/loop/backing_file")
	for _, name := range names {
		if b, err := os.ReadFile(name); err == nil && strings.HasPrefix(string(b), root+"/") {
			out = append(out, "/dev/"+strings.Split(name, "/")[3])
		}
	}
	return out
}

func leftovers(root string) []string { return append(mountsBelow(root), loopsBelow(root)...) }

// sweep ends what runs below a directory and removes all of it: databases, captures, mounts, loop devices, files. Servers and agents
// ended with the test.
func sweep(root string) (errs []error) {
	const tries = 60 // what was killed lets go of its files when it gets to it
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	for range tries {
		errs = nil
		for _, step := range []func(string) error{endDatabases, endCaptures, unmountAll, detachAll} {
			if err := step(root); err != nil {
				errs = append(errs, err)
			}
		}
		if len(errs) == 0 && len(leftovers(root)) == 0 {
			if err := os.RemoveAll(root); err != nil {
				errs = append(errs, err)
			}
			return errs
		}
		<-tick.C
	}
	return append(errs, fmt.Errorf("left behind: %v", leftovers(root)))
}

// endDatabases kills every process that works in the directory. Only databases do: they leave the session of who starts them.
func endDatabases(root string) error {
	names, err := filepath.Glob("/proc/[0-9]*/cwd")
	for _, name := range names {
		at, gone := os.Readlink(name)
		if gone != nil || !strings.HasPrefix(at, root+"/") {
			continue
		}
		if pid, err := strconv.Atoi(strings.Split(name, "/")[2]); err == nil && pid != os.Getpid() {
			_ = unix.Kill(pid, unix.SIGKILL) // it may have ended by itself
		}
	}
	return err
}

// endCaptures removes what agents have left in the kernel.
func endCaptures(root string) error {
	states, err := filepath.Glob(filepath.Join(root, "*", "*", "agent"))
	if err != nil {
		return err
	}
	for _, state := range states {
		if out, err := exec.Command(filepath.Join(filepath.Dir(state), binaryName), "agent", "uninstall", "--state-dir", state).CombinedOutput(); err != nil {
			return fmt.Errorf("%w: %s", err, out)
		}
		if err := os.RemoveAll(state); err != nil {
			return err
		}
	}
	return nil
}

func unmountAll(root string) error {
	for _, m := range mountsBelow(root) {
		if err := unix.Unmount(m, 0); err != nil {
			return fmt.Errorf("unmount %s: %w", m, err)
		}
	}
	return nil
}

func detachAll(root string) error {
	for _, dev := range loopsBelow(root) {
		if out, err := exec.Command("losetup", "--detach", dev).CombinedOutput(); err != nil {
			return fmt.Errorf("%w: %s", err, out)
		}
	}
	return nil
}

// What a test left that was killed is gone once it was swept.
func TestSweepLeavesNothing(t *testing.T) {
	root := filepath.Join(t.TempDir(), "root")
	require.NoError(t, os.MkdirAll(root, 0o755))
	t.Cleanup(func() { require.Empty(t, sweep(root)) })
	d := harness.NewDisk(quiet{t}, root, "disk.img", 16<<20)
	d.Format(t, "ext4")
	harness.Mount(t, d.Device, filepath.Join(root, "mount"))
	busy := exec.Command("tail", "-f", "/dev/null")
	busy.Dir = filepath.Join(root, "mount")
	require.NoError(t, busy.Start())
	require.Len(t, leftovers(root), 2)
	require.Empty(t, sweep(root))
	require.Error(t, busy.Wait())
	require.NoDirExists(t, root)
}

// quiet is a test that has nothing cleaned up.
type quiet struct{ *testing.T }

func (quiet) Cleanup(func()) {}
