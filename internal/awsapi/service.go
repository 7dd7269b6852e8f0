package awsapi

import (
	"context"
	"errors"
	"io"
	"net/http"
	"slices"

	"github.com/understudy-dr/understudy/api/mgn"
	"github.com/understudy-dr/understudy/api/rest"
	"github.com/understudy-dr/understudy/internal/awsapi/wireform"
	"github.com/understudy-dr/understudy/internal/control"
	"github.com/understudy-dr/understudy/internal/control/audit"
	"github.com/understudy-dr/understudy/internal/fault"
	"github.com/understudy-dr/understudy/internal/sigv4"
	"github.com/understudy-dr/understudy/internal/state"
)

const uninitialized = "UninitializedAccountException"

// service answers the requests of one modelled service.
type service struct {
	*rest.Service
	cfg  *Config
	gate *Handler // decides who may; nil in tests lets everybody
}

func (s *service) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	e := entryFrom(r.Context())
	ep, label, ok := s.Route(r.Method, r.URL.EscapedPath())
	if !ok {
		e.fail(w, rest.NewPlain("UnknownOperationException", http.StatusNotFound, "The service has no such operation."))
		return
	}
	e.operation, e.model, e.label = ep.Name, ep.Operation, label
	if rec, ok := w.(*recorder); ok {
		rec.keep = !audit.ReadOnly(ep.Name)
	}
	in, ctx, refusal := s.input(r, ep, label)
	if refusal != nil {
		e.fail(w, refusal)
		return
	}
	out, err := ep.Call(ctx, in)
	if err != nil {
		x := s.exception(r.Context(), ep.Operation, err)
		if !errors.Is(err, wireform.ErrToken) {
			s.guard(ep.Operation, x.ErrorCode())
		}
		e.fail(w, x)
		return
	}
	_ = rest.WriteResult(w, ep.Operation, out) // a client that has gone away is its own loss
}

// input reads an operation's input and admits the caller, or says what is against it. A malformed request
// may be a validation error even where the model lists none: every real service answers that. Who may not
// use the operation at all is told only that.
func (s *service) input(r *http.Request, ep *rest.Endpoint, label string) (any, context.Context, rest.Exception) {
	ctx := r.Context()
	if s.gate != nil {
		if err := s.gate.throttle.admit(ctx, s.action(ep.Operation)); err != nil {
			return nil, ctx, s.exception(ctx, ep.Operation, err)
		}
	}
	body, err := io.ReadAll(r.Body) // the verifier has bounded and kept it
	if err != nil {
		return nil, ctx, s.exception(ctx, ep.Operation, fault.New(fault.Transient, "awsapi: read body", "%w", err))
	}
	in := ep.New()
	bad := ep.Decode(rest.Request{Label: label, Query: r.URL.Query(), Body: body}, in)
	if ctx, err = s.authorize(ctx, ep.Operation, in, bad == nil); err == nil {
		err = s.checkInitialized(ctx, ep.Operation)
	}
	if err != nil {
		return nil, ctx, s.exception(ctx, ep.Operation, err)
	}
	if bad != nil {
		return nil, ctx, s.Exception(validation, *bad)
	}
	return in, ctx, nil
}

// action is what policies call an operation.
func (s *service) action(op *rest.Operation) string { return s.Name + ":" + op.Name }

const initialize = "InitializeService"

// authorize asks the caller's policies. Setting a service up is left to the handler, which says who may in
// the service's own words: it is told in the context.
func (s *service) authorize(ctx context.Context, op *rest.Operation, in any, wellFormed bool) (context.Context, error) {
	if s.gate == nil {
		return ctx, nil
	}
	action := s.action(op)
	if op.Name == initialize {
		caller, _ := sigv4.CallerFrom(ctx)
		err := s.gate.decide(ctx, action, nil, nil)
		caller.Admin = err == nil
		if fault.Is(err, fault.Denied) {
			err = nil
		}
		return sigv4.WithCaller(ctx, caller), err
	}
	if p := entryFrom(ctx).principal; !wellFormed && p.Policies.Grants(action) {
		return ctx, nil // what it would be about cannot be told
	}
	n := s.namedBy(ctx, op, in)
	return ctx, s.gate.decide(ctx, action, n.resources, n.tags)
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
	code, detail := translate(s.Name, op, err)
	if code == internalServer {
		requestID := entryFrom(ctx).requestID
		s.cfg.Log.Log(ctx, troubleOf(ctx), "operation failed", "operation", op.Name, "request_id", requestID, "err", err)
		detail.Message = internalError(requestID).Message
	}
	x := s.Exception(code, detail)
	if full, ok := x.(*mgn.ServiceQuotaExceededException); ok { // DRS's has no such member
		full.QuotaValue = quotaValue(err)
	}
	return x
}

// alwaysAllowed are the codes that clients expect of any operation, whatever its model lists.
var alwaysAllowed = []string{"AccessDeniedException", internalServer, "ThrottlingException", "NotImplementedException"}

// guard reports a code that the operation's model does not list.
func (s *service) guard(op *rest.Operation, code string) {
	if !op.Declares(code) && !slices.Contains(alwaysAllowed, code) && !slices.Contains(unlisted[op.Name], code) {
		s.cfg.Undeclared(op, code)
	}
}

// keys makes the verifier's key ring of the control plane's. It leaves the principal with the request: the
// verifier need not know what somebody may do.
type keys struct{ control.Access }

func (k keys) Lookup(ctx context.Context, id string) (sigv4.Secret, sigv4.Identity, error) {
	key, err := k.Access.Lookup(ctx, id)
	if err != nil {
		return sigv4.Secret{}, sigv4.Identity{}, err
	}
	entryFrom(ctx).principal = key.Principal
	return sigv4.Secret{Key: key.Secret, SessionToken: key.Token, Expires: key.Expires}, sigv4.Identity{
		AccessKeyID: key.ID,
		AccountID:   key.Account,
		ARN:         key.Principal.ARN,
		Admin:       key.Admin,
	}, nil
}
