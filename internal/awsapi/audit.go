package awsapi

import (
	"bytes"
	"context"
	"crypto/tls"
	"io"
	"net/http"
	"strings"
	"time"

	"github.com/google/uuid"

	"github.com/understudy-dr/understudy/api/rest"
	"github.com/understudy-dr/understudy/internal/control"
	"github.com/understudy-dr/understudy/internal/control/audit"
	"github.com/understudy-dr/understudy/internal/fault"
	"github.com/understudy-dr/understudy/internal/sigv4"
)

// Trail keeps the audit log.
type Trail interface {
	// Append takes a record; durable waits until it cannot be lost any more.
	Append(r audit.Record) (durable func(context.Context) error)
}

// entry is what the audit log tells of one request; the layers fill it as they learn.
type entry struct {
	requestID string
	start     time.Time
	caller    sigv4.Caller
	principal control.Principal
	sourceIP  string
	secure    bool // over TLS
	operation string
	model     *rest.Operation // of a modelled service
	label     string          // of the path
	body      []byte
	code      string // of the error that was answered
	message   string
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
	e.code, e.message = x.ErrorCode(), strings.TrimPrefix(x.Error(), x.ErrorCode()+": ")
	_ = rest.WriteError(w, x)
}

// keepBody remembers what was sent: the verifier has bounded it.
func (e *entry) keepBody(r *http.Request) error {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return fault.New(fault.Transient, "awsapi: read body", "%w", err)
	}
	e.body, r.Body = body, io.NopCloser(bytes.NewReader(body))
	return nil
}

// name is the operation's, or the best there is.
func (e *entry) name(r *http.Request) string {
	if e.operation != "" {
		return e.operation
	}
	return r.Method + " " + r.URL.Path
}

// durableWithin bounds how long the answer to a change waits for its record.
const durableWithin = 5 * time.Second

// audit writes down the call of somebody who proved who they are: who did what from where, and how it ended. Nothing that the
// model calls sensitive is in it. The answer to what may have changed something is complete when its record cannot be lost.
func (h *Handler) audit(rec *recorder, r *http.Request, e *entry) {
	if rec.status >= http.StatusBadRequest && e.code == "" {
		if e.code = rec.Header().Get(rest.HeaderErrorType); e.code == "" {
			e.code = strings.ReplaceAll(http.StatusText(rec.status), " ", "")
		}
	}
	if e.caller.AccountID == "" {
		h.cfg.Log.InfoContext(r.Context(), "request refused", "operation", e.name(r), "result", e.code, "status", rec.status,
			"request_id", e.requestID, "source_ip", e.sourceIP, "user_agent", r.UserAgent())
		return
	}
	h.cfg.Log.DebugContext(r.Context(), "api call", "service", e.caller.Service, "operation", e.name(r), "account", e.caller.AccountID,
		"result", e.code, "status", rec.status, "request_id", e.requestID, "took", h.cfg.Now().Sub(e.start))
	if h.cfg.Audit == nil {
		return
	}
	record := h.record(rec, r, e)
	durable := h.cfg.Audit.Append(record)
	if record.ReadOnly {
		return
	}
	// The client may have gone; what it did is written down all the same.
	ctx, cancel := context.WithTimeout(context.WithoutCancel(r.Context()), durableWithin)
	defer cancel()
	if err := durable(ctx); err != nil {
		h.cfg.Log.ErrorContext(ctx, "a change may be missing in the audit log", "operation", e.name(r), "request_id", e.requestID, "err", err)
	}
}

// record is the call in CloudTrail's shape.
func (h *Handler) record(rec *recorder, r *http.Request, e *entry) audit.Record {
	out := audit.Record{
		UserIdentity: identity(e), EventTime: audit.Time(e.start), EventSource: audit.Source(e.caller.Service), EventName: e.name(r),
		AWSRegion: h.cfg.Region, SourceIPAddress: e.sourceIP, UserAgent: r.UserAgent(), ErrorCode: e.code, ErrorMessage: e.message,
		RequestParameters: parameters(r, e), RequestID: e.requestID, EventID: uuid.NewString(),
		ReadOnly: audit.ReadOnly(e.operation) || e.operation == "" && r.Method == http.MethodGet, RecipientAccountID: e.caller.AccountID,
	}
	if e.model != nil && !out.ReadOnly && e.code == "" {
		out.ResponseElements = masked(e.model.Output, rec.body.Bytes())
	}
	if e.model == nil && e.caller.Service == "understudy" {
		out.AdditionalData = map[string]any{"path": r.URL.Path}
	}
	if r.TLS != nil {
		out.TLSDetails = &audit.TLS{Version: tls.VersionName(r.TLS.Version), Suite: tls.CipherSuiteName(r.TLS.CipherSuite), Host: r.Host}
	}
	return out
}

func identity(e *entry) audit.Identity {
	p := e.principal
	out := audit.Identity{Type: "IAMUser", PrincipalID: p.ID, ARN: e.caller.ARN, AccountID: e.caller.AccountID, AccessKeyID: e.caller.AccessKeyID, UserName: p.User}
	if p.Role != "" {
		out.Type = "AssumedRole"
		name := p.Role[strings.LastIndex(p.Role, "/")+1:]
		out.SessionContext = &audit.Session{SessionIssuer: audit.Issuer{Type: "Role", ARN: p.Role, AccountID: p.Account, UserName: name}}
	}
	return out
}

// recorder remembers the status and what the audit log tells of the answer. http.ResponseController reaches the connection through Unwrap.
type recorder struct {
	http.ResponseWriter
	status int
	keep   bool // the body, as far as it may be told
	body   bytes.Buffer
}

// maxKept bounds what a recorder keeps of a body; more is told by nobody.
const maxKept = 128 << 10

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
	if r.keep && r.body.Len() <= maxKept {
		r.body.Write(b)
	}
	return r.ResponseWriter.Write(b)
}

// Flush lets streaming handlers that ask the writer itself flush.
func (r *recorder) Flush() { _ = http.NewResponseController(r.ResponseWriter).Flush() }

// Unwrap is for http.ResponseController.
func (r *recorder) Unwrap() http.ResponseWriter { return r.ResponseWriter }
