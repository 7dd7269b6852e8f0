package drsapi

import (
	"context"

	"github.com/understudy-dr/understudy/api/drs"
	"github.com/understudy-dr/understudy/internal/awsapi/wireform"
	"github.com/understudy-dr/understudy/internal/control/launchconfig"
	"github.com/understudy-dr/understudy/internal/state"
)

func osByol(l *drs.Licensing) *bool {
	if l == nil {
		return nil
	}
	return l.OsByol
}

// CreateLaunchConfigurationTemplate sets how servers that are added from now on are launched.
func (a *API) CreateLaunchConfigurationTemplate(ctx context.Context, in *drs.CreateLaunchConfigurationTemplateInput) (*drs.CreateLaunchConfigurationTemplateOutput, error) {
	t, err := a.d.LaunchTemplates.Create(ctx, scope(ctx), launchconfig.DRSPatch{
		LaunchDisposition:        wireform.Text(in.LaunchDisposition),
		RightSizing:              wireform.Text(in.TargetInstanceTypeRightSizingMethod),
		CopyPrivateIP:            in.CopyPrivateIp,
		CopyTags:                 in.CopyTags,
		OSByol:                   osByol(in.Licensing),
		PostLaunchEnabled:        in.PostLaunchEnabled,
		ExportBucketARN:          in.ExportBucketArn,
		LaunchIntoSourceInstance: in.LaunchIntoSourceInstance,
	}, in.Tags)
	return &drs.CreateLaunchConfigurationTemplateOutput{LaunchConfigurationTemplate: new(a.launchTemplate(t))}, err
}

// UpdateLaunchConfigurationTemplate changes the given members.
func (a *API) UpdateLaunchConfigurationTemplate(ctx context.Context, in *drs.UpdateLaunchConfigurationTemplateInput) (*drs.UpdateLaunchConfigurationTemplateOutput, error) {
	t, err := a.d.LaunchTemplates.Update(ctx, scope(ctx), in.LaunchConfigurationTemplateID, launchconfig.DRSPatch{
		LaunchDisposition:        wireform.Text(in.LaunchDisposition),
		RightSizing:              wireform.Text(in.TargetInstanceTypeRightSizingMethod),
		CopyPrivateIP:            in.CopyPrivateIp,
		CopyTags:                 in.CopyTags,
		OSByol:                   osByol(in.Licensing),
		PostLaunchEnabled:        in.PostLaunchEnabled,
		ExportBucketARN:          in.ExportBucketArn,
		LaunchIntoSourceInstance: in.LaunchIntoSourceInstance,
	})
	return &drs.UpdateLaunchConfigurationTemplateOutput{LaunchConfigurationTemplate: new(a.launchTemplate(t))}, err
}

// DeleteLaunchConfigurationTemplate removes a template with its actions.
func (a *API) DeleteLaunchConfigurationTemplate(ctx context.Context, in *drs.DeleteLaunchConfigurationTemplateInput) (*drs.DeleteLaunchConfigurationTemplateOutput, error) {
	return &drs.DeleteLaunchConfigurationTemplateOutput{}, a.d.LaunchTemplates.Delete(ctx, scope(ctx), in.LaunchConfigurationTemplateID)
}

// DescribeLaunchConfigurationTemplates lists templates.
func (a *API) DescribeLaunchConfigurationTemplates(ctx context.Context, in *drs.DescribeLaunchConfigurationTemplatesInput) (*drs.DescribeLaunchConfigurationTemplatesOutput, error) {
	sc := scope(ctx)
	query := []any{"DescribeLaunchConfigurationTemplates", sc, in.LaunchConfigurationTemplateIDs}
	page, err := wireform.Page(query, in.MaxResults, in.NextToken)
	if err != nil {
		return nil, err
	}
	list, next, err := a.d.LaunchTemplates.List(ctx, sc, in.LaunchConfigurationTemplateIDs, page)
	if err != nil {
		return nil, err
	}
	out := &drs.DescribeLaunchConfigurationTemplatesOutput{}
	for _, t := range list {
		out.Items = append(out.Items, a.launchTemplate(t))
	}
	out.NextToken, err = wireform.NextToken(query, next)
	return out, err
}

