// Package awsapi is the one HTTP endpoint of the AWS-compatible services: it authenticates, tells the
// services apart by the signature's credential scope, dispatches, and translates the domain's errors
// into the services' own. internal/app/serve assembles it from the handlers in drsapi and mgnapi.
package awsapi

import (
	"context"
	"errors"
	"log/slog"
	"net/http"
	"runtime/debug"
	"time"

	"github.com/google/uuid"

	"github.com/understudy-dr/understudy/api/rest"
	"github.com/understudy-dr/understudy/internal/control"
	"github.com/understudy-dr/understudy/internal/sigv4"
)

// Config is what an endpoint needs.
type Config struct {
	Region   string // the only one that credentials may be scoped to
	Access   control.Access
	Accounts control.Accounts
	Log      *slog.Logger
	Now      func() time.Time // time.Now when nil
	MaxBody  int64            // sigv4.DefaultMaxBody when 0
	Rates    Rates            // of requests; none when nil
	Audit    Trail            // no audit log when nil

	// Undeclared is told of every error that the model does not list for its operation, before it is
	// sent. Tests fail on it; nil logs a warning.
	Undeclared func(op *rest.Operation, code string)
}

// Handler answers requests of all services. Add services before it serves.
type Handler struct {
	cfg      Config
	verifier *sigv4.Verifier
	throttle *throttle
	services map[string]http.Handler
}

// New returns a handler without services.
func New(cfg Config) *Handler {
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	if cfg.Undeclared == nil {
		cfg.Undeclared = func(op *rest.Operation, code string) {
			cfg.Log.Warn("error is not in the operation's model", "operation", op.Name, "code", code)
		}
	}
	return &Handler{
		cfg:      cfg,
		throttle: newThrottle(cfg.Rates, cfg.Now),
		verifier: &sigv4.Verifier{Keys: keys{cfg.Access}, Now: cfg.Now, MaxBody: cfg.MaxBody},
		services: map[string]http.Handler{},
	}
}

// Serve adds a modelled service under its signing name.
func (h *Handler) Serve(s *rest.Service) {
	h.Mount(s.Name, &service{Service: s, cfg: &h.cfg, gate: h})
}

// Mount adds a service of any protocol under its signing name. Its handler finds who is calling with
// sigv4.CallerFrom, and the body as the client sent it.
func (h *Handler) Mount(signingName string, s http.Handler) { h.services[signingName] = s }

// ServeHTTP answers one request. Every answer carries a request id, and every call of somebody
// known leaves a record in the audit log.
func (h *Handler) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	e := &entry{requestID: uuid.NewString(), start: h.cfg.Now(), sourceIP: sourceIP(r), secure: r.TLS != nil}
	rec := &recorder{ResponseWriter: w}
	rec.Header().Set(rest.HeaderRequestID, e.requestID)
	defer h.finish(rec, r, e)
	r = r.WithContext(withEntry(r.Context(), e))

	caller, err := h.verifier.Verify(r)
	if err != nil {
		h.refuse(rec, r, e, err)
		return
	}
	e.caller = caller
	if err := e.keepBody(r); err != nil {
		h.refuse(rec, r, e, err)
		return
	}
	s, ok := h.services[caller.Service]
	switch {
	case !ok:
		h.refuse(rec, r, e, wrongScope("Credential should be scoped to correct service."))
	case caller.Region != h.cfg.Region:
		h.refuse(rec, r, e, wrongScope("Credential should be scoped to a valid region. (expected '"+h.cfg.Region+"')"))
	default:
		h.noteUse(r.Context(), e)
		s.ServeHTTP(rec, r.WithContext(control.WithPrincipal(sigv4.WithCaller(r.Context(), caller), e.principal)))
	}
}

// noteUse writes down that the caller's key was used. That this fails is no reason to refuse the request.
func (h *Handler) noteUse(ctx context.Context, e *entry) {
	if err := h.cfg.Access.Used(ctx, e.caller.AccessKeyID, e.caller.Service, e.caller.Region); err != nil {
		h.cfg.Log.WarnContext(ctx, "the use of an access key could not be noted", "access_key", e.caller.AccessKeyID, "err", err)
	}
}

func wrongScope(message string) error {
	return &sigv4.Error{Code: "InvalidSignatureException", Status: http.StatusForbidden, Message: message}
}

// troubleOf is how bad it is that a request came to nothing for no reason that its client is told: no trouble of ours when the client hung up.
func troubleOf(ctx context.Context) slog.Level {
	if ctx.Err() != nil {
		return slog.LevelInfo
	}
	return slog.LevelError
}

// Refuser is a mounted service that answers errors in a form of its own: those of the query protocols.
type Refuser interface {
	Refuse(w http.ResponseWriter, requestID string, e *sigv4.Error)
}

// refuse answers a request that no service has seen, in the form of the service that it claims to be for.
func (h *Handler) refuse(w http.ResponseWriter, r *http.Request, e *entry, err error) {
	refusal, ok := errors.AsType[*sigv4.Error](err)
	if !ok {
		h.cfg.Log.Log(r.Context(), troubleOf(r.Context()), "request could not be authenticated", "request_id", e.requestID, "err", err)
		x := internalError(e.requestID)
		refusal = &sigv4.Error{Code: x.ErrorCode(), Status: x.HTTPStatus(), Message: x.Message}
	}
	if s, ok := h.services[sigv4.ClaimedService(r)].(Refuser); ok {
		e.code = refusal.Code
		s.Refuse(w, e.requestID, refusal)
		return
	}
	e.fail(w, rest.NewPlain(refusal.Code, refusal.Status, refusal.Message))
}

// finish turns a panic into an answer and writes the audit record.
func (h *Handler) finish(rec *recorder, r *http.Request, e *entry) {
	if p := recover(); p != nil {
		h.cfg.Log.Error("request handler panicked", "request_id", e.requestID, "panic", p, "stack", string(debug.Stack()))
		if rec.status == 0 {
			e.fail(rec, internalError(e.requestID))
		}
	}
	h.audit(rec, r, e)
}

func internalError(requestID string) *rest.Plain {
	return rest.NewPlain("InternalServerException", http.StatusInternalServerError,
		"An internal error occurred. The server's log tells more under request id "+requestID+".")
}
