// Package control is the contract between the control plane and its edges: what the domain packages
// below it offer (servers, replication, points, templates, accounts, access), the shapes they show and
// the errors they return. The edges and internal/app import it; the rules are in the packages below.
package control

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/understudy-dr/understudy/internal/fault"
	"github.com/understudy-dr/understudy/internal/state"
)

// ErrUninitialized is in the chain of every refusal that InitializeService would lift.
var ErrUninitialized = errors.New("account not initialized")

// ErrQuota is in the chain of every refusal that stands for an AWS quota.
var ErrQuota = errors.New("service quota exceeded")

// ResourceError names the resource an error is about; it is in the chain of not-found, conflict and
// quota errors.
type ResourceError struct {
	Type string // as "SourceServer"
	ID   string
	Err  error
}

func (e *ResourceError) Error() string { return fmt.Sprintf("%s %s: %v", e.Type, e.ID, e.Err) }
func (e *ResourceError) Unwrap() error { return e.Err }

// ResourceErrors is one refusal for several resources of one call; it is in the chain of conflicts that
// name more than one.
type ResourceErrors struct {
	Message string // of the whole
	Each    []*ResourceError
}

func (e *ResourceErrors) Error() string { return e.Message }

// FieldError lists the input members that are wrong; it is in the chain of fault.Invalid errors that
// can name them.
type FieldError struct {
	Fields []Field
}

// Field is one wrong member.
type Field struct {
	Name, Message string
}

func (e *FieldError) Error() string {
	var all []string
	for _, f := range e.Fields {
		all = append(all, f.Name+": "+f.Message)
	}
	return strings.Join(all, "; ")
}

// Resource types as they appear in errors.
const (
	SourceServer = "SourceServer"
	RCT          = "ReplicationConfigurationTemplate"
	Snapshot     = "RecoverySnapshot"
	Job          = "Job"
)

// Misfit is an invalid-input error that names the member.
func Misfit(op, member, format string, args ...any) *fault.Error {
	return fault.New(fault.Invalid, op, "%w", &FieldError{[]Field{{member, fmt.Sprintf(format, args...)}}})
}

// Full is a refusal that stands for an AWS quota of the given size.
func Full(op, kind, id string, quota int, what string) error {
	return fault.New(fault.Conflict, op, "%w", &ResourceError{Type: kind, ID: id, Err: &QuotaError{Value: int64(quota), What: what}})
}

// Missing is a not-found error for a resource.
func Missing(op, kind, id string) error {
	return fault.New(fault.NotFound, op, "%w", &ResourceError{Type: kind, ID: id, Err: errors.New("does not exist")})
}

// Refuse is a conflict with the state a resource is in.
func Refuse(op, kind, id, format string, args ...any) *fault.Error {
	return fault.New(fault.Conflict, op, "%w", &ResourceError{Type: kind, ID: id, Err: fmt.Errorf(format, args...)})
}

// Replication operates the data replication of source servers. Every operation answers fault.NotFound
// for an unknown server and fault.Conflict in a state that forbids it (Retry: fault.Invalid, as the API
// has no other error there).
type Replication interface {
	Start(ctx context.Context, s state.Scope, id string) error
	Stop(ctx context.Context, s state.Scope, id string) error
	Pause(ctx context.Context, s state.Scope, id string) error
	Resume(ctx context.Context, s state.Scope, id string) error
	Retry(ctx context.Context, s state.Scope, id string) error
	Disconnect(ctx context.Context, s state.Scope, id string) error
	// Delete forgets a disconnected server; its staging area is removed in the background.
	Delete(ctx context.Context, s state.Scope, id string) error
	// Describe tells the replication of each of the given servers, in order.
	Describe(ctx context.Context, servers []state.Server) ([]ReplicationInfo, error)
}

// ReplicationInfo is dataReplicationInfo as measured now; zero and nil members are absent.
type ReplicationInfo struct {
	State       state.ReplicationState
	Error       *state.ReplicationError
	Lag         *time.Duration // nil: not launchable; zero: healthy
	ETA         time.Time
	Attempt     state.Attempt
	Disks       []state.DiskProgress
	LastPointAt time.Time
	FirstByteAt time.Time
	LastSeenAt  time.Time
	// StoredAt is when its record was last stored, with what else that changed of the server; zero: not by this process.
	StoredAt time.Time
	// ReplicatorID names the replication server; empty when none serves the source server.
	ReplicatorID string
}

