package backup

import (
	"archive/tar"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"io"
	"io/fs"
	"iter"
	"maps"
	"os"
	"path/filepath"
	"strings"

	"github.com/klauspost/compress/zstd"

	"github.com/understudy-dr/understudy/internal/fault"
	"github.com/understudy-dr/understudy/internal/state/location"
	"github.com/understudy-dr/understudy/internal/state/records"
)

// maxEntry bounds one entry of a backup, and so the memory that a hostile one can take.
const maxEntry = 2*chunkBytes + maxFile

// Restore makes an installation of a backup; "-" reads it from in. The data directory must not exist or be empty, the database
// must have no records. The directory appears when it is whole.
func Restore(ctx context.Context, c Config, file string, in io.Reader) (_ Report, err error) {
	const op = "restore"
	if err := refuseData(c.DataDir); err != nil {
		return Report{}, err
	}
	if file != "-" {
		f, err := os.Open(file)
		if err != nil {
			return Report{}, fault.New(fault.Invalid, op, "%w", err)
		}
		defer f.Close()
		in = f
	}
	target := filepath.Clean(c.DataDir)
	parent := filepath.Dir(target)
	if err := os.MkdirAll(parent, 0o755); err != nil {
		return Report{}, ioFault(op, err)
	}
	aside, err := os.MkdirTemp(parent, "."+filepath.Base(target)+".restore-*") // mode 0700
	if err != nil {
		return Report{}, ioFault(op, err)
	}
	defer func() { err = errors.Join(err, os.RemoveAll(aside)) }() // it has the right name by then, or is not wanted
	r, err := fill(ctx, aside, c.StateURL, in)
	if err != nil {
		return Report{}, err
	}
	if err := os.Rename(aside, target); err != nil { // over an empty directory too
		return Report{}, ioFault(op, err)
	}
	where, err := location.Find(target, "")
	r.State = where.String()
	return r, errors.Join(err, syncDir(parent))
}

func refuseData(dir string) error {
	entries, err := os.ReadDir(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fault.New(fault.Invalid, "--data-dir", "%w", err)
	}
	if len(entries) > 0 {
		return fault.New(fault.Conflict, "--data-dir", "%s is not empty", dir).WithHint("restore into a new directory; put journals back afterwards")
	}
	return nil
}

// fill puts everything under dir, and the records where url says.
func fill(ctx context.Context, dir, url string, in io.Reader) (Report, error) {
	const op = "restore"
	z, err := zstd.NewReader(in, zstd.WithDecoderMaxWindow(64<<20), zstd.WithDecoderConcurrency(1))
	if err != nil {
		return Report{}, fault.New(fault.Bug, op, "%w", err)
	}
	defer z.Close()
	rd := &reader{tar: tar.NewReader(z), dir: dir, sums: map[string]string{}}
	h, err := rd.header()
	if err != nil {
		return Report{}, err
	}
	where, err := location.Find(dir, url)
	if err != nil {
		return Report{}, err
	}
	if err := where.Import(ctx, h.Migrations, rd.rows()); err != nil {
		return Report{}, err
	}
	return Report{Records: rd.count, Files: rd.files, Migrated: h.Migrations}, syncTree(dir)
}

// reader reads the entries in order.
type reader struct {
	tar   *tar.Reader
	dir   string
	sums  map[string]string // of what was read
	files int
	count int // of rows
}

// next is the next entry; io.EOF at the end of the archive.
func (r *reader) next() (*tar.Header, []byte, error) {
	const op = "restore: read"
	h, err := r.tar.Next()
	if errors.Is(err, io.EOF) {
		return nil, nil, io.EOF
	}
	if err != nil {
		return nil, nil, damaged(op, err)
	}
	if h.Typeflag != tar.TypeReg || h.Size > maxEntry {
		return nil, nil, fault.New(fault.Corruption, op, "entry %q of type %q, %d bytes", h.Name, h.Typeflag, h.Size)
	}
	if _, twice := r.sums[h.Name]; twice {
		return nil, nil, fault.New(fault.Corruption, op, "entry %q comes twice", h.Name)
	}
	data, err := io.ReadAll(r.tar)
	if err != nil {
		return nil, nil, damaged(op, err)
	}
	if h.Name != sumsName {
		sum := sha256.Sum256(data)
		r.sums[h.Name] = hex.EncodeToString(sum[:])
	}
	return h, data, nil
}

