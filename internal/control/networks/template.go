package networks

import (
	"context"
	"encoding/json"
	"strings"
	"time"

	"github.com/understudy-dr/understudy/internal/buckets"
	"github.com/understudy-dr/understudy/internal/control"
	"github.com/understudy-dr/understudy/internal/fault"
	"github.com/understudy-dr/understudy/internal/state"
)

// subnetBits is the length of a subnet's prefix where nothing is known of it.
const subnetBits = 24

// Export writes a CloudFormation template of a network into the bucket that the launch configuration template
// names, and returns its URL.
func (n *Networks) Export(ctx context.Context, s state.Scope, id string) (url string, err error) {
	const op = "source networks: export"
	var v state.SourceNetwork
	var bucket string
	err = n.Store.View(ctx, func(r state.Reader) error {
		if v, err = n.In(ctx, r, s, id); err != nil {
			return err
		}
		bucket, err = exportBucket(ctx, r, s)
		return err
	})
	if err == nil && due(&v, time.Now()) {
		v, err = n.look(ctx, s, id)
	}
	if err != nil {
		return "", fault.Wrap(op, err)
	}
	if v.Status != state.NetworkProtected {
		return "", control.Refuse(op, Kind, id, "is %s, so nothing is known of it: %s", v.Status, v.StatusDetails).
			WithHint("call StartSourceNetworkReplication, and look at its replicationStatus")
	}
	content, err := Template(v)
	if err != nil {
		return "", fault.Wrap(op, err)
	}
	if n.buckets == nil {
		return "", fault.New(fault.Unsupported, op, "this installation has no buckets configured, so there is nowhere to write to")
	}
	o := buckets.Object{Account: s.Account, Bucket: bucket, Key: "source-networks/" + id + ".json"}
	if err := n.buckets.Put(ctx, o, content); err != nil {
		return "", fault.Wrap(op, err)
	}
	return "s3://" + o.Bucket + "/" + o.Key, nil
}

// exportBucket is the bucket of the account's launch configuration template.
func exportBucket(ctx context.Context, r state.Reader, s state.Scope) (string, error) {
	list, _, err := r.DRSLaunchTemplates(ctx, s, state.Page{Limit: 1})
	if err != nil {
		return "", err
	}
	if len(list) == 0 || list[0].ExportBucketARN == "" {
		return "", fault.New(fault.Invalid, "source networks", "no bucket to export to is configured").
			WithHint("set exportBucketArn of the launch configuration template")
	}
	arn := list[0].ExportBucketARN
	return arn[strings.LastIndexByte(arn, ':')+1:], nil
}

type resourceEntry struct {
	Type       string
	Condition  string `json:",omitempty"`
	DependsOn  string `json:",omitempty"`
	Properties map[string]any
}

// Template is a CloudFormation template with VPCs and subnets that have room for every address that was found in the
// network, security groups in which everybody reaches everybody as in the source, the servers that were asked for names, and the routes.
// There is one VPC unless the addresses are of ranges that AWS does not let one VPC have. What was found is in its metadata.
func Template(v state.SourceNetwork) ([]byte, error) {
	vpcs, err := layout(v)
	if err != nil {
		return nil, err
	}
	b := newBuilder(v.ID, vpcs)
	for _, one := range vpcs {
		b.network(one)
	}
	b.names(v.Facts)
	b.routes(v.Facts)
	body, err := json.MarshalIndent(b.document(v), "", "  ")
	if err != nil {
		return nil, fault.New(fault.Bug, opTemplate, "%w", err)
	}
	return append(body, '\n'), nil
}
