package state

import (
	"context"
	"time"
)

// LaunchTemplate says how machines are launched. Every source server has one; users may make more. Its
// versions are records of their own.
type LaunchTemplate struct {
	ID       string // lt-...
	Account  string
	Name     string  // unique within the account
	Service  Service `json:",omitempty"` // of the source server, else ""
	ServerID string  `json:",omitempty"` // goes with the source server; "" for a user's own
	Default  int64   // the version that launches use
	Latest   int64
	Tags     map[string]string
	// CreatedBy is an ARN.
	CreatedBy string
	CreatedAt time.Time
}

// LaunchTemplateVersion is one version, which never changes.
type LaunchTemplateVersion struct {
	TemplateID  string
	Number      int64
	Description string
	Data        LaunchTemplateData
	CreatedBy   string
	Token       string `json:",omitempty"` // the client's: a call that is repeated makes one version
	CreatedAt   time.Time
}

// LaunchTemplateData is what a version says. The members are those of EC2's own structure, by EC2's names;
// what is nil or empty is not said.
type LaunchTemplateData struct {
	ImageID                           string                     `json:",omitempty"`
	InstanceType                      string                     `json:",omitempty"`
	KeyName                           string                     `json:",omitempty"`
	KernelID                          string                     `json:",omitempty"`
	RAMDiskID                         string                     `json:",omitempty"`
	UserData                          string                     `json:",omitempty"`
	InstanceInitiatedShutdownBehavior string                     `json:",omitempty"`
	EBSOptimized                      *bool                      `json:",omitempty"`
	DisableAPITermination             *bool                      `json:",omitempty"`
	DisableAPIStop                    *bool                      `json:",omitempty"`
	IAMInstanceProfile                *InstanceProfile           `json:",omitempty"`
	BlockDeviceMappings               []BlockDeviceMapping       `json:",omitempty"`
	NetworkInterfaces                 []TemplateNetworkInterface `json:",omitempty"`
	SecurityGroupIDs                  []string                   `json:",omitempty"`
	SecurityGroups                    []string                   `json:",omitempty"`
	TagSpecifications                 []TemplateTags             `json:",omitempty"`
	Monitoring                        *TemplateSwitch            `json:",omitempty"`
	Placement                         *TemplatePlacement         `json:",omitempty"`
	CPUOptions                        *TemplateCPU               `json:",omitempty"`
	CreditSpecification               *TemplateCredits           `json:",omitempty"`
	MetadataOptions                   *TemplateMetadata          `json:",omitempty"`
	LicenseSpecifications             []TemplateLicense          `json:",omitempty"`
	EnclaveOptions                    *TemplateSwitch            `json:",omitempty"`
	HibernationOptions                *TemplateHibernation       `json:",omitempty"`
	MaintenanceOptions                *TemplateMaintenance       `json:",omitempty"`
	PrivateDNSNameOptions             *TemplatePrivateDNS        `json:",omitempty"`
}

// InstanceProfile names an instance profile by one of both.
type InstanceProfile struct{ ARN, Name string }

// BlockDeviceMapping is one disk of the machine.
type BlockDeviceMapping struct {
	DeviceName  string
	VirtualName string `json:",omitempty"`
	NoDevice    string `json:",omitempty"`
	EBS         *EBSBlockDevice
}

// EBSBlockDevice is the volume behind a disk.
type EBSBlockDevice struct {
	Encrypted           *bool  `json:",omitempty"`
	DeleteOnTermination *bool  `json:",omitempty"`
	IOPS                *int64 `json:",omitempty"`
	Throughput          *int64 `json:",omitempty"`
	VolumeSize          *int64 `json:",omitempty"`
	VolumeType          string `json:",omitempty"`
	KMSKeyID            string `json:",omitempty"`
	SnapshotID          string `json:",omitempty"`
}

// TemplateNetworkInterface is one network card of the machine.
type TemplateNetworkInterface struct {
	DeviceIndex                    *int64            `json:",omitempty"`
	NetworkCardIndex               *int64            `json:",omitempty"`
	SubnetID                       string            `json:",omitempty"`
	NetworkInterfaceID             string            `json:",omitempty"`
	Description                    string            `json:",omitempty"`
	InterfaceType                  string            `json:",omitempty"`
	Groups                         []string          `json:",omitempty"`
	PrivateIPAddress               string            `json:",omitempty"`
	PrivateIPAddresses             []TemplateAddress `json:",omitempty"`
	SecondaryPrivateIPAddressCount *int64            `json:",omitempty"`
	IPv6AddressCount               *int64            `json:",omitempty"`
	IPv6Addresses                  []TemplateIPv6    `json:",omitempty"`
	AssociatePublicIPAddress       *bool             `json:",omitempty"`
	DeleteOnTermination            *bool             `json:",omitempty"`
}

