package drsapi

import (
	"github.com/understudy-dr/understudy/api/drs"
	"github.com/understudy-dr/understudy/internal/awsapi/wireform"
	"github.com/understudy-dr/understudy/internal/control"
	"github.com/understudy-dr/understudy/internal/state"
)

// view is a server as DRS shows it.
func (a *API) view(s *state.Server, r *control.ReplicationInfo) drs.SourceServer {
	arn := a.names(s.Scope).ARN(wireform.SourceServer, s.ID)
	return drs.SourceServer{
		AgentVersion:          wireform.Text(s.Agent.Version),
		Arn:                   arn,
		DataReplicationInfo:   replicationInfo(r),
		LastLaunchResult:      launchResult(s.LifeCycle.LastLaunch.Status),
		LifeCycle:             a.lifeCycle(s, r),
		ReplicationDirection:  drs.ReplicationDirectionFailover,
		SourceProperties:      sourceProperties(&s.Properties),
		SourceCloudProperties: cloudProperties(&s.Properties),
		SourceServerID:        new(s.ID),
		StagingArea: &drs.StagingArea{
			Status:                 drs.ExtensionStatusNotExtended,
			StagingAccountID:       new(s.Scope.Account),
			StagingSourceServerArn: arn,
		},
		Tags: s.Tags,
	}
}

// cloudProperties are those of a machine that says it is an instance in AWS.
func cloudProperties(p *state.SourceProperties) *drs.SourceCloudProperties {
	if p.Hints.AWSInstanceID == "" {
		return nil
	}
	return &drs.SourceCloudProperties{OriginRegion: wireform.Text(p.Region)}
}

func (a *API) lifeCycle(s *state.Server, r *control.ReplicationInfo) *drs.LifeCycle {
	last := &s.LifeCycle.LastLaunch
	return &drs.LifeCycle{
		AddedToServiceDateTime:     wireform.Time(s.CreatedAt),
		ElapsedReplicationDuration: new(wireform.Duration(a.d.Now().Sub(s.CreatedAt))),
		FirstByteDateTime:          wireform.Time(r.FirstByteAt),
		LastSeenByServiceDateTime:  wireform.Time(r.LastSeenAt),
		LastLaunch: &drs.LifeCycleLastLaunch{
			Initiated: &drs.LifeCycleLastLaunchInitiated{
				ApiCallDateTime: wireform.Time(last.InitiatedAt),
				JobID:           wireform.Text(last.JobID),
				Type:            drs.LastLaunchType(last.Type),
			},
			Status: drs.LaunchStatus(last.Status),
		},
	}
}

// launchResult sums the last launch's status up.
func launchResult(status string) drs.LastLaunchResult {
	switch drs.LaunchStatus(status) {
	case drs.LaunchStatusPending, drs.LaunchStatusInProgress:
		return drs.LastLaunchResultPending
	case drs.LaunchStatusLaunched, drs.LaunchStatusTerminated:
		return drs.LastLaunchResultSucceeded
	case drs.LaunchStatusFailed:
		return drs.LastLaunchResultFailed
	}
	return drs.LastLaunchResultNotStarted
}

func replicationInfo(r *control.ReplicationInfo) *drs.DataReplicationInfo {
	info := &drs.DataReplicationInfo{
		DataReplicationState: drs.DataReplicationState(r.State),
		EtaDateTime:          wireform.Time(r.ETA),
		DataReplicationInitiation: &drs.DataReplicationInitiation{
			NextAttemptDateTime: wireform.Time(r.Attempt.NextAttemptAt),
			StartDateTime:       wireform.Time(r.Attempt.StartedAt),
		},
		ReplicatedDisks: []drs.DataReplicationInfoReplicatedDisk{},
	}
	for _, s := range wireform.Steps(r.Attempt) {
		info.DataReplicationInitiation.Steps = append(info.DataReplicationInitiation.Steps, drs.DataReplicationInitiationStep{
			Name:   drs.DataReplicationInitiationStepName(s.Name),
			Status: drs.DataReplicationInitiationStepStatus(s.Status),
		})
	}
	if r.Error != nil {
		info.DataReplicationError = &drs.DataReplicationError{
			Error:    drs.DataReplicationErrorString(r.Error.Code),
			RawError: wireform.Text(r.Error.Raw),
		}
	}
	if r.Lag != nil {
		info.LagDuration = new(wireform.Duration(*r.Lag))
	}
	for _, d := range r.Disks {
		info.ReplicatedDisks = append(info.ReplicatedDisks, drs.DataReplicationInfoReplicatedDisk{
			BackloggedStorageBytes: wireform.Number(d.Backlogged),
			DeviceName:             new(d.DeviceName),
			ReplicatedStorageBytes: wireform.Number(d.Replicated),
			RescannedStorageBytes:  wireform.Number(d.Rescanned),
			TotalStorageBytes:      wireform.Number(d.Total),
			VolumeStatus:           drs.VolumeStatusRegular,
		})
	}
	return info
}

func sourceProperties(p *state.SourceProperties) *drs.SourceProperties {
	out := &drs.SourceProperties{
		IdentificationHints: &drs.IdentificationHints{
			AwsInstanceID: wireform.Text(p.Hints.AWSInstanceID),
			Fqdn:          wireform.Text(p.Hints.FQDN),
			Hostname:      wireform.Text(p.Hints.Hostname),
			VmWareUuid:    wireform.Text(p.Hints.VMWareUUID),
		},
		LastUpdatedDateTime:     wireform.Time(p.UpdatedAt),
		Os:                      &drs.OS{FullString: wireform.Text(p.OS)},
		RamBytes:                wireform.Number(p.RAMBytes),
		RecommendedInstanceType: wireform.Text(p.RecommendedType),
		SupportsNitroInstances:  new(p.SupportsNitro),
		Cpus:                    []drs.CPU{},
		Disks:                   []drs.Disk{},
		NetworkInterfaces:       []drs.NetworkInterface{},
	}
	for _, c := range p.CPUs {
		out.Cpus = append(out.Cpus, drs.CPU{Cores: new(c.Cores), ModelName: wireform.Text(c.Model)})
	}
	for _, d := range p.Disks {
		out.Disks = append(out.Disks, drs.Disk{Bytes: wireform.Number(d.Bytes), DeviceName: new(d.DeviceName)})
	}
	for _, n := range p.NICs {
		out.NetworkInterfaces = append(out.NetworkInterfaces, drs.NetworkInterface{
			Ips: append([]string{}, n.IPs...), IsPrimary: new(n.Primary), MacAddress: wireform.Text(n.MAC),
		})
	}
	return out
}
