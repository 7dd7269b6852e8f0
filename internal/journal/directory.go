package journal

import (
	"path/filepath"
	"slices"
	"strings"

	"github.com/understudy-dr/understudy/internal/fault"
	"github.com/understudy-dr/understudy/internal/vfs"
)

// directory is where a journal lives and who it is: what every reader and writer of its files needs.
type directory struct {
	fs    vfs.FS
	dir   string
	id    [16]byte
	disks diskSet
}

func (d *directory) path(name string) string { return filepath.Join(d.dir, name) }

// segments lists segment numbers, which must be 1 to n, and which of them have a sidecar.
func (d *directory) segments() (count uint64, sidecars map[uint64]bool, err error) {
	names, err := d.fs.List(d.dir)
	if err != nil {
		return 0, nil, vfs.Fault("journal: list "+d.dir, err)
	}
	sidecars = map[uint64]bool{}
	var numbers []uint64
	for _, name := range names {
		if n, ok := parseName(name, segSuffix); ok {
			numbers = append(numbers, n)
		}
		if n, ok := parseName(name, idxSuffix); ok {
			sidecars[n] = true
		}
	}
	slices.Sort(numbers)
	for i, n := range numbers {
		if n != uint64(i)+1 {
			return 0, nil, fault.New(fault.Corruption, "journal: list "+d.dir, "%s is missing", segName(uint64(i)+1))
		}
	}
	for n := range sidecars {
		if n > uint64(len(numbers)) {
			return 0, nil, fault.New(fault.Corruption, "journal: list "+d.dir, "%s is missing, its index is there", segName(n))
		}
	}
	return uint64(len(numbers)), sidecars, nil
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
