package mgnapi

import (
	"context"

	"github.com/understudy-dr/understudy/api/mgn"
	"github.com/understudy-dr/understudy/internal/awsapi/wireform"
	"github.com/understudy-dr/understudy/internal/control"
	"github.com/understudy-dr/understudy/internal/state"
)

// GetReplicationConfiguration shows how one server is replicated.
func (a *API) GetReplicationConfiguration(ctx context.Context, in *mgn.GetReplicationConfigurationInput) (*mgn.ReplicationConfiguration, error) {
	sc, err := a.scopeOf(ctx, in.AccountID)
	if err != nil {
		return nil, err
	}
	s, err := a.d.Servers.Get(ctx, sc, in.SourceServerID)
	if err != nil {
		return nil, err
	}
	return configuration(&s), nil
}

// UpdateReplicationConfiguration changes the given members of one server's configuration.
func (a *API) UpdateReplicationConfiguration(ctx context.Context, in *mgn.UpdateReplicationConfigurationInput) (*mgn.ReplicationConfiguration, error) {
	sc, err := a.scopeOf(ctx, in.AccountID)
	if err != nil {
		return nil, err
	}
	s, err := a.d.Servers.UpdateConfig(ctx, sc, in.SourceServerID, control.ConfigPatch{
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
		UseFIPSEndpoint:               in.UseFipsEndpoint,
		StoreSnapshotOnLocalZone:      in.StoreSnapshotOnLocalZone,
		Name:                          in.Name,
		Disks:                         diskConfigs(in.ReplicatedDisks),
	})
	if err != nil {
		return nil, err
	}
	return configuration(&s), nil
}

func configuration(s *state.Server) *mgn.ReplicationConfiguration {
	c := &s.Config
	out := &mgn.ReplicationConfiguration{
		AssociateDefaultSecurityGroup:       new(c.AssociateDefaultSecurityGroup),
		BandwidthThrottling:                 new(c.BandwidthMbps),
		CreatePublicIP:                      new(c.CreatePublicIP),
		DataPlaneRouting:                    mgn.ReplicationConfigurationDataPlaneRouting(c.DataPlaneRouting),
		DefaultLargeStagingDiskType:         mgn.ReplicationConfigurationDefaultLargeStagingDiskType(c.LargeStagingDiskType),
		EbsEncryption:                       mgn.ReplicationConfigurationEbsEncryption(c.EBSEncryption),
		EbsEncryptionKeyArn:                 wireform.Text(c.EBSEncryptionKeyARN),
		InternetProtocol:                    mgn.InternetProtocol(c.InternetProtocol),
		Name:                                wireform.Text(c.Name),
		ReplicatedDisks:                     []mgn.ReplicationConfigurationReplicatedDisk{},
		ReplicationServerInstanceType:       wireform.Text(c.InstanceType),
		ReplicationServersSecurityGroupsIDs: append([]string{}, c.SecurityGroupIDs...),
		SourceServerID:                      new(s.ID),
		StagingAreaSubnetId:                 wireform.Text(c.StagingAreaSubnetID),
		StagingAreaTags:                     c.StagingAreaTags,
		StoreSnapshotOnLocalZone:            new(c.StoreSnapshotOnLocalZone),
		UseFipsEndpoint:                     new(c.UseFIPSEndpoint),
		UseDedicatedReplicationServer:       new(c.UseDedicatedServer),
	}
	for _, d := range c.Disks {
		out.ReplicatedDisks = append(out.ReplicatedDisks, mgn.ReplicationConfigurationReplicatedDisk{
			DeviceName:      new(d.DeviceName),
			IsBootDisk:      new(d.Boot),
			StagingDiskType: mgn.ReplicationConfigurationReplicatedDiskStagingDiskType(d.StagingDiskType),
			Iops:            wireform.Some(d.IOPS),
			Throughput:      wireform.Some(d.Throughput),
		})
	}
	return out
}

func diskConfigs(disks []mgn.ReplicationConfigurationReplicatedDisk) *[]state.DiskConfig {
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
