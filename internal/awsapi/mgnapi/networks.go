package mgnapi

import (
	"context"

	"github.com/understudy-dr/understudy/api/mgn"
	"github.com/understudy-dr/understudy/internal/awsapi/wireform"
	"github.com/understudy-dr/understudy/internal/control/inventory/networkmigration"
	"github.com/understudy-dr/understudy/internal/state"
)

// CreateNetworkMigrationDefinition keeps a definition.
func (a *API) CreateNetworkMigrationDefinition(ctx context.Context, in *mgn.CreateNetworkMigrationDefinitionInput) (*mgn.NetworkMigrationDefinition, error) {
	p := networkmigration.Patch{
		Name: &in.Name, Description: in.Description, Sources: networkSources(in.SourceConfigurations), ScopeTags: wireform.PresentMap(in.ScopeTags),
		TargetDeployment: wireform.Text(in.TargetDeployment),
	}
	if n := in.TargetNetwork; n != nil {
		p.Topology, p.InboundCIDR, p.OutboundCIDR, p.InspectionCIDR = wireform.Text(n.Topology), n.InboundCidr, n.OutboundCidr, n.InspectionCidr
	}
	if s := in.TargetS3Configuration; s != nil {
		p.TargetBucket, p.TargetOwner = &s.S3Bucket, &s.S3BucketOwner
	}
	return a.definition(a.d.Networks.Create(ctx, scope(ctx), p, in.Tags))
}

// UpdateNetworkMigrationDefinition changes the given members.
func (a *API) UpdateNetworkMigrationDefinition(ctx context.Context, in *mgn.UpdateNetworkMigrationDefinitionInput) (*mgn.NetworkMigrationDefinition, error) {
	p := networkmigration.Patch{
		Name: in.Name, Description: in.Description, Sources: networkSources(in.SourceConfigurations), ScopeTags: wireform.PresentMap(in.ScopeTags),
		TargetDeployment: wireform.Text(in.TargetDeployment),
	}
	if n := in.TargetNetwork; n != nil {
		p.Topology, p.InboundCIDR, p.OutboundCIDR, p.InspectionCIDR = wireform.Text(n.Topology), n.InboundCidr, n.OutboundCidr, n.InspectionCidr
	}
	if s := in.TargetS3Configuration; s != nil {
		p.TargetBucket, p.TargetOwner = s.S3Bucket, s.S3BucketOwner
	}
	return a.definition(a.d.Networks.Update(ctx, scope(ctx), in.NetworkMigrationDefinitionID, p))
}

// GetNetworkMigrationDefinition shows one definition.
func (a *API) GetNetworkMigrationDefinition(ctx context.Context, in *mgn.GetNetworkMigrationDefinitionInput) (*mgn.NetworkMigrationDefinition, error) {
	return a.definition(a.d.Networks.Get(ctx, scope(ctx), in.NetworkMigrationDefinitionID))
}

// DeleteNetworkMigrationDefinition forgets a definition and its executions.
func (a *API) DeleteNetworkMigrationDefinition(ctx context.Context, in *mgn.DeleteNetworkMigrationDefinitionInput) (*mgn.DeleteNetworkMigrationDefinitionOutput, error) {
	return &mgn.DeleteNetworkMigrationDefinitionOutput{}, a.d.Networks.Delete(ctx, scope(ctx), in.NetworkMigrationDefinitionID)
}

// ListNetworkMigrationDefinitions lists definitions, the newest first.
func (a *API) ListNetworkMigrationDefinitions(ctx context.Context, in *mgn.ListNetworkMigrationDefinitionsInput) (out *mgn.ListNetworkMigrationDefinitionsOutput, err error) {
	sc, f := scope(ctx), wireform.Value(in.Filters)
	out = &mgn.ListNetworkMigrationDefinitionsOutput{}
	out.Items, out.NextToken, err = paged([]any{"ListNetworkMigrationDefinitions", sc, f}, in.MaxResults, in.NextToken,
		func(p state.Page) ([]state.NetworkMigration, string, error) {
			return a.d.Networks.List(ctx, sc, f.NetworkMigrationDefinitionIDs, p)
		}, a.definitionSummary)
	return out, err
}

