package workload

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// StampBlock is the unit of stamped writes.
const StampBlock = 4096

// Target is where stamped writes go: blocks from the beginning of a block device, or all of a file that PrepareTarget made.
type Target struct {
	Path   string
	Blocks int
	Most   int // blocks of one write. The kernel must not part it: 1 in a file, whose extents nobody promises
}

// PrepareTarget makes a file whose blocks are allocated and written, so that a write in place changes nothing but them.
func PrepareTarget(path string, blocks int) (Target, error) {
	f, err := os.Create(path)
	if err != nil {
		return Target{}, err
	}
	defer f.Close()
	if _, err := f.Write(make([]byte, blocks*StampBlock)); err != nil {
		return Target{}, err
	}
	return Target{Path: path, Blocks: blocks, Most: 1}, unix.Syncfs(int(f.Fd()))
}

// Stamps writes blocks that say the how many-th write they belong to, one write after the other, over any number of disks. What
// each write holds and where it goes follows from the seed, so that copies of all targets can be judged as one: exactly
// the writes up to some number must be there.
type Stamps struct {
	seed    uint64
	targets []Target
	every   time.Duration

	mu           sync.Mutex
	begun, acked []int64 // Unix time in ns, by write
}

// NewStamps prepares a write each interval.
func NewStamps(seed uint64, every time.Duration, targets ...Target) *Stamps {
	return &Stamps{seed: seed, targets: targets, every: every}
}

// Run writes until ctx ends.
func (s *Stamps) Run(ctx context.Context) error {
	most := 1
	files := make([]*os.File, len(s.targets))
	for i, t := range s.targets {
		most = max(most, t.Most)
		f, err := os.OpenFile(t.Path, os.O_WRONLY|syscall.O_DIRECT, 0)
		if err != nil {
			return err
		}
		defer f.Close()
		files[i] = f
	}
	buf, err := unix.Mmap(-1, 0, most*StampBlock, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_ANON|unix.MAP_PRIVATE)
	if err != nil {
		return err
	}
	defer func() { _ = unix.Munmap(buf) }()
	tick := time.NewTicker(s.every)
	defer tick.Stop()
	for ctx.Err() == nil {
		if err := s.write(files, buf); err != nil {
			return err
		}
		select {
		case <-ctx.Done():
		case <-tick.C:
		}
	}
	return nil
}

func (s *Stamps) write(files []*os.File, buf []byte) error {
	s.mu.Lock()
	s.begun = append(s.begun, time.Now().UnixNano())
	n := uint64(len(s.begun))
	s.mu.Unlock()
	w := s.plan(n)
	for i := range w.blocks {
		s.fill(buf[i*StampBlock:(i+1)*StampBlock], n, i)
	}
	if _, err := files[w.target].WriteAt(buf[:w.blocks*StampBlock], int64(w.first)*StampBlock); err != nil {
		return fmt.Errorf("stamped write %d: %w", n, err)
	}
	s.mu.Lock()
	s.acked = append(s.acked, time.Now().UnixNano())
	s.mu.Unlock()
	return nil
}

// stamped is one write: where it goes.
type stamped struct{ target, first, blocks int }

func (s *Stamps) plan(n uint64) stamped {
	rng := rand.New(rand.NewPCG(s.seed, n))
	w := stamped{target: rng.IntN(len(s.targets))}
	t := s.targets[w.target]
	w.blocks = 1 + rng.IntN(t.Most)
	w.first = rng.IntN(t.Blocks - w.blocks + 1)
	return w
}

var stampMagic = [8]byte{'s', 't', 'a', 'm', 'p', 'e', 'd', '1'}

// fill makes block i of write n: magic, seed, n, i, and bytes that follow from these.
func (s *Stamps) fill(b []byte, n uint64, i int) {
	copy(b, stampMagic[:])
	binary.LittleEndian.PutUint64(b[8:], s.seed)
	binary.LittleEndian.PutUint64(b[16:], n)
	binary.LittleEndian.PutUint64(b[24:], uint64(i))
	rng := rand.NewPCG(s.seed^n, uint64(i))
	for at := 32; at < len(b); at += 8 {
		binary.LittleEndian.PutUint64(b[at:], rng.Uint64())
	}
}

