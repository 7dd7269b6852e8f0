package consistency

import (
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/understudy-dr/understudy/internal/fault"
)

// note tells the next agent what this one was about to freeze. Its writer holds a lock on it: who gets the lock
// knows that the writer is dead.
type note struct {
	Boot    string    `json:"bootId"`
	ID      string    `json:"id"`
	Dir     string    `json:"scripts"`
	Targets []*Target `json:"targets"`
}

const noteOp = "consistency: note"

func (n *note) mounts() []string {
	var out []string
	for _, t := range n.Targets {
		out = append(out, t.Mount)
	}
	return out
}

func bootID() (string, error) {
	b, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	if err != nil {
		return "", fault.New(fault.Unsupported, noteOp, "%w", err)
	}
	return strings.TrimSpace(string(b)), nil
}

// heldNote is a note whose writer is alive.
type heldNote struct{ f *os.File }

func writeNote(path string, n note) (*heldNote, error) {
	var err error
	if n.Boot, err = bootID(); err != nil {
		return nil, err
	}
	b, err := json.Marshal(n)
	if err != nil {
		return nil, fault.New(fault.Bug, noteOp, "%w", err)
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return nil, fault.New(fault.Invalid, noteOp, "%w", err)
	}
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o600)
	if errors.Is(err, os.ErrExist) {
		return nil, fault.New(fault.Conflict, noteOp, "%s is there: another agent makes a point, or one died while it did", path).
			WithHint("restart the agent: it undoes what is left of a point")
	}
	if err != nil {
		return nil, fault.New(fault.Invalid, noteOp, "%w", err)
	}
	h := &heldNote{f}
	err = unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB)
	if err == nil {
		_, err = f.Write(b)
	}
	if err != nil {
		return nil, errors.Join(fault.New(fault.Unknown, noteOp, "%w", err), h.remove())
	}
	return h, nil
}

func (h *heldNote) remove() error {
	err := os.Remove(h.f.Name())
	h.f.Close()
	if err != nil {
		return fault.New(fault.Unknown, noteOp, "%w", err)
	}
	return nil
}

// readNote returns the note of a dead agent of this boot, locked, or no file when there is nothing to undo.
func readNote(path string) (n note, _ *os.File, err error) {
	f, err := os.Open(path)
	if errors.Is(err, os.ErrNotExist) {
		return n, nil, nil
	}
	if err != nil {
		return n, nil, fault.New(fault.Unknown, noteOp, "%w", err)
	}
	if unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB) != nil {
		f.Close()
		return n, nil, nil // its writer is alive
	}
	boot, err := bootID()
	if err == nil && json.NewDecoder(f).Decode(&n) == nil && n.Boot == boot {
		return n, f, nil
	}
	f.Close()
	if err != nil {
		return n, nil, err
	}
	// Of another boot, or never finished: then nothing had been frozen.
	if err := os.Remove(path); err != nil {
		return n, nil, fault.New(fault.Unknown, noteOp, "%w", err)
	}
	return n, nil, nil
}

// noteOutside refuses to freeze what the note is removed from.
func noteOutside(path string, targets []*Target) error {
	var dir, st unix.Stat_t
	if unix.Stat(filepath.Dir(path), &dir) != nil {
		return nil // it is made where /run is
	}
	for _, t := range targets {
		if unix.Fstat(int(t.file.Fd()), &st) == nil && st.Dev == dir.Dev {
			return fault.New(fault.Unsupported, noteOp, "%s is on %s, which is to be frozen", path, t.Mount).
				WithHint("/run has to be a tmpfs; or name other file systems with --freeze")
		}
	}
	return nil
}