func (a *API) launchTemplate(t state.DRSLaunchTemplate) drs.LaunchConfigurationTemplate {
	return drs.LaunchConfigurationTemplate{
		Arn:                                 a.names(t.Scope).ARN(wireform.LaunchConfigurationTemplate, t.ID),
		CopyPrivateIp:                       new(t.Settings.CopyPrivateIP),
		CopyTags:                            new(t.Settings.CopyTags),
		ExportBucketArn:                     wireform.Text(t.ExportBucketARN),
		LaunchConfigurationTemplateID:       new(t.ID),
		LaunchDisposition:                   drs.LaunchDisposition(t.Settings.LaunchDisposition),
		LaunchIntoSourceInstance:            new(t.LaunchIntoSourceInstance),
		Licensing:                           &drs.Licensing{OsByol: new(t.Settings.OSByol)},
		PostLaunchEnabled:                   new(t.Settings.PostLaunchEnabled),
		Tags:                                t.Tags,
		TargetInstanceTypeRightSizingMethod: drs.TargetInstanceTypeRightSizingMethod(t.Settings.RightSizing),
	}
}

// GetLaunchConfiguration shows how one server is launched.
func (a *API) GetLaunchConfiguration(ctx context.Context, in *drs.GetLaunchConfigurationInput) (*drs.LaunchConfiguration, error) {
	c, err := a.d.LaunchConfigs.Get(ctx, scope(ctx), in.SourceServerID)
	return launchConfiguration(c), err
}

// UpdateLaunchConfiguration changes the given members; they count at the next launch.
func (a *API) UpdateLaunchConfiguration(ctx context.Context, in *drs.UpdateLaunchConfigurationInput) (*drs.LaunchConfiguration, error) {
	p := launchconfig.DRSPatch{
		LaunchDisposition: wireform.Text(in.LaunchDisposition),
		RightSizing:       wireform.Text(in.TargetInstanceTypeRightSizingMethod),
		CopyPrivateIP:     in.CopyPrivateIp,
		CopyTags:          in.CopyTags,
		OSByol:            osByol(in.Licensing),
		PostLaunchEnabled: in.PostLaunchEnabled,
		Name:              in.Name,
	}
	if into := in.LaunchIntoInstanceProperties; into != nil {
		p.LaunchIntoInstance = new(wireform.Value(into.LaunchIntoEC2InstanceID))
	}
	c, err := a.d.LaunchConfigs.Update(ctx, scope(ctx), in.SourceServerID, p)
	return launchConfiguration(c), err
}

func launchConfiguration(c launchconfig.DRSConfig) *drs.LaunchConfiguration {
	return &drs.LaunchConfiguration{
		CopyPrivateIp:                       new(c.Settings.CopyPrivateIP),
		CopyTags:                            new(c.Settings.CopyTags),
		Ec2LaunchTemplateID:                 wireform.Text(c.TemplateID),
		LaunchDisposition:                   drs.LaunchDisposition(c.Settings.LaunchDisposition),
		LaunchIntoInstanceProperties:        &drs.LaunchIntoInstanceProperties{LaunchIntoEC2InstanceID: wireform.Text(c.LaunchIntoInstance)},
		Licensing:                           &drs.Licensing{OsByol: new(c.Settings.OSByol)},
		Name:                                wireform.Text(c.Name),
		PostLaunchEnabled:                   new(c.Settings.PostLaunchEnabled),
		SourceServerID:                      new(c.ServerID),
		TargetInstanceTypeRightSizingMethod: drs.TargetInstanceTypeRightSizingMethod(c.Settings.RightSizing),
	}
}
