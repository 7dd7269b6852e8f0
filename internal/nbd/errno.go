package nbd

import (
	"errors"
	"fmt"

	"github.com/understudy-dr/understudy/internal/fault"
)

// Errno is an error as the protocol names it. Its values look like Linux's but are the protocol's own.
type Errno uint32

// The values the protocol allows.
const (
	EPERM     Errno = 1
	EIO       Errno = 5
	ENOMEM    Errno = 12
	EINVAL    Errno = 22
	ENOSPC    Errno = 28
	EOVERFLOW Errno = 75
	ENOTSUP   Errno = 95
	ESHUTDOWN Errno = 108
)

var errnos = map[Errno]struct {
	name string
	kind fault.Kind
}{
	EPERM:     {"EPERM", fault.Denied},
	EIO:       {"EIO", fault.Transient},
	ENOMEM:    {"ENOMEM", fault.Transient},
	EINVAL:    {"EINVAL", fault.Invalid},
	ENOSPC:    {"ENOSPC", fault.OutOfSpace},
	EOVERFLOW: {"EOVERFLOW", fault.Invalid},
	ENOTSUP:   {"ENOTSUP", fault.Unsupported},
	ESHUTDOWN: {"ESHUTDOWN", fault.Transient},
}

func (e Errno) Error() string {
	if known, ok := errnos[e]; ok {
		return known.name
	}
	return fmt.Sprintf("error %d", uint32(e))
}

// kind is the fault class of e; the protocol wants an unexpected value taken as EINVAL.
func (e Errno) kind() fault.Kind {
	if known, ok := errnos[e]; ok {
		return known.kind
	}
	return fault.Invalid
}

// errnoOf is what a client is told about err.
func errnoOf(err error) Errno {
	if e, ok := errors.AsType[Errno](err); ok {
		if _, known := errnos[e]; known {
			return e
		}
		return EINVAL
	}
	switch fault.KindOf(err) {
	case fault.Invalid:
		return EINVAL
	case fault.Denied:
		return EPERM
	case fault.OutOfSpace:
		return ENOSPC
	case fault.Unsupported:
		return ENOTSUP
	default:
		return EIO
	}
}

// dropsClient reports whether err is answered by hanging up. A client that is told ESHUTDOWN passes an
// I/O error to its guest even when it was asked to reconnect; one that loses its connection waits.
func dropsClient(err error) bool {
	if e, ok := errors.AsType[Errno](err); ok {
		return e == ESHUTDOWN
	}
	return fault.Is(err, fault.Fenced)
}

// violation is the peer breaking the protocol: the stream cannot be trusted any further.
func violation(op, format string, args ...any) error {
	return fault.New(fault.Corruption, op, "protocol violation: %w", fmt.Errorf(format, args...))
}
