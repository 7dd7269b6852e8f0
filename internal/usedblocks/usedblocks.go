// Package usedblocks finds out, from the disk alone and without mounting anything, which of its ranges no partition's
// file system uses: partition tables, ext2/3/4, XFS, Btrfs, swap and LVM2. What it does not know counts as used.
//
// The agent's assembly imports it, so that an initial sync reads only what is in use. Why that is sound on a disk that is
// being written, and what has to be done before it is called, is in docs/design/2026-11-23-rescan.md.
package usedblocks

import (
	"context"
	"io"
	"time"

	"github.com/understudy-dr/understudy/internal/fault"
)

// Range is a run of bytes of a disk.
type Range struct{ Offset, Length int64 }

// Content is what was found in a part of a disk.
type Content struct {
	Range
	Kind string // "ext4", "xfs", "btrfs", "swap", "lvm2", "gpt", "mbr", "foreign"; "" when it is not known
	Free int64  // bytes of it, in ranges worth naming
	Err  error  // why all of it counts as used, though its kind is known
}

// Options of Find.
type Options struct {
	MinFree int64         // shorter free ranges count as used; default 64 KiB
	Settle  time.Duration // how long to wait until a file system's log is written back; default 2 minutes
	Poll    time.Duration // between looks at it; default 2 s
	// Mounted tells whether this machine's kernel has the file system mounted that lies at a place, so that sync(2) was for it,
	// too. One that it has not may be a guest's or another machine's: what that has in memory, nobody knows here. nil: nobody has.
	Mounted func(kind string, at Place) bool
}

// Find returns the free ranges of a disk of size bytes, sorted and apart, and what it found. r may be as choosy as a
// device opened for direct reads: it is asked for whole 4 KiB blocks into aligned memory, save at the disk's end.
//
// Before it is called everything in memory must have been committed to the disk since tracking began: sync(2).
func Find(ctx context.Context, r io.ReaderAt, size int64, o Options) ([]Range, []Content, error) {
	if o.MinFree <= 0 {
		o.MinFree = 64 << 10
	}
	if o.Settle <= 0 {
		o.Settle = 2 * time.Minute
	}
	if o.Poll <= 0 {
		o.Poll = 2 * time.Second
	}
	s := &search{ctx: ctx, o: o, deadline: time.Now().Add(o.Settle)}
	d := &disk{r: r, bytes: size}
	free := s.volume(d, 0)
	if err := ctx.Err(); err != nil {
		return nil, nil, fault.New(fault.Transient, "usedblocks", "%w", err)
	}
	return free, s.found, nil
}

// search is one call of Find.
type search struct {
	ctx      context.Context
	o        Options
	deadline time.Time
	found    []Content
}

// A parser knows one kind of content.
type parser struct {
	kind string
	is   func(volume) bool // looks like it
	// free returns free ranges of the volume in any order; an error says that nothing can be said.
	free  func(*search, volume, int) ([]Range, error)
	inner bool // the free ranges are those of volumes inside, counted there
}

// maxDepth of volumes inside of volumes: partition, LVM, partition in a logical volume.
const maxDepth = 4

var parsers []parser

func init() { // they look into volumes inside
	parsers = []parser{
		{kind: "gpt", is: isGPT, free: gptFree, inner: true},
		{kind: "mbr", is: isMBR, free: mbrFree, inner: true},
		{kind: "lvm2", is: isLVM, free: lvmFree, inner: true},
		{kind: "ext4", is: isExt, free: extFree},
		{kind: "xfs", is: isXFS, free: xfsFree},
		{kind: "btrfs", is: isBtrfs, free: btrfsFree},
		{kind: "swap", is: isSwap, free: swapFree},
		{kind: "foreign", is: isForeign, free: foreignFree},
	}
}

// volume finds the free ranges of v, in terms of v. What looks like two things is neither: one of them is left over from
// an earlier life of the disk.
func (s *search) volume(v volume, depth int) []Range {
	if depth > maxDepth || v.size() < 64<<10 || s.ctx.Err() != nil {
		return nil
	}
	c := Content{Range: Range{v.disk(0), v.size()}}
	var known *parser
	for i := range parsers {
		p := &parsers[i]
		if !p.is(v) {
			continue
		}
		if known != nil {
			c.Err = errDoubt("looks like %s and like %s", known.kind, p.kind)
			s.found = append(s.found, c)
			return nil
		}
		known, c.Kind = p, p.kind
	}
	if known == nil {
		s.found = append(s.found, c)
		return nil
	}
	at := len(s.found)
	s.found = append(s.found, c)
	free, err := known.free(s, v, depth)
	if err != nil {
		s.found[at].Err = err
		return nil
	}
	free = tidy(free, v.size(), s.o.MinFree)
	if !known.inner {
		s.found[at].Free = total(free)
	}
	return free
}

// inside finds the free ranges of a volume inside another, in terms of the latter.
func (s *search) inside(part volume, depth int, place func(Range) []Range) (free []Range) {
	for _, r := range s.volume(part, depth+1) {
		free = append(free, place(r)...)
	}
	return free
}

// behindSums lets the fuzzer look behind checksums, which it cannot guess.
var behindSums = false

// sums tells whether a checksum is right.
func sums[T uint16 | uint32](have, want T) bool { return have == want || behindSums }

func errDoubt(format string, args ...any) error {
	return fault.New(fault.Unsupported, "usedblocks", format, args...)
}
