package s3

import (
	"bytes"
	"context"
	"errors"
	"hash/crc32"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/google/uuid"

	"github.com/understudy-dr/understudy/internal/blob"
	"github.com/understudy-dr/understudy/internal/fault"
)

// Bounds of what is done after the caller's context has ended.
const (
	drainTime   = 5 * time.Second
	cleanupTime = 15 * time.Second
)

var errMismatch = errors.New("the service received something else than was sent")

// Create implements blob.Store. Nothing is sent before a part is full; parts are sent under ctx.
func (s *Store) Create(ctx context.Context, name string) (blob.Writer, error) {
	if err := blob.CheckName(name); err != nil {
		return nil, err
	}
	if err := ctx.Err(); err != nil {
		return nil, s.fault("create "+name, err)
	}
	sending, stop := context.WithCancel(ctx)
	return &writer{store: s, name: name, token: uuid.NewString(), sending: sending, stop: stop}, nil
}

type writer struct {
	store       *Store
	name, token string
	sending     context.Context // of the parts
	stop        context.CancelFunc
	buf         []byte
	size        int64
	upload      *upload // nil as long as one request could hold everything
	parts       int
	err         error // the first failure; nothing is committed after it
	done        bool
}

// Write implements io.Writer.
func (w *writer) Write(p []byte) (int, error) {
	if w.err == nil && w.done {
		w.err = fault.New(fault.Conflict, "s3: write "+w.name, "already committed or aborted")
	}
	written := 0
	for w.err == nil && len(p) > 0 {
		room := partSize(w.parts) - len(w.buf)
		if room == 0 {
			w.err = w.store.fault("write "+w.name, w.flush())
			continue
		}
		n := min(room, len(p))
		w.buf = append(w.buf, p[:n]...)
		p, written = p[n:], written+n
	}
	w.size += int64(written)
	return written, w.err
}

// flush sends the buffer as a part.
func (w *writer) flush() (err error) {
	if w.upload == nil {
		if w.upload, err = w.store.begin(w.sending, w.name, w.token); err != nil {
			return err
		}
	}
	w.parts++
	if w.buf, err = w.upload.send(w.buf); err != nil {
		return err
	}
	if w.buf == nil {
		w.buf = make([]byte, 0, partSize(w.parts))
	}
	return nil
}

// Commit implements blob.Writer.
func (w *writer) Commit(ctx context.Context) error {
	if w.err == nil && w.done {
		w.err = fault.New(fault.Conflict, "s3: commit "+w.name, "already committed or aborted")
	}
	if w.err != nil {
		return w.err
	}
	if err := w.commit(ctx); err != nil {
		w.err = w.store.fault("commit "+w.name, err)
		w.Abort()
		return w.err
	}
	w.done = true
	w.buf = nil
	w.stop()
	w.store.sweep(ctx)
	return nil
}

// commit looks for an object of the name first, for services that ignore the condition; where it is honoured, it also
// holds against a writer that comes between.
func (w *writer) commit(ctx context.Context) error {
	if w.upload != nil && len(w.buf) > 0 {
		if err := w.flush(); err != nil {
			return err
		}
	}
	_, err := w.store.head(ctx, w.name)
	if err == nil {
		return errExists()
	}
	if status(err) != 404 {
		return err
	}
	conditional := !w.store.unconditional.Load()
	err = w.finish(ctx, conditional)
	if err != nil && conditional && judge(err).kind == fault.Unsupported {
		w.store.unconditional.Store(true)
		w.store.cfg.Log.Warn("the object storage knows no conditional writes; two replication servers must never use one prefix")
		err = w.finish(ctx, false)
	}
	switch {
	case err != nil:
		return w.settle(ctx, err)
	case w.upload != nil:
		return w.confirm(ctx)
	}
	return nil
}

// confirm sees that there is an object when an upload is said to be complete. A service that died while it completed one may say so to
// the attempt that follows, and not have it (versitygw 1.8); what was sealed would be given up for nothing.
func (w *writer) confirm(ctx context.Context) error {
	head, err := w.store.head(ctx, w.name)
	switch {
	case status(err) == 404:
		return fault.New(fault.Transient, "", "the service says that the upload is complete, and has no such object")
	case err != nil:
		return err
	case !w.wrote(head):
		return errExists()
	}
	return nil
}

// wrote tells whether an object is this writer's, whole.
func (w *writer) wrote(head *s3.HeadObjectOutput) bool {
	return head.Metadata[tokenKey] == w.token && aws.ToInt64(head.ContentLength) == w.size
}

func errExists() error { return fault.New(fault.Conflict, "", "the object exists") }

func (w *writer) finish(ctx context.Context, conditional bool) error {
	var ifNoneMatch *string
	if conditional {
		ifNoneMatch = aws.String("*")
	}
	if w.upload != nil {
		return w.upload.complete(ctx, ifNoneMatch)
	}
	sum := crc32.Checksum(w.buf, castagnoli)
	_, err := w.store.client.PutObject(ctx, &s3.PutObjectInput{
		Bucket: &w.store.cfg.Bucket, Key: w.store.key(w.name), IfNoneMatch: ifNoneMatch,
		Body: bytes.NewReader(w.buf), ChecksumCRC32C: base64Sum(sum), ContentType: aws.String("application/octet-stream"),
		Metadata: map[string]string{tokenKey: w.token, sumKey: sumText(sum)},
	}, w.store.attempt(len(w.buf), nil))
	return err
}

// settle finds out what became of a commit that failed. Its answer may have been lost, and then another attempt was
// told that the object exists, or that the upload does not: the object itself tells whose it is.
func (w *writer) settle(ctx context.Context, failed error) error {
	kind := judge(failed).kind
	if kind != fault.Conflict && kind != fault.Transient && kind != fault.NotFound {
		return failed
	}
	head, err := w.store.head(ctx, w.name)
	switch {
	case err == nil && w.wrote(head):
		return nil
	case err == nil:
		return errExists()
	case kind == fault.Transient:
		return failed
	default:
		return fault.New(fault.Transient, "", "an object that was in the way is gone: %w", failed)
	}
}

// Abort implements blob.Writer. Parts that are on their way get a moment to arrive: one that arrives after the upload is
// gone may stay. Whatever cannot be removed now is found by the sweep.
func (w *writer) Abort() {
	if w.done {
		return
	}
	w.done = true
	defer w.stop()
	w.buf = nil
	if w.upload == nil {
		return
	}
	giveUp := time.AfterFunc(drainTime, w.stop)
	defer giveUp.Stop()
	if err := w.upload.abandon(context.WithoutCancel(w.sending)); err != nil {
		w.store.cfg.Log.Warn("an upload could not be aborted; its parts take room until the next sweep",
			"object", w.name, "error", err)
	}
}
