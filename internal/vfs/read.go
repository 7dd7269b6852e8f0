package vfs

import (
	"errors"
	"io"
	"syscall"

	"github.com/understudy-dr/understudy/internal/fault"
)

// reads is how often ReadFull asks for what the disk cannot read. The disk and the kernel have tried on their own each time, for as
// long as they are set up to, so there is nothing to wait for in between.
const reads = 3

// errUnreadable is in the chain of what ReadFull could not read.
var errUnreadable = errors.New("the disk cannot read it")

// Unreadable tells whether the disk gave an error instead of bytes, each time that it was asked. That is Corruption, as wrong bytes are:
// what has to be read now is not there. But another time or another way it may be read after all, so whoever gives it up
// does not delete it.
func Unreadable(err error) bool { return errors.Is(err, errUnreadable) }

// ReadFull fills p from off; a file that ends before is io.ErrUnexpectedEOF.
func ReadFull(r io.ReaderAt, p []byte, off int64) error {
	var err error
	for range reads {
		if err = readFull(r, p, off); !mediumError(err) {
			return err
		}
	}
	return fault.New(fault.Corruption, "vfs: read", "%w: %w", errUnreadable, err)
}

func readFull(r io.ReaderAt, p []byte, off int64) error {
	n, err := r.ReadAt(p, off)
	if n == len(p) {
		return nil
	}
	if err == nil || errors.Is(err, io.EOF) {
		return io.ErrUnexpectedEOF
	}
	return err
}

// mediumError is what Linux says when a read reached the disk and failed there, or brought what the file system's own checksums refuse.
func mediumError(err error) bool {
	for _, e := range []syscall.Errno{syscall.EIO, syscall.ENODATA, syscall.EILSEQ, syscall.EBADMSG, syscall.EUCLEAN} {
		if errors.Is(err, e) {
			return true
		}
	}
	return false
}
