package awsapi

import (
	"context"
	"errors"
	"io"
	"net/http"
	"slices"

	"github.com/understudy-dr/understudy/api/rest"
	"github.com/understudy-dr/understudy/internal/control"
	"github.com/understudy-dr/understudy/internal/fault"
	"github.com/understudy-dr/understudy/internal/sigv4"
	"github.com/understudy-dr/understudy/internal/state"
)

const uninitialized = "UninitializedAccountException"

// service answers the requests of one modelled service.
type service struct {
	*rest.Service
	cfg *Config
}

func (s *service) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	e := entryFrom(r.Context())
	ep, label, ok := s.Route(r.Method, r.URL.EscapedPath())
	if !ok {
		e.fail(w, rest.NewPlain("UnknownOperationException", http.StatusNotFound, "The service has no such operation."))
		return
	}
	e.operation = ep.Name
	in, refusal := s.input(r, ep, label)
	if refusal != nil {
		e.fail(w, refusal)
		return
	}
	out, err := ep.Call(r.Context(), in)
	if err != nil {
		x := s.exception(r.Context(), ep.Operation, err)
		s.guard(ep.Operation, x.ErrorCode())
		e.fail(w, x)
		return
	}
	_ = rest.WriteResult(w, ep.Operation, out) // a client that has gone away is its own loss
}

// input reads an operation's input, or says what the protocol has against it. Such a refusal may be a
// validation error even where the model lists none: every real service answers that.
func (s *service) input(r *http.Request, ep *rest.Endpoint, label string) (any, rest.Exception) {
	if err := s.checkInitialized(r.Context(), ep.Operation); err != nil {
		return nil, s.exception(r.Context(), ep.Operation, err)
	}
	body, err := io.ReadAll(r.Body) // the verifier has bounded and kept it
	if err != nil {
		return nil, s.exception(r.Context(), ep.Operation, fault.New(fault.Transient, "awsapi: read body", "%w", err))
	}
	in := ep.New()
	if bad := ep.Decode(rest.Request{Label: label, Query: r.URL.Query(), Body: body}, in); bad != nil {
		return nil, s.Exception(validation, *bad)
	}
	return in, nil
}

// checkInitialized refuses operations before InitializeService. The model itself tells which: those that
// list the error.
func (s *service) checkInitialized(ctx context.Context, op *rest.Operation) error {
	if !op.Declares(uninitialized) {
		return nil
	}
	caller, _ := sigv4.CallerFrom(ctx)
	return s.cfg.Accounts.Check(ctx, state.Scope{Account: caller.AccountID, Service: state.Service(s.Name)})
}

// exception is what the client is told of err.
func (s *service) exception(ctx context.Context, op *rest.Operation, err error) rest.Exception {
	if x, ok := errors.AsType[rest.Exception](err); ok {
		return x
	}
	code, detail := translate(op, err)
	if code == internalServer {
		requestID := entryFrom(ctx).requestID
		s.cfg.Log.ErrorContext(ctx, "operation failed", "operation", op.Name, "request_id", requestID, "err", err)
		detail.Message = internalError(requestID).(*rest.Plain).Message
	}
	return s.Exception(code, detail)
}

// alwaysAllowed are the codes that clients expect of any operation, whatever its model lists.
var alwaysAllowed = []string{"AccessDeniedException", internalServer, "ThrottlingException", "NotImplementedException"}

// guard reports a code that the operation's model does not list.
func (s *service) guard(op *rest.Operation, code string) {
	if !op.Declares(code) && !slices.Contains(alwaysAllowed, code) && !slices.Contains(unlisted[op.Name], code) {
		s.cfg.Undeclared(op, code)
	}
}

// keys makes the verifier's key ring of the control plane's.
type keys struct{ control.Access }

func (k keys) Lookup(ctx context.Context, id string) (sigv4.Secret, sigv4.Identity, error) {
	key, err := k.Access.Lookup(ctx, id)
	if err != nil {
		return sigv4.Secret{}, sigv4.Identity{}, err
	}
	return sigv4.Secret{Key: key.Secret}, sigv4.Identity{
		AccessKeyID: key.ID,
		AccountID:   key.Account,
		ARN:         "arn:aws:iam::" + key.Account + ":user/" + key.User,
		Admin:       key.Admin,
	}, nil
}