// ListNetworkMigrationExecutions lists a definition's executions, the newest first.
func (a *API) ListNetworkMigrationExecutions(ctx context.Context, in *mgn.ListNetworkMigrationExecutionsInput) (out *mgn.ListNetworkMigrationExecutionsOutput, err error) {
	sc, f := scope(ctx), wireform.Value(in.Filters)
	filter := state.ExecutionFilter{IDs: f.NetworkMigrationExecutionIDs}
	for _, s := range f.NetworkMigrationExecutionStatuses {
		filter.Statuses = append(filter.Statuses, string(s))
	}
	out = &mgn.ListNetworkMigrationExecutionsOutput{}
	out.Items, out.NextToken, err = paged([]any{"ListNetworkMigrationExecutions", sc, in.NetworkMigrationDefinitionID, f}, in.MaxResults, in.NextToken,
		func(p state.Page) ([]state.NetworkExecution, string, error) {
			return a.d.Networks.Executions(ctx, sc, in.NetworkMigrationDefinitionID, filter, p)
		}, execution)
	return out, err
}

func (a *API) definition(v state.NetworkMigration, err error) (*mgn.NetworkMigrationDefinition, error) {
	if err != nil {
		return nil, err
	}
	out := &mgn.NetworkMigrationDefinition{
		Arn: a.names(v.Scope).ARN(networkDefinition, v.ID), CreatedAt: &v.CreatedAt, UpdatedAt: &v.UpdatedAt, Description: wireform.Text(v.Description),
		Name: &v.Name, NetworkMigrationDefinitionID: &v.ID, ScopeTags: v.ScopeTags, SourceConfigurations: []mgn.SourceConfiguration{}, Tags: v.Tags,
		TargetDeployment: mgn.TargetDeployment(v.TargetDeployment),
		TargetNetwork: &mgn.TargetNetwork{Topology: mgn.TargetNetworkTopology(v.Topology), InboundCidr: wireform.Text(v.InboundCIDR),
			OutboundCidr: wireform.Text(v.OutboundCIDR), InspectionCidr: wireform.Text(v.InspectionCIDR)},
		TargetS3Configuration: &mgn.TargetS3Configuration{S3Bucket: v.TargetBucket, S3BucketOwner: v.TargetOwner},
	}
	for _, s := range v.Sources {
		out.SourceConfigurations = append(out.SourceConfigurations, mgn.SourceConfiguration{SourceEnvironment: mgn.SourceEnvironment(s.Environment),
			SourceS3Configuration: &mgn.SourceS3Configuration{S3Bucket: s.Bucket, S3BucketOwner: s.Owner, S3Key: s.Key}})
	}
	return out, nil
}

func (a *API) definitionSummary(v *state.NetworkMigration) mgn.NetworkMigrationDefinitionSummary {
	out := mgn.NetworkMigrationDefinitionSummary{Arn: a.names(v.Scope).ARN(networkDefinition, v.ID), Name: new(v.Name), NetworkMigrationDefinitionID: new(v.ID),
		ScopeTags: v.ScopeTags, Tags: v.Tags}
	if len(v.Sources) > 0 {
		out.SourceEnvironment = mgn.SourceEnvironment(v.Sources[0].Environment)
	}
	return out
}

func execution(v *state.NetworkExecution) mgn.NetworkMigrationExecution {
	return mgn.NetworkMigrationExecution{CreatedAt: &v.CreatedAt, UpdatedAt: &v.UpdatedAt, NetworkMigrationDefinitionID: new(v.DefinitionID),
		NetworkMigrationExecutionID: new(v.ID), Stage: mgn.ExecutionStage(v.Stage), Activity: mgn.ExecutionStageActivity(v.Stage),
		Status: mgn.ExecutionStatus(v.Status), Tags: v.Tags}
}

func networkSources(list []mgn.SourceConfiguration) *[]state.NetworkSource {
	if list == nil {
		return nil
	}
	out := make([]state.NetworkSource, len(list))
	for i, c := range list {
		out[i] = state.NetworkSource{Environment: string(c.SourceEnvironment)}
		if s := c.SourceS3Configuration; s != nil {
			out[i].Bucket, out[i].Key, out[i].Owner = s.S3Bucket, s.S3Key, s.S3BucketOwner
		}
	}
	return &out
}
