package awsapi_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/understudy-dr/understudy/api/conformance"
	"github.com/understudy-dr/understudy/internal/awsapi/mgnapi"
	"github.com/understudy-dr/understudy/internal/control"
	"github.com/understudy-dr/understudy/internal/state"
)

func (i *installation) mgnDomain() mgnapi.Domain {
	return onlyMGN(i.store, mgnapi.Domain{Servers: i.servers, Replication: i.engine, Templates: i.templates, Accounts: i.accounts, Region: region})
}

func mgnGeneral(t *testing.T, i *installation) conformance.Known {
	id := i.add(t, i.scope(state.MGN), state.Continuous)
	return conformance.Known{
		"SourceServerID": id,
		"resourceArn":    arn(state.MGN, "source-server/"+id),
		"AccountID":      account,
		"deviceName":     "/dev/vda",
		"nextToken":      "",
	}
}

func (i *installation) mgnTemplate(t *testing.T, exists bool) conformance.Known {
	sc := i.scope(state.MGN)
	list, _, err := i.templates.List(t.Context(), sc, nil, state.Page{})
	require.NoError(t, err)
	for _, v := range list {
		require.NoError(t, i.templates.Delete(t.Context(), sc, v.ID))
	}
	if !exists {
		return nil
	}
	v, err := i.templates.Create(t.Context(), sc, control.ConfigPatch{}, nil)
	require.NoError(t, err)
	return conformance.Known{"ReplicationConfigurationTemplateID": v.ID}
}

func mgnServerIn(in state.ReplicationState, life state.LifeCycleState) fixture {
	return func(t *testing.T, i *installation) conformance.Known {
		return conformance.Known{"SourceServerID": i.add(t, i.scope(state.MGN), in, func(v *state.Server) { v.LifeCycle.State = life })}
	}
}

