// Package awsapi is the one HTTP endpoint of the AWS-compatible services: it authenticates, tells the
// services apart by the signature's credential scope, dispatches, and translates the domain's errors
// into the services' own. internal/app/serve assembles it from the handlers in drsapi and mgnapi.
package awsapi

import (
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

	// Undeclared is told of every error that the model does not list for its operation, before it is
	// sent. Tests fail on it; nil logs a warning.
	Undeclared func(op *rest.Operation, code string)
}

// Handler answers requests of all services. Add services before it serves.
type Handler struct {
	cfg      Config
	verifier *sigv4.Verifier
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
		verifier: &sigv4.Verifier{Keys: keys{cfg.Access}, Now: cfg.Now, MaxBody: cfg.MaxBody},
		services: map[string]http.Handler{},
	}
}

// Serve adds a modelled service under its signing name.
func (h *Handler) Serve(s *rest.Service) {
	h.Mount(s.Name, &service{Service: s, cfg: &h.cfg})
}

// Mount adds a service of any protocol under its signing name. Its handler finds who is calling with
// sigv4.CallerFrom, and the body as the client sent it.
func (h *Handler) Mount(signingName string, s http.Handler) { h.services[signingName] = s }

// ServeHTTP answers one request. Every answer carries a request id, and every request leaves one line
// in the audit log.
func (h *Handler) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	e := &entry{requestID: uuid.NewString(), start: h.cfg.Now()}
	rec := &recorder{ResponseWriter: w}
	rec.Header().Set(rest.HeaderRequestID, e.requestID)
	defer h.finish(rec, r, e)
	r = r.WithContext(withEntry(r.Context(), e))

	caller, err := h.verifier.Verify(r)
	if err != nil {
		h.refuse(rec, e, err)
		return
	}
	e.caller = caller
	s, ok := h.services[caller.Service]
	switch {
	case !ok:
		h.refuse(rec, e, wrongScope("Credential should be scoped to correct service."))
	case caller.Region != h.cfg.Region:
		h.refuse(rec, e, wrongScope("Credential should be scoped to a valid region. (expected '"+h.cfg.Region+"')"))
	default:
		s.ServeHTTP(rec, r.WithContext(sigv4.WithCaller(r.Context(), caller)))
	}
}

func wrongScope(message string) error {
	return &sigv4.Error{Code: "InvalidSignatureException", Status: http.StatusForbidden, Message: message}
}

// refuse answers a request that no service has seen.
func (h *Handler) refuse(w http.ResponseWriter, e *entry, err error) {
	if refusal, ok := errors.AsType[*sigv4.Error](err); ok {
		e.fail(w, rest.NewPlain(refusal.Code, refusal.Status, refusal.Message))
		return
	}
	h.cfg.Log.Error("request could not be authenticated", "request_id", e.requestID, "err", err)
	e.fail(w, internalError(e.requestID))
}

// finish turns a panic into an answer and writes the audit line.
func (h *Handler) finish(rec *recorder, r *http.Request, e *entry) {
	if p := recover(); p != nil {
		h.cfg.Log.Error("request handler panicked", "request_id", e.requestID, "panic", p, "stack", string(debug.Stack()))
		if rec.status == 0 {
			e.fail(rec, internalError(e.requestID))
		}
	}
	h.audit(rec, r, e)
}

func internalError(requestID string) rest.Exception {
	return rest.NewPlain("InternalServerException", http.StatusInternalServerError,
		"An internal error occurred. The server's log tells more under request id "+requestID+".")
}
