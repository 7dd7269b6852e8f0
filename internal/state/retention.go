package state

import (
	"context"
	"time"
)

// Pin keeps one position of a server's journal readable for as long as somebody uses it. It is a record, so it survives
// whoever made it; its owner lets go of it.
type Pin struct {
	ID        string
	Scope     Scope
	ServerID  string
	PointID   string // "" when the position is no recovery point
	Position  uint64
	At        time.Time // what the position's data is true for; zero when unknown
	Owner     string    // who lets go of it, as a job's or a connection's id; one owner may have several
	Purpose   PinPurpose
	CreatedAt time.Time
}

// PinPurpose is what a pinned position is used for.
type PinPurpose string

// The purposes.
const (
	PinLaunch PinPurpose = "launch" // a machine runs, or is about to, on this position
	PinExport PinPurpose = "export" // a disk is being read through a connection, which ends with the process that serves it
	PinHold   PinPurpose = "hold"   // somebody asked for it to be kept
)

// JournalSettings are what an operator decided for one server's journal; a nil or zero member leaves it to the default.
type JournalSettings struct {
	ServerID   string
	Window     *time.Duration // how far back every second stays recoverable
	QuotaBytes int64          // how much it may store; 0 is no limit
}

// RetentionReader reads what must stay readable.
type RetentionReader interface {
	// Pins lists a scope's pins, oldest first.
	Pins(ctx context.Context, s Scope, p Page) (items []Pin, next string, err error)
	// ServerPins are all pins of one server, oldest first; OwnerPins all of one owner, server by server.
	ServerPins(ctx context.Context, serverID string) ([]Pin, error)
	OwnerPins(ctx context.Context, owner string) ([]Pin, error)
	JournalSettings(ctx context.Context, serverID string) (JournalSettings, error)
	PointRequest(ctx context.Context, serverID string) (PointRequest, error)
}

// RetentionTx also writes.
type RetentionTx interface {
	// PutPin refuses with fault.Conflict a second pin of an owner on one position, and a pin on a point that is not there.
	PutPin(ctx context.Context, p Pin) error
	DeletePin(ctx context.Context, id string) error
	// DeletePins lets go of all that an owner has.
	DeletePins(ctx context.Context, owner string) error
	// DeletePinsFor lets go of all pins of one purpose.
	DeletePinsFor(ctx context.Context, purpose PinPurpose) error
	PutJournalSettings(ctx context.Context, v JournalSettings) error
	// PutPointRequest takes the place of the server's earlier one.
	PutPointRequest(ctx context.Context, q PointRequest) error
}
