package workload

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// Churn writes, syncs, overwrites and removes files in a directory, and remembers when each was begun and acknowledged.
type Churn struct {
	dir   string
	seed  uint64
	every time.Duration
	mu    sync.Mutex // Judge may be asked while Run goes on
	files []file
	live  int // not removed
}

// mostLive bounds what a churn takes, 128 KiB a file on average, so that a slow run does not fill its disk.
const mostLive = 300

type file struct {
	name             string
	sum              string
	begun, acked     time.Time
	removing, remove time.Time // removal begun, acknowledged
}

const churnInterval = 100 * time.Millisecond

// NewChurn prepares a churn of a file each interval.
func NewChurn(dir string, seed uint64, every time.Duration) *Churn {
	return &Churn{dir: dir, seed: seed, every: every}
}

// Run churns until ctx ends.
func (c *Churn) Run(ctx context.Context) error {
	rng := rand.New(rand.NewPCG(c.seed, 1))
	tick := time.NewTicker(c.every)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
		if err := c.write(rng); err != nil {
			return err
		}
		for first := len(c.files)%3 == 0; first || c.live > mostLive; first = false {
			if err := c.remove(rng); err != nil {
				return err
			}
		}
	}
}

func (c *Churn) write(rng *rand.Rand) error {
	body := make([]byte, 512+rng.IntN(256<<10))
	for i := range body {
		body[i] = byte(rng.Uint32() >> (i & 7))
	}
	f := file{name: fmt.Sprintf("%06d", len(c.files)), begun: time.Now()}
	sum := sha256.Sum256(body)
	f.sum = hex.EncodeToString(sum[:])
	out, err := os.Create(filepath.Join(c.dir, f.name))
	if err != nil {
		return err
	}
	defer out.Close()
	if _, err := out.Write(body); err != nil {
		return err
	}
	if err := out.Sync(); err != nil {
		return err
	}
	if err := c.syncDir(); err != nil {
		return err
	}
	f.acked = time.Now()
	c.mu.Lock()
	defer c.mu.Unlock()
	c.files = append(c.files, f)
	c.live++
	return nil
}

func (c *Churn) remove(rng *rand.Rand) error {
	f := &c.files[rng.IntN(len(c.files))]
	for !f.removing.IsZero() {
		f = &c.files[rng.IntN(len(c.files))]
	}
	c.mu.Lock()
	f.removing = time.Now()
	c.mu.Unlock()
	if err := os.Remove(filepath.Join(c.dir, f.name)); err != nil {
		return err
	}
	if err := c.syncDir(); err != nil {
		return err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	f.remove = time.Now()
	c.live--
	return nil
}

func (c *Churn) syncDir() error {
	d, err := os.Open(c.dir)
	if err != nil {
		return err
	}
	defer d.Close()
	return unix.Fsync(int(d.Fd()))
}

// Files is how many files were written so far.
func (c *Churn) Files() int { return len(c.known()) }

// known is every file that was acknowledged so far.
func (c *Churn) known() []file {
	c.mu.Lock()
	defer c.mu.Unlock()
	return slices.Clone(c.files)
}

// Judge checks a recovered copy of the directory against what was acknowledged by the instant, and returns how many
// files it proved.
func (c *Churn) Judge(dir string, at time.Time) (int, error) { return c.JudgeBetween(dir, at, at) }

// JudgeBetween is Judge of a copy as of an instant that is known to lie between two.
func (c *Churn) JudgeBetween(dir string, from, to time.Time) (int, error) {
	proved := 0
	for _, f := range c.known() {
		body, err := os.ReadFile(filepath.Join(dir, f.name))
		there := err == nil
		mustBe := !f.acked.After(from) && (f.removing.IsZero() || f.removing.After(to))
		mayNotBe := f.begun.After(to) || (!f.remove.IsZero() && !f.remove.After(from))
		switch {
		case mustBe && !there:
			return proved, fmt.Errorf("%s was acknowledged at %s and is missing: %w", f.name, f.acked, err)
		case mayNotBe && there:
			return proved, fmt.Errorf("%s is there, written after %s or removed before %s", f.name, to, from)
		case mustBe:
			sum := sha256.Sum256(body)
			if got := hex.EncodeToString(sum[:]); !bytes.Equal([]byte(got), []byte(f.sum)) {
				return proved, fmt.Errorf("%s has other content than was acknowledged", f.name)
			}
			proved++
		case mayNotBe:
			proved++
		}
	}
	return proved, nil
}
