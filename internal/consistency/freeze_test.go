package consistency

import (
	"bufio"
	"context"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/understudy-dr/understudy/internal/fault"
)

// What is copied under a freeze needs no log to be replayed: it is all there for a reader who cannot write.
func TestACopyNeedsNoReplay(t *testing.T) {
	for fs, check := range map[string]func(*testing.T, string){
		"ext4": func(t *testing.T, image string) {
			require.NotContains(t, run1(t, "dumpe2fs", "-h", image), "needs_recovery")
			run1(t, "e2fsck", "-fn", image)
			requireContent(t, image, "ext4", "ro,noload")
		},
		// XFS dirties its log on purpose at the end of a freeze, so only what norecovery shows can be judged.
		"xfs": func(t *testing.T, image string) { requireContent(t, image, "xfs", "ro,norecovery,nouuid") },
		"btrfs": func(t *testing.T, image string) {
			require.Regexp(t, `(?m)^log_root\s+0$`, run1(t, "btrfs", "inspect-internal", "dump-super", image))
			run1(t, "btrfs", "check", "--readonly", image)
		},
	} {
		t.Run(fs, func(t *testing.T) {
			v := newVolume(t, fs, t.TempDir())
			b := newBench(t, v)
			// Nobody syncs what it writes: that is what the freeze is for.
			b.script("pre-freeze/10-write", "for i in $(seq 300); do echo content $i > '"+v.mount+"'/file$i; done", "echo end > '"+v.mount+"'/done")
			copied := filepath.Join(t.TempDir(), "copy.img")
			stop := churn(t, v)
			b.cfg.Cut = func(context.Context) (Cut, error) {
				run1(t, "cp", "--sparse=always", v.image, copied)
				return cut{42}, nil
			}
			p, err := b.make()
			stop()
			require.NoError(t, err)
			require.Equal(t, []string{v.mount}, p.FileSystems)
			require.Equal(t, []string{"pre-freeze/10-write"}, p.Scripts)
			require.EqualValues(t, 42, p.Position)
			require.Greater(t, p.Held, time.Duration(0))
			require.Empty(t, p.Warnings)
			v.requireWritable(5 * time.Second)
			check(t, copied)
		})
	}
}

// churn writes and syncs all the while.
func churn(t *testing.T, v *volume) (stop func()) {
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		for i := 0; ctx.Err() == nil; i++ {
			name := filepath.Join(v.mount, "churn", string(rune('a'+i%20)))
			_ = os.MkdirAll(filepath.Dir(name), 0o755) // it is there
			f, err := os.Create(name)
			if err != nil {
				t.Error(err)
				return
			}
			_, _ = f.Write(make([]byte, 1000*(i%50))) // the sync tells
			if err := f.Sync(); err != nil {
				t.Error(err)
			}
			f.Close()
		}
	}()
	return func() { cancel(); <-ended }
}

func requireContent(t *testing.T, image, fs, options string) {
	t.Helper()
	dir := t.TempDir()
	run1(t, "mount", "-t", fs, "-o", "loop,"+options, image, dir)
	defer cleanup(t, "umount", dir)
	for name, want := range map[string]string{"file1": "content 1\n", "file300": "content 300\n", "done": "end\n"} {
		got, err := os.ReadFile(filepath.Join(dir, name))
		require.NoError(t, err)
		require.Equal(t, want, string(got))
	}
}

// The agent dies while everything is frozen: the guard thaws.
func TestKilledAgentLeavesNothingFrozen(t *testing.T) {
	a, b := newVolume(t, "ext4", t.TempDir()), newVolume(t, "xfs", t.TempDir())
	w := newBench(t, a, b)
	w.notes("post-thaw/10", "UNDERSTUDY_RESULT", "UNDERSTUDY_POINT", "UNDERSTUDY_FILE_SYSTEMS")
	kill := w.agent()
	a.requireFrozenNow()
	start := time.Now()
	kill()
	a.requireWritable(2 * time.Second)
	b.requireWritable(2 * time.Second)
	require.Less(t, time.Since(start), 2*time.Second, "long before the deadline")
	require.Empty(t, w.calls())
	require.NoError(t, Recover(t.Context(), w.cfg.Note, w.cfg.Log))
	require.Equal(t, "post-thaw/10 thaw abandoned p-1 "+b.mount+":"+a.mount+"\n", w.calls(), "the next agent runs what undoes")
	require.NoError(t, Recover(t.Context(), w.cfg.Note, w.cfg.Log))
	require.Equal(t, 1, strings.Count(w.calls(), "\n"), "once")
}