func damaged(op string, err error) error {
	return fault.New(fault.Corruption, op, "%w", err).WithHint("the file is damaged or no backup; take another one")
}

func (r *reader) header() (header, error) {
	const op = "restore: header"
	var h header
	e, data, err := r.next()
	if err != nil && !errors.Is(err, io.EOF) {
		return h, err
	}
	if err != nil || e.Name != headerName || json.Unmarshal(data, &h) != nil {
		return h, damaged(op, errors.New("this is no backup of understudy"))
	}
	if h.Format != Format {
		return h, fault.New(fault.Unsupported, op, "format %d, written by understudy %s", h.Format, h.Understudy).
			WithHint("restore it with that version")
	}
	return h, nil
}

// rows yields the records and writes the files on the way. It ends without an error only when all of the backup was read and
// its sums were right.
func (r *reader) rows() iter.Seq2[records.Row, error] {
	return func(yield func(records.Row, error) bool) {
		for {
			h, data, err := r.next()
			if errors.Is(err, io.EOF) {
				err = damaged("restore: read", io.ErrUnexpectedEOF) // before the sums
			}
			if err == nil && h.Name == sumsName {
				if err = r.check(data); err == nil {
					return
				}
			}
			more := false
			if err == nil {
				more, err = r.take(h, data, yield)
			}
			if err != nil {
				yield(records.Row{}, err)
				return
			}
			if !more {
				return
			}
		}
	}
}

func (r *reader) take(h *tar.Header, data []byte, yield func(records.Row, error) bool) (more bool, err error) {
	if name, ok := strings.CutPrefix(h.Name, filesRoot); ok {
		r.files++
		return true, r.file(name, fs.FileMode(h.Mode).Perm(), data)
	}
	name, ok := strings.CutPrefix(h.Name, recordsRoot)
	table, _, found := strings.Cut(name, "/")
	if !ok || !found {
		return false, fault.New(fault.Corruption, "restore: read", "entry %q is unknown", h.Name)
	}
	return rowsOf(table, data, func(row records.Row) bool {
		r.count++
		return yield(row, nil)
	})
}

func (r *reader) file(name string, mode fs.FileMode, data []byte) error {
	const op = "restore: write file"
	local := filepath.FromSlash(name)
	if !filepath.IsLocal(local) {
		return fault.New(fault.Corruption, op, "entry %q leads out of the data directory", name)
	}
	path := filepath.Join(r.dir, local)
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return ioFault(op, err)
	}
	f, err := os.OpenFile(path, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if err != nil {
		return ioFault(op, err)
	}
	_, err = f.Write(data)
	return ioFault(op, errors.Join(err, f.Chmod(mode), f.Sync(), f.Close()))
}

// check compares the sums, which come last, with what was read.
func (r *reader) check(data []byte) error {
	const op = "restore: check"
	var want map[string]string
	if err := json.Unmarshal(data, &want); err != nil {
		return damaged(op, err)
	}
	if !maps.Equal(want, r.sums) {
		return damaged(op, errors.New("the checksums do not fit"))
	}
	if _, _, err := r.next(); !errors.Is(err, io.EOF) {
		return damaged(op, errors.New("something follows the checksums"))
	}
	return nil
}

// syncTree makes directories durable, deepest first; files are already.
func syncTree(dir string) error {
	var dirs []string
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err == nil && d.IsDir() {
			dirs = append(dirs, path)
		}
		return err
	})
	if err != nil {
		return ioFault("restore", err)
	}
	for i := len(dirs) - 1; i >= 0; i-- {
		if err := syncDir(dirs[i]); err != nil {
			return err
		}
	}
	return nil
}
