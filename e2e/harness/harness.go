// Package harness drives the real binary against real disks for the end-to-end tests, the demo and the benchmarks:
// loop devices, file systems, processes, a server and its agents. Everything it makes it removes when the run ends,
// however it ends. Only e2e imports it.
package harness

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"
)

// T is what of testing.TB the harness needs, so that the demo, which is no test, can use it.
type T interface {
	Helper()
	Logf(format string, args ...any)
	Fatalf(format string, args ...any)
	Cleanup(func())
	TempDir() string
	Context() context.Context
}

// Run runs a command to its end and returns what it printed; its failure is fatal.
func Run(t T, name string, args ...string) string {
	t.Helper()
	out, err := Try(t.Context(), name, args...)
	if err != nil {
		t.Fatalf("%v", err)
	}
	return out
}

// Try runs a command to its end; the error holds what it printed.
func Try(ctx context.Context, name string, args ...string) (string, error) {
	cmd := exec.CommandContext(ctx, name, args...)
	// What the command starts ends with it, and cannot hold its output open.
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL, Setpgid: true}
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
	cmd.WaitDelay = 5 * time.Second
	out, err := cmd.CombinedOutput()
	if err != nil {
		return string(out), fmt.Errorf("%s %s: %w\n%s", name, strings.Join(args, " "), err, bytes.TrimSpace(out))
	}
	return string(out), nil
}

// cleanupContext outlives the test's own context, which is already cancelled when cleanups run.
func cleanupContext() (context.Context, context.CancelFunc) {
	return context.WithTimeout(context.Background(), time.Minute)
}

// Eventually asks until ok says yes; not having done so within the limit is fatal and prints why.
func Eventually(t T, limit time.Duration, what string, ok func() (bool, string)) {
	t.Helper()
	EventuallyEvery(t, 200*time.Millisecond, limit, what, ok)
}

// EventuallyEvery is Eventually for questions that are too dear to be asked five times a second.
func EventuallyEvery(t T, every, limit time.Duration, what string, ok func() (bool, string)) {
	t.Helper()
	deadline := time.NewTimer(limit)
	defer deadline.Stop()
	tick := time.NewTicker(every)
	defer tick.Stop()
	for {
		done, why := ok()
		if done {
			return
		}
		select {
		case <-tick.C:
		case <-deadline.C:
			t.Fatalf("not within %s: %s: %s", limit, what, why)
			return
		case <-t.Context().Done():
			t.Fatalf("interrupted while waiting: %s: %s", what, why)
			return
		}
	}
}

// Binary is the understudy binary under test: UNDERSTUDY_BIN, or bin/understudy of this checkout, which make builds.
func Binary(t T) string {
	t.Helper()
	if b := os.Getenv("UNDERSTUDY_BIN"); b != "" {
		return b
	}
	dir, err := os.Getwd()
	if err != nil {
		t.Fatalf("%v", err)
	}
	for ; dir != "/"; dir = filepath.Dir(dir) {
		if _, err := os.Stat(filepath.Join(dir, "go.mod")); err == nil {
			break
		}
	}
	b := filepath.Join(dir, "bin", "understudy")
	if _, err := os.Stat(b); err != nil {
		t.Fatalf("%s is missing: run 'make build' (or make test, which does)", b)
	}
	return b
}