// Both die: the next agent thaws.
func TestNextAgentThaws(t *testing.T) {
	v := newVolume(t, "ext4", t.TempDir())
	w := newBench(t, v)
	kill := w.agent()
	guard := guardOf(t, w.pid)
	suspend(t, w.pid) // or it would thaw first
	require.NoError(t, syscall.Kill(guard, syscall.SIGKILL))
	kill()
	v.requireFrozenNow()
	require.NoError(t, Recover(t.Context(), w.cfg.Note, w.cfg.Log))
	v.requireWritable(time.Second)
	require.Contains(t, w.log.String(), "thawed")
}

// A live agent's note is left alone.
func TestRecoverLeavesALiveAgentAlone(t *testing.T) {
	v := newVolume(t, "ext4", t.TempDir())
	w := newBench(t, v)
	kill := w.agent()
	require.NoError(t, Recover(t.Context(), w.cfg.Note, w.cfg.Log))
	v.requireFrozenNow()
	kill()
	v.requireWritable(2 * time.Second)
}

// The agent hangs: the guard thaws at the deadline, and there is no point.
func TestDeadline(t *testing.T) {
	v := newVolume(t, "ext4", t.TempDir())
	b := newBench(t, v)
	b.cfg.Deadline = 300 * time.Millisecond
	b.cfg.Cut = func(context.Context) (Cut, error) {
		v.requireWritable(5 * time.Second)
		return cut{7}, nil
	}
	_, err := b.make()
	require.True(t, fault.Is(err, fault.Transient), "%v", err)
	require.ErrorContains(t, err, "thawed before the point was taken")
	require.False(t, v.thaw())
}

// The guard dies, or stops answering: the agent thaws.
func TestGuardDies(t *testing.T) {
	for name, sig := range map[string]syscall.Signal{"killed": syscall.SIGKILL, "stopped": syscall.SIGSTOP, "told to end": syscall.SIGTERM} {
		t.Run(name, func(t *testing.T) {
			v := newVolume(t, "ext4", t.TempDir())
			b := newBench(t, v)
			b.notes("post-thaw/10", "UNDERSTUDY_RESULT")
			b.cfg.Deadline = 500 * time.Millisecond
			b.cfg.Cut = func(context.Context) (Cut, error) {
				guard := guardOf(t, os.Getpid())
				if sig == syscall.SIGSTOP {
					suspend(t, guard)
					return cut{7}, nil
				}
				require.NoError(t, syscall.Kill(guard, sig))
				if sig == syscall.SIGTERM {
					v.requireWritable(5 * time.Second) // before it is told to thaw
				}
				return cut{7}, nil
			}
			_, err := b.make()
			require.Error(t, err)
			require.False(t, v.thaw(), "nothing is frozen when Make returns")
			require.Equal(t, "post-thaw/10 thaw failed\n", b.calls())
		})
	}
}

// One of two is frozen by somebody else: ours is thawed, theirs is left alone.
func TestFreezeFailsHalfway(t *testing.T) {
	theirs := newVolume(t, "ext4", t.TempDir())
	ours := newVolume(t, "xfs", t.TempDir()) // mounted later, so frozen first
	b := newBench(t, ours, theirs)
	b.cfg.Cut = func(context.Context) (Cut, error) { t.Error("nothing is taken"); return nil, nil }
	run1(t, "fsfreeze", "-f", theirs.mount)
	_, err := b.make()
	require.True(t, fault.Is(err, fault.Conflict), "%v", err)
	require.ErrorContains(t, err, theirs.mount)
	require.ErrorContains(t, err, "somebody else has frozen it")
	require.False(t, ours.thaw())
	require.True(t, theirs.thaw(), "theirs stayed frozen")
}

