package mgnapi

import (
	"context"

	"github.com/understudy-dr/understudy/api/mgn"
	"github.com/understudy-dr/understudy/internal/awsapi/wireform"
	"github.com/understudy-dr/understudy/internal/state"
)

// CreateConnector keeps what is told of a connector.
func (a *API) CreateConnector(ctx context.Context, in *mgn.CreateConnectorInput) (*mgn.Connector, error) {
	return a.connector(a.d.Connectors.Create(ctx, scope(ctx), in.Name, in.SsmInstanceID, command(in.SsmCommandConfig), in.Tags))
}

// UpdateConnector changes the given members.
func (a *API) UpdateConnector(ctx context.Context, in *mgn.UpdateConnectorInput) (*mgn.Connector, error) {
	return a.connector(a.d.Connectors.Update(ctx, scope(ctx), in.ConnectorID, in.Name, command(in.SsmCommandConfig)))
}

// DeleteConnector forgets a connector.
func (a *API) DeleteConnector(ctx context.Context, in *mgn.DeleteConnectorInput) (*mgn.DeleteConnectorOutput, error) {
	return &mgn.DeleteConnectorOutput{}, a.d.Connectors.Delete(ctx, scope(ctx), in.ConnectorID)
}

// ListConnectors lists connectors.
func (a *API) ListConnectors(ctx context.Context, in *mgn.ListConnectorsInput) (out *mgn.ListConnectorsOutput, err error) {
	sc, f := scope(ctx), wireform.Value(in.Filters)
	out = &mgn.ListConnectorsOutput{}
	out.Items, out.NextToken, err = paged([]any{"ListConnectors", sc, f}, in.MaxResults, in.NextToken,
		func(p state.Page) ([]state.Connector, string, error) {
			return a.d.Connectors.List(ctx, sc, f.ConnectorIDs, p)
		}, a.connectorView)
	return out, err
}

func (a *API) connector(v state.Connector, err error) (*mgn.Connector, error) {
	if err != nil {
		return nil, err
	}
	return new(a.connectorView(&v)), nil
}

func (a *API) connectorView(v *state.Connector) mgn.Connector {
	out := mgn.Connector{
		Arn:           a.names(v.Scope).ARN(connector, v.ID),
		ConnectorID:   new(v.ID),
		Name:          new(v.Name),
		SsmInstanceID: new(v.SSMInstanceID),
		Tags:          v.Tags,
	}
	if c := v.Command; c != nil {
		out.SsmCommandConfig = &mgn.ConnectorSsmCommandConfig{
			CloudWatchLogGroupName: wireform.Text(c.CloudWatchName), CloudWatchOutputEnabled: c.CloudWatch,
			OutputS3BucketName: wireform.Text(c.S3Bucket), S3OutputEnabled: c.S3Output,
		}
	}
	return out
}

func command(c *mgn.ConnectorSsmCommandConfig) *state.SSMCommand {
	if c == nil {
		return nil
	}
	return &state.SSMCommand{S3Output: c.S3OutputEnabled, S3Bucket: wireform.Value(c.OutputS3BucketName),
		CloudWatch: c.CloudWatchOutputEnabled, CloudWatchName: wireform.Value(c.CloudWatchLogGroupName)}
}

// DescribeVcenterClients lists the machines that replicate virtual machines without agents.
func (a *API) DescribeVcenterClients(ctx context.Context, in *mgn.DescribeVcenterClientsInput) (out *mgn.DescribeVcenterClientsOutput, err error) {
	sc := scope(ctx)
	out = &mgn.DescribeVcenterClientsOutput{}
	out.Items, out.NextToken, err = paged([]any{"DescribeVcenterClients", sc}, in.MaxResults, in.NextToken,
		func(p state.Page) ([]state.VcenterClient, string, error) { return a.d.VcenterClients.List(ctx, sc, p) }, a.vcenterView)
	return out, err
}

func (a *API) vcenterView(v *state.VcenterClient) mgn.VcenterClient {
	return mgn.VcenterClient{
		Arn:              a.names(v.Scope).ARN(vcenterClient, v.ID),
		DatacenterName:   wireform.Text(v.Datacenter),
		Hostname:         wireform.Text(v.Hostname),
		LastSeenDatetime: wireform.Time(v.LastSeenAt),
		SourceServerTags: v.ServerTags,
		Tags:             v.Tags,
		VcenterClientID:  new(v.ID),
		VcenterUUID:      wireform.Text(v.UUID),
	}
}

// DeleteVcenterClient forgets a vCenter client.
func (a *API) DeleteVcenterClient(ctx context.Context, in *mgn.DeleteVcenterClientInput) (*mgn.DeleteVcenterClientOutput, error) {
	return &mgn.DeleteVcenterClientOutput{}, a.d.VcenterClients.Delete(ctx, scope(ctx), in.VcenterClientID)
}

// UpdateSourceServer says which connector acts on a server.
func (a *API) UpdateSourceServer(ctx context.Context, in *mgn.UpdateSourceServerInput) (*mgn.SourceServer, error) {
	var action *state.ConnectorAction
	if c := in.ConnectorAction; c != nil {
		action = &state.ConnectorAction{ConnectorARN: wireform.Value(c.ConnectorArn), CredentialsSecretARN: wireform.Value(c.CredentialsSecretArn)}
	}
	return a.act(ctx, in.AccountID, in.SourceServerID, func(ctx context.Context, sc state.Scope, id string) error {
		return a.d.Inventory.SetConnectorAction(ctx, sc, id, action)
	})
}

// UpdateSourceServerReplicationType changes how a server is replicated.
func (a *API) UpdateSourceServerReplicationType(ctx context.Context, in *mgn.UpdateSourceServerReplicationTypeInput) (*mgn.SourceServer, error) {
	return a.act(ctx, in.AccountID, in.SourceServerID, func(ctx context.Context, sc state.Scope, id string) error {
		return a.d.Inventory.SetReplicationType(ctx, sc, id, string(in.ReplicationType))
	})
}
