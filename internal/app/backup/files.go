package backup

import (
	"cmp"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"syscall"
	"time"

	"github.com/understudy-dr/understudy/internal/fault"
)

// file is one file of a data directory.
type file struct {
	name string // slash path relative to the data directory
	mode fs.FileMode
	data []byte
}

// stamp is how a file's change is seen.
type stamp struct {
	name string
	size int64
	at   time.Time
	node uint64
}

// maxFile bounds one file: keys and certificates are small, anything larger does not belong there.
const maxFile = 16 << 20

// settled reads the kept files at a moment when none of them changes: keys that are being exchanged for others must come as one
// set.
func settled(dir string) ([]file, error) {
	const op, attempts = "backup: read files", 10
	before, err := stamps(dir)
	if err != nil {
		return nil, err
	}
	for range attempts {
		files, err := readAll(dir, before)
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return nil, err
		}
		after, err2 := stamps(dir)
		if err2 != nil {
			return nil, err2
		}
		if err == nil && slices.Equal(before, after) {
			return files, nil
		}
		before = after
	}
	return nil, fault.New(fault.Transient, op, "files under %s keep changing", dir)
}

func stamps(dir string) (out []stamp, err error) {
	const op = "backup: list files"
	for _, top := range kept {
		err := filepath.WalkDir(filepath.Join(dir, top), func(path string, d fs.DirEntry, err error) error {
			if errors.Is(err, fs.ErrNotExist) {
				return nil // not every installation has all, and what is just being replaced comes back
			}
			if err != nil || d.IsDir() {
				return err
			}
			info, err := d.Info()
			if errors.Is(err, fs.ErrNotExist) {
				return nil
			}
			if err != nil {
				return err
			}
			name, err := filepath.Rel(dir, path)
			if err != nil {
				return err
			}
			if !info.Mode().IsRegular() || info.Size() > maxFile {
				return fault.New(fault.Unsupported, op, "%s is not a small regular file", path)
			}
			out = append(out, stamp{filepath.ToSlash(name), info.Size(), info.ModTime(), node(info)})
			return nil
		})
		if err != nil {
			return nil, fault.New(cmp.Or(fault.KindOf(err), fault.Unknown), op, "%w", err)
		}
	}
	return out, nil
}

// node tells two files of one name, size and time apart.
func node(info fs.FileInfo) uint64 {
	if s, ok := info.Sys().(*syscall.Stat_t); ok {
		return s.Ino
	}
	return 0
}

func readAll(dir string, all []stamp) ([]file, error) {
	out := make([]file, 0, len(all))
	for _, s := range all {
		path := filepath.Join(dir, filepath.FromSlash(s.name))
		info, err := os.Stat(path)
		if err != nil {
			return nil, ioFault("backup: read files", err)
		}
		data, err := os.ReadFile(path)
		if err != nil {
			return nil, ioFault("backup: read files", err)
		}
		out = append(out, file{s.name, info.Mode(), data})
	}
	return out, nil
}
