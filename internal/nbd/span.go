package nbd

import (
	"context"
	"slices"

	"github.com/understudy-dr/understudy/internal/fault"
)

// span is a run of an export.
type span struct {
	off, length int64
	hole        bool
}

func (s span) end() int64 { return s.off + s.length }

// spansOf covers [off, off+length) with alternating spans, at most limit of them. A hole shorter than
// minHole counts as data: it would cost more to say than to send.
func spansOf(ctx context.Context, b Backend, off, length, minHole int64, limit int) ([]span, error) {
	var spans []span
	for end := off + length; off < end; {
		extents, err := b.Extents(ctx, off, end-off)
		if err != nil {
			return nil, err
		}
		if len(extents) == 0 {
			return nil, fault.New(fault.Bug, "nbd: extents", "backend described nothing at %d", off)
		}
		for _, e := range extents {
			if off >= end {
				break
			}
			if e.Length <= 0 {
				return nil, fault.New(fault.Bug, "nbd: extents", "backend described %d bytes at %d", e.Length, off)
			}
			n := min(e.Length, end-off)
			hole := e.Hole && n >= minHole
			if last := len(spans) - 1; last >= 0 && spans[last].hole == hole {
				spans[last].length += n
			} else if len(spans) == limit {
				return spans, nil
			} else {
				spans = append(spans, span{off, n, hole})
			}
			off += n
		}
	}
	return spans, nil
}

// pieces cuts data spans at multiples of size, so that a long read never needs a long buffer.
func pieces(spans []span, size int64) []span {
	var out []span
	for _, s := range spans {
		for !s.hole && s.length > 0 {
			n := min(s.length, size-s.off%size)
			out = append(out, span{s.off, n, false})
			s.off, s.length = s.off+n, s.length-n
		}
		if s.hole {
			out = append(out, s)
		}
	}
	return out
}

// coverage remembers which parts of a read have arrived: sorted, disjoint, neighbours joined.
type coverage []span

// maxFragments bounds what a server can make us remember about one read.
const maxFragments = 1 << 16

// add is false if any of [off, off+length) had arrived before, or there are too many fragments.
func (c *coverage) add(off, length int64) bool {
	s := *c
	i, _ := slices.BinarySearchFunc(s, off, func(s span, off int64) int {
		if s.off < off {
			return -1
		}
		return 1
	})
	// s[i-1] starts before off, s[i] at or after it.
	if i > 0 && s[i-1].end() > off || i < len(s) && s[i].off < off+length {
		return false
	}
	left := i > 0 && s[i-1].end() == off
	right := i < len(s) && s[i].off == off+length
	switch {
	case left && right:
		s[i-1].length += length + s[i].length
		s = slices.Delete(s, i, i+1)
	case left:
		s[i-1].length += length
	case right:
		s[i].off, s[i].length = off, s[i].length+length
	case len(s) == maxFragments:
		return false
	default:
		s = slices.Insert(s, i, span{off: off, length: length})
	}
	*c = s
	return true
}

// full reports whether exactly [off, off+length) has arrived.
func (c coverage) full(off, length int64) bool {
	return length == 0 && len(c) == 0 || len(c) == 1 && c[0].off == off && c[0].length == length
}
