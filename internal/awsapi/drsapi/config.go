package drsapi

import (
	"context"

	"github.com/understudy-dr/understudy/api/drs"
	"github.com/understudy-dr/understudy/internal/awsapi/wireform"
	"github.com/understudy-dr/understudy/internal/control"
	"github.com/understudy-dr/understudy/internal/state"
)

// GetReplicationConfiguration shows how one server is replicated.
func (a *API) GetReplicationConfiguration(ctx context.Context, in *drs.GetReplicationConfigurationInput) (*drs.ReplicationConfiguration, error) {
	s, err := a.d.Servers.Get(ctx, scope(ctx), in.SourceServerID)
	if err != nil {
		return nil, err
	}
	return configuration(&s), nil
}

// UpdateReplicationConfiguration changes the given members of one server's configuration.
func (a *API) UpdateReplicationConfiguration(ctx context.Context, in *drs.UpdateReplicationConfigurationInput) (*drs.ReplicationConfiguration, error) {
	s, err := a.d.Servers.UpdateConfig(ctx, scope(ctx), in.SourceServerID, control.ConfigPatch{
		StagingAreaSubnetID:           in.StagingAreaSubnetId,
		AssociateDefaultSecurityGroup: in.AssociateDefaultSecurityGroup,
		SecurityGroupIDs:              wireform.Present(in.ReplicationServersSecurityGroupsIDs),
		InstanceType:                  in.ReplicationServerInstanceType,
		UseDedicatedServer:            in.UseDedicatedReplicationServer,
		LargeStagingDiskType:          wireform.Text(in.DefaultLargeStagingDiskType),
		EBSEncryption:                 wireform.Text(in.EbsEncryption),
		EBSEncryptionKeyARN:           in.EbsEncryptionKeyArn,
		BandwidthMbps:                 in.BandwidthThrottling,
		DataPlaneRouting:              wireform.Text(in.DataPlaneRouting),
		CreatePublicIP:                in.CreatePublicIP,
		StagingAreaTags:               wireform.PresentMap(in.StagingAreaTags),
		InternetProtocol:              wireform.Text(in.InternetProtocol),
		AutoReplicateNewDisks:         in.AutoReplicateNewDisks,
		PITPolicy:                     pitRules(in.PitPolicy),
		Name:                          in.Name,
		Disks:                         diskConfigs(in.ReplicatedDisks),
	})
	if err != nil {
		return nil, err
	}
	return configuration(&s), nil
}

func configuration(s *state.Server) *drs.ReplicationConfiguration {
	c := &s.Config
	out := &drs.ReplicationConfiguration{
		AssociateDefaultSecurityGroup:       new(c.AssociateDefaultSecurityGroup),
		AutoReplicateNewDisks:               new(c.AutoReplicateNewDisks),
		BandwidthThrottling:                 new(c.BandwidthMbps),
		CreatePublicIP:                      new(c.CreatePublicIP),
		DataPlaneRouting:                    drs.ReplicationConfigurationDataPlaneRouting(c.DataPlaneRouting),
		DefaultLargeStagingDiskType:         drs.ReplicationConfigurationDefaultLargeStagingDiskType(c.LargeStagingDiskType),
		EbsEncryption:                       drs.ReplicationConfigurationEbsEncryption(c.EBSEncryption),
		EbsEncryptionKeyArn:                 wireform.Text(c.EBSEncryptionKeyARN),
		InternetProtocol:                    drs.InternetProtocol(c.InternetProtocol),
		Name:                                wireform.Text(c.Name),
		PitPolicy:                           pitPolicy(c.PITPolicy),
		ReplicatedDisks:                     []drs.ReplicationConfigurationReplicatedDisk{},
		ReplicationServerInstanceType:       wireform.Text(c.InstanceType),
		ReplicationServersSecurityGroupsIDs: append([]string{}, c.SecurityGroupIDs...),
		SourceServerID:                      new(s.ID),
		StagingAreaSubnetId:                 wireform.Text(c.StagingAreaSubnetID),
		StagingAreaTags:                     c.StagingAreaTags,
		UseDedicatedReplicationServer:       new(c.UseDedicatedServer),
	}
	for _, d := range c.Disks {
		disk := drs.ReplicationConfigurationReplicatedDisk{
			DeviceName:      new(d.DeviceName),
			IsBootDisk:      new(d.Boot),
			StagingDiskType: drs.ReplicationConfigurationReplicatedDiskStagingDiskType(d.StagingDiskType),
			Iops:            wireform.Some(d.IOPS),
			Throughput:      wireform.Some(d.Throughput),
		}
		disk.OptimizedStagingDiskType = disk.StagingDiskType
		out.ReplicatedDisks = append(out.ReplicatedDisks, disk)
	}
	return out
}

func diskConfigs(disks []drs.ReplicationConfigurationReplicatedDisk) *[]state.DiskConfig {
	if disks == nil {
		return nil
	}
	list := make([]state.DiskConfig, len(disks))
	for i, d := range disks {
		list[i] = state.DiskConfig{
			DeviceName:      wireform.Value(d.DeviceName),
			Boot:            wireform.Value(d.IsBootDisk),
			StagingDiskType: string(d.StagingDiskType),
			IOPS:            wireform.Value(d.Iops),
			Throughput:      wireform.Value(d.Throughput),
		}
	}
	return &list
}

func pitPolicy(rules []state.PITRule) []drs.PITPolicyRule {
	list := make([]drs.PITPolicyRule, len(rules))
	for i, r := range rules {
		list[i] = drs.PITPolicyRule{
			Enabled: new(r.Enabled), RuleID: new(r.ID), Units: drs.PITPolicyRuleUnits(r.Units),
			Interval: int32(r.Interval), RetentionDuration: int32(r.Retention),
		}
	}
	return list
}

func pitRules(policy []drs.PITPolicyRule) *[]state.PITRule {
	if policy == nil {
		return nil
	}
	list := make([]state.PITRule, len(policy))
	for i, r := range policy {
		list[i] = state.PITRule{
			ID: wireform.Value(r.RuleID), Units: state.PITUnits(r.Units),
			Interval: int64(r.Interval), Retention: int64(r.RetentionDuration),
			Enabled: r.Enabled == nil || *r.Enabled,
		}
	}
	return &list
}
