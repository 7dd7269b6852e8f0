package networks

import (
	"context"
	"encoding/json"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/understudy-dr/understudy/internal/buckets"
	"github.com/understudy-dr/understudy/internal/control"
	"github.com/understudy-dr/understudy/internal/fault"
	"github.com/understudy-dr/understudy/internal/state"
)

// A VPC and its subnets have prefixes of these lengths.
const (
	widestVPC  = 16
	subnetBits = 24
	narrowest  = 28
)

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

// Template is a CloudFormation template with a VPC and subnets that have room for every address that was found
// in the network, one security group in which everybody reaches everybody as in the source, the servers that were asked for
// names, and the routes. What was found is in its metadata.
func Template(v state.SourceNetwork) ([]byte, error) {
	subnets, vpc, err := plan(v)
	if err != nil {
		return nil, err
	}
	b := newBuilder(v.ID)
	b.network(vpc, subnets)
	b.names(v.Facts)
	b.routes(v.Facts)
	body, err := json.MarshalIndent(b.document(v), "", "  ")
	if err != nil {
		return nil, fault.New(fault.Bug, "source networks: template", "%w", err)
	}
	return append(body, '\n'), nil
}

// plan chooses the subnets: the prefixes of the tag, or those that the servers have their addresses in; and the smallest
// prefix that holds them all.
func plan(v state.SourceNetwork) (subnets []netip.Prefix, vpc netip.Prefix, err error) {
	const op = "source networks: template"
	given, _ := prefixesOf(&v)
	for _, p := range given {
		if p.Addr().Is4() {
			subnets = append(subnets, p)
		}
	}
	if len(given) == 0 {
		subnets = around(v.Facts)
	}
	slices.SortFunc(subnets, netip.Prefix.Compare)
	subnets = slices.Compact(subnets)
	if len(subnets) == 0 {
		return nil, vpc, control.Refuse(op, Kind, v.ID, "has no IPv4 addresses, and a VPC needs them")
	}
	vpc = cover(subnets)
	for i, p := range subnets {
		if p.Bits() > narrowest {
			return nil, vpc, control.Refuse(op, Kind, v.ID, "%s is narrower than a subnet may be, which is /%d", p, narrowest)
		}
		if i > 0 && subnets[i-1].Overlaps(p) {
			return nil, vpc, control.Refuse(op, Kind, v.ID, "%s and %s overlap", subnets[i-1], p)
		}
	}
	if vpc.Bits() < widestVPC {
		return nil, vpc, control.Refuse(op, Kind, v.ID, "its addresses are spread over %s, and a VPC is /%d at most", vpc, widestVPC).
			WithHint("make a source network of each part, with the tag " + PrefixTag)
	}
	return subnets, vpc, nil
}

// around are the networks of the addresses found. Where one's length is not known, or no subnet has it, it is one of 256
// addresses. None is within another.
func around(f state.NetworkFacts) (out []netip.Prefix) {
	for _, h := range f.Hosts {
		for _, nic := range h.NICs {
			for i, text := range nic.IPs {
				a, err := netip.ParseAddr(text)
				if err != nil || !a.Is4() {
					continue
				}
				bits := subnetBits
				if i < len(nic.Prefixes) {
					if p, err := netip.ParsePrefix(nic.Prefixes[i]); err == nil && p.Bits() >= widestVPC && p.Bits() <= narrowest {
						bits = p.Bits()
					}
				}
				out = append(out, netip.PrefixFrom(a, bits).Masked())
			}
		}
	}
	slices.SortFunc(out, netip.Prefix.Compare) // a wider one comes before those within it
	kept := out[:0]
	for _, p := range out {
		if len(kept) == 0 || !kept[len(kept)-1].Overlaps(p) {
			kept = append(kept, p)
		}
	}
	return kept
}

// cover is the smallest prefix that holds all of the given ones.
func cover(list []netip.Prefix) netip.Prefix {
	out := list[0]
	for _, p := range list[1:] {
		for !out.Contains(p.Addr()) || out.Bits() > p.Bits() {
			out = netip.PrefixFrom(out.Addr(), out.Bits()-1).Masked()
		}
	}
	return out
}
