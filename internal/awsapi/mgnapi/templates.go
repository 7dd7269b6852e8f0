package mgnapi

import (
	"context"

	"github.com/understudy-dr/understudy/api/mgn"
	"github.com/understudy-dr/understudy/internal/awsapi/wireform"
	"github.com/understudy-dr/understudy/internal/control"
	"github.com/understudy-dr/understudy/internal/state"
)

// CreateReplicationConfigurationTemplate sets how servers that are added from now on are replicated.
func (a *API) CreateReplicationConfigurationTemplate(ctx context.Context, in *mgn.CreateReplicationConfigurationTemplateInput) (*mgn.ReplicationConfigurationTemplate, error) {
	return a.template(a.d.Templates.Create(ctx, scope(ctx), control.ConfigPatch{
		StagingAreaSubnetID:           new(in.StagingAreaSubnetId),
		AssociateDefaultSecurityGroup: new(in.AssociateDefaultSecurityGroup),
		SecurityGroupIDs:              new(in.ReplicationServersSecurityGroupsIDs),
		InstanceType:                  new(in.ReplicationServerInstanceType),
		UseDedicatedServer:            new(in.UseDedicatedReplicationServer),
		LargeStagingDiskType:          wireform.Text(in.DefaultLargeStagingDiskType),
		EBSEncryption:                 wireform.Text(in.EbsEncryption),
		EBSEncryptionKeyARN:           in.EbsEncryptionKeyArn,
		BandwidthMbps:                 new(in.BandwidthThrottling),
		DataPlaneRouting:              wireform.Text(in.DataPlaneRouting),
		CreatePublicIP:                new(in.CreatePublicIP),
		StagingAreaTags:               wireform.PresentMap(in.StagingAreaTags),
		InternetProtocol:              wireform.Text(in.InternetProtocol),
		UseFIPSEndpoint:               in.UseFipsEndpoint,
		StoreSnapshotOnLocalZone:      in.StoreSnapshotOnLocalZone,
	}, in.Tags))
}

// UpdateReplicationConfigurationTemplate changes the given members.
func (a *API) UpdateReplicationConfigurationTemplate(ctx context.Context, in *mgn.UpdateReplicationConfigurationTemplateInput) (*mgn.ReplicationConfigurationTemplate, error) {
	return a.template(a.d.Templates.Update(ctx, scope(ctx), in.ReplicationConfigurationTemplateID, control.ConfigPatch{
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
	}))
}

// DeleteReplicationConfigurationTemplate removes a template; servers keep what they took from it.
func (a *API) DeleteReplicationConfigurationTemplate(ctx context.Context, in *mgn.DeleteReplicationConfigurationTemplateInput) (*mgn.DeleteReplicationConfigurationTemplateOutput, error) {
	return &mgn.DeleteReplicationConfigurationTemplateOutput{}, a.d.Templates.Delete(ctx, scope(ctx), in.ReplicationConfigurationTemplateID)
}

// DescribeReplicationConfigurationTemplates lists templates.
func (a *API) DescribeReplicationConfigurationTemplates(ctx context.Context, in *mgn.DescribeReplicationConfigurationTemplatesInput) (*mgn.DescribeReplicationConfigurationTemplatesOutput, error) {
	query := []any{"DescribeReplicationConfigurationTemplates", scope(ctx), in.ReplicationConfigurationTemplateIDs}
	page, err := wireform.Page(query, in.MaxResults, in.NextToken)
	if err != nil {
		return nil, err
	}
	list, next, err := a.d.Templates.List(ctx, scope(ctx), in.ReplicationConfigurationTemplateIDs, page)
	if err != nil {
		return nil, err
	}
	out := &mgn.DescribeReplicationConfigurationTemplatesOutput{}
	for i := range list {
		out.Items = append(out.Items, *a.templateView(&list[i]))
	}
	out.NextToken, err = wireform.NextToken(query, next)
	return out, err
}

func (a *API) template(t state.Template, err error) (*mgn.ReplicationConfigurationTemplate, error) {
	if err != nil {
		return nil, err
	}
	return a.templateView(&t), nil
}

func (a *API) templateView(t *state.Template) *mgn.ReplicationConfigurationTemplate {
	c := &t.Config
	return &mgn.ReplicationConfigurationTemplate{
		Arn:                                 a.names(t.Scope).ARN(wireform.ReplicationConfigurationTemplate, t.ID),
		AssociateDefaultSecurityGroup:       new(c.AssociateDefaultSecurityGroup),
		BandwidthThrottling:                 new(c.BandwidthMbps),
		CreatePublicIP:                      new(c.CreatePublicIP),
		DataPlaneRouting:                    mgn.ReplicationConfigurationDataPlaneRouting(c.DataPlaneRouting),
		DefaultLargeStagingDiskType:         mgn.ReplicationConfigurationDefaultLargeStagingDiskType(c.LargeStagingDiskType),
		EbsEncryption:                       mgn.ReplicationConfigurationEbsEncryption(c.EBSEncryption),
		EbsEncryptionKeyArn:                 wireform.Text(c.EBSEncryptionKeyARN),
		InternetProtocol:                    mgn.InternetProtocol(c.InternetProtocol),
		ReplicationConfigurationTemplateID:  t.ID,
		ReplicationServerInstanceType:       wireform.Text(c.InstanceType),
		ReplicationServersSecurityGroupsIDs: append([]string{}, c.SecurityGroupIDs...),
		StagingAreaSubnetId:                 wireform.Text(c.StagingAreaSubnetID),
		StagingAreaTags:                     c.StagingAreaTags,
		StoreSnapshotOnLocalZone:            new(c.StoreSnapshotOnLocalZone),
		UseFipsEndpoint:                     new(c.UseFIPSEndpoint),
		Tags:                                t.Tags,
		UseDedicatedReplicationServer:       new(c.UseDedicatedServer),
	}
}
