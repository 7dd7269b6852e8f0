package agentpb

import (
	"errors"

	"connectrpc.com/connect"

	"github.com/understudy-dr/understudy/internal/fault"
)

// faultHeader carries the kind of a refusal, which Connect's codes cannot tell apart in every case.
const faultHeader = "Understudy-Fault"

var codes = map[fault.Kind]connect.Code{
	fault.Invalid:     connect.CodeInvalidArgument,
	fault.NotFound:    connect.CodeNotFound,
	fault.Conflict:    connect.CodeFailedPrecondition,
	fault.Denied:      connect.CodePermissionDenied,
	fault.Unsupported: connect.CodeUnimplemented,
	fault.OutOfSpace:  connect.CodeResourceExhausted,
	fault.Transient:   connect.CodeUnavailable,
	fault.Fenced:      connect.CodeAborted,
}

// Refusal is a classified error as an answer. ok is false for kinds that are nobody's business but the
// server's.
func Refusal(err error) (refusal error, ok bool) {
	kind := fault.KindOf(err)
	code, ok := codes[kind]
	if !ok {
		return nil, false
	}
	out := connect.NewError(code, err)
	out.Meta().Set(faultHeader, kind.String())
	return out, true
}

// Fault is the classified error that a call of the generated client returned: the inverse of Refusal.
// What never left this side keeps its kind. What has none, as a call that did not get through or an
// internal error over there, is fault.Transient.
func Fault(op string, err error) error {
	if err == nil {
		return nil
	}
	if f, ok := errors.AsType[*fault.Error](err); ok {
		return fault.Wrap(op, f)
	}
	ce, ok := errors.AsType[*connect.Error](err)
	if !ok {
		return fault.New(fault.Transient, op, "%w", err)
	}
	kind := fault.ParseKind(ce.Meta().Get(faultHeader))
	if kind == fault.Unknown {
		kind = ofCode(ce.Code())
	}
	if cause := ce.Unwrap(); cause != nil {
		return fault.New(kind, op, "%w", cause) // which does not repeat the code
	}
	return fault.New(kind, op, "%w", err)
}

// ofCode is the kind of an answer that came from in front of the agent service: signature verification
// or a proxy.
func ofCode(code connect.Code) fault.Kind {
	switch code {
	case connect.CodeInvalidArgument:
		return fault.Invalid
	case connect.CodePermissionDenied, connect.CodeUnauthenticated:
		return fault.Denied
	case connect.CodeUnimplemented:
		return fault.Unsupported
	}
	return fault.Transient
}
