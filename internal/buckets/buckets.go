// Package buckets reads and writes whole objects in buckets of the users' own: the files that they hand in and are
// handed. A bucket is one of an S3-compatible service, or a directory that stands for one. What the journal keeps in
// object storage is blob's; nothing here is ours. internal/app opens a Store, the packages that exchange files
// declare what they need of it.
package buckets

import (
	"context"
	"strings"

	"github.com/understudy-dr/understudy/internal/fault"
)

// Object names an object and whose it is.
type Object struct {
	Account string // who asks
	Owner   string // whose bucket it must be; empty: that of who asks
	Bucket  string
	Key     string
}

// Store keeps objects. Errors are faults: NotFound for an object or bucket that is not there, Denied for one that may
// not be used, Transient for what may work later.
type Store interface {
	// Get returns an object of at most limit bytes; a larger one is fault.Invalid.
	Get(ctx context.Context, o Object, limit int64) ([]byte, error)
	// Put writes an object, all of it or none.
	Put(ctx context.Context, o Object, content []byte) error
}

func tooLarge(op string, o Object, limit int64) error {
	return fault.New(fault.Invalid, op, "s3://%s/%s has more than %d bytes", o.Bucket, o.Key, limit)
}

// check refuses names that could mean something else in a file system.
func (o Object) check(op string) error {
	for _, element := range append(strings.Split(o.Key, "/"), o.Bucket) {
		if element == "" || element == "." || element == ".." || strings.ContainsAny(element, "\x00\\") {
			return fault.New(fault.Invalid, op, "s3://%s/%s has a part that cannot be the name of a file", o.Bucket, o.Key)
		}
	}
	return nil
}
