// Package sink is the replication server: it listens on the data port, tells agents apart by their certificates,
// verifies what they send, appends it to their journals and acknowledges what is durable.
//
// The server's assembly imports it, and hands it to the control plane behind the control plane's own interface.
package sink

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"log/slog"
	"time"

	"github.com/understudy-dr/understudy/internal/fault"
	"github.com/understudy-dr/understudy/internal/journal"
	"github.com/understudy-dr/understudy/internal/vfs"
)

// Config of a replication server.
type Config struct {
	FS     vfs.FS         // default vfs.OS
	Dir    string         // staging area: one journal per source server, in a directory of its name
	Listen string         // host:port; port 0 picks one
	TLS    *tls.Config    // its certificate, and ClientCAs that agents' certificates must verify against
	Roots  *x509.CertPool // what its own certificate must verify against
	// Identify names the source server that a verified client certificate belongs to.
	Identify func(*tls.ConnectionState) (serverID string, err error)

	ReserveBytes int64         // refuse frames before less than this is free; default 64 MiB
	IdleTimeout  time.Duration // close a connection that is silent for so long; default 60 s
	Journal      journal.Options
	Log          *slog.Logger // default slog.Default
}

// Server is a replication server. Run serves; everything else may be called at any time from any goroutine.
type Server struct{}

// StagingDisk is a disk of a source server that staging is made for.
type StagingDisk struct {
	Index  uint16
	Device string
	Bytes  uint64
}

// ReplicaStatus is what the replication server sees of one source server.
type ReplicaStatus struct {
	Attached, Connected                   bool
	ConnectedAt, FirstByteAt, LastFrameAt time.Time
	JournalID                             string
	Durable                               uint64
	Watermark                             time.Time
	Epoch                                 uint64
	BaselineComplete, Recoverable         bool
	BytesReceived                         uint64 // since this process began
	Err                                   error  // why the last connection ended, if not cleanly; nil once another is welcomed
}

var errSkeleton = fault.New(fault.Unsupported, "sink", "being written")

// New checks the configuration.
func New(c Config) (*Server, error) { return nil, errSkeleton }

// Run serves connections from Launch on until ctx ends; then it ends connections first, journals after.
func (s *Server) Run(ctx context.Context) error { return errSkeleton }

// Launch binds the data port; Run serves it. It is idempotent.
func (s *Server) Launch(ctx context.Context) (reused bool, err error) { return false, errSkeleton }

// Boot dials the data port and sees this server's certificate answer.
func (s *Server) Boot(ctx context.Context) error { return errSkeleton }

// Authenticate verifies the server's own certificate.
func (s *Server) Authenticate(ctx context.Context) error { return errSkeleton }

// CheckSoftware tells whether an agent that speaks these wire versions can be served.
func (s *Server) CheckSoftware(ctx context.Context, agentVersions []uint32) error { return errSkeleton }

// Admit lets a source server connect. It is idempotent.
func (s *Server) Admit(ctx context.Context, serverID string) error { return errSkeleton }

// Revoke ends its connection and refuses it from then on. It is idempotent.
func (s *Server) Revoke(ctx context.Context, serverID string) error { return errSkeleton }

// CreateStaging makes its journal, if there is room. An existing one of the same disks is reused; others are a Conflict.
func (s *Server) CreateStaging(ctx context.Context, serverID string, disks []StagingDisk) (reused bool, err error) {
	return false, errSkeleton
}

// AttachStaging opens its journal, so that the agent is welcomed.
func (s *Server) AttachStaging(ctx context.Context, serverID string) (reused bool, err error) {
	return false, errSkeleton
}

// DetachStaging ends its connection and closes its journal. It is idempotent.
func (s *Server) DetachStaging(ctx context.Context, serverID string) error { return errSkeleton }

// DestroyStaging detaches and deletes its journal. It is idempotent.
func (s *Server) DestroyStaging(ctx context.Context, serverID string) error { return errSkeleton }

// Address is where the data port listens; "" before Launch.
func (s *Server) Address() string { return "" }

// Status of one source server; the zero value when it is unknown here.
func (s *Server) Status(serverID string) ReplicaStatus { return ReplicaStatus{} }

// RecoverablePosition is the newest recoverable state at or before an instant.
func (s *Server) RecoverablePosition(serverID string, at time.Time) (pos uint64, t time.Time, err error) {
	return 0, time.Time{}, errSkeleton
}

// Journal is the attached journal of a source server.
func (s *Server) Journal(serverID string) (*journal.Journal, error) { return nil, errSkeleton }

// Close lets go of everything; call it after Run has returned, or when it never ran.
func (s *Server) Close() error { return nil }
