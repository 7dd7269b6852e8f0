package vfstest

import (
	"io/fs"
	"path/filepath"
	"slices"
)

// badRange is a part of a file that the disk cannot read.
type badRange struct {
	from, to int64
	times    int // how often it still fails; negative: for ever
}

// BadSectors makes reads fail that touch n bytes of a file from off on, with EIO, as a disk does that has lost sectors: so many times,
// or for ever if times is negative. They stay with the file whatever its name is, and through a crash. What is written over them can be read
// again. A file that does not exist is fs.ErrNotExist.
func (m *MemFS) BadSectors(name string, off, n int64, times int) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	node := m.names[filepath.Clean(name)]
	if node == nil {
		return pathError("open", name, fs.ErrNotExist)
	}
	node.bad = append(node.bad, badRange{from: off, to: off + n, times: times})
	return nil
}

// stops tells whether a read fails, and how much of it there is before that.
func (n *inode) stops(off, length int64) (have int64, bad bool) {
	have = length
	for i := range n.bad {
		b := &n.bad[i]
		if b.times == 0 || b.to <= off || b.from >= off+length {
			continue
		}
		if b.times > 0 {
			b.times--
		}
		have, bad = min(have, max(0, b.from-off)), true
	}
	return have, bad
}

// mend is for what was written over, or cut off.
func (n *inode) mend(from, to int64) {
	var left []badRange
	for _, b := range n.bad {
		for _, part := range []badRange{{b.from, min(b.to, from), b.times}, {max(b.from, to), b.to, b.times}} {
			if part.from < part.to {
				left = append(left, part)
			}
		}
	}
	n.bad = slices.Clip(left)
}
