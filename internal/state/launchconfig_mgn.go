package state

import (
	"context"
	"time"
)

// MGNLaunchConfig is how MGN launches a server: what a template and a server's own configuration have in common.
type MGNLaunchConfig struct {
	Name          string // of one server's configuration
	Disposition   string // STOPPED or STARTED
	RightSizing   string // NONE or BASIC
	CopyPrivateIP bool
	CopyTags      bool
	OSByol        bool
	BootMode      string // LEGACY_BIOS, UEFI or USE_SOURCE
	PostLaunch    PostLaunch
	MapTagging    bool
	MapMpeID      string
}

// PostLaunch is MGN's built-in layer of post-launch actions.
type PostLaunch struct {
	Deployment string // TEST_AND_CUTOVER, CUTOVER_ONLY or TEST_ONLY
	S3Bucket   string
	S3Prefix   string
	LogGroup   string
	Documents  []SSMDocument
}

// SSMDocument is one built-in post-launch action.
type SSMDocument struct {
	ActionName  string
	Document    string
	Timeout     int32 // seconds; 0 is absent
	MustSucceed bool
	Parameters  map[string][]StoreParameter
	External    map[string]string // parameter -> JMESPath on the source server
}

// MGNLaunchTemplate is a launch configuration template: what the servers added later start with.
type MGNLaunchTemplate struct {
	ID                string
	Scope             Scope
	Config            MGNLaunchConfig
	PublicIP          bool
	SmallVolumeMax    int64 // GiB
	SmallVolume       VolumeConfig
	LargeVolume       VolumeConfig
	EncryptParameters bool
	ParametersKeyARN  string
	Tags              map[string]string
	CreatedAt         time.Time
}

// VolumeConfig is a kind of volume; 0 is absent.
type VolumeConfig struct {
	Type       string
	IOPS       int64
	Throughput int64
}

// MGNLaunchReader reads launch configurations. It is part of Reader.
type MGNLaunchReader interface {
	MGNLaunchTemplate(ctx context.Context, s Scope, id string) (MGNLaunchTemplate, error)
	// MGNLaunchTemplates lists a scope's templates, oldest first; no ids mean all.
	MGNLaunchTemplates(ctx context.Context, s Scope, ids []string, p Page) (items []MGNLaunchTemplate, next string, err error)
	// MGNLaunchConfig is one server's own; fault.NotFound when it has none.
	MGNLaunchConfig(ctx context.Context, serverID string) (MGNLaunchConfig, error)
}

// MGNLaunchTx writes launch configurations. It is part of Tx. A server's goes with it.
type MGNLaunchTx interface {
	PutMGNLaunchTemplate(ctx context.Context, v MGNLaunchTemplate) error
	// DeleteMGNLaunchTemplate takes its actions along.
	DeleteMGNLaunchTemplate(ctx context.Context, s Scope, id string) error
	PutMGNLaunchConfig(ctx context.Context, serverID string, c MGNLaunchConfig) error
}
