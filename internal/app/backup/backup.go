// Package backup puts everything that an installation is, except for the replicated data, into one file, while it runs, and
// makes an installation of such a file again. docs/formats/backup.md describes the file. Only cmd/understudy imports it.
package backup

import (
	"archive/tar"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/klauspost/compress/zstd"

	"github.com/understudy-dr/understudy/internal/buildinfo"
	"github.com/understudy-dr/understudy/internal/fault"
	"github.com/understudy-dr/understudy/internal/state/location"
)

// Format is the version of the file. The versions, newest first:
//
//	1  a tar in one zstd stream: header, records, files, sums
const Format = 1

// Names of the file's entries.
const (
	headerName  = "understudy-backup.json"
	sumsName    = "sums.json"
	recordsRoot = "records/"
	filesRoot   = "files/"
)

// header is the first entry.
type header struct {
	Format     int       `json:"format"`
	Understudy string    `json:"understudy"` // the version that wrote it
	CreatedAt  time.Time `json:"createdAt"`
	Migrations []int64   `json:"migrations"` // of the schema that the records have
}

// kept are the entries of a data directory that a backup holds: the administrator's credentials, keys, the certificate
// authority, and what wraps the keys of journals.
var kept = []string{"credentials", "keys", "pki", "wrapping-keys.json"}

// known are those that it leaves out and need not tell of: the records, which it holds in another form, locks,
// and the keys of TLS sessions, which are made anew.
var known = []string{"lock", "session-tickets.json", "state.db", "state.db-shm", "state.db-wal", "state.url", "wrapping-keys.json.lock"}

// Report is what a backup or a restore did.
type Report struct {
	Records  int
	Files    int
	State    string   // where the records were read from or went to
	LeftOut  []string // entries of the data directory that are not in the backup
	Migrated []int64  // the schema's migrations
}

// Config says which installation.
type Config struct {
	DataDir  string
	StateURL string // as for serve
}

// Save writes the backup of an installation to a new file, which appears when it is whole; "-" is out.
func Save(ctx context.Context, c Config, file string, out io.Writer) (Report, error) {
	const op = "backup"
	if file == "-" {
		return write(ctx, c, out)
	}
	if _, err := os.Lstat(file); err == nil {
		return Report{}, fault.New(fault.Conflict, op, "%s exists", file).WithHint("a backup never replaces a file")
	}
	f, err := os.CreateTemp(filepath.Dir(file), "."+filepath.Base(file)+".*") // mode 0600: there are keys in it
	if err != nil {
		return Report{}, fault.New(fault.Invalid, op, "%w", err)
	}
	defer func() { _ = os.Remove(f.Name()) }() // it has its right name by then, or is not wanted
	r, err := write(ctx, c, f)
	if err = errors.Join(err, ioFault(op, f.Sync()), ioFault(op, f.Close())); err != nil {
		return Report{}, err
	}
	if err := os.Link(f.Name(), file); err != nil {
		return Report{}, ioFault(op, err)
	}
	return r, syncDir(filepath.Dir(file))
}

// writer writes the entries and remembers their sums.
type writer struct {
	tar  *tar.Writer
	sums map[string]string
	at   time.Time
}

func write(ctx context.Context, c Config, out io.Writer) (Report, error) {
	const op = "backup"
	where, err := location.Find(c.DataDir, c.StateURL)
	if err != nil {
		return Report{}, err
	}
	z, err := zstd.NewWriter(out, zstd.WithEncoderCRC(true))
	if err != nil {
		return Report{}, fault.New(fault.Bug, op, "%w", err)
	}
	w := &writer{tar: tar.NewWriter(z), sums: map[string]string{}, at: time.Now().UTC().Truncate(time.Second)}
	r := Report{State: where.String()}
	// Records first: whatever key a record needs was a file by then.
	err = w.records(ctx, where, &r)
	if err == nil {
		err = w.files(c.DataDir, &r)
	}
	if err == nil {
		err = w.sumUp()
	}
	if err != nil {
		return Report{}, errors.Join(err, ioFault(op, z.Close()))
	}
	return r, ioFault(op, errors.Join(w.tar.Close(), z.Close()))
}

func (w *writer) entry(name string, mode int64, data []byte) error {
	h := &tar.Header{Typeflag: tar.TypeReg, Name: name, Mode: mode, Size: int64(len(data)), ModTime: w.at, Format: tar.FormatPAX}
	if err := w.tar.WriteHeader(h); err != nil {
		return ioFault("backup: write "+name, err)
	}
	if _, err := w.tar.Write(data); err != nil {
		return ioFault("backup: write "+name, err)
	}
	sum := sha256.Sum256(data)
	w.sums[name] = hex.EncodeToString(sum[:])
	return nil
}

func (w *writer) json(name string, v any) error {
	data, err := json.Marshal(v)
	if err != nil {
		return fault.New(fault.Bug, "backup: encode "+name, "%w", err)
	}
	return w.entry(name, 0o600, append(data, '\n'))
}

func (w *writer) records(ctx context.Context, where location.Location, r *Report) error {
	chunks := chunkWriter{w: w}
	err := where.Export(ctx, func(migrations []int64) error {
		r.Migrated = migrations
		return w.json(headerName, header{Format: Format, Understudy: buildinfo.Version, CreatedAt: w.at, Migrations: migrations})
	}, chunks.row)
	if err != nil {
		return err
	}
	r.Records = chunks.rows
	return chunks.flush()
}

func (w *writer) files(dir string, r *Report) error {
	files, err := settled(dir)
	if err != nil {
		return err
	}
	for _, f := range files {
		if err := w.entry(filesRoot+f.name, int64(f.mode.Perm()), f.data); err != nil {
			return err
		}
	}
	r.Files = len(files)
	entries, err := os.ReadDir(dir)
	if err != nil {
		return ioFault("backup", err)
	}
	for _, e := range entries {
		if !slices.Contains(kept, e.Name()) && !slices.Contains(known, e.Name()) && !strings.HasPrefix(e.Name(), ".") {
			r.LeftOut = append(r.LeftOut, e.Name())
		}
	}
	return nil
}

// sumUp writes the last entry: a file without it was cut short.
func (w *writer) sumUp() error { return w.json(sumsName, w.sums) }

func ioFault(op string, err error) error {
	if err == nil {
		return nil
	}
	return fault.New(fault.Unknown, op, "%w", err)
}

func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return ioFault("sync directory", err)
	}
	return ioFault("sync directory", errors.Join(d.Sync(), d.Close()))
}
