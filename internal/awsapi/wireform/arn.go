package wireform

import (
	"strings"

	"github.com/understudy-dr/understudy/internal/fault"
)

// Resource kinds as they appear in ARNs.
const (
	SourceServer                     = "source-server"
	ReplicationConfigurationTemplate = "replication-configuration-template"
	LaunchConfigurationTemplate      = "launch-configuration-template"
	Job                              = "job"
	RecoveryInstance                 = "recovery-instance"
	SourceNetwork                    = "source-network"
)

// Namer makes and reads the ARNs of one service, region and account.
type Namer struct{ Service, Region, Account string }

func (n Namer) prefix() string {
	return "arn:aws:" + n.Service + ":" + n.Region + ":" + n.Account + ":"
}

// ARN names a resource.
func (n Namer) ARN(kind, id string) *string { return new(n.prefix() + kind + "/" + id) }

// Parse is the kind and id of an ARN of ours. Another's is not found: who asks is not told whether it
// exists.
func (n Namer) Parse(arn string) (kind, id string, err error) {
	resource, ours := strings.CutPrefix(arn, n.prefix())
	kind, id, ok := strings.Cut(resource, "/")
	if !ours || !ok || kind == "" || id == "" || strings.Contains(id, "/") {
		return "", "", fault.New(fault.NotFound, "awsapi: read ARN", "resource %s does not exist", arn)
	}
	return kind, id, nil
}