// Servers keeps the records of source servers.
type Servers interface {
	Get(ctx context.Context, s state.Scope, id string) (state.Server, error)
	List(ctx context.Context, s state.Scope, f state.ServerFilter, p state.Page) (items []state.Server, next string, err error)
	// Tag adds or overwrites tags, Untag removes them by key.
	Tag(ctx context.Context, s state.Scope, id string, tags map[string]string) error
	Untag(ctx context.Context, s state.Scope, id string, keys []string) error
	// Archive marks an MGN server that is DISCONNECTED or CUTOVER as archived.
	Archive(ctx context.Context, s state.Scope, id string) (state.Server, error)
	// ChangeLifeCycle is MGN's ChangeServerLifeCycleState.
	ChangeLifeCycle(ctx context.Context, s state.Scope, id string, to state.LifeCycleState) (state.Server, error)
	// UpdateConfig changes the given members of one server's replication configuration.
	UpdateConfig(ctx context.Context, s state.Scope, id string, patch ConfigPatch) (state.Server, error)
}

// Templates keeps replication configuration templates, one per scope.
type Templates interface {
	Create(ctx context.Context, s state.Scope, c ConfigPatch, tags map[string]string) (state.Template, error)
	Get(ctx context.Context, s state.Scope, id string) (state.Template, error)
	// List returns all, or those of ids that exist.
	List(ctx context.Context, s state.Scope, ids []string, p state.Page) (items []state.Template, next string, err error)
	Update(ctx context.Context, s state.Scope, id string, c ConfigPatch) (state.Template, error)
	Delete(ctx context.Context, s state.Scope, id string) error
	Tag(ctx context.Context, s state.Scope, id string, tags map[string]string) error
	Untag(ctx context.Context, s state.Scope, id string, keys []string) error
}

// ConfigPatch is a partial replication configuration; nil members keep their value (in Create: take the
// service's default).
type ConfigPatch struct {
	StagingAreaSubnetID           *string
	AssociateDefaultSecurityGroup *bool
	SecurityGroupIDs              *[]string
	InstanceType                  *string
	UseDedicatedServer            *bool
	LargeStagingDiskType          *string
	EBSEncryption                 *string
	EBSEncryptionKeyARN           *string
	BandwidthMbps                 *int64
	DataPlaneRouting              *string
	CreatePublicIP                *bool
	StagingAreaTags               *map[string]string
	UseFIPSEndpoint               *bool
	StoreSnapshotOnLocalZone      *bool
	InternetProtocol              *string
	AutoReplicateNewDisks         *bool
	PITPolicy                     *[]state.PITRule
	Name                          *string             // one server's configuration only
	Disks                         *[]state.DiskConfig // one server's configuration only
}

// Points keeps recovery points.
type Points interface {
	// List shows one server's points by expected time; an unknown server has none.
	List(ctx context.Context, s state.Scope, serverID string, f state.PointFilter, p state.Page) (items []state.Point, next string, err error)
	Get(ctx context.Context, s state.Scope, id string) (state.Point, error)
	// Take makes a point of the newest recoverable position now.
	Take(ctx context.Context, s state.Scope, serverID string) (state.Point, error)
}

// Accounts initialises a service for an account.
type Accounts interface {
	// Initialize may be repeated.
	Initialize(ctx context.Context, s state.Scope) error
	// Check is an error with ErrUninitialized in its chain until Initialize has run.
	Check(ctx context.Context, s state.Scope) error
}

// AccessKey is an access key with its plain secret.
type AccessKey struct {
	ID, Secret    string
	Token         string    // of temporary credentials, else ""
	Expires       time.Time // of temporary credentials, else zero
	Account, User string
	Admin         bool // has the built-in policy administrator
	Principal     Principal
}

// Access looks up access keys for signature verification.
type Access interface {
	// Lookup answers fault.Denied for a key that does not exist or is not to be used.
	Lookup(ctx context.Context, accessKeyID string) (AccessKey, error)
	// Used notes that a key was used; it may leave out what is soon to be noted again.
	Used(ctx context.Context, accessKeyID, service, region string) error
}
