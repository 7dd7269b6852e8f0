package main

import (
	"context"
	"fmt"
	"os"
	"os/signal"
	"sync"
	"syscall"
)

// lab is a harness.T for a program: what it made is removed however it ends.
type lab struct {
	ctx      context.Context
	stop     context.CancelFunc
	mu       sync.Mutex
	cleanups []func()
}

func newLab() *lab {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	return &lab{ctx: ctx, stop: stop}
}

func (l *lab) Helper()                  {}
func (l *lab) Context() context.Context { return l.ctx }

func (l *lab) Logf(format string, args ...any) { fmt.Printf("  "+format+"\n", args...) }

func (l *lab) Fatalf(format string, args ...any) {
	fmt.Fprintf(os.Stderr, "\nthe demo failed: "+format+"\n", args...)
	l.cleanUp()
	os.Exit(1)
}

func (l *lab) Cleanup(f func()) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.cleanups = append(l.cleanups, f)
}

func (l *lab) TempDir() string {
	dir, err := os.MkdirTemp("", "understudy-demo-")
	if err != nil {
		l.Fatalf("%v", err)
	}
	l.Cleanup(func() { _ = os.RemoveAll(dir) })
	// The database runs as its own user and must reach its directory.
	if err := os.Chmod(dir, 0o755); err != nil {
		l.Fatalf("%v", err)
	}
	return dir
}

// cleanUp undoes what was made, last first.
func (l *lab) cleanUp() {
	l.mu.Lock()
	todo := l.cleanups
	l.cleanups = nil
	l.mu.Unlock()
	for i := len(todo) - 1; i >= 0; i-- {
		todo[i]()
	}
	l.stop()
}
