package mgnapi

import (
	"context"

	"github.com/understudy-dr/understudy/api/mgn"
	"github.com/understudy-dr/understudy/internal/awsapi/wireform"
	"github.com/understudy-dr/understudy/internal/control/launchconfig"
	"github.com/understudy-dr/understudy/internal/state"
)

// GetLaunchConfiguration shows how one server is launched.
func (a *API) GetLaunchConfiguration(ctx context.Context, in *mgn.GetLaunchConfigurationInput) (*mgn.LaunchConfiguration, error) {
	sc, err := a.scopeOf(ctx, in.AccountID)
	if err != nil {
		return nil, err
	}
	return launchConfiguration(a.d.LaunchConfigs.Get(ctx, sc, in.SourceServerID))
}

// UpdateLaunchConfiguration changes the given members of one server's configuration.
func (a *API) UpdateLaunchConfiguration(ctx context.Context, in *mgn.UpdateLaunchConfigurationInput) (*mgn.LaunchConfiguration, error) {
	sc, err := a.scopeOf(ctx, in.AccountID)
	if err != nil {
		return nil, err
	}
	return launchConfiguration(a.d.LaunchConfigs.Update(ctx, sc, in.SourceServerID, launchconfig.MGNPatch{
		Disposition:   wireform.Text(in.LaunchDisposition),
		RightSizing:   wireform.Text(in.TargetInstanceTypeRightSizingMethod),
		CopyPrivateIP: in.CopyPrivateIp,
		CopyTags:      in.CopyTags,
		OSByol:        byol(in.Licensing),
		BootMode:      wireform.Text(in.BootMode),
		PostLaunch:    postLaunch(in.PostLaunchActions),
		MapTagging:    in.EnableMapAutoTagging,
		MapMpeID:      in.MapAutoTaggingMpeID,
		Name:          in.Name,
	}))
}

func launchConfiguration(c launchconfig.MGNConfig, err error) (*mgn.LaunchConfiguration, error) {
	if err != nil {
		return nil, several(err)
	}
	return &mgn.LaunchConfiguration{
		BootMode:                            mgn.BootMode(c.BootMode),
		CopyPrivateIp:                       new(c.CopyPrivateIP),
		CopyTags:                            new(c.CopyTags),
		Ec2LaunchTemplateID:                 wireform.Text(c.TemplateID),
		EnableMapAutoTagging:                new(c.MapTagging),
		LaunchDisposition:                   mgn.LaunchDisposition(c.Disposition),
		Licensing:                           &mgn.Licensing{OsByol: new(c.OSByol)},
		MapAutoTaggingMpeID:                 new(c.MapMpeID),
		Name:                                new(c.Name),
		PostLaunchActions:                   postLaunchView(&c.PostLaunch),
		SourceServerID:                      new(c.ServerID),
		TargetInstanceTypeRightSizingMethod: mgn.TargetInstanceTypeRightSizingMethod(c.RightSizing),
	}, nil
}

func postLaunch(p *mgn.PostLaunchActions) *state.PostLaunch {
	if p == nil {
		return nil
	}
	out := &state.PostLaunch{Deployment: string(p.Deployment), S3Bucket: wireform.Value(p.S3LogBucket), S3Prefix: wireform.Value(p.S3OutputKeyPrefix),
		LogGroup: wireform.Value(p.CloudWatchLogGroupName)}
	for _, d := range p.SsmDocuments {
		out.Documents = append(out.Documents, state.SSMDocument{ActionName: d.ActionName, Document: d.SsmDocumentName, Timeout: wireform.Value(d.TimeoutSeconds),
			MustSucceed: wireform.Value(d.MustSucceedForCutover), Parameters: parameters(d.Parameters), External: external(d.ExternalParameters)})
	}
	return out
}

func postLaunchView(p *state.PostLaunch) *mgn.PostLaunchActions {
	out := &mgn.PostLaunchActions{CloudWatchLogGroupName: wireform.Text(p.LogGroup), Deployment: mgn.PostLaunchActionsDeploymentType(p.Deployment),
		S3LogBucket: wireform.Text(p.S3Bucket), S3OutputKeyPrefix: wireform.Text(p.S3Prefix), SsmDocuments: []mgn.SsmDocument{}}
	for _, d := range p.Documents {
		out.SsmDocuments = append(out.SsmDocuments, documentView(d))
	}
	return out
}

func documentView(d state.SSMDocument) mgn.SsmDocument {
	out := mgn.SsmDocument{ActionName: d.ActionName, SsmDocumentName: d.Document, MustSucceedForCutover: new(d.MustSucceed),
		Parameters: parametersView(d.Parameters), ExternalParameters: externalView(d.External)}
	if d.Timeout != 0 {
		out.TimeoutSeconds = new(d.Timeout)
	}
	return out
}

func parameters(in map[string][]mgn.SsmParameterStoreParameter) map[string][]state.StoreParameter {
	if in == nil {
		return nil
	}
	out := map[string][]state.StoreParameter{}
	for name, list := range in {
		out[name] = []state.StoreParameter{}
		for _, p := range list {
			out[name] = append(out[name], state.StoreParameter{Name: p.ParameterName, Type: string(p.ParameterType)})
		}
	}
	return out
}

func parametersView(in map[string][]state.StoreParameter) map[string][]mgn.SsmParameterStoreParameter {
	out := map[string][]mgn.SsmParameterStoreParameter{}
	for name, list := range in {
		out[name] = []mgn.SsmParameterStoreParameter{}
		for _, p := range list {
			out[name] = append(out[name], mgn.SsmParameterStoreParameter{ParameterName: p.Name, ParameterType: mgn.SsmParameterStoreParameterType(p.Type)})
		}
	}
	return out
}

func external(in map[string]mgn.SsmExternalParameter) map[string]string {
	if in == nil {
		return nil
	}
	out := map[string]string{}
	for name, p := range in {
		out[name] = wireform.Value(p.DynamicPath)
	}
	return out
}

func externalView(in map[string]string) map[string]mgn.SsmExternalParameter {
	out := map[string]mgn.SsmExternalParameter{}
	for name, path := range in {
		out[name] = mgn.SsmExternalParameter{DynamicPath: new(path)}
	}
	return out
}
