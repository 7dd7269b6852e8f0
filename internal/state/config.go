package state

import "time"

// Template is a replication configuration template.
type Template struct {
	ID        string
	Scope     Scope
	Config    ReplicationConfig
	Tags      map[string]string
	CreatedAt time.Time
}

// ReplicationConfig is how servers are replicated. In a template Name and Disks are empty.
type ReplicationConfig struct {
	StagingAreaSubnetID           string
	AssociateDefaultSecurityGroup bool
	SecurityGroupIDs              []string
	InstanceType                  string
	UseDedicatedServer            bool
	LargeStagingDiskType          string
	EBSEncryption                 string
	EBSEncryptionKeyARN           string
	BandwidthMbps                 int64 // 0 is unlimited
	DataPlaneRouting              string
	CreatePublicIP                bool
	StagingAreaTags               map[string]string
	UseFIPSEndpoint               bool
	StoreSnapshotOnLocalZone      bool
	InternetProtocol              string
	AutoReplicateNewDisks         bool
	PITPolicy                     []PITRule // DRS

	Name  string       // of one server's configuration
	Disks []DiskConfig // of one server's configuration
}

// DiskConfig is how one disk is staged.
type DiskConfig struct {
	DeviceName      string
	Boot            bool
	StagingDiskType string
	IOPS            int64 // 0 is absent
	Throughput      int64 // 0 is absent
}

// PITUnits is the unit of a rule's interval and retention.
type PITUnits string

// The units.
const (
	Minute PITUnits = "MINUTE"
	Hour   PITUnits = "HOUR"
	Day    PITUnits = "DAY"
)

// Duration is the length of one unit; 0 for an unknown one.
func (u PITUnits) Duration() time.Duration {
	switch u {
	case Minute:
		return time.Minute
	case Hour:
		return time.Hour
	case Day:
		return 24 * time.Hour
	}
	return 0
}

// PITRule keeps one recovery point per Interval for Retention, both in Units.
type PITRule struct {
	ID        int64
	Units     PITUnits
	Interval  int64
	Retention int64
	Enabled   bool
}
