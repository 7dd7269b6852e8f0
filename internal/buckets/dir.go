package buckets

import (
	"context"
	"errors"
	"io"
	"io/fs"
	"os"
	"path"
	"strings"
	"syscall"

	"github.com/google/uuid"

	"github.com/understudy-dr/understudy/internal/fault"
)

// Dir is a Store in a directory: ACCOUNT/BUCKET/KEY. A bucket has to be made as a directory before it is used, as one
// of S3 has to be made. Accounts do not see each other's.
type Dir struct{ path string }

// NewDir returns the store in a directory, which is made when it is first used.
func NewDir(path string) *Dir { return &Dir{path} }

// bucket opens the directory that stands for a bucket; nothing leads out of it, symbolic links included.
func (d *Dir) bucket(op string, o Object) (*os.Root, error) {
	if err := o.check(op); err != nil {
		return nil, err
	}
	if o.Owner != "" && o.Owner != o.Account {
		return nil, fault.New(fault.Denied, op, "bucket %s is not of account %s", o.Bucket, o.Owner)
	}
	if err := os.MkdirAll(d.path, 0o700); err != nil {
		return nil, kept(op, err)
	}
	all, err := os.OpenRoot(d.path)
	if err != nil {
		return nil, kept(op, err)
	}
	defer func() { _ = all.Close() }()
	root, err := all.OpenRoot(path.Join(o.Account, o.Bucket))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fault.New(fault.NotFound, op, "bucket %s does not exist", o.Bucket).
			WithHint("buckets are directories here: make " + path.Join(d.path, o.Account, o.Bucket))
	}
	return root, kept(op, err)
}

// Get implements Store.
func (d *Dir) Get(_ context.Context, o Object, limit int64) ([]byte, error) {
	const op = "bucket: read"
	root, err := d.bucket(op, o)
	if err != nil {
		return nil, err
	}
	defer func() { _ = root.Close() }()
	// Not to wait for a writer where somebody has put a pipe.
	f, err := root.OpenFile(o.Key, os.O_RDONLY|syscall.O_NONBLOCK, 0)
	if err != nil {
		return nil, kept(op, err)
	}
	defer f.Close()
	if info, err := f.Stat(); err != nil || !info.Mode().IsRegular() {
		return nil, fault.New(fault.Invalid, op, "s3://%s/%s is no file", o.Bucket, o.Key)
	}
	content, err := io.ReadAll(io.LimitReader(f, limit+1))
	switch {
	case err != nil:
		return nil, kept(op, err)
	case int64(len(content)) > limit:
		return nil, tooLarge(op, o, limit)
	}
	return content, nil
}

// Put implements Store.
func (d *Dir) Put(_ context.Context, o Object, content []byte) (err error) {
	const op = "bucket: write"
	root, err := d.bucket(op, o)
	if err != nil {
		return err
	}
	defer func() { _ = root.Close() }()
	parent := path.Dir(o.Key)
	if err := root.MkdirAll(parent, 0o700); err != nil {
		return kept(op, err)
	}
	temporary := path.Join(parent, "."+uuid.NewString()+".tmp")
	defer func() {
		if err != nil {
			_ = root.Remove(temporary) // the cause says more
		}
	}()
	if err := write(root, temporary, content); err != nil {
		return kept(op, err)
	}
	return kept(op, root.Rename(temporary, o.Key))
}

func write(root *os.Root, name string, content []byte) error {
	f, err := root.OpenFile(name, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	_, err = f.Write(content)
	return errors.Join(err, f.Sync(), f.Close())
}

// kept gives a file system's error its kind.
func kept(op string, err error) error {
	kind := fault.Unknown
	switch {
	case err == nil:
		return nil
	case errors.Is(err, fs.ErrNotExist):
		return fault.New(fault.NotFound, op, "the object does not exist")
	case errors.Is(err, fs.ErrPermission), strings.Contains(err.Error(), "path escapes from parent"): // os has no name for it
		kind = fault.Denied
	case errors.Is(err, syscall.ENOSPC), errors.Is(err, syscall.EDQUOT):
		kind = fault.OutOfSpace
	case errors.Is(err, syscall.ENOTDIR), errors.Is(err, syscall.EISDIR), errors.Is(err, syscall.ENAMETOOLONG), errors.Is(err, fs.ErrExist):
		kind = fault.Invalid
	}
	return fault.New(kind, op, "%w", err)
}
