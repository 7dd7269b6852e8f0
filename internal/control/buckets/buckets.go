// Package buckets is where clients leave files for the control plane and find those that it writes: the local
// directory that stands for S3 buckets. Every account has buckets of its own. internal/app makes one; the domain
// packages that read or write such files declare what they need of it.
package buckets

import (
	"context"
	"errors"
	"io/fs"
	"path"
	"regexp"
	"strings"

	"github.com/understudy-dr/understudy/internal/control"
	"github.com/understudy-dr/understudy/internal/fault"
	"github.com/understudy-dr/understudy/internal/vfs"
)

// Dir keeps buckets in a directory, as ACCOUNT/BUCKET/KEY.
type Dir struct {
	fs   vfs.FS
	root string
}

// New returns the buckets under root, which is made when something is put there.
func New(f vfs.FS, root string) *Dir { return &Dir{f, root} }

var (
	accountName = regexp.MustCompile(`^[0-9]{12}$`)
	bucketName  = regexp.MustCompile(`^[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]$`)
)

const maxKey = 1024

// place is where a key's file is. What a client names must not lead out of its bucket.
func (d *Dir) place(op, account, bucket, key string) (string, error) {
	switch {
	case !accountName.MatchString(account):
		return "", fault.New(fault.Bug, op, "account %q", account)
	case !bucketName.MatchString(bucket) || strings.Contains(bucket, ".."):
		return "", control.Misfit(op, "s3Bucket", "%q is no name of a bucket", bucket)
	case len(key) > maxKey || !fs.ValidPath(key) || key == "." || strings.ContainsAny(key, "\x00\\"):
		return "", control.Misfit(op, "s3Key", "%q cannot be a key here", key)
	}
	return path.Join(d.root, account, bucket, key), nil
}

// URL names a key as clients do.
func URL(bucket, key string) string { return "s3://" + bucket + "/" + key }

// Put stores content under a key, in the place of what was there, and returns its URL.
func (d *Dir) Put(_ context.Context, account, bucket, key string, content []byte) (string, error) {
	const op = "buckets: put"
	name, err := d.place(op, account, bucket, key)
	if err != nil {
		return "", err
	}
	if err := d.fs.MkdirAll(path.Dir(name)); err != nil {
		return "", vfs.Fault(op, err)
	}
	if err := vfs.WriteAtomic(d.fs, name, content); err != nil {
		return "", vfs.Fault(op, err)
	}
	return URL(bucket, key), nil
}

// Get reads what is under a key; more than limit bytes are refused, and nothing there is fault.NotFound.
func (d *Dir) Get(_ context.Context, account, bucket, key string, limit int64) ([]byte, error) {
	const op = "buckets: get"
	name, err := d.place(op, account, bucket, key)
	if err != nil {
		return nil, err
	}
	info, err := d.fs.Stat(name)
	switch {
	case errors.Is(err, fs.ErrNotExist) || err == nil && info.Dir:
		return nil, fault.New(fault.NotFound, op, "there is no %s", URL(bucket, key))
	case err != nil:
		return nil, vfs.Fault(op, err)
	case info.Size > limit:
		return nil, fault.New(fault.Invalid, op, "%s has %d bytes, and at most %d are read", URL(bucket, key), info.Size, limit)
	}
	content, err := vfs.ReadFile(d.fs, name, limit)
	if err != nil {
		return nil, vfs.Fault(op, err)
	}
	return content, nil
}
