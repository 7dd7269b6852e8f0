package harness

import (
	"bytes"
	"io"
	"os"
	"os/exec"
	"strings"
	"sync"
	"syscall"
	"time"
)

// Process is a running command that the run ends with.
type Process struct {
	Cmd  *exec.Cmd
	name string
	log  *tail
	done chan struct{}
	err  error
}

// Start starts a command; what it prints is kept (the last part of it) and shown when something fails.
func Start(t T, name string, cmd *exec.Cmd) *Process {
	t.Helper()
	p := &Process{Cmd: cmd, name: name, log: &tail{max: 64 << 10}, done: make(chan struct{})}
	if path := os.Getenv("UNDERSTUDY_E2E_LOG"); path != "" {
		f, err := os.OpenFile(path, os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
		if err != nil {
			t.Fatalf("%v", err)
		}
		t.Cleanup(func() { f.Close() })
		cmd.Stdout, cmd.Stderr = io.MultiWriter(p.log, f), io.MultiWriter(p.log, f)
	} else {
		cmd.Stdout, cmd.Stderr = p.log, p.log
	}
	if cmd.SysProcAttr == nil {
		cmd.SysProcAttr = &syscall.SysProcAttr{}
	}
	cmd.SysProcAttr.Pdeathsig = syscall.SIGKILL
	if err := cmd.Start(); err != nil {
		t.Fatalf("start %s: %v", name, err)
	}
	go func() {
		p.err = cmd.Wait()
		close(p.done)
	}()
	t.Cleanup(func() {
		p.Stop(t)
		if f, ok := t.(interface{ Failed() bool }); ok && f.Failed() {
			t.Logf("%s (pid %d) had to say:\n%s", name, cmd.Process.Pid, p.complaints())
		}
	})
	return p
}

// complaints is the last lines that are more than news.
func (p *Process) complaints() string {
	var lines []string
	for line := range strings.Lines(p.Log()) {
		if !strings.Contains(line, "level=INFO") && !strings.Contains(line, "level=DEBUG") {
			lines = append(lines, line)
		}
	}
	return strings.Join(lines[max(0, len(lines)-maxComplaints):], "")
}

const maxComplaints = 40

// Stop asks the process to end (SIGTERM) and kills it after half a minute. Stopping twice is fine.
func (p *Process) Stop(t T) {
	t.Helper()
	_ = p.Cmd.Process.Signal(syscall.SIGTERM) // it may have ended by itself
	select {
	case <-p.done:
	case <-time.After(30 * time.Second):
		t.Logf("%s did not end within 30 s of SIGTERM; killing it. It printed:\n%s", p.name, p.Log())
		p.Kill()
	}
}

// Kill is SIGKILL, and waits until the process is gone.
func (p *Process) Kill() {
	_ = p.Cmd.Process.Kill() // it may have ended by itself
	<-p.done
}

// Done is closed when the process has ended.
func (p *Process) Done() <-chan struct{} { return p.done }

// Err is how the process ended, after Done.
func (p *Process) Err() error { return p.err }

// Ended reports whether the process has ended.
func (p *Process) Ended() bool {
	select {
	case <-p.done:
		return true
	default:
		return false
	}
}

// Log is the last part of what the process printed.
func (p *Process) Log() string { return p.log.String() }

// tail keeps the last max bytes written to it.
type tail struct {
	mu  sync.Mutex
	buf bytes.Buffer
	max int
}

func (l *tail) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.buf.Write(p)
	if over := l.buf.Len() - l.max; over > 0 {
		l.buf.Next(over)
	}
	return len(p), nil
}

func (l *tail) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return strings.ToValidUTF8(l.buf.String(), "?")
}
