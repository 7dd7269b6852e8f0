package journal

import (
	"maps"
	"path/filepath"
	"slices"
	"strings"

	"github.com/understudy-dr/understudy/internal/encryption"
	"github.com/understudy-dr/understudy/internal/fault"
	"github.com/understudy-dr/understudy/internal/vfs"
	"github.com/understudy-dr/understudy/internal/wire"
)

// directory is where a journal lives and who it is: what every reader and writer of its files needs.
type directory struct {
	fs    vfs.FS
	dir   string
	id    [16]byte
	key   *encryption.DataKey
	disks []wire.Disk // that the journal was made for; what it has now is in its fold
}

func (d *directory) path(name string) string { return filepath.Join(d.dir, name) }

// listed is the segments of a directory.
type listed struct {
	first, last uint64 // without gaps between; first is after when there are none
	top         uint64 // the last of all; beyond last where one between is missing
	sidecars    map[uint64]bool
	flushed     []uint64 // left over from before
}

// segments lists segment numbers, which must have no gap after the flushed ones. With Corruption it lists what is before the gap.
func (d *directory) segments(flushed uint64) (l listed, err error) {
	names, err := d.fs.List(d.dir)
	if err != nil {
		return l, vfs.Fault("journal: list "+d.dir, err)
	}
	l = listed{first: flushed + 1, last: flushed, sidecars: map[uint64]bool{}}
	left := map[uint64]bool{}
	var numbers []uint64
	for _, name := range names {
		if n, ok := parseName(name, segSuffix); ok && n > flushed {
			numbers = append(numbers, n)
		} else if ok {
			left[n] = true
		}
		if n, ok := parseName(name, idxSuffix); ok && n > flushed {
			l.sidecars[n] = true
		} else if ok {
			left[n] = true
		}
	}
	l.flushed = slices.Sorted(maps.Keys(left))
	slices.Sort(numbers)
	for _, n := range numbers {
		if n == l.last+1 {
			l.last = n
		}
		l.top = n
	}
	for n := range l.sidecars {
		l.top = max(l.top, n)
	}
	if l.top = max(l.top, l.last); l.top > l.last {
		return l, fault.New(fault.Corruption, "journal: list "+d.dir, "%s is missing", segName(l.last+1))
	}
	return l, nil
}

// clean removes what a crash left of atomic writes.
func (d *directory) clean() error {
	names, err := d.fs.List(d.dir)
	if err != nil {
		return vfs.Fault("journal: list "+d.dir, err)
	}
	for _, name := range names {
		if strings.HasSuffix(name, ".tmp") {
			if err := d.fs.Remove(d.path(name)); err != nil {
				return vfs.Fault("journal: remove "+name, err)
			}
		}
	}
	return nil
}