// Somebody thaws while the point is taken: it is none.
func TestThawedMeanwhile(t *testing.T) {
	v := newVolume(t, "ext4", t.TempDir())
	b := newBench(t, v)
	b.cfg.Cut = func(context.Context) (Cut, error) { run1(t, "fsfreeze", "-u", v.mount); return cut{7}, nil }
	_, err := b.make()
	require.True(t, fault.Is(err, fault.Conflict), "%v", err)
	require.ErrorContains(t, err, "somebody else thawed "+v.mount)
}

// A freeze that comes after the deadline is undone. The upper file system cannot be written out while the one that it lies
// on is frozen first, against the order that Maker would choose.
func TestLateFreezeIsUndone(t *testing.T) {
	lower := newVolume(t, "xfs", t.TempDir())
	upper := newVolume(t, "ext4", lower.mount)
	b := newBench(t, lower, upper)
	m, err := New(b.cfg)
	require.NoError(t, err)
	m.cfg.Deadline = 500 * time.Millisecond
	r := &run{Maker: m}
	require.NoError(t, r.plan())
	defer closeTargets(r.targets)
	require.Equal(t, []string{upper.mount, lower.mount}, r.point.FileSystems, "what was mounted last comes first")
	r.targets[0], r.targets[1] = r.targets[1], r.targets[0]
	h, err := r.startGuard(t.Context())
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(filepath.Join(upper.mount, "dirty"), make([]byte, 1<<20), 0o600))
	require.ErrorContains(t, h.freeze(), "thawed before the point was taken")
	require.False(t, upper.thaw(), "the guard has undone it, although it came late")
	require.NoError(t, h.end())
	require.False(t, lower.thaw())
}

func TestRefusals(t *testing.T) {
	v := newVolume(t, "ext4", t.TempDir())
	b := newBench(t, v)
	fails := func(kind fault.Kind, text string) {
		t.Helper()
		_, err := b.make()
		require.True(t, fault.Is(err, kind), "%v", err)
		require.ErrorContains(t, err, text)
	}
	b.cfg.Ready = func() error { return fault.New(fault.Conflict, "", "not complete") }
	fails(fault.Conflict, "not complete")
	b.cfg.Ready = ready
	b.cfg.Freeze, _ = ParseSelection(None)
	fails(fault.Invalid, "neither a script")
	b.cfg.Freeze, _ = ParseSelection("/nowhere")
	fails(fault.NotFound, "nothing is mounted at /nowhere")
	b.cfg.Freeze, _ = ParseSelection("/proc")
	fails(fault.Invalid, "not on a disk that is replicated")
	b.cfg.Freeze, _ = ParseSelection(v.mount)
	run1(t, "mount", "-o", "remount,ro", v.mount)
	fails(fault.Invalid, "for reading only")
	run1(t, "mount", "-o", "remount,rw", v.mount)
	_, err := b.make()
	require.NoError(t, err)
	// A note on what is frozen could not be removed; none could be written for a thaw.
	b.cfg.Note = filepath.Join(v.mount, "note")
	fails(fault.Unsupported, "which is to be frozen")
	_, err = ParseSelection("relative")
	require.True(t, fault.Is(err, fault.Invalid))
}

// agent starts a process that freezes, and returns what kills it.
func (b *bench) agent() (kill func()) {
	b.Helper()
	config, err := json.Marshal(agentConfig{Dir: b.cfg.Dir, Note: b.cfg.Note, Disks: b.cfg.Disks(), Deadline: 20 * time.Second})
	require.NoError(b, err)
	cmd := exec.Command("/proc/self/exe", asAgent, string(config))
	cmd.Stderr = os.Stderr
	out, err := cmd.StdoutPipe()
	require.NoError(b, err)
	require.NoError(b, cmd.Start())
	b.pid = cmd.Process.Pid
	killed := false
	kill = func() {
		if !killed {
			killed = true
			_ = cmd.Process.Kill()
			_ = cmd.Wait() // killed
		}
	}
	b.Cleanup(kill)
	line, err := bufio.NewReader(out).ReadString('\n')
	require.NoError(b, err)
	require.Equal(b, "frozen\n", line)
	return kill
}