// TemplateAddress is one private address of a network card.
type TemplateAddress struct {
	PrivateIPAddress string
	Primary          *bool `json:",omitempty"`
}

// TemplateIPv6 is one IPv6 address of a network card.
type TemplateIPv6 struct{ IPv6Address string }

// TemplateTags are the tags of what a launch makes.
type TemplateTags struct {
	ResourceType string // instance, volume, network-interface, ...
	Tags         []Tag
}

// Tag is one tag, where order counts.
type Tag struct{ Key, Value string }

// TemplateSwitch is something on or off.
type TemplateSwitch struct{ Enabled *bool }

// TemplatePlacement says where the machine runs.
type TemplatePlacement struct {
	AvailabilityZone     string `json:",omitempty"`
	AvailabilityZoneID   string `json:",omitempty"`
	Affinity             string `json:",omitempty"`
	GroupID              string `json:",omitempty"`
	GroupName            string `json:",omitempty"`
	HostID               string `json:",omitempty"`
	HostResourceGroupARN string `json:",omitempty"`
	Tenancy              string `json:",omitempty"`
	SpreadDomain         string `json:",omitempty"`
	PartitionNumber      *int64 `json:",omitempty"`
}

// TemplateCPU overrides the size's processors.
type TemplateCPU struct {
	CoreCount      *int64 `json:",omitempty"`
	ThreadsPerCore *int64 `json:",omitempty"`
	AMDSEVSNP      string `json:",omitempty"`
}

// TemplateCredits is kept for clients; there are no credits here.
type TemplateCredits struct{ CPUCredits string }

// TemplateMetadata is kept for clients.
type TemplateMetadata struct {
	HTTPEndpoint            string `json:",omitempty"`
	HTTPTokens              string `json:",omitempty"`
	HTTPProtocolIPv6        string `json:",omitempty"`
	InstanceMetadataTags    string `json:",omitempty"`
	HTTPPutResponseHopLimit *int64 `json:",omitempty"`
}

// TemplateLicense is kept for clients.
type TemplateLicense struct{ LicenseConfigurationARN string }

// TemplateHibernation is kept for clients.
type TemplateHibernation struct{ Configured *bool }

// TemplateMaintenance is kept for clients.
type TemplateMaintenance struct{ AutoRecovery string }

// TemplatePrivateDNS is kept for clients.
type TemplatePrivateDNS struct {
	HostnameType                    string `json:",omitempty"`
	EnableResourceNameDNSARecord    *bool  `json:",omitempty"`
	EnableResourceNameDNSAAAARecord *bool  `json:",omitempty"`
}

// LaunchTemplateFilter narrows a list of launch templates; a zero member does not.
type LaunchTemplateFilter struct {
	IDs   []string
	Names []string
}

// LaunchTemplateReader reads launch templates. It is part of Reader.
type LaunchTemplateReader interface {
	LaunchTemplate(ctx context.Context, account, id string) (LaunchTemplate, error)
	LaunchTemplateByServer(ctx context.Context, s Scope, serverID string) (LaunchTemplate, error)
	// LaunchTemplates lists an account's templates, oldest first.
	LaunchTemplates(ctx context.Context, account string, f LaunchTemplateFilter, p Page) (items []LaunchTemplate, next string, err error)
	LaunchTemplateVersion(ctx context.Context, templateID string, number int64) (LaunchTemplateVersion, error)
	// LaunchTemplateVersions lists a template's versions, newest first.
	LaunchTemplateVersions(ctx context.Context, templateID string, p Page) (items []LaunchTemplateVersion, next string, err error)
}

// LaunchTemplateTx writes launch templates. It is part of Tx.
type LaunchTemplateTx interface {
	// PutLaunchTemplate refuses with fault.Conflict a second template of one name in an account, and a second
	// of one source server.
	PutLaunchTemplate(ctx context.Context, t LaunchTemplate) error
	// DeleteLaunchTemplate removes the template with its versions.
	DeleteLaunchTemplate(ctx context.Context, account, id string) error
	PutLaunchTemplateVersion(ctx context.Context, v LaunchTemplateVersion) error
}
