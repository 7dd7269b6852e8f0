package harness

import (
	_ "embed"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// The wall clock of the machine is not a test's to set, no namespace has one of its own, and what is shipped has no door to
// another. So a program is built once more, its sources as they are, over a standard library whose time.Now is off by what a
// file says. All else goes on as when a machine's clock is set: the monotonic clock, timers and the kernel's stamps do not move.

//go:embed overlay/time_shifted.txt
var shiftedTime []byte

// BuildShifted builds a main package of this module, or a file, whose processes may have a Clock.
func BuildShifted(t T, main, out string) {
	t.Helper()
	library := filepath.Join(strings.TrimSpace(Run(t, "go", "env", "GOROOT")), "src", "time")
	now, err := os.ReadFile(filepath.Join(library, "time.go"))
	if err != nil {
		t.Fatalf("%v", err)
	}
	const reads, shifted = "\tsec, nsec, mono := runtimeNow()\n", "\tsec, nsec, mono := shiftedNow()\n"
	if n := strings.Count(string(now), reads); n != 1 {
		t.Fatalf("time.Now of this Go reads the clocks in %d places; see what has changed in %s", n, library)
	}
	dir := t.TempDir()
	over := map[string]string{}
	for name, text := range map[string][]byte{"time.go": []byte(strings.Replace(string(now), reads, shifted, 1)), "time_shifted.go": shiftedTime} {
		over[filepath.Join(library, name)] = filepath.Join(dir, name)
		if err := os.WriteFile(filepath.Join(dir, name), text, 0o600); err != nil {
			t.Fatalf("%v", err)
		}
	}
	list, err := json.Marshal(map[string]any{"Replace": over})
	if err != nil {
		t.Fatalf("%v", err)
	}
	overlay := filepath.Join(dir, "overlay.json")
	if err := os.WriteFile(overlay, list, 0o600); err != nil {
		t.Fatalf("%v", err)
	}
	Run(t, "env", "CGO_ENABLED=0", "go", "build", "-trimpath", "-overlay", overlay, "-o", out, main)
}

// Clock is the wall clock of the processes that have Env in their environment and were built by BuildShifted.
type Clock struct {
	Env   string
	shift *int64
}

// NewClock is a clock that is right.
func NewClock(t T, file string) *Clock {
	t.Helper()
	f, err := os.OpenFile(file, os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		t.Fatalf("%v", err)
	}
	defer f.Close()
	if err := f.Truncate(8); err != nil {
		t.Fatalf("%v", err)
	}
	b, err := unix.Mmap(int(f.Fd()), 0, 8, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
	if err != nil {
		t.Fatalf("%v", err)
	}
	t.Cleanup(func() { _ = unix.Munmap(b) })
	return &Clock{Env: "UNDERSTUDY_E2E_CLOCK=" + file, shift: (*int64)(unsafe.Pointer(&b[0]))}
}

// Set puts the clock this far ahead of the machine's, or behind it, at once.
func (c *Clock) Set(ahead time.Duration) { atomic.StoreInt64(c.shift, int64(ahead)) }
