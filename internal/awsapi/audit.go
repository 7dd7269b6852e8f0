package awsapi

import (
	"context"
	"net/http"
	"time"

	"github.com/understudy-dr/understudy/api/rest"
	"github.com/understudy-dr/understudy/internal/control"
	"github.com/understudy-dr/understudy/internal/sigv4"
)

// entry is what the audit log tells of one request; the layers fill it as they learn.
type entry struct {
	requestID string
	start     time.Time
	caller    sigv4.Caller
	principal control.Principal
	sourceIP  string
	secure    bool // over TLS
	operation string
	code      string // of the error that was answered
}

type entryKey struct{}

func withEntry(ctx context.Context, e *entry) context.Context {
	return context.WithValue(ctx, entryKey{}, e)
}

// entryFrom is the request's audit entry; a context without one gets a throw-away.
func entryFrom(ctx context.Context) *entry {
	if e, ok := ctx.Value(entryKey{}).(*entry); ok {
		return e
	}
	return &entry{}
}

// fail answers with an exception and remembers its code. A client that has gone away is its own loss.
func (e *entry) fail(w http.ResponseWriter, x rest.Exception) {
	e.code = x.ErrorCode()
	_ = rest.WriteError(w, x)
}

// audit writes one line per call: who did what from where, and how it ended. Request members stay out:
// they may be sensitive.
func (h *Handler) audit(rec *recorder, r *http.Request, e *entry) {
	result, operation := "ok", e.operation
	switch {
	case e.code != "":
		result = e.code
	case rec.status >= http.StatusBadRequest:
		result = http.StatusText(rec.status)
	}
	if operation == "" {
		operation = r.Method + " " + r.URL.Path
	}
	h.cfg.Log.InfoContext(r.Context(), "api call",
		"service", e.caller.Service, "operation", operation,
		"principal", e.caller.ARN, "account", e.caller.AccountID, "access_key", e.caller.AccessKeyID,
		"result", result, "status", rec.status, "request_id", e.requestID,
		"source_ip", e.sourceIP, "user_agent", r.UserAgent(), "took", h.cfg.Now().Sub(e.start))
}

// recorder remembers the status. http.ResponseController reaches the connection through Unwrap.
type recorder struct {
	http.ResponseWriter
	status int
}

func (r *recorder) WriteHeader(status int) {
	if r.status == 0 {
		r.status = status
	}
	r.ResponseWriter.WriteHeader(status)
}

func (r *recorder) Write(b []byte) (int, error) {
	if r.status == 0 {
		r.status = http.StatusOK
	}
	return r.ResponseWriter.Write(b)
}

// Flush lets streaming handlers that ask the writer itself flush.
func (r *recorder) Flush() { _ = http.NewResponseController(r.ResponseWriter).Flush() }

// Unwrap is for http.ResponseController.
func (r *recorder) Unwrap() http.ResponseWriter { return r.ResponseWriter }
