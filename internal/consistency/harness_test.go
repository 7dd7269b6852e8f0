package consistency

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"
)

// The test's own binary is the guard, and the agent that dies.
const (
	asGuard = "consistency-guard"
	asAgent = "consistency-agent"
)

func TestMain(m *testing.M) {
	if len(os.Args) > 2 && os.Args[1] == asGuard {
		if err := Guard(os.Args[2:]); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	if len(os.Args) == 3 && os.Args[1] == asAgent {
		agentProcess(os.Args[2])
	}
	os.Exit(m.Run())
}

var guardCommand = []string{"/proc/self/exe", asGuard}

// agentConfig is what agentProcess is told.
type agentConfig struct {
	Dir, Note string
	Disks     []string
	Deadline  time.Duration
}

// agentProcess freezes and says so, then waits to be killed.
func agentProcess(config string) {
	var c agentConfig
	if err := json.Unmarshal([]byte(config), &c); err != nil {
		os.Exit(2)
	}
	m, err := New(Config{Dir: c.Dir, Note: c.Note, Disks: func() []string { return c.Disks }, Ready: ready, Guard: guardCommand, Deadline: c.Deadline,
		Cut: func(context.Context) (Cut, error) {
			fmt.Println("frozen")
			select {} // until it is killed
		}})
	if err == nil {
		_, err = m.Make(context.Background(), "p-1")
	}
	fmt.Fprintln(os.Stderr, err)
	os.Exit(1)
}

func ready() error { return nil }

// volume is a file system on a loop device.
type volume struct {
	t              *testing.T
	fs             string
	image, mount   string // image is the file below the device
	device, number string
}

func run1(t *testing.T, name string, args ...string) string {
	t.Helper()
	out, err := exec.CommandContext(t.Context(), name, args...).CombinedOutput()
	require.NoError(t, err, "%s %v: %s", name, args, out)
	return strings.TrimSpace(string(out))
}

func cleanup(t *testing.T, name string, args ...string) {
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	if out, err := exec.CommandContext(ctx, name, args...).CombinedOutput(); err != nil {
		t.Errorf("cleanup: %s %v: %v %s", name, args, err, out)
	}
}

// unmount waits for processes that end just now: a guard holds what it guards.
func unmount(t *testing.T, mount string) {
	var out []byte
	var err error
	for range 500 {
		if out, err = exec.Command("umount", mount).CombinedOutput(); err == nil {
			return
		}
		<-time.After(10 * time.Millisecond)
	}
	t.Errorf("cleanup: umount %s: %v %s", mount, err, out)
}

var makers = map[string][]string{"ext4": {"mkfs.ext4", "-q", "-F"}, "xfs": {"mkfs.xfs", "-q", "-f"}, "btrfs": {"mkfs.btrfs", "-q", "-f"}}

// newVolume makes a file system in dir, where it may lie on another one.
func newVolume(t *testing.T, fs, dir string) *volume {
	t.Helper()
	v := &volume{t: t, fs: fs, image: filepath.Join(dir, fs+".img"), mount: filepath.Join(t.TempDir(), "a mount")}
	size := int64(64 << 20)
	if fs != "ext4" {
		size = 320 << 20 // the least that mkfs.xfs makes
	}
	require.NoError(t, os.WriteFile(v.image, nil, 0o600))
	require.NoError(t, os.Truncate(v.image, size))
	require.NoError(t, os.Mkdir(v.mount, 0o700))
	v.device = run1(t, "losetup", "--find", "--show", v.image)
	t.Cleanup(func() { cleanup(t, "losetup", "-d", v.device) })
	run1(t, makers[fs][0], append(makers[fs][1:], v.device)...)
	run1(t, "mount", v.device, v.mount)
	t.Cleanup(func() {
		v.thaw()
		unmount(t, v.mount)
	})
	var st unix.Stat_t
	require.NoError(t, unix.Stat(v.device, &st))
	v.number = fmt.Sprintf("%d:%d", unix.Major(st.Rdev), unix.Minor(st.Rdev))
	return v
}

// thaw says whether it was frozen.
func (v *volume) thaw() bool {
	f, err := os.Open(v.mount)
	require.NoError(v.t, err)
	defer f.Close()
	err = thaw(int(f.Fd()))
	if err != nil {
		require.ErrorIs(v.t, err, unix.EINVAL)
	}
	return err == nil
}

// write tells when a write went through.
func (v *volume) write(name string) <-chan struct{} {
	done := make(chan struct{})
	go func() {
		defer close(done)
		f, err := os.Create(filepath.Join(v.mount, name))
		if err == nil {
			err = errors.Join(f.Sync(), f.Close())
		}
		if err != nil {
			v.t.Error(err)
		}
	}()
	return done
}

// requireWritable fails unless a write goes through within d, and does not leave it waiting.
func (v *volume) requireWritable(d time.Duration) {
	v.t.Helper()
	done := v.write("probe")
	select {
	case <-done:
	case <-time.After(d):
		v.thaw()
		<-done
		v.t.Fatalf("%s is still frozen after %s", v.mount, d)
	}
}

// requireFrozenNow leaves no write behind that waits.
func (v *volume) requireFrozenNow() {
	v.t.Helper()
	f, err := os.Open(v.mount)
	require.NoError(v.t, err)
	defer f.Close()
	require.ErrorIs(v.t, freeze(int(f.Fd())), unix.EBUSY, "%s is not frozen", v.mount)
}

// cut is a place in no stream.
type cut struct{ position uint64 }

func (c cut) Position(context.Context) (uint64, uint64, error) { return 1, c.position, nil }

// bench is a Maker over volumes, with a directory of scripts.
type bench struct {
	*testing.T
	cfg    Config
	log    bytes.Buffer
	pid    int    // of the process that agent started
	called string // a file that scripts write to
}

func newBench(t *testing.T, volumes ...*volume) *bench {
	t.Helper()
	b := &bench{T: t}
	run := t.TempDir()
	disks := []string{"1:2"}
	for _, v := range volumes {
		disks = append(disks, v.number)
	}
	b.called = filepath.Join(run, "called")
	b.cfg = Config{Dir: filepath.Join(run, "hooks.d"), Note: filepath.Join(run, "note"), Disks: func() []string { return disks }, Ready: ready,
		Guard: guardCommand, Log: slog.New(slog.NewTextHandler(&b.log, nil)), Deadline: 5 * time.Second,
		Cut: func(context.Context) (Cut, error) { return cut{7}, nil }}
	for _, phase := range []string{phasePre, phasePost} {
		require.NoError(t, os.MkdirAll(filepath.Join(b.cfg.Dir, phase), 0o755))
	}
	return b
}

// script adds a script; its lines follow a shebang.
func (b *bench) script(name string, lines ...string) {
	b.Helper()
	text := "#!/bin/sh\n" + strings.Join(lines, "\n") + "\n"
	require.NoError(b, os.WriteFile(filepath.Join(b.cfg.Dir, name), []byte(text), 0o700))
}

// notes adds a script that notes that it was called, with the variables named.
func (b *bench) notes(name string, variables ...string) {
	line := "echo " + name + " \"$1\""
	for _, v := range variables {
		line += " \"$" + v + "\""
	}
	b.script(name, line+" >> "+b.called)
}

func (b *bench) calls() string {
	text, err := os.ReadFile(b.called)
	if errors.Is(err, os.ErrNotExist) {
		return ""
	}
	require.NoError(b, err)
	return string(text)
}

func (b *bench) make() (Point, error) {
	b.Helper()
	m, err := New(b.cfg)
	require.NoError(b, err)
	p, err := m.Make(b.Context(), "p-1")
	_, missing := os.Stat(b.cfg.Note)
	require.ErrorIs(b, missing, os.ErrNotExist, "the note is gone")
	return p, err
}

// guardOf is the guard that a process started.
func guardOf(t *testing.T, parent int) int {
	t.Helper()
	stats, err := filepath.Glob("/proc/[0-9]*/stat")
	require.NoError(t, err)
	for _, f := range stats {
		text, err := os.ReadFile(f)
		if err != nil {
			continue // it has ended
		}
		var pid, ppid int
		var state string
		_, after, _ := strings.Cut(string(text), ") ")
		if _, err := fmt.Sscanf(after, "%s %d", &state, &ppid); err != nil || ppid != parent || state == "Z" {
			continue
		}
		line, _ := os.ReadFile(filepath.Join(filepath.Dir(f), "cmdline"))
		if _, err := fmt.Sscan(filepath.Base(filepath.Dir(f)), &pid); err == nil && bytes.Contains(line, []byte(asGuard)) {
			return pid
		}
	}
	t.Fatal("there is no guard")
	return 0
}

// suspend returns when every thread has stopped. kill(2) returns earlier: one thread takes the signal and then stops the others.
func suspend(t *testing.T, pid int) {
	t.Helper()
	require.NoError(t, unix.Kill(pid, unix.SIGSTOP))
	ticker := time.NewTicker(time.Millisecond)
	defer ticker.Stop()
	for deadline := time.Now().Add(30 * time.Second); ; <-ticker.C {
		stats, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/stat", pid))
		require.NoError(t, err)
		require.NotEmpty(t, stats)
		running := 0
		for _, f := range stats {
			text, _ := os.ReadFile(f) // the thread may have ended
			if _, after, _ := strings.Cut(string(text), ") "); !strings.HasPrefix(after, "T") {
				running++
			}
		}
		if running == 0 {
			return
		}
		require.True(t, time.Now().Before(deadline), "%d threads go on", running)
	}
}
