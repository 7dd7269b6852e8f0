package audit

import (
	"bytes"
	"context"
	"errors"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"sync/atomic"
	"time"

	"github.com/understudy-dr/understudy/internal/fault"
)

const (
	// Current is the file that is written to; a full one is renamed to audit-TIME.jsonl.
	Current = "audit.jsonl"
	// MaxSize is when a file is full.
	MaxSize = 64 << 20
	// queued is how many records may wait for the disk. Then callers wait, with patience.
	queued   = 4096
	patience = 2 * time.Second
	// retryEvery is how often a disk that refused a record is asked again.
	retryEvery = time.Second
)

// Log is the audit log in a directory. Records that come while others are being made durable are written together, with one
// fsync. A disk that takes no records does not stop the calls: recovering servers matters more, and the trouble is logged.
type Log struct {
	dir     string
	maxSize int64
	log     *slog.Logger
	queue   chan pending
	stopped chan struct{} // closed when Run has ended
	lost    atomic.Int64  // records that found no room while the disk took none

	file *os.File
	size int64
}

// pending is a record on its way to the disk.
type pending struct {
	line []byte
	done chan error // one slot
}

// New returns the log in dir. Run opens it.
func New(dir string, log *slog.Logger) *Log {
	return &Log{dir: dir, maxSize: MaxSize, log: log, queue: make(chan pending, queued), stopped: make(chan struct{})}
}

// open opens the current file. A last line that a crash cut off is ended, so that it spoils no other.
func (l *Log) open() error {
	path := filepath.Join(l.dir, Current)
	f, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR|os.O_APPEND, 0o600)
	if err != nil {
		return err
	}
	size, err := endLine(f)
	if err = errors.Join(err, syncDir(l.dir)); err != nil {
		return errors.Join(err, f.Close())
	}
	l.file, l.size = f, size
	return nil
}

// endLine sees that the next record begins on a line of its own.
func endLine(f *os.File) (int64, error) {
	info, err := f.Stat()
	if err != nil || info.Size() == 0 {
		return 0, err
	}
	last := make([]byte, 1)
	if _, err := f.ReadAt(last, info.Size()-1); err != nil || last[0] == '\n' {
		return info.Size(), err
	}
	_, err = f.WriteString("\n")
	return info.Size() + 1, err
}

func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

// Append takes a record. durable waits until it is on the disk; who does not care need not call it.
func (l *Log) Append(r Record) (durable func(context.Context) error) {
	const op = "audit: append"
	line, err := r.encode()
	if err != nil {
		return func(context.Context) error { return fault.New(fault.Bug, op, "%w", err) }
	}
	p := pending{line, make(chan error, 1)}
	timer := time.NewTimer(patience)
	defer timer.Stop()
	select {
	case l.queue <- p:
	case <-l.stopped:
		return func(context.Context) error { return errStopped }
	case <-timer.C:
		l.lost.Add(1)
		return func(context.Context) error { return errFull }
	}
	return func(ctx context.Context) error {
		select {
		case err := <-p.done:
			return err
		case <-l.stopped:
			select {
			case err := <-p.done:
				return err
			default:
				return errStopped
			}
		case <-ctx.Done():
			return fault.New(fault.Transient, op, "%w", ctx.Err())
		}
	}
}

var (
	errStopped = fault.New(fault.Transient, "audit: append", "the audit log has been closed")
	errFull    = fault.New(fault.OutOfSpace, "audit: append", "too many records wait for the disk")
)

// Run writes until ctx ends; what was taken before is written then. The file is closed when it returns.
func (l *Log) Run(ctx context.Context) error {
	defer close(l.stopped)
	if err := os.MkdirAll(l.dir, 0o700); err != nil {
		return fault.New(fault.Unknown, "audit: open", "%w", err)
	}
	if err := l.open(); err != nil {
		return fault.New(fault.Unknown, "audit: open", "%w", err)
	}
	for {
		select {
		case <-ctx.Done():
			return l.finish()
		case p := <-l.queue:
			batch := l.gather(p)
			if err := l.write(batch); err != nil {
				settle(batch, err) // nobody waits for the disk to get well
				if err := l.persist(ctx, batch, err); err != nil {
					return errors.Join(err, l.finish())
				}
				continue
			}
			settle(batch, nil)
		}
	}
}

// persist tries to write a batch again until the disk takes it.
func (l *Log) persist(ctx context.Context, batch []pending, err error) error {
	l.log.Error("the audit log cannot be written", "dir", l.dir, "error", err)
	for err != nil {
		if !pause(ctx) {
			return err
		}
		err = l.write(batch)
	}
	l.log.Warn("the audit log can be written again", "dir", l.dir, "lost", l.lost.Swap(0))
	return nil
}

func pause(ctx context.Context) bool {
	timer := time.NewTimer(retryEvery)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-timer.C:
		return true
	}
}

// gather takes what else is waiting.
func (l *Log) gather(first pending) []pending {
	batch := []pending{first}
	for len(batch) < queued {
		select {
		case p := <-l.queue:
			batch = append(batch, p)
		default:
			return batch
		}
	}
	return batch
}

func settle(batch []pending, err error) {
	for _, p := range batch {
		p.done <- err
	}
}

// finish writes what is left and closes the file.
func (l *Log) finish() error {
	var batch []pending
	select {
	case p := <-l.queue:
		batch = l.gather(p)
	default:
	}
	var err error
	if len(batch) > 0 {
		err = l.write(batch)
		settle(batch, err)
	}
	if l.file != nil {
		if closed := l.file.Close(); closed != nil {
			err = errors.Join(err, fault.New(fault.Unknown, "audit: close", "%w", closed))
		}
		l.file = nil
	}
	return err
}

// write makes records durable. After a failure it may be called again with the same ones: a file that may hold part of them is
// cut back first.
func (l *Log) write(batch []pending) error {
	const op = "audit: write"
	if l.file == nil {
		if err := l.open(); err != nil {
			return fault.New(fault.Unknown, op, "%w", err)
		}
	}
	var buf bytes.Buffer
	for _, p := range batch {
		buf.Write(p.line)
	}
	if l.size > 0 && l.size+int64(buf.Len()) > l.maxSize {
		if err := l.rotate(); err != nil {
			return fault.New(fault.Unknown, op, "%w", err)
		}
	}
	_, err := l.file.Write(buf.Bytes())
	if err == nil {
		err = l.file.Sync()
	}
	if err != nil {
		// After a failed fsync nothing is known of the pages: the file is opened anew.
		err = errors.Join(err, l.file.Truncate(l.size), l.file.Close())
		l.file = nil
		return fault.New(fault.Unknown, op, "%w", err)
	}
	l.size += int64(buf.Len())
	return nil
}

// rotate gives the full file its name for ever and begins another.
func (l *Log) rotate() error {
	if err := l.file.Close(); err != nil {
		return err
	}
	l.file = nil
	name := "audit-" + time.Now().UTC().Format("20060102T150405.000000000Z") + ".jsonl"
	to := filepath.Join(l.dir, name)
	if _, err := os.Lstat(to); err == nil {
		return &fs.PathError{Op: "rotate", Path: to, Err: fs.ErrExist}
	}
	if err := os.Rename(filepath.Join(l.dir, Current), to); err != nil {
		return err
	}
	return l.open()
}
