package consistency

import (
	"context"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/understudy-dr/understudy/internal/fault"
)

func scriptsOnly(t *testing.T) *bench {
	b := newBench(t)
	b.cfg.Freeze, _ = ParseSelection(None)
	return b
}

func TestScriptsRunInOrder(t *testing.T) {
	b := scriptsOnly(t)
	b.notes("pre-freeze/10-a", "UNDERSTUDY_PHASE", "UNDERSTUDY_POINT", "UNDERSTUDY_TIMEOUT", "UNDERSTUDY_RESULT")
	b.notes("pre-freeze/20-b", "HOME", "SECRET")
	b.notes("post-thaw/10-a", "UNDERSTUDY_PHASE", "UNDERSTUDY_RESULT")
	b.notes("post-thaw/20-b")
	require.NoError(t, os.WriteFile(filepath.Join(b.cfg.Dir, "pre-freeze/README"), []byte("not executable"), 0o600))
	t.Setenv("SECRET", "not for scripts")
	b.cfg.Cut = func(context.Context) (Cut, error) {
		require.Equal(t, "pre-freeze/10-a freeze pre-freeze p-1 30s \npre-freeze/20-b freeze / \n", b.calls())
		return cut{7}, nil
	}
	p, err := b.make()
	require.NoError(t, err)
	require.Equal(t, []string{"pre-freeze/10-a", "pre-freeze/20-b"}, p.Scripts)
	require.True(t, strings.HasSuffix(b.calls(), "post-thaw/20-b thaw\npost-thaw/10-a thaw post-thaw taken\n"), b.calls())
}

func TestFailedScript(t *testing.T) {
	b := scriptsOnly(t)
	b.script("pre-freeze/10", "echo reason >&2", "exit 3")
	b.notes("pre-freeze/20")
	b.notes("post-thaw/10", "UNDERSTUDY_RESULT")
	b.script("post-thaw/20", "exit 1") // runs first, and keeps the other from nothing
	b.cfg.Cut = func(context.Context) (Cut, error) { t.Error("nothing is taken"); return nil, nil }
	_, err := b.make()
	require.True(t, fault.Is(err, fault.Conflict), "%v", err)
	require.ErrorContains(t, err, "pre-freeze/10: exit status 3: reason")
	require.Equal(t, "post-thaw/10 thaw failed\n", b.calls())
	require.Contains(t, b.log.String(), "post-thaw/20")
}

// What fails afterwards takes nothing from the point.
func TestFailedScriptAfterwards(t *testing.T) {
	b := scriptsOnly(t)
	b.notes("pre-freeze/10")
	b.script("post-thaw/10", "exit 1")
	p, err := b.make()
	require.NoError(t, err)
	require.EqualValues(t, 7, p.Position)
	require.Len(t, p.Warnings, 1)
}

// A script that takes too long is ended, with everything that it started.
func TestScriptTimesOut(t *testing.T) {
	b := scriptsOnly(t)
	pids := filepath.Join(t.TempDir(), "pids")
	b.script("pre-freeze/10", "# understudy-timeout: 1s", "trap '' TERM", "sleep 100 & echo $! > "+pids, "wait", "wait")
	b.notes("post-thaw/10", "UNDERSTUDY_RESULT")
	start := time.Now()
	_, err := b.make()
	require.True(t, fault.Is(err, fault.Transient), "%v", err)
	require.ErrorContains(t, err, "took longer than 1s")
	require.Less(t, time.Since(start), 20*time.Second)
	require.Equal(t, "post-thaw/10 thaw failed\n", b.calls())
	text, err := os.ReadFile(pids)
	require.NoError(t, err)
	pid, err := strconv.Atoi(strings.TrimSpace(string(text)))
	require.NoError(t, err)
	require.Eventually(t, func() bool { return dead(pid) }, 5*time.Second, 10*time.Millisecond, "its child lives")
}

func dead(pid int) bool {
	if syscall.Kill(pid, 0) != nil {
		return true
	}
	stat, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/stat")
	return err != nil || strings.Contains(string(stat), ") Z ")
}

// The agent is told to stop while a script runs: what undoes it runs all the same.
func TestStoppedMeanwhile(t *testing.T) {
	b := scriptsOnly(t)
	begun := filepath.Join(t.TempDir(), "begun")
	b.script("pre-freeze/10", "touch "+begun, "exec sleep 100")
	b.notes("post-thaw/10", "UNDERSTUDY_RESULT")
	m, err := New(b.cfg)
	require.NoError(t, err)
	ctx, stop := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { _, err := m.Make(ctx, "p-1"); ended <- err }()
	require.Eventually(t, func() bool { _, err := os.Stat(begun); return err == nil }, 10*time.Second, 5*time.Millisecond)
	_, err = m.Make(ctx, "p-2")
	require.True(t, fault.Is(err, fault.Conflict), "one at a time: %v", err)
	stop()
	require.ErrorContains(t, <-ended, "the agent stops")
	require.Equal(t, "post-thaw/10 thaw failed\n", b.calls())
}

func TestScriptsOfOthersAreRefused(t *testing.T) {
	b := scriptsOnly(t)
	b.notes("pre-freeze/10")
	for _, path := range []string{"pre-freeze/10", "pre-freeze", ""} {
		path = filepath.Join(b.cfg.Dir, path)
		require.NoError(t, os.Chmod(path, 0o777))
		_, err := b.make()
		require.True(t, fault.Is(err, fault.Denied), "%s: %v", path, err)
		require.NoError(t, os.Chmod(path, 0o700))
	}
	require.NoError(t, os.Chown(filepath.Join(b.cfg.Dir, "pre-freeze/10"), 1, 0))
	_, err := b.make()
	require.True(t, fault.Is(err, fault.Denied), "%v", err)
	require.Empty(t, b.calls())
	b.script("pre-freeze/10", "# understudy-timeout: soon")
	require.NoError(t, os.Chown(filepath.Join(b.cfg.Dir, "pre-freeze/10"), os.Geteuid(), 0))
	_, err = b.make()
	require.True(t, fault.Is(err, fault.Invalid), "%v", err)
}

func TestConfigurationIsChecked(t *testing.T) {
	good := scriptsOnly(t).cfg
	for _, break_ := range []func(*Config){
		func(c *Config) { c.Guard = nil }, func(c *Config) { c.Cut = nil }, func(c *Config) { c.Note = "" },
		func(c *Config) { c.Deadline = time.Hour }, func(c *Config) { c.ScriptTimeout = time.Hour }, func(c *Config) { c.Deadline = 1 },
	} {
		c := good
		break_(&c)
		_, err := New(c)
		require.Error(t, err)
	}
	for _, args := range [][]string{nil, {"0", "1s"}, {"1", "1h"}, {"x", "1s"}, {"1", "x"}, {"99999", "1s"}} {
		require.True(t, fault.Is(Guard(args), fault.Invalid), "%q", args)
	}
}