var mgnFixtures = map[string]fixture{
	"StartImport":                                 mgnBucket,
	"StartExport":                                 mgnBucket,
	"ListImports":                                 mgnTransfers,
	"ListExports":                                 mgnTransfers,
	"ListImportErrors":                            mgnTransfers,
	"ListExportErrors":                            mgnTransfers,
	"GetNetworkMigrationDefinition":               mgnNetwork,
	"UpdateNetworkMigrationDefinition":            mgnNetwork,
	"DeleteNetworkMigrationDefinition":            mgnNetwork,
	"ListNetworkMigrationExecutions":              mgnNetwork,
	"GetNetworkMigrationMapperSegmentConstruct":   mgnNetwork,
	"UpdateNetworkMigrationMapperSegment":         mgnNetwork,
	"StartNetworkMigrationAnalysis":               mgnNetwork,
	"StartNetworkMigrationCodeGeneration":         mgnNetwork,
	"StartNetworkMigrationDeployment":             mgnNetwork,
	"StartNetworkMigrationMapping":                mgnNetwork,
	"StartNetworkMigrationMappingUpdate":          mgnNetwork,
	"ListNetworkMigrationAnalyses":                mgnNetwork,
	"ListNetworkMigrationAnalysisResults":         mgnNetwork,
	"ListNetworkMigrationCodeGenerations":         mgnNetwork,
	"ListNetworkMigrationCodeGenerationSegments":  mgnNetwork,
	"ListNetworkMigrationDeployments":             mgnNetwork,
	"ListNetworkMigrationDeployedStacks":          mgnNetwork,
	"ListNetworkMigrationMappings":                mgnNetwork,
	"ListNetworkMigrationMappingUpdates":          mgnNetwork,
	"ListNetworkMigrationMapperSegments":          mgnNetwork,
	"ListNetworkMigrationMapperSegmentConstructs": mgnNetwork,
	"CreateNetworkMigrationDefinition":            mgnNetwork,
	"DescribeJobs":                                mgnJob,
	"DescribeJobLogItems":                         mgnJob,
	"DeleteJob":                                   mgnJob,
	"FinalizeCutover":                             mgnServerIn(state.Continuous, state.CuttingOver),
	"CreateLaunchConfigurationTemplate":           mgnLaunchTemplate,
	"UpdateLaunchConfigurationTemplate":           mgnLaunchTemplate,
	"DeleteLaunchConfigurationTemplate":           mgnLaunchTemplate,
	"UpdateLaunchConfiguration":                   mgnLaunchTemplate,
	"PutTemplateAction":                           mgnLaunchTemplate,
	"ListTemplateActions":                         mgnLaunchTemplate,
	"RemoveTemplateAction":                        mgnLaunchTemplate,
	"PutSourceServerAction":                       mgnLaunchTemplate,
	"RemoveSourceServerAction":                    mgnServerAction,
	"CreateApplication":                           mgnApplication(),
	"UpdateApplication":                           mgnApplication(),
	"ArchiveApplication":                          mgnApplication(),
	"UnarchiveApplication":                        mgnApplication(),
	"DeleteApplication":                           mgnApplication(),
	"AssociateSourceServers":                      mgnApplication(),
	"DisassociateSourceServers":                   mgnApplication(func(*state.Server) {}),
	"CreateWave":                                  mgnWave,
	"UpdateWave":                                  mgnWave,
	"ArchiveWave":                                 mgnWave,
	"UnarchiveWave":                               mgnWave,
	"DeleteWave":                                  mgnWave,
	"AssociateApplications":                       mgnWaveOf(false),
	"DisassociateApplications":                    mgnWaveOf(true),
	"CreateConnector":                             mgnConnector,
	"UpdateConnector":                             mgnConnector,
	"DeleteConnector":                             mgnConnector,
	"ListConnectors":                              mgnConnector,
	"UpdateSourceServer":                          mgnConnector,
	"DescribeVcenterClients":                      mgnVcenterClient,
	"DeleteVcenterClient":                         mgnVcenterClient,
	"UpdateSourceServerReplicationType":           mgnShippable,
	"CreateReplicationConfigurationTemplate":      func(t *testing.T, i *installation) conformance.Known { return i.mgnTemplate(t, false) },
	"DeleteReplicationConfigurationTemplate":      func(t *testing.T, i *installation) conformance.Known { return i.mgnTemplate(t, true) },
	"UpdateReplicationConfigurationTemplate":      func(t *testing.T, i *installation) conformance.Known { return i.mgnTemplate(t, true) },
	"StartReplication":                            mgnServerIn(state.Stopped, state.LifeCycleStopped),
	"ResumeReplication":                           mgnServerIn(state.Paused, state.ReadyForTest),
	"RetryDataReplication":                        mgnServerIn(state.Stalled, state.ReadyForTest),
	"ChangeServerLifeCycleState":                  mgnServerIn(state.Continuous, state.Testing),
	"DeleteSourceServer":                          mgnServerIn(state.Disconnected, state.LifeDisconnected),
	"MarkAsArchived":                              mgnServerIn(state.Disconnected, state.LifeDisconnected),
}

// onlyCloud is why nothing can be done with a cloud's own network.
const onlyCloud = "it works on a cloud provider's network, and there is none"

// onlyLaunched is why no machine is launched: this installation has no launch provider.
const onlyLaunched = "no launch provider is configured"

var mgnRefused = map[string]string{
	"StartTest":                onlyLaunched,
	"StartCutover":             onlyLaunched,
	"TerminateTargetInstances": onlyLaunched,

	"GetNetworkMigrationMapperSegmentConstruct":   onlyCloud,
	"ListNetworkMigrationMapperSegmentConstructs": onlyCloud,
	"StartImportFileEnrichment":                   onlyCloud,
	"StartNetworkMigrationAnalysis":               onlyCloud,
	"StartNetworkMigrationCodeGeneration":         onlyCloud,
	"StartNetworkMigrationDeployment":             onlyCloud,
	"StartNetworkMigrationMapping":                onlyCloud,
	"StartNetworkMigrationMappingUpdate":          onlyCloud,
	"UpdateNetworkMigrationMapperSegment":         onlyCloud,
}

var mgnAbsent []string
