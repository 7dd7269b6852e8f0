package agentapi

import (
	"context"
	"crypto/tls"
	"errors"
	"log/slog"
	"net/http"

	"connectrpc.com/connect"

	"github.com/understudy-dr/understudy/internal/agentapi/agentpb/agentpbconnect"
	"github.com/understudy-dr/understudy/internal/control/replication"
	"github.com/understudy-dr/understudy/internal/control/servers"
	"github.com/understudy-dr/understudy/internal/fault"
	"github.com/understudy-dr/understudy/internal/pki"
	"github.com/understudy-dr/understudy/internal/state"
)

// maxMessage bounds what an agent may send; the largest registrations are some hundred kilobytes.
const maxMessage = 1 << 20

// FaultHeader carries the fault kind of an error to the agent.
const FaultHeader = "Understudy-Fault"

// Servers is what registration asks of the domain.
type Servers interface {
	Register(ctx context.Context, s state.Scope, r servers.Registration) (servers.Registered, error)
	Get(ctx context.Context, s state.Scope, id string) (state.Server, error)
}

// Replication is what handshakes ask of the domain.
type Replication interface {
	Registered(ctx context.Context, v state.Server, disksChanged bool) error
	Handshake(ctx context.Context, s state.Scope, id string, r replication.Report) (replication.Command, error)
}

// Authority signs agents' certificates.
type Authority interface {
	SignAgent(csrPEM []byte, id pki.ID) ([]byte, error)
	CertificatePEM() []byte
}

// Config is what the agent service is made of.
type Config struct {
	// Account is the account that a registration's verified signature belongs to.
	Account func(context.Context) (account string, ok bool)
	// Region is named in ARNs.
	Region      string
	Servers     Servers
	Replication Replication
	Authority   Authority
	Log         *slog.Logger
}

// New returns the path that the agent service is to be mounted under and its handler. Registrations must
// have passed signature verification; handshakes are verified here, by the TLS client certificate.
func New(c Config) (path string, h http.Handler) {
	path, inner := agentpbconnect.NewAgentServiceHandler(&service{c}, connect.WithReadMaxBytes(maxMessage))
	return path, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		inner.ServeHTTP(w, r.WithContext(context.WithValue(r.Context(), peerKey{}, r.TLS)))
	})
}

type peerKey struct{}

func peer(ctx context.Context) (pki.ID, error) {
	s, _ := ctx.Value(peerKey{}).(*tls.ConnectionState)
	return pki.PeerSourceServer(s)
}

// service answers the calls. Its errors are for the agent; what is our own fault is logged here.
type service struct {
	Config
}

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

// answer turns an error into what the agent gets. Errors without a code are ours and tell nothing.
func (s *service) answer(op string, err error) error {
	kind := fault.KindOf(err)
	code, ok := codes[kind]
	if !ok {
		s.Log.Error("agent request failed", "op", op, "error", err)
		kind, code, err = fault.Unknown, connect.CodeInternal, errors.New("internal error; see the control plane's log")
	}
	out := connect.NewError(code, err)
	out.Meta().Set(FaultHeader, kind.String())
	return out
}

// Fault is the classified error that a call of the generated client returned: the inverse of what the
// handler does. A call that did not reach the handler is fault.Transient.
func Fault(op string, err error) error {
	if err == nil {
		return nil
	}
	ce, ok := errors.AsType[*connect.Error](err)
	if !ok {
		return fault.New(fault.Transient, op, "%w", err)
	}
	kind := fault.ParseKind(ce.Meta().Get(FaultHeader))
	if kind == fault.Unknown {
		switch ce.Code() {
		case connect.CodeUnavailable, connect.CodeDeadlineExceeded, connect.CodeCanceled:
			kind = fault.Transient
		case connect.CodeUnauthenticated, connect.CodePermissionDenied:
			kind = fault.Denied
		}
	}
	return fault.New(kind, op, "%s", ce.Message())
}