// number is the write that a block says it belongs to; 0 where it has no stamp of this run.
func (s *Stamps) number(b []byte) uint64 {
	if !bytes.Equal(b[:8], stampMagic[:]) || binary.LittleEndian.Uint64(b[8:]) != s.seed {
		return 0
	}
	return binary.LittleEndian.Uint64(b[16:])
}

// Written is how many writes were acknowledged.
func (s *Stamps) Written() uint64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	return uint64(len(s.acked))
}

// Around is what a copy as of an instant may end with: not less than was acknowledged by then, not more than was begun.
func (s *Stamps) Around(at time.Time) (least, most uint64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	upTo := func(times []int64) uint64 {
		n := len(times)
		for n > 0 && times[n-1] > at.UnixNano() {
			n--
		}
		return uint64(n)
	}
	return upTo(s.acked), upTo(s.begun)
}

// Judge proves that copies of all targets, in their order, hold exactly the writes up to one number, and returns it.
func (s *Stamps) Judge(copies ...string) (uint64, error) {
	if len(copies) != len(s.targets) {
		return 0, fmt.Errorf("%d copies of %d targets", len(copies), len(s.targets))
	}
	s.mu.Lock()
	begun := uint64(len(s.begun))
	s.mu.Unlock()
	newest := uint64(0)
	if err := s.each(copies, func(_, _ int, b []byte) error {
		newest = max(newest, s.number(b))
		return nil
	}); err != nil {
		return 0, err
	}
	if newest > begun {
		return newest, fmt.Errorf("the copy has write %d, of %d that were begun", newest, begun)
	}
	return newest, s.exactly(newest, copies)
}

// place is where a block comes from: block i of write n.
type place struct {
	n uint64
	i int
}

func (s *Stamps) exactly(newest uint64, copies []string) error {
	last := make([][]place, len(s.targets))
	for i, t := range s.targets {
		last[i] = make([]place, t.Blocks)
	}
	for n := uint64(1); n <= newest; n++ {
		w := s.plan(n)
		for i := range w.blocks {
			last[w.target][w.first+i] = place{n, i}
		}
	}
	want := make([]byte, StampBlock)
	return s.each(copies, func(target, block int, got []byte) error {
		p := last[target][block]
		if p.n == 0 {
			clear(want)
		} else {
			s.fill(want, p.n, p.i)
		}
		if !bytes.Equal(got, want) {
			return fmt.Errorf("block %d of %s has write %d (0 is none of ours), and as of write %d, which is there, it must have block %d of write %d: %x",
				block, copies[target], s.number(got), newest, p.i, p.n, got[:32])
		}
		return nil
	})
}

// each visits every block of every copy.
func (s *Stamps) each(copies []string, visit func(target, block int, b []byte) error) error {
	buf := make([]byte, 256*StampBlock)
	for i, t := range s.targets {
		f, err := os.Open(copies[i])
		if err != nil {
			return err
		}
		err = eachBlock(io.LimitReader(f, int64(t.Blocks)*StampBlock), buf, t.Blocks, func(block int, b []byte) error { return visit(i, block, b) })
		f.Close()
		if err != nil {
			return fmt.Errorf("%s: %w", copies[i], err)
		}
	}
	return nil
}

func eachBlock(r io.Reader, buf []byte, blocks int, visit func(block int, b []byte) error) error {
	for done := 0; done < blocks; {
		n, err := io.ReadFull(r, buf[:min(len(buf), (blocks-done)*StampBlock)])
		if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
			return fmt.Errorf("it ends at block %d of %d", done+n/StampBlock, blocks)
		}
		if err != nil {
			return err
		}
		for at := 0; at < n; at += StampBlock {
			if err := visit(done, buf[at:at+StampBlock]); err != nil {
				return err
			}
			done++
		}
	}
	return nil
}
