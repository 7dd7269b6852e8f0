package mgnapi

import (
	"context"

	"github.com/understudy-dr/understudy/api/mgn"
	"github.com/understudy-dr/understudy/internal/awsapi/wireform"
	"github.com/understudy-dr/understudy/internal/control/launchconfig"
	"github.com/understudy-dr/understudy/internal/state"
)

// CreateLaunchConfigurationTemplate adds a template; servers that are added start with the oldest.
func (a *API) CreateLaunchConfigurationTemplate(ctx context.Context, in *mgn.CreateLaunchConfigurationTemplateInput) (*mgn.LaunchConfigurationTemplate, error) {
	return a.launchTemplate(a.d.LaunchTemplates.Create(ctx, scope(ctx), launchconfig.MGNPatch{
		Disposition:       wireform.Text(in.LaunchDisposition),
		RightSizing:       wireform.Text(in.TargetInstanceTypeRightSizingMethod),
		CopyPrivateIP:     in.CopyPrivateIp,
		CopyTags:          in.CopyTags,
		OSByol:            byol(in.Licensing),
		BootMode:          wireform.Text(in.BootMode),
		PostLaunch:        postLaunch(in.PostLaunchActions),
		MapTagging:        in.EnableMapAutoTagging,
		MapMpeID:          in.MapAutoTaggingMpeID,
		PublicIP:          in.AssociatePublicIpAddress,
		SmallVolumeMax:    in.SmallVolumeMaxSize,
		SmallVolume:       volume(in.SmallVolumeConf),
		LargeVolume:       volume(in.LargeVolumeConf),
		EncryptParameters: in.EnableParametersEncryption,
		ParametersKeyARN:  in.ParametersEncryptionKey,
	}, in.Tags))
}

// UpdateLaunchConfigurationTemplate changes the given members.
func (a *API) UpdateLaunchConfigurationTemplate(ctx context.Context, in *mgn.UpdateLaunchConfigurationTemplateInput) (*mgn.LaunchConfigurationTemplate, error) {
	return a.launchTemplate(a.d.LaunchTemplates.Update(ctx, scope(ctx), in.LaunchConfigurationTemplateID, launchconfig.MGNPatch{
		Disposition:       wireform.Text(in.LaunchDisposition),
		RightSizing:       wireform.Text(in.TargetInstanceTypeRightSizingMethod),
		CopyPrivateIP:     in.CopyPrivateIp,
		CopyTags:          in.CopyTags,
		OSByol:            byol(in.Licensing),
		BootMode:          wireform.Text(in.BootMode),
		PostLaunch:        postLaunch(in.PostLaunchActions),
		MapTagging:        in.EnableMapAutoTagging,
		MapMpeID:          in.MapAutoTaggingMpeID,
		PublicIP:          in.AssociatePublicIpAddress,
		SmallVolumeMax:    in.SmallVolumeMaxSize,
		SmallVolume:       volume(in.SmallVolumeConf),
		LargeVolume:       volume(in.LargeVolumeConf),
		EncryptParameters: in.EnableParametersEncryption,
		ParametersKeyARN:  in.ParametersEncryptionKey,
	}))
}

// DeleteLaunchConfigurationTemplate removes a template; servers keep what they took from it.
func (a *API) DeleteLaunchConfigurationTemplate(ctx context.Context, in *mgn.DeleteLaunchConfigurationTemplateInput) (*mgn.DeleteLaunchConfigurationTemplateOutput, error) {
	return &mgn.DeleteLaunchConfigurationTemplateOutput{}, a.d.LaunchTemplates.Delete(ctx, scope(ctx), in.LaunchConfigurationTemplateID)
}

// DescribeLaunchConfigurationTemplates lists templates.
func (a *API) DescribeLaunchConfigurationTemplates(ctx context.Context, in *mgn.DescribeLaunchConfigurationTemplatesInput) (out *mgn.DescribeLaunchConfigurationTemplatesOutput, err error) {
	sc, ids := scope(ctx), in.LaunchConfigurationTemplateIDs
	out = &mgn.DescribeLaunchConfigurationTemplatesOutput{}
	out.Items, out.NextToken, err = paged([]any{"DescribeLaunchConfigurationTemplates", sc, ids}, in.MaxResults, in.NextToken,
		func(p state.Page) ([]state.MGNLaunchTemplate, string, error) {
			p.Limit = min(p.Limit, maxTemplates)
			return a.d.LaunchTemplates.List(ctx, sc, ids, p)
		}, a.launchTemplateView)
	return out, err
}

// maxTemplates is how many templates one answer can hold, whatever the page size.
const maxTemplates = 200

func (a *API) launchTemplate(t state.MGNLaunchTemplate, err error) (*mgn.LaunchConfigurationTemplate, error) {
	if err != nil {
		return nil, err
	}
	return new(a.launchTemplateView(&t)), nil
}

func (a *API) launchTemplateView(t *state.MGNLaunchTemplate) mgn.LaunchConfigurationTemplate {
	c := &t.Config
	return mgn.LaunchConfigurationTemplate{
		Arn:                                 a.names(t.Scope).ARN(launchConfigurationTemplate, t.ID),
		AssociatePublicIpAddress:            new(t.PublicIP),
		BootMode:                            mgn.BootMode(c.BootMode),
		CopyPrivateIp:                       new(c.CopyPrivateIP),
		CopyTags:                            new(c.CopyTags),
		EnableMapAutoTagging:                new(c.MapTagging),
		EnableParametersEncryption:          new(t.EncryptParameters),
		LargeVolumeConf:                     volumeView(t.LargeVolume),
		LaunchConfigurationTemplateID:       t.ID,
		LaunchDisposition:                   mgn.LaunchDisposition(c.Disposition),
		Licensing:                           &mgn.Licensing{OsByol: new(c.OSByol)},
		MapAutoTaggingMpeID:                 wireform.Text(c.MapMpeID),
		ParametersEncryptionKey:             wireform.Text(t.ParametersKeyARN),
		PostLaunchActions:                   postLaunchView(&c.PostLaunch),
		SmallVolumeConf:                     volumeView(t.SmallVolume),
		SmallVolumeMaxSize:                  new(t.SmallVolumeMax),
		Tags:                                t.Tags,
		TargetInstanceTypeRightSizingMethod: mgn.TargetInstanceTypeRightSizingMethod(c.RightSizing),
	}
}

func byol(l *mgn.Licensing) *bool {
	if l == nil {
		return nil
	}
	return l.OsByol
}

func volume(c *mgn.LaunchTemplateDiskConf) *state.VolumeConfig {
	if c == nil {
		return nil
	}
	return &state.VolumeConfig{Type: string(c.VolumeType), IOPS: wireform.Value(c.Iops), Throughput: wireform.Value(c.Throughput)}
}

func volumeView(v state.VolumeConfig) *mgn.LaunchTemplateDiskConf {
	return &mgn.LaunchTemplateDiskConf{VolumeType: mgn.VolumeType(v.Type), Iops: wireform.Some(v.IOPS), Throughput: wireform.Some(v.Throughput)}
}
