package agentapi

import (
	"context"
	"crypto/tls"
	"errors"
	"log/slog"
	"net/http"

	"connectrpc.com/connect"

	"github.com/understudy-dr/understudy/internal/agentapi/agentpb"
	"github.com/understudy-dr/understudy/internal/agentapi/agentpb/agentpbconnect"
	"github.com/understudy-dr/understudy/internal/control/points"
	"github.com/understudy-dr/understudy/internal/control/replication"
	"github.com/understudy-dr/understudy/internal/control/servers"
	"github.com/understudy-dr/understudy/internal/pki"
	"github.com/understudy-dr/understudy/internal/state"
)

// maxMessage bounds what an agent may send; the largest registrations are some hundred kilobytes.
const maxMessage = 1 << 20

// Servers is what registrations and handshakes ask of the domain.
type Servers interface {
	Register(ctx context.Context, s state.Scope, r servers.Registration) (state.Server, error)
	Present(ctx context.Context, s state.Scope, id string, p servers.Presence, facts *state.SourceProperties) (state.Server, error)
	Devices(ctx context.Context, x state.Server, devices []servers.Device) (_ state.Server, changed bool, err error)
}

// Replication is what handshakes ask of the domain.
type Replication interface {
	Registered(ctx context.Context, v state.Server) error
	DisksChanged(ctx context.Context, v state.Server) error
	Handshake(ctx context.Context, s state.Scope, id string, r replication.Report) (replication.Command, error)
}

// Points is what handshakes ask of application-consistent points.
type Points interface {
	Wanted(ctx context.Context, serverID string) (requestID string, err error)
	Settle(ctx context.Context, s state.Scope, serverID string, m points.Reported) (settled bool, err error)
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
	Points      Points // nil: there are none
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

// answer turns an error into what the agent gets. Errors that cannot be told are ours and tell nothing.
func (s *service) answer(op string, err error) error {
	if refusal, ok := agentpb.Refusal(err); ok {
		return refusal
	}
	s.Log.Error("agent request failed", "op", op, "error", err)
	return connect.NewError(connect.CodeInternal, errors.New("internal error; see the control plane's log"))
}
