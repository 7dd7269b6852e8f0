package mgnapi

import (
	"cmp"

	"github.com/understudy-dr/understudy/api/mgn"
	"github.com/understudy-dr/understudy/internal/awsapi/wireform"
	"github.com/understudy-dr/understudy/internal/control"
	"github.com/understudy-dr/understudy/internal/state"
)

// view is a server as MGN shows it.
func (a *API) view(s *state.Server, r *control.ReplicationInfo) mgn.SourceServer {
	m := &s.Migration
	out := mgn.SourceServer{
		ApplicationID:          wireform.Text(m.ApplicationID),
		Arn:                    a.names(s.Scope).ARN(wireform.SourceServer, s.ID),
		DataReplicationInfo:    replicationInfo(r),
		FqdnForActionFramework: wireform.Text(cmp.Or(m.ActionFQDN, s.Properties.Hints.FQDN)),
		IsArchived:             new(s.Archived),
		LifeCycle:              a.lifeCycle(s, r),
		ReplicationType:        mgn.ReplicationType(s.ReplicationType),
		SourceProperties:       sourceProperties(&s.Properties),
		SourceServerID:         new(s.ID),
		Tags:                   s.Tags,
		UserProvidedID:         wireform.Text(s.UserProvidedID),
		VcenterClientID:        wireform.Text(m.VcenterClientID),
	}
	if c := m.Connector; c != (state.ConnectorAction{}) {
		out.ConnectorAction = &mgn.SourceServerConnectorAction{ConnectorArn: wireform.Text(c.ConnectorARN), CredentialsSecretArn: wireform.Text(c.CredentialsSecretARN)}
	}
	if l := m.Launched; l.InstanceID != "" {
		out.LaunchedInstance = &mgn.LaunchedInstance{Ec2InstanceID: wireform.Text(l.InstanceID), FirstBoot: mgn.FirstBoot(l.FirstBoot), JobID: wireform.Text(l.JobID)}
	}
	return out
}

// lifeCycle always has the records of test and cutover, empty ones too: clients index into them.
func (a *API) lifeCycle(s *state.Server, r *control.ReplicationInfo) *mgn.LifeCycle {
	test, cutover := &s.LifeCycle.LastTest, &s.LifeCycle.LastCutover
	return &mgn.LifeCycle{
		AddedToServiceDateTime:     wireform.Time(s.CreatedAt),
		ElapsedReplicationDuration: new(wireform.Duration(a.d.Now().Sub(s.CreatedAt))),
		FirstByteDateTime:          wireform.Time(r.FirstByteAt),
		LastSeenByServiceDateTime:  wireform.Time(r.LastSeenAt),
		State:                      mgn.LifeCycleState(s.LifeCycle.State),
		LastTest: &mgn.LifeCycleLastTest{
			Initiated: &mgn.LifeCycleLastTestInitiated{ApiCallDateTime: wireform.Time(test.InitiatedAt), JobID: wireform.Text(test.JobID)},
			Reverted:  &mgn.LifeCycleLastTestReverted{ApiCallDateTime: wireform.Time(test.RevertedAt)},
			Finalized: &mgn.LifeCycleLastTestFinalized{ApiCallDateTime: wireform.Time(test.FinalizedAt)},
		},
		LastCutover: &mgn.LifeCycleLastCutover{
			Initiated: &mgn.LifeCycleLastCutoverInitiated{ApiCallDateTime: wireform.Time(cutover.InitiatedAt), JobID: wireform.Text(cutover.JobID)},
			Reverted:  &mgn.LifeCycleLastCutoverReverted{ApiCallDateTime: wireform.Time(cutover.RevertedAt)},
			Finalized: &mgn.LifeCycleLastCutoverFinalized{ApiCallDateTime: wireform.Time(cutover.FinalizedAt)},
		},
	}
}

func replicationInfo(r *control.ReplicationInfo) *mgn.DataReplicationInfo {
	info := &mgn.DataReplicationInfo{
		DataReplicationState: mgn.DataReplicationState(r.State),
		EtaDateTime:          wireform.Time(r.ETA),
		LastSnapshotDateTime: wireform.Time(r.LastPointAt),
		ReplicatorId:         wireform.Text(r.ReplicatorID),
		DataReplicationInitiation: &mgn.DataReplicationInitiation{
			NextAttemptDateTime: wireform.Time(r.Attempt.NextAttemptAt),
			StartDateTime:       wireform.Time(r.Attempt.StartedAt),
		},
		ReplicatedDisks: []mgn.DataReplicationInfoReplicatedDisk{},
	}
	for _, s := range wireform.Steps(r.Attempt) {
		info.DataReplicationInitiation.Steps = append(info.DataReplicationInitiation.Steps, mgn.DataReplicationInitiationStep{
			Name:   mgn.DataReplicationInitiationStepName(s.Name),
			Status: mgn.DataReplicationInitiationStepStatus(s.Status),
		})
	}
	if r.Error != nil {
		info.DataReplicationError = &mgn.DataReplicationError{
			Error:    mgn.DataReplicationErrorString(r.Error.Code),
			RawError: wireform.Text(r.Error.Raw),
		}
	}
	if r.Lag != nil {
		info.LagDuration = new(wireform.Duration(*r.Lag))
	}
	for _, d := range r.Disks {
		info.ReplicatedDisks = append(info.ReplicatedDisks, mgn.DataReplicationInfoReplicatedDisk{
			BackloggedStorageBytes: wireform.Number(d.Backlogged),
			DeviceName:             new(d.DeviceName),
			ReplicatedStorageBytes: wireform.Number(d.Replicated),
			RescannedStorageBytes:  wireform.Number(d.Rescanned),
			TotalStorageBytes:      wireform.Number(d.Total),
		})
	}
	return info
}

func sourceProperties(p *state.SourceProperties) *mgn.SourceProperties {
	out := &mgn.SourceProperties{
		IdentificationHints: &mgn.IdentificationHints{
			AwsInstanceID: wireform.Text(p.Hints.AWSInstanceID),
			Fqdn:          wireform.Text(p.Hints.FQDN),
			Hostname:      wireform.Text(p.Hints.Hostname),
			VmPath:        wireform.Text(p.Hints.VMPath),
			VmWareUuid:    wireform.Text(p.Hints.VMWareUUID),
		},
		LastUpdatedDateTime:     wireform.Time(p.UpdatedAt),
		Os:                      &mgn.OS{FullString: wireform.Text(p.OS)},
		RamBytes:                wireform.Number(p.RAMBytes),
		RecommendedInstanceType: wireform.Text(p.RecommendedType),
		Cpus:                    []mgn.CPU{},
		Disks:                   []mgn.Disk{},
		NetworkInterfaces:       []mgn.NetworkInterface{},
	}
	for _, c := range p.CPUs {
		out.Cpus = append(out.Cpus, mgn.CPU{Cores: new(c.Cores), ModelName: wireform.Text(c.Model)})
	}
	for _, d := range p.Disks {
		out.Disks = append(out.Disks, mgn.Disk{Bytes: wireform.Number(d.Bytes), DeviceName: new(d.DeviceName)})
	}
	for _, n := range p.NICs {
		out.NetworkInterfaces = append(out.NetworkInterfaces, mgn.NetworkInterface{
			Ips: append([]string{}, n.IPs...), IsPrimary: new(n.Primary), MacAddress: wireform.Text(n.MAC),
		})
	}
	return out
}
