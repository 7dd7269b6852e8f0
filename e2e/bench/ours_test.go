package bench

import (
	"context"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"path/filepath"

	"github.com/understudy-dr/understudy/internal/encryption"
	"github.com/understudy-dr/understudy/internal/journal"
	"github.com/understudy-dr/understudy/internal/vfs"
	"github.com/understudy-dr/understudy/internal/wire"
)

const (
	block      = 4096
	perFrame   = 32 // writes of one block in a frame: 128 KiB, what an agent aims at
	frameBytes = perFrame * block
)

// history is a deterministic sequence of random 4 KiB writes of content that nothing can compress.
type history struct {
	disk int64 // bytes
	seed uint64
}

// block is where write i goes; content is what it writes.
func (h history) block(i int) int64 {
	return rand.New(rand.NewPCG(h.seed, uint64(i))).Int64N(h.disk / block)
}

func (h history) content(i int, buf []byte) []byte {
	var key [32]byte
	copy(key[:], fmt.Sprintf("%016x%016x", h.seed, i))
	_, _ = rand.NewChaCha8(key).Read(buf)
	return buf
}

func (h history) disks() []wire.Disk { return []wire.Disk{{Device: "/dev/vda", Bytes: uint64(h.disk)}} }

// position and time of write i; the epoch opens at position 1.
func position(i int) uint64 { return uint64(i) + 2 }
func stamp(i int) int64     { return 1_700_000_000e9 + int64(i)*1e6 } // a thousand writes a second

// frame holds writes from to to.
func (h history) frame(w *wire.Builder, from, to int) []byte {
	w.Reset(wire.TypeData, 1)
	buf := make([]byte, block)
	for i := from; i < to; i++ {
		w.Add(wire.Extent{Kind: wire.KindData, Flags: wire.EndOfBio, Position: position(i), Sector: uint64(h.block(i)) * block / wire.SectorSize,
			Bytes: block, Time: stamp(i)}, h.content(i, buf))
	}
	return w.Finish(nil)
}

func options(dir string) (journal.Options, error) {
	keys, err := encryption.OpenKeyFile(filepath.Join(dir, "..", "keys"))
	return journal.Options{Keys: keys, Log: slog.New(slog.DiscardHandler)}, err
}

// put appends encoded frames.
func put(j *journal.Journal, frames ...[]byte) error {
	for _, raw := range frames {
		f, err := wire.Parse(raw)
		if err != nil {
			return err
		}
		if err := j.Append(f); err != nil {
			return err
		}
	}
	return nil
}

// create makes a journal that is ready for the writes of a history.
func create(ctx context.Context, dir string, disks []wire.Disk) (*journal.Journal, error) {
	o, err := options(dir)
	if err != nil {
		return nil, err
	}
	opened, err := wire.Message(wire.TypeEpochOpen, 1, 1, 1, stamp(0), wire.EpochOpen{Capture: "bench", Reason: "initial", Disks: disks})
	if err != nil {
		return nil, err
	}
	j, err := journal.Create(ctx, vfs.OS, dir, disks, o)
	if err != nil {
		return nil, err
	}
	if err := put(j, opened, wire.Control(wire.TypeBaselineDone, 1, 1, 1, stamp(0))); err != nil {
		return nil, err
	}
	return j, j.Sync()
}

func open(ctx context.Context, dir string) (*journal.Journal, error) {
	o, err := options(dir)
	if err != nil {
		return nil, err
	}
	return journal.Open(ctx, vfs.OS, dir, o)
}

// fill appends the writes from to to, and lets maintenance catch up where a replication server would slow the agent down.
func (h history) fill(ctx context.Context, j *journal.Journal, from, to int) error {
	var w wire.Builder
	for i, n := from, 0; i < to; i, n = i+perFrame, n+1 {
		if err := put(j, h.frame(&w, i, min(i+perFrame, to))); err != nil {
			return err
		}
		if n%64 == 63 {
			if err := j.Sync(); err != nil {
				return err
			}
		}
		if err := relax(ctx, j); err != nil {
			return err
		}
	}
	return j.Sync()
}

func relax(ctx context.Context, j *journal.Journal) error {
	for j.Pressure() != journal.Relaxed {
		if _, err := j.Maintain(ctx, journal.Limits{}); err != nil {
			return err
		}
	}
	return nil
}

// compact lets maintenance finish.
func compact(ctx context.Context, j *journal.Journal) error {
	if err := j.Seal(); err != nil {
		return err
	}
	for did := true; did; {
		var err error
		if did, err = j.Maintain(ctx, journal.Limits{Urgent: true}); err != nil {
			return err
		}
	}
	return nil
}
