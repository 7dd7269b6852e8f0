// Package state is the control plane's memory: typed records and the one store interface that keeps
// them. internal/control/... and internal/app import it; the edges use the record types but leave the
// store to the domain packages. Implementations live below it (sqlite), and any implementation must
// pass statetest.
package state

import (
	"context"
	"time"
)

// Store keeps the records. Everything a View or Update function sees is one consistent snapshot, and an
// Update is atomic and durable when it returns nil. An Update function may be run once only; it must do
// nothing but talk to its Tx. Updates are serialised: read, decide and write inside one without losing
// another writer's change. A statement that the store refuses, other than for fault.NotFound, fails its whole Update.
type Store interface {
	View(ctx context.Context, fn func(Reader) error) error
	Update(ctx context.Context, fn func(Tx) error) error
	Close() error
}

// Reader reads records. A record that does not exist is a fault.NotFound error. Lists are in a stable
// order and come in pages; next is "" on the last page.
type Reader interface {
	// Initialised is when InitializeService ran for the scope; fault.NotFound when it never did.
	Initialised(ctx context.Context, s Scope) (time.Time, error)

	AccessKey(ctx context.Context, id string) (AccessKey, error)
	// AccessKeys lists an account's keys, oldest first.
	AccessKeys(ctx context.Context, account string) ([]AccessKey, error)

	Template(ctx context.Context, s Scope, id string) (Template, error)
	// Templates lists a scope's templates, oldest first.
	Templates(ctx context.Context, s Scope, p Page) (items []Template, next string, err error)

	// Server, ServerByIdentity and Servers do not show servers that are being deleted.
	Server(ctx context.Context, s Scope, id string) (Server, error)
	ServerByIdentity(ctx context.Context, s Scope, identity string) (Server, error)
	// Servers lists a scope's servers, oldest first.
	Servers(ctx context.Context, s Scope, f ServerFilter, p Page) (items []Server, next string, err error)

	Replication(ctx context.Context, serverID string) (Replication, error)
	// Replications lists the records of all accounts in order of server id.
	Replications(ctx context.Context, f ReplicationFilter, p Page) (items []Replication, next string, err error)

	Point(ctx context.Context, s Scope, id string) (Point, error)
	// Points lists one server's recovery points by expected time.
	Points(ctx context.Context, serverID string, f PointFilter, p Page) (items []Point, next string, err error)

	JobReader
	MGNReader
	AccessReader
	CountReader
	LaunchTemplateReader
	RetentionReader
	DRSReader
	EventReader
}

// Tx also writes. Put inserts or replaces by key; deleting what is not there is no error.
type Tx interface {
	Reader

	PutInitialised(ctx context.Context, s Scope, at time.Time) error
	PutAccessKey(ctx context.Context, k AccessKey) error
	DeleteAccessKey(ctx context.Context, id string) error
	PutTemplate(ctx context.Context, t Template) error
	DeleteTemplate(ctx context.Context, s Scope, id string) error
	// PutServer refuses with fault.Conflict a second server of one identity in a scope.
	PutServer(ctx context.Context, s Server) error
	// DeleteServer removes the server with its replication record and points.
	DeleteServer(ctx context.Context, id string) error
	PutReplication(ctx context.Context, r Replication) error
	// PutPoint refuses with fault.Conflict a second point of a server at one expected time.
	PutPoint(ctx context.Context, p Point) error
	// DeletePoint and WipePoints (of all of a server's) refuse with fault.Conflict while a pin is in the way.
	DeletePoint(ctx context.Context, id string) error
	WipePoints(ctx context.Context, serverID string) error

	JobTx
	MGNTx
	AccessTx
	LaunchTemplateTx
	RetentionTx
	DRSTx
	EventTx
}

// Page asks for at most Limit records after the place that After (an earlier next) names. Limit 0 means
// DefaultLimit.
type Page struct {
	After string
	Limit int
}

// DefaultLimit is the size of a page whose Limit is 0.
const DefaultLimit = 100

// MaxLimit is the largest page a store hands out; a larger Limit is cut to it.
const MaxLimit = 1000

// Size is the number of records the page holds at most.
func (p Page) Size() int {
	switch {
	case p.Limit <= 0:
		return DefaultLimit
	case p.Limit > MaxLimit:
		return MaxLimit
	}
	return p.Limit
}

// ServerFilter narrows a list of servers; a zero member does not.
type ServerFilter struct {
	IDs              []string
	Archived         *bool
	LifeCycleStates  []LifeCycleState
	ReplicationTypes []string
	ApplicationIDs   []string // MGN
	UserProvidedID   string
	HardwareID       string // matches instance id, VMware uuid or a MAC address
	// StagingAccounts are those that extended servers are staged in; the others are staged in their own.
	StagingAccounts []string
	// ExtensibleBy leaves out what this scope extends already, and what is itself an extension.
	ExtensibleBy *Scope
}

// ReplicationFilter narrows a list of replication records; a zero member does not.
type ReplicationFilter struct {
	ServerIDs []string
	States    []ReplicationState
}

// PointFilter narrows a list of points to expected times in [From, To]; zero times do not.
type PointFilter struct {
	From, To   time.Time
	Descending bool
}
