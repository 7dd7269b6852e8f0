package mgnapi

import (
	"context"

	"github.com/understudy-dr/understudy/api/mgn"
	"github.com/understudy-dr/understudy/internal/awsapi/wireform"
	"github.com/understudy-dr/understudy/internal/control/inventory/networkmigration"
)

// What the operations of this file are about, a cloud's network, is not there: starting anything is refused, and so
// there is nothing to list.

// nothing checks that what an empty list is about exists, and that the list has not been left for another.
func (a *API) nothing(ctx context.Context, definition, execution string, token *string) error {
	if _, err := wireform.Page("nothing", nil, token); err != nil {
		return err
	}
	return a.d.Networks.Has(ctx, scope(ctx), definition, execution)
}

// ListNetworkMigrationAnalyses lists the analyses of an execution: there are none.
func (a *API) ListNetworkMigrationAnalyses(ctx context.Context, in *mgn.ListNetworkMigrationAnalysesInput) (*mgn.ListNetworkMigrationAnalysesOutput, error) {
	return &mgn.ListNetworkMigrationAnalysesOutput{}, a.nothing(ctx, in.NetworkMigrationDefinitionID, in.NetworkMigrationExecutionID, in.NextToken)
}

// ListNetworkMigrationAnalysisResults lists the results of analyses of an execution: there are none.
func (a *API) ListNetworkMigrationAnalysisResults(ctx context.Context, in *mgn.ListNetworkMigrationAnalysisResultsInput) (*mgn.ListNetworkMigrationAnalysisResultsOutput, error) {
	return &mgn.ListNetworkMigrationAnalysisResultsOutput{}, a.nothing(ctx, in.NetworkMigrationDefinitionID, in.NetworkMigrationExecutionID, in.NextToken)
}

// ListNetworkMigrationCodeGenerations lists the code generations of an execution: there are none.
func (a *API) ListNetworkMigrationCodeGenerations(ctx context.Context, in *mgn.ListNetworkMigrationCodeGenerationsInput) (*mgn.ListNetworkMigrationCodeGenerationsOutput, error) {
	return &mgn.ListNetworkMigrationCodeGenerationsOutput{}, a.nothing(ctx, in.NetworkMigrationDefinitionID, in.NetworkMigrationExecutionID, in.NextToken)
}

// ListNetworkMigrationCodeGenerationSegments lists the segments of generated code of an execution: there are none.
func (a *API) ListNetworkMigrationCodeGenerationSegments(ctx context.Context, in *mgn.ListNetworkMigrationCodeGenerationSegmentsInput) (*mgn.ListNetworkMigrationCodeGenerationSegmentsOutput, error) {
	return &mgn.ListNetworkMigrationCodeGenerationSegmentsOutput{}, a.nothing(ctx, in.NetworkMigrationDefinitionID, in.NetworkMigrationExecutionID, in.NextToken)
}

// ListNetworkMigrationDeployments lists the deployments of an execution: there are none.
func (a *API) ListNetworkMigrationDeployments(ctx context.Context, in *mgn.ListNetworkMigrationDeploymentsInput) (*mgn.ListNetworkMigrationDeploymentsOutput, error) {
	return &mgn.ListNetworkMigrationDeploymentsOutput{}, a.nothing(ctx, in.NetworkMigrationDefinitionID, in.NetworkMigrationExecutionID, in.NextToken)
}

// ListNetworkMigrationDeployedStacks lists the deployed stacks of an execution: there are none.
func (a *API) ListNetworkMigrationDeployedStacks(ctx context.Context, in *mgn.ListNetworkMigrationDeployedStacksInput) (*mgn.ListNetworkMigrationDeployedStacksOutput, error) {
	return &mgn.ListNetworkMigrationDeployedStacksOutput{}, a.nothing(ctx, in.NetworkMigrationDefinitionID, in.NetworkMigrationExecutionID, in.NextToken)
}

// ListNetworkMigrationMappings lists the mappings of an execution: there are none.
func (a *API) ListNetworkMigrationMappings(ctx context.Context, in *mgn.ListNetworkMigrationMappingsInput) (*mgn.ListNetworkMigrationMappingsOutput, error) {
	return &mgn.ListNetworkMigrationMappingsOutput{}, a.nothing(ctx, in.NetworkMigrationDefinitionID, in.NetworkMigrationExecutionID, in.NextToken)
}

// ListNetworkMigrationMappingUpdates lists the updates of mappings of an execution: there are none.
func (a *API) ListNetworkMigrationMappingUpdates(ctx context.Context, in *mgn.ListNetworkMigrationMappingUpdatesInput) (*mgn.ListNetworkMigrationMappingUpdatesOutput, error) {
	return &mgn.ListNetworkMigrationMappingUpdatesOutput{}, a.nothing(ctx, in.NetworkMigrationDefinitionID, in.NetworkMigrationExecutionID, in.NextToken)
}

