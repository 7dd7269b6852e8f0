package state

import "time"

// Service is one of the two AWS services a record belongs to. Its value is the signing name.
type Service string

// The services.
const (
	DRS Service = "drs"
	MGN Service = "mgn"
)

// Valid reports whether s is a known service.
func (s Service) Valid() bool { return s == DRS || s == MGN }

// Scope owns records: an account in one service.
type Scope struct {
	Account string
	Service Service
}

// AccessKey is a stored access key. Its secret is sealed: SigV4 needs the plain secret back.
type AccessKey struct {
	ID        string
	Account   string
	User      string
	Sealed    []byte
	Admin     bool // made before users had policies: an administrator's
	Inactive  bool // refused, but kept
	CreatedAt time.Time
	// The last use, to within some minutes; zero when there was none.
	LastUsedAt      time.Time
	LastUsedService string
	LastUsedRegion  string
}

// Server is one source server.
type Server struct {
	ID             string
	Scope          Scope
	Identity       string            // what the machine is recognised by when its agent registers again
	UserProvidedID string            `json:",omitzero"`
	CreatedAt      time.Time         // added to service
	Tags           map[string]string `json:",omitzero"`
	Archived       bool              `json:",omitzero"`
	Deleting       bool              `json:",omitzero"` // hidden; goes when its staging area has gone
	// ReplicationType is AGENT_BASED or SNAPSHOT_SHIPPING.
	ReplicationType string            `json:",omitzero"`
	Agent           Agent             `json:",omitzero"`
	Machine         Machine           `json:",omitzero"`
	Properties      SourceProperties  `json:",omitzero"`
	Disks           []Disk            `json:",omitzero"`
	Config          ReplicationConfig `json:",omitzero"`
	LifeCycle       LifeCycle         `json:",omitzero"`
	Migration       Migration         `json:",omitzero"` // MGN
}

// Replication types.
const (
	AgentBased       = "AGENT_BASED"
	SnapshotShipping = "SNAPSHOT_SHIPPING"
)

// Agent is what the agent said of itself when it registered.
type Agent struct {
	Version      string
	WireVersions []uint32
	Capture      string // capture mode and why, as "ebpf" or "bitmap: lockdown=confidentiality"
}

// Machine is what tells the machine that an agent runs on from a copy of it.
type Machine struct {
	Disks []string `json:",omitzero"` // digests of what its hardware disks call themselves
	Boot  string   `json:",omitzero"` // the start of its kernel that last reported
}

// Disk is a disk of a source server. Index is its number on the wire and in the journal: given once per
// (server, identity), never reused. Its device name is the one it had last.
type Disk struct {
	DeviceName string
	Identity   string `json:",omitzero"` // digest; an older agent tells none
	Index      uint32
	Bytes      uint64
	Boot       bool `json:",omitzero"`
	Gone       bool `json:",omitzero"` // no longer offered by the agent; keeps its index
}

// Replicated lists the disks that are still there, by index.
func (s *Server) Replicated() []Disk {
	var out []Disk
	for _, d := range s.Disks {
		if !d.Gone {
			out = append(out, d)
		}
	}
	return out
}

// SourceProperties are the facts an agent reports of its machine.
type SourceProperties struct {
	UpdatedAt           time.Time    `json:",omitzero"`
	OS                  string       `json:",omitzero"` // full text, as in /proc/version
	RAMBytes            uint64       `json:",omitzero"`
	CPUs                []CPU        `json:",omitzero"`
	NICs                []NIC        `json:",omitzero"`
	Routes              []Route      `json:",omitempty"` // by a router
	Resolver            Resolver     `json:",omitzero"`
	Disks               []SourceDisk `json:",omitzero"`
	Hints               Hints        `json:",omitzero"`
	RecommendedType     string       `json:",omitzero"`
	SupportsNitro       bool         `json:",omitzero"`
	PrimaryIPv4, Region string       `json:",omitzero"`
}

// CPU is one processor.
type CPU struct {
	Cores int64
	Model string
}

// NIC is one network interface.
type NIC struct {
	MAC      string   `json:",omitzero"`
	IPs      []string `json:",omitzero"`
	Primary  bool     `json:",omitzero"`
	Prefixes []string `json:",omitempty"` // the same addresses, as 10.1.0.7/24; an older agent tells none
}

// Route is a way to other networks by a router in one of the machine's own.
type Route struct {
	Destination string // as 10.2.0.0/16
	Gateway     string
	MAC         string // of the interface
}

// Resolver is whom a machine asks for names.
type Resolver struct {
	Servers []string `json:",omitempty"`
	Search  []string `json:",omitempty"`
}

// SourceDisk is a disk the machine has, replicated or not.
type SourceDisk struct {
	DeviceName string
	Bytes      uint64
}

// Hints help people to recognise the machine.
type Hints struct {
	Hostname, FQDN, AWSInstanceID, VMWareUUID, VMPath string `json:",omitzero"`
}

// LifeCycleState is MGN's lifeCycle.state; empty in DRS.
type LifeCycleState string

// The life cycle states.
const (
	LifeCycleNone       LifeCycleState = ""
	LifeCycleStopped    LifeCycleState = "STOPPED"
	NotReady            LifeCycleState = "NOT_READY"
	ReadyForTest        LifeCycleState = "READY_FOR_TEST"
	Testing             LifeCycleState = "TESTING"
	ReadyForCutover     LifeCycleState = "READY_FOR_CUTOVER"
	CuttingOver         LifeCycleState = "CUTTING_OVER"
	Cutover             LifeCycleState = "CUTOVER"
	LifeDisconnected    LifeCycleState = "DISCONNECTED"
	Discovered          LifeCycleState = "DISCOVERED"
	PendingInstallation LifeCycleState = "PENDING_INSTALLATION"
)

// LifeCycleStates lists all of them but LifeCycleNone.
var LifeCycleStates = []LifeCycleState{LifeCycleStopped, NotReady, ReadyForTest, Testing, ReadyForCutover, CuttingOver, Cutover,
	LifeDisconnected, Discovered, PendingInstallation}

// LifeCycle is where a server stands between being added and being launched. First byte and last seen
// are measured and belong to Replication.
type LifeCycle struct {
	State       LifeCycleState
	LastTest    LaunchRecord `json:",omitzero"` // MGN
	LastCutover LaunchRecord `json:",omitzero"` // MGN
	LastLaunch  DRSLaunch    `json:",omitzero"` // DRS
}

// LaunchRecord is MGN's lastTest or lastCutover; zero times are absent.
type LaunchRecord struct {
	InitiatedAt time.Time `json:",omitzero"`
	JobID       string    `json:",omitzero"`
	RevertedAt  time.Time `json:",omitzero"`
	FinalizedAt time.Time `json:",omitzero"`
}

// DRSLaunch is DRS's lastLaunch; a zero time is absent.
type DRSLaunch struct {
	InitiatedAt time.Time `json:",omitzero"`
	JobID       string    `json:",omitzero"`
	Type        string    `json:",omitzero"` // RECOVERY or DRILL
	Status      string    `json:",omitzero"` // PENDING, IN_PROGRESS, LAUNCHED, FAILED, TERMINATED
}
