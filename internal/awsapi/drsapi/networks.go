package drsapi

import (
	"context"
	"time"

	"github.com/understudy-dr/understudy/api/drs"
	"github.com/understudy-dr/understudy/internal/awsapi/wireform"
	"github.com/understudy-dr/understudy/internal/control/networks"
	"github.com/understudy-dr/understudy/internal/state"
)

// CreateSourceNetwork records a network that source servers are in.
func (a *API) CreateSourceNetwork(ctx context.Context, in *drs.CreateSourceNetworkInput) (*drs.CreateSourceNetworkOutput, error) {
	n, err := a.d.Networks.Create(ctx, scope(ctx), in.VpcID, in.OriginAccountID, in.OriginRegion, in.Tags)
	return &drs.CreateSourceNetworkOutput{SourceNetworkID: wireform.Text(n.ID)}, err
}

// DeleteSourceNetwork forgets a network that is not followed.
func (a *API) DeleteSourceNetwork(ctx context.Context, in *drs.DeleteSourceNetworkInput) (*drs.DeleteSourceNetworkOutput, error) {
	return &drs.DeleteSourceNetworkOutput{}, a.d.Networks.Delete(ctx, scope(ctx), in.SourceNetworkID)
}

// DescribeSourceNetworks lists networks.
func (a *API) DescribeSourceNetworks(ctx context.Context, in *drs.DescribeSourceNetworksInput) (*drs.DescribeSourceNetworksOutput, error) {
	sc := scope(ctx)
	filter := drs.DescribeSourceNetworksRequestFilters{}
	if in.Filters != nil {
		filter = *in.Filters
	}
	query := []any{"DescribeSourceNetworks", sc, filter}
	page, err := wireform.Page(query, in.MaxResults, in.NextToken)
	if err != nil {
		return nil, err
	}
	list, next, err := a.d.Networks.List(ctx, sc, state.SourceNetworkFilter{IDs: filter.SourceNetworkIDs,
		OriginAccount: wireform.Value(filter.OriginAccountID), OriginRegion: wireform.Value(filter.OriginRegion)}, page)
	if err != nil {
		return nil, err
	}
	out := &drs.DescribeSourceNetworksOutput{}
	for i := range list {
		out.Items = append(out.Items, *a.network(&list[i]))
	}
	out.NextToken, err = wireform.NextToken(query, next)
	return out, err
}

// StartSourceNetworkReplication begins to follow what is in a network.
func (a *API) StartSourceNetworkReplication(ctx context.Context, in *drs.StartSourceNetworkReplicationInput) (*drs.StartSourceNetworkReplicationOutput, error) {
	n, err := a.d.Networks.Start(ctx, scope(ctx), in.SourceNetworkID)
	return &drs.StartSourceNetworkReplicationOutput{SourceNetwork: a.network(&n)}, err
}

// StopSourceNetworkReplication forgets what was found in a network.
func (a *API) StopSourceNetworkReplication(ctx context.Context, in *drs.StopSourceNetworkReplicationInput) (*drs.StopSourceNetworkReplicationOutput, error) {
	n, err := a.d.Networks.Stop(ctx, scope(ctx), in.SourceNetworkID)
	return &drs.StopSourceNetworkReplicationOutput{SourceNetwork: a.network(&n)}, err
}

// StartSourceNetworkRecovery is checked and refused: nothing here deploys networks.
func (a *API) StartSourceNetworkRecovery(ctx context.Context, in *drs.StartSourceNetworkRecoveryInput) (*drs.StartSourceNetworkRecoveryOutput, error) {
	list := make([]networks.Recovery, len(in.SourceNetworks))
	for i, n := range in.SourceNetworks {
		list[i] = networks.Recovery{ID: n.SourceNetworkID, StackName: wireform.Value(n.CfnStackName)}
	}
	return nil, a.d.Networks.Recover(ctx, scope(ctx), list)
}

// AssociateSourceNetworkStack notes which stack stands for a network.
func (a *API) AssociateSourceNetworkStack(ctx context.Context, in *drs.AssociateSourceNetworkStackInput) (*drs.AssociateSourceNetworkStackOutput, error) {
	j, err := a.d.Networks.Associate(ctx, scope(ctx), in.SourceNetworkID, in.CfnStackName)
	return &drs.AssociateSourceNetworkStackOutput{Job: a.job(&j)}, err
}

// ExportSourceNetworkCfnTemplate writes a network's template into a bucket.
func (a *API) ExportSourceNetworkCfnTemplate(ctx context.Context, in *drs.ExportSourceNetworkCfnTemplateInput) (*drs.ExportSourceNetworkCfnTemplateOutput, error) {
	url, err := a.d.Networks.Export(ctx, scope(ctx), in.SourceNetworkID)
	return &drs.ExportSourceNetworkCfnTemplateOutput{S3DestinationUrl: wireform.Text(url)}, err
}

func (a *API) network(n *state.SourceNetwork) *drs.SourceNetwork {
	out := &drs.SourceNetwork{
		Arn:                      a.names(n.Scope).ARN(wireform.SourceNetwork, n.ID),
		CfnStackName:             wireform.Text(n.StackName),
		ReplicationStatus:        drs.ReplicationStatus(n.Status),
		ReplicationStatusDetails: wireform.Text(n.StatusDetails),
		SourceAccountID:          wireform.Text(n.OriginAccount),
		SourceNetworkID:          new(n.ID),
		SourceRegion:             wireform.Text(n.OriginRegion),
		SourceVpcID:              wireform.Text(n.VPCID),
		Tags:                     n.Tags,
		LastRecovery:             &drs.RecoveryLifeCycle{LastRecoveryResult: drs.RecoveryResultNotStarted},
	}
	if l := n.LastRecovery; !l.At.IsZero() {
		out.LastRecovery = &drs.RecoveryLifeCycle{ApiCallDateTime: new(l.At.Truncate(time.Microsecond)), JobID: wireform.Text(l.JobID),
			LastRecoveryResult: drs.RecoveryResult(l.Result)}
	}
	return out
}
