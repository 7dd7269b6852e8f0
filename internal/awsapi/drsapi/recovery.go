package drsapi

import (
	"context"

	"github.com/understudy-dr/understudy/api/drs"
	"github.com/understudy-dr/understudy/internal/awsapi/wireform"
	"github.com/understudy-dr/understudy/internal/control/failback"
	"github.com/understudy-dr/understudy/internal/control/recovery"
	"github.com/understudy-dr/understudy/internal/state"
)

// StartRecovery launches recovery instances, as a drill or in earnest.
func (a *API) StartRecovery(ctx context.Context, in *drs.StartRecoveryInput) (*drs.StartRecoveryOutput, error) {
	targets := make([]recovery.Target, len(in.SourceServers))
	for i, s := range in.SourceServers {
		targets[i] = recovery.Target{ServerID: s.SourceServerID, SnapshotID: wireform.Value(s.RecoverySnapshotID)}
	}
	j, err := a.d.Recoveries.Start(ctx, scope(ctx), targets, wireform.Value(in.IsDrill), in.Tags)
	return &drs.StartRecoveryOutput{Job: a.job(&j)}, err
}

// TerminateRecoveryInstances ends recovery instances together with their machines.
func (a *API) TerminateRecoveryInstances(ctx context.Context, in *drs.TerminateRecoveryInstancesInput) (*drs.TerminateRecoveryInstancesOutput, error) {
	j, err := a.d.Recoveries.Terminate(ctx, scope(ctx), in.RecoveryInstanceIDs)
	return &drs.TerminateRecoveryInstancesOutput{Job: a.job(&j)}, err
}

// DescribeRecoveryInstances lists recovery instances.
func (a *API) DescribeRecoveryInstances(ctx context.Context, in *drs.DescribeRecoveryInstancesInput) (*drs.DescribeRecoveryInstancesOutput, error) {
	sc := scope(ctx)
	filter := drs.DescribeRecoveryInstancesRequestFilters{}
	if in.Filters != nil {
		filter = *in.Filters
	}
	query := []any{"DescribeRecoveryInstances", sc, filter}
	page, err := wireform.Page(query, in.MaxResults, in.NextToken)
	if err != nil {
		return nil, err
	}
	list, next, err := a.d.Recoveries.List(ctx, sc, state.RecoveryInstanceFilter{IDs: filter.RecoveryInstanceIDs, ServerIDs: filter.SourceServerIDs}, page)
	if err != nil {
		return nil, err
	}
	out := &drs.DescribeRecoveryInstancesOutput{}
	for i := range list {
		out.Items = append(out.Items, a.instance(&list[i]))
	}
	out.NextToken, err = wireform.NextToken(query, next)
	return out, err
}

// DisconnectRecoveryInstance ends a recovery instance's replication.
func (a *API) DisconnectRecoveryInstance(ctx context.Context, in *drs.DisconnectRecoveryInstanceInput) (*drs.DisconnectRecoveryInstanceOutput, error) {
	return &drs.DisconnectRecoveryInstanceOutput{}, a.d.Recoveries.Disconnect(ctx, scope(ctx), in.RecoveryInstanceID)
}

// DeleteRecoveryInstance forgets a recovery instance; its machine stays.
func (a *API) DeleteRecoveryInstance(ctx context.Context, in *drs.DeleteRecoveryInstanceInput) (*drs.DeleteRecoveryInstanceOutput, error) {
	return &drs.DeleteRecoveryInstanceOutput{}, a.d.Recoveries.Delete(ctx, scope(ctx), in.RecoveryInstanceID)
}

// GetFailbackReplicationConfiguration shows how a recovery instance's data is sent back.
func (a *API) GetFailbackReplicationConfiguration(ctx context.Context, in *drs.GetFailbackReplicationConfigurationInput) (*drs.GetFailbackReplicationConfigurationOutput, error) {
	c, err := a.d.Failbacks.Config(ctx, scope(ctx), in.RecoveryInstanceID)
	return &drs.GetFailbackReplicationConfigurationOutput{
		BandwidthThrottling: new(c.BandwidthMbps), InternetProtocol: drs.InternetProtocol(c.InternetProtocol), Name: wireform.Text(c.Name),
		RecoveryInstanceID: in.RecoveryInstanceID, UsePrivateIP: new(c.UsePrivateIP),
	}, err
}

// UpdateFailbackReplicationConfiguration changes the given members.
func (a *API) UpdateFailbackReplicationConfiguration(ctx context.Context, in *drs.UpdateFailbackReplicationConfigurationInput) (*drs.UpdateFailbackReplicationConfigurationOutput, error) {
	return &drs.UpdateFailbackReplicationConfigurationOutput{}, a.d.Failbacks.UpdateConfig(ctx, scope(ctx), in.RecoveryInstanceID, failback.Patch{
		Name: in.Name, BandwidthMbps: in.BandwidthThrottling, UsePrivateIP: in.UsePrivateIP, InternetProtocol: wireform.Text(in.InternetProtocol)})
}

// StopFailback ends a failback that is under way.
func (a *API) StopFailback(ctx context.Context, in *drs.StopFailbackInput) (*drs.StopFailbackOutput, error) {
	return &drs.StopFailbackOutput{}, a.d.Failbacks.Stop(ctx, scope(ctx), in.RecoveryInstanceID)
}

