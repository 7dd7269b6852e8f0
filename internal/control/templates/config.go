package templates

import (
	"fmt"
	"maps"

	"github.com/understudy-dr/understudy/internal/control"
	"github.com/understudy-dr/understudy/internal/fault"
	"github.com/understudy-dr/understudy/internal/state"
)

// Values with a meaning here; the rest of the members say nothing about one's own hardware and are kept
// for the clients that read them back.
const (
	// NoSubnet stands for the staging area where the API demands a subnet.
	NoSubnet = "subnet-00000000000000000"
	// maxMGNBandwidth is the API's limit in Mbit/s.
	maxMGNBandwidth = 10000
	maxDailyPoints  = 365
	// DefaultDailyRetention is for how many days DRS keeps daily points unless told otherwise.
	DefaultDailyRetention = 7
)

// Defaults is what a template holds where its creator says nothing.
func Defaults(service state.Service) state.ReplicationConfig {
	c := state.ReplicationConfig{
		AssociateDefaultSecurityGroup: true,
		SecurityGroupIDs:              []string{},
		InstanceType:                  "t3.small",
		EBSEncryption:                 "DEFAULT",
		DataPlaneRouting:              "PUBLIC_IP",
		CreatePublicIP:                true,
		StagingAreaTags:               map[string]string{},
		InternetProtocol:              "IPV4",
	}
	switch service {
	case state.MGN:
		c.StagingAreaSubnetID = NoSubnet
		c.LargeStagingDiskType = "ST1"
	case state.DRS:
		c.LargeStagingDiskType = "AUTO"
		c.AutoReplicateNewDisks = true
	}
	return c
}

// DefaultPITPolicy is the point-in-time policy that DRS's console proposes.
func DefaultPITPolicy() []state.PITRule {
	return []state.PITRule{
		{ID: 1, Units: state.Minute, Interval: 10, Retention: 60, Enabled: true},
		{ID: 2, Units: state.Hour, Interval: 1, Retention: 24, Enabled: true},
		{ID: 3, Units: state.Day, Interval: 1, Retention: DefaultDailyRetention, Enabled: true},
	}
}

// Validate checks what the API's shapes cannot: how members depend on each other and on the service.
func Validate(service state.Service, c state.ReplicationConfig) error {
	var bad []control.Field
	add := func(name, format string, args ...any) {
		bad = append(bad, control.Field{Name: name, Message: fmt.Sprintf(format, args...)})
	}
	if c.StagingAreaSubnetID == "" {
		add("stagingAreaSubnetId", "is required")
	}
	switch {
	case c.EBSEncryption == control.CustomEncryption && c.EBSEncryptionKeyARN == "":
		add("ebsEncryptionKeyArn", "is required with ebsEncryption CUSTOM")
	case c.EBSEncryption != control.CustomEncryption && c.EBSEncryptionKeyARN != "":
		add("ebsEncryptionKeyArn", "needs ebsEncryption CUSTOM")
	}
	if c.BandwidthMbps < 0 || service == state.MGN && c.BandwidthMbps > maxMGNBandwidth {
		add("bandwidthThrottling", "must be between 0 and %d", maxMGNBandwidth)
	}
	switch service {
	case state.DRS:
		if why := badPITPolicy(c.PITPolicy); why != "" {
			add("pitPolicy", "%s", why)
		}
	case state.MGN:
		if len(c.PITPolicy) > 0 {
			add("pitPolicy", "does not exist in MGN")
		}
	}
	if len(bad) > 0 {
		return fault.New(fault.Invalid, "replication configuration", "%w", &control.FieldError{Fields: bad})
	}
	return nil
}

// badPITPolicy is as strict as DRS: the three rules it knows, of which only the days are free.
func badPITPolicy(rules []state.PITRule) string {
	byUnits := map[state.PITUnits]state.PITRule{}
	ids := map[int64]bool{}
	for _, r := range rules {
		byUnits[r.Units] = r
		ids[r.ID] = true
	}
	minute, hour, day := byUnits[state.Minute], byUnits[state.Hour], byUnits[state.Day]
	switch {
	case len(rules) != 3 || len(byUnits) != 3 || minute.Units == "" || hour.Units == "" || day.Units == "":
		return "must have exactly three rules, one each in MINUTE, HOUR and DAY"
	case len(ids) != 3 && !maps.Equal(ids, map[int64]bool{0: true}): // three ids, or none at all
		return "rule ids must differ"
	case minute.Interval != 10 || minute.Retention != 60:
		return "the MINUTE rule must have interval 10 and retentionDuration 60"
	case hour.Interval != 1 || hour.Retention != 24:
		return "the HOUR rule must have interval 1 and retentionDuration 24"
	case day.Interval != 1 || day.Retention < 1 || day.Retention > maxDailyPoints:
		return fmt.Sprintf("the DAY rule must have interval 1 and a retentionDuration of 1 to %d", maxDailyPoints)
	}
	return ""
}
