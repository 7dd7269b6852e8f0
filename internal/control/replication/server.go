package replication

import (
	"context"
	"time"

	"github.com/understudy-dr/understudy/internal/state"
)

// ReplicationServer is what receives source servers' data: the steps of initiation act on it, and what
// it measures is the world that the reconciler observes. internal/replicate/sink implements it. Every
// method may be repeated: doing what is already done is no error.
type ReplicationServer interface {
	// Launch binds the data listener. reused tells that it was bound already.
	Launch(ctx context.Context) (reused bool, err error)
	// Boot dials the listener itself over TLS.
	Boot(ctx context.Context) error
	// Authenticate presents the server's certificate and verifies it against the CA.
	Authenticate(ctx context.Context) error
	// CheckSoftware fails when the agent and this server share no wire version.
	CheckSoftware(ctx context.Context, agentVersions []uint32) error
	// Admit lets the source server's agent connect; Revoke forbids it and cuts its connections.
	Admit(ctx context.Context, serverID string) error
	Revoke(ctx context.Context, serverID string) error
	// CreateStaging makes the journal's directory and checks free space.
	CreateStaging(ctx context.Context, serverID string, disks []StagingDisk) (reused bool, err error)
	// AttachStaging opens the journal, recovering it where needed.
	AttachStaging(ctx context.Context, serverID string) (reused bool, err error)
	// DetachStaging closes the journal; DestroyStaging removes it.
	DetachStaging(ctx context.Context, serverID string) error
	DestroyStaging(ctx context.Context, serverID string) error
	// Address is what agents dial; it is known once Launch has returned.
	Address() string
	// Status must be cheap: it is asked on every handshake.
	Status(serverID string) ReplicaStatus
	// RecoverablePosition is the latest recoverable durable position at or before at, and the time its
	// data is true for. There being none is fault.NotFound.
	RecoverablePosition(serverID string, at time.Time) (pos uint64, t time.Time, err error)
}

// StagingDisk is one disk that staging must have room for.
type StagingDisk struct {
	Index      uint32
	DeviceName string
	Bytes      uint64
}

// ReplicaStatus is what a replication server measures of one source server. Zero times mean never.
type ReplicaStatus struct {
	Attached    bool // the journal is open
	Connected   bool // an agent's data connection is up
	ConnectedAt time.Time
	FirstByteAt time.Time // the first durable frame since the journal was attached
	LastFrameAt time.Time
	JournalID   string
	Durable     uint64    // highest durable position
	Watermark   time.Time // every write submitted at or before it is durable
	Epoch       uint64
	// BaselineComplete: the epoch's baseline is durable. Recoverable: the newest durable position is.
	BaselineComplete bool
	Recoverable      bool
	BytesReceived    uint64
	Err              error          // why data cannot be taken in just now; nil when it can
	Finding          *state.Finding // the newest of a verify pass that points may suffer from; nil when there is none
}