// ListNetworkMigrationMapperSegments lists the segments of mappings of an execution: there are none.
func (a *API) ListNetworkMigrationMapperSegments(ctx context.Context, in *mgn.ListNetworkMigrationMapperSegmentsInput) (*mgn.ListNetworkMigrationMapperSegmentsOutput, error) {
	return &mgn.ListNetworkMigrationMapperSegmentsOutput{}, a.nothing(ctx, in.NetworkMigrationDefinitionID, in.NetworkMigrationExecutionID, in.NextToken)
}

// ListNetworkMigrationMapperSegmentConstructs asks about a segment, which no execution has.
func (a *API) ListNetworkMigrationMapperSegmentConstructs(ctx context.Context, in *mgn.ListNetworkMigrationMapperSegmentConstructsInput) (*mgn.ListNetworkMigrationMapperSegmentConstructsOutput, error) {
	return nil, a.d.Networks.Segment(ctx, scope(ctx), in.NetworkMigrationDefinitionID, in.NetworkMigrationExecutionID, in.SegmentID)
}

// GetNetworkMigrationMapperSegmentConstruct asks about a segment, which no execution has.
func (a *API) GetNetworkMigrationMapperSegmentConstruct(ctx context.Context, in *mgn.GetNetworkMigrationMapperSegmentConstructInput) (*mgn.GetNetworkMigrationMapperSegmentConstructOutput, error) {
	return nil, a.d.Networks.Segment(ctx, scope(ctx), in.NetworkMigrationDefinitionID, in.NetworkMigrationExecutionID, in.SegmentID)
}

// UpdateNetworkMigrationMapperSegment would change a segment, which no execution has.
func (a *API) UpdateNetworkMigrationMapperSegment(ctx context.Context, in *mgn.UpdateNetworkMigrationMapperSegmentInput) (*mgn.UpdateNetworkMigrationMapperSegmentOutput, error) {
	return nil, a.d.Networks.Segment(ctx, scope(ctx), in.NetworkMigrationDefinitionID, in.NetworkMigrationExecutionID, in.SegmentID)
}

// StartNetworkMigrationAnalysis is refused: it has no meaning here.
func (a *API) StartNetworkMigrationAnalysis(ctx context.Context, in *mgn.StartNetworkMigrationAnalysisInput) (*mgn.StartNetworkMigrationAnalysisOutput, error) {
	return nil, a.d.Networks.Start(ctx, scope(ctx), in.NetworkMigrationDefinitionID, in.NetworkMigrationExecutionID, "network migration analysis")
}

// StartNetworkMigrationCodeGeneration is refused: it has no meaning here.
func (a *API) StartNetworkMigrationCodeGeneration(ctx context.Context, in *mgn.StartNetworkMigrationCodeGenerationInput) (*mgn.StartNetworkMigrationCodeGenerationOutput, error) {
	return nil, a.d.Networks.Start(ctx, scope(ctx), in.NetworkMigrationDefinitionID, in.NetworkMigrationExecutionID, "network migration code generation")
}

// StartNetworkMigrationDeployment is refused: it has no meaning here.
func (a *API) StartNetworkMigrationDeployment(ctx context.Context, in *mgn.StartNetworkMigrationDeploymentInput) (*mgn.StartNetworkMigrationDeploymentOutput, error) {
	return nil, a.d.Networks.Start(ctx, scope(ctx), in.NetworkMigrationDefinitionID, in.NetworkMigrationExecutionID, "network migration deployment")
}

// StartNetworkMigrationMapping is refused: it has no meaning here.
func (a *API) StartNetworkMigrationMapping(ctx context.Context, in *mgn.StartNetworkMigrationMappingInput) (*mgn.StartNetworkMigrationMappingOutput, error) {
	return nil, a.d.Networks.Start(ctx, scope(ctx), in.NetworkMigrationDefinitionID, in.NetworkMigrationExecutionID, "network migration mapping")
}

// StartNetworkMigrationMappingUpdate is refused: it has no meaning here.
func (a *API) StartNetworkMigrationMappingUpdate(ctx context.Context, in *mgn.StartNetworkMigrationMappingUpdateInput) (*mgn.StartNetworkMigrationMappingUpdateOutput, error) {
	return nil, a.d.Networks.Start(ctx, scope(ctx), in.NetworkMigrationDefinitionID, in.NetworkMigrationExecutionID, "updating a network migration mapping")
}

// StartImportFileEnrichment is refused: it would fill an import from a network migration's mapping.
func (a *API) StartImportFileEnrichment(context.Context, *mgn.StartImportFileEnrichmentInput) (*mgn.StartImportFileEnrichmentOutput, error) {
	return nil, networkmigration.Meaningless("import file enrichment")
}

// ListImportFileEnrichments lists enrichments: there are none.
func (a *API) ListImportFileEnrichments(_ context.Context, in *mgn.ListImportFileEnrichmentsInput) (*mgn.ListImportFileEnrichmentsOutput, error) {
	_, err := wireform.Page("nothing", nil, in.NextToken)
	return &mgn.ListImportFileEnrichmentsOutput{}, err
}
