package control

import (
	"crypto/rand"
	"encoding/hex"
	"maps"
	"strings"
	"unicode/utf8"

	"github.com/understudy-dr/understudy/internal/fault"
	"github.com/understudy-dr/understudy/internal/state"
)

// NewID makes a random id: the prefix, as "s-", and 17 lower-case hexadecimal digits.
func NewID(prefix string) string {
	var b [9]byte
	_, _ = rand.Read(b[:]) // never fails, says its documentation
	return prefix + hex.EncodeToString(b[:])[:17]
}

// Limits of tags, as in the AWS APIs.
const (
	maxTags      = 50
	maxTagLength = 256 // characters
	reserved     = "aws:"
)

// AddTags is have with more added and overwritten.
func AddTags(have, more map[string]string) (map[string]string, error) {
	const op = "control: tag"
	out := maps.Clone(have)
	if out == nil {
		out = map[string]string{}
	}
	for k, v := range more {
		if k == "" || utf8.RuneCountInString(k) > maxTagLength || utf8.RuneCountInString(v) > maxTagLength {
			return nil, fault.New(fault.Invalid, op, "%w", &FieldError{[]Field{{"tags", "a key has 1 and a value 0 to 256 characters"}}})
		}
		if len(k) >= len(reserved) && strings.EqualFold(k[:len(reserved)], reserved) {
			return nil, fault.New(fault.Invalid, op, "%w", &FieldError{[]Field{{"tags", "keys that begin with " + reserved + " are reserved"}}})
		}
		out[k] = v
	}
	if len(out) > maxTags {
		return nil, fault.New(fault.Invalid, op, "%w", &FieldError{[]Field{{"tags", "a resource has at most 50 tags"}}})
	}
	return out, nil
}

// RemoveTags is have without the given keys.
func RemoveTags(have map[string]string, keys []string) map[string]string {
	out := maps.Clone(have)
	for _, k := range keys {
		delete(out, k)
	}
	return out
}

// CustomEncryption is the ebsEncryption that comes with a key of the user's own.
const CustomEncryption = "CUSTOM"

// Apply changes the members of c that p names, disks aside: which disks there are is not the caller's
// choice.
func (p ConfigPatch) Apply(c *state.ReplicationConfig) {
	set(&c.StagingAreaSubnetID, p.StagingAreaSubnetID)
	set(&c.AssociateDefaultSecurityGroup, p.AssociateDefaultSecurityGroup)
	set(&c.SecurityGroupIDs, p.SecurityGroupIDs)
	set(&c.InstanceType, p.InstanceType)
	set(&c.UseDedicatedServer, p.UseDedicatedServer)
	set(&c.LargeStagingDiskType, p.LargeStagingDiskType)
	set(&c.EBSEncryption, p.EBSEncryption)
	if p.EBSEncryption != nil && *p.EBSEncryption != CustomEncryption {
		c.EBSEncryptionKeyARN = "" // clients cannot send an empty one
	}
	set(&c.EBSEncryptionKeyARN, p.EBSEncryptionKeyARN)
	set(&c.BandwidthMbps, p.BandwidthMbps)
	set(&c.DataPlaneRouting, p.DataPlaneRouting)
	set(&c.CreatePublicIP, p.CreatePublicIP)
	set(&c.StagingAreaTags, p.StagingAreaTags)
	set(&c.UseFIPSEndpoint, p.UseFIPSEndpoint)
	set(&c.StoreSnapshotOnLocalZone, p.StoreSnapshotOnLocalZone)
	set(&c.InternetProtocol, p.InternetProtocol)
	set(&c.AutoReplicateNewDisks, p.AutoReplicateNewDisks)
	set(&c.PITPolicy, p.PITPolicy)
	set(&c.Name, p.Name)
}

func set[T any](to *T, from *T) {
	if from != nil {
		*to = *from
	}
}