// StartFailbackLaunch starts original machines from what was sent back.
func (a *API) StartFailbackLaunch(ctx context.Context, in *drs.StartFailbackLaunchInput) (*drs.StartFailbackLaunchOutput, error) {
	j, err := a.d.Failbacks.Launch(ctx, scope(ctx), in.RecoveryInstanceIDs, in.Tags)
	return &drs.StartFailbackLaunchOutput{Job: a.job(&j)}, err
}

// ReverseReplication is checked and refused: nothing here receives data in AWS.
func (a *API) ReverseReplication(ctx context.Context, in *drs.ReverseReplicationInput) (*drs.ReverseReplicationOutput, error) {
	return nil, a.d.Failbacks.Reverse(ctx, scope(ctx), in.RecoveryInstanceID)
}

// instance is a recovery instance as DRS shows it.
func (a *API) instance(v *state.RecoveryInstance) drs.RecoveryInstance {
	origin := drs.OriginEnvironmentOnPremises
	if v.OriginAWS {
		origin = drs.OriginEnvironmentAws
	}
	return drs.RecoveryInstance{
		AgentVersion:                wireform.Text(v.AgentVersion),
		Arn:                         a.names(v.Scope).ARN(wireform.RecoveryInstance, v.ID),
		DataReplicationInfo:         reverseReplication(v),
		Ec2InstanceID:               new(v.ID),
		Ec2InstanceState:            drs.EC2InstanceState(v.State),
		Failback:                    a.failback(v),
		IsDrill:                     new(v.Drill),
		JobID:                       wireform.Text(v.JobID),
		OriginEnvironment:           origin,
		PointInTimeSnapshotDateTime: wireform.Time(v.PointAt),
		RecoveryInstanceID:          new(v.ID),
		RecoveryInstanceProperties:  instanceProperties(v),
		SourceServerID:              wireform.Text(v.ServerID),
		Tags:                        v.Tags,
	}
}

// failback shows the way back. The elapsed time is a duration although its shape is a date's: the real service
// sends it so.
func (a *API) failback(v *state.RecoveryInstance) *drs.RecoveryInstanceFailback {
	f := &v.Failback
	out := &drs.RecoveryInstanceFailback{
		AgentLastSeenByServiceDateTime:          wireform.Time(v.AgentLastSeenAt),
		FailbackClientID:                        wireform.Text(f.ClientID),
		FailbackClientLastSeenByServiceDateTime: wireform.Time(f.ClientSeenAt),
		FailbackInitiationTime:                  wireform.Time(f.InitiatedAt),
		FailbackJobID:                           wireform.Text(f.JobID),
		FailbackLaunchType:                      drs.FailbackLaunchType(f.LaunchType),
		FailbackToOriginalServer:                new(f.ToOriginal),
		FirstByteDateTime:                       wireform.Time(f.FirstByteAt),
		State:                                   drs.FailbackState(f.State),
	}
	if !f.InitiatedAt.IsZero() {
		out.ElapsedReplicationDuration = new(wireform.Duration(a.d.Now().Sub(f.InitiatedAt)))
	}
	return out
}

func reverseReplication(v *state.RecoveryInstance) *drs.RecoveryInstanceDataReplicationInfo {
	out := &drs.RecoveryInstanceDataReplicationInfo{
		DataReplicationState: drs.RecoveryInstanceDataReplicationState(v.Failback.Replication),
		ReplicatedDisks:      []drs.RecoveryInstanceDataReplicationInfoReplicatedDisk{},
	}
	if e := v.Failback.Error; e != nil {
		out.DataReplicationError = &drs.RecoveryInstanceDataReplicationError{
			Error: drs.FailbackReplicationError(e.Code), RawError: wireform.Text(e.Raw)}
	}
	for _, d := range v.Disks {
		total := d.Bytes
		if v.Disconnected {
			total = 0
		}
		out.ReplicatedDisks = append(out.ReplicatedDisks, drs.RecoveryInstanceDataReplicationInfoReplicatedDisk{
			BackloggedStorageBytes: new(int64(0)), DeviceName: wireform.Text(d.DeviceName), ReplicatedStorageBytes: new(int64(0)),
			RescannedStorageBytes: new(int64(0)), TotalStorageBytes: wireform.Number(total)})
	}
	return out
}

func instanceProperties(v *state.RecoveryInstance) *drs.RecoveryInstanceProperties {
	p := sourceProperties(&v.Properties)
	out := &drs.RecoveryInstanceProperties{
		Cpus: p.Cpus, IdentificationHints: p.IdentificationHints, LastUpdatedDateTime: p.LastUpdatedDateTime,
		NetworkInterfaces: p.NetworkInterfaces, Os: p.Os, RamBytes: p.RamBytes, Disks: []drs.RecoveryInstanceDisk{},
	}
	for _, d := range v.Disks {
		out.Disks = append(out.Disks, drs.RecoveryInstanceDisk{
			Bytes: wireform.Number(d.Bytes), EbsVolumeID: wireform.Text(d.VolumeID), InternalDeviceName: wireform.Text(d.DeviceName)})
	}
	return out
}
