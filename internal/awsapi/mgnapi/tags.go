package mgnapi

import (
	"context"

	"github.com/understudy-dr/understudy/api/mgn"
	"github.com/understudy-dr/understudy/internal/awsapi/wireform"
	"github.com/understudy-dr/understudy/internal/state"
)

// Kinds of resources of MGN alone, as they appear in ARNs.
const (
	application                 = "application"
	wave                        = "wave"
	connector                   = "connector"
	vcenterClient               = "vcenter-client"
	networkDefinition           = "network-migration-definition"
	importTask                  = "import"
	exportTask                  = "export"
	launchConfigurationTemplate = "launch-configuration-template"
)

func (a *API) tagger(ctx context.Context, arn string) (wireform.Tagged, error) {
	return wireform.Tagger{Servers: a.d.Servers, Templates: a.d.Templates, Region: a.d.Region, Others: map[string]wireform.Finder{
		application:                 wireform.Keeping(a.d.Applications, func(v state.Application) map[string]string { return v.Tags }),
		wave:                        wireform.Keeping(a.d.Waves, func(v state.Wave) map[string]string { return v.Tags }),
		connector:                   wireform.Keeping(a.d.Connectors, func(v state.Connector) map[string]string { return v.Tags }),
		launchConfigurationTemplate: wireform.Keeping(a.d.LaunchTemplates, func(v state.MGNLaunchTemplate) map[string]string { return v.Tags }),
		importTask:                  wireform.Keeping(a.d.Imports, func(v state.Transfer) map[string]string { return v.Tags }),
		exportTask:                  wireform.Keeping(a.d.Exports, func(v state.Transfer) map[string]string { return v.Tags }),
		wireform.Job:                wireform.Keeping(a.d.Jobs, func(v state.Job) map[string]string { return v.Tags }),
		networkDefinition:           wireform.Keeping(a.d.Networks, func(v state.NetworkMigration) map[string]string { return v.Tags }),
		vcenterClient:               wireform.Keeping(a.d.VcenterClients, func(v state.VcenterClient) map[string]string { return v.Tags }),
	}}.Find(scope(ctx), arn)
}

// TagResource adds or overwrites tags.
func (a *API) TagResource(ctx context.Context, in *mgn.TagResourceInput) (*mgn.TagResourceOutput, error) {
	r, err := a.tagger(ctx, in.ResourceArn)
	if err != nil {
		return nil, err
	}
	return &mgn.TagResourceOutput{}, r.Tag(ctx, in.Tags)
}

// UntagResource removes tags by key.
func (a *API) UntagResource(ctx context.Context, in *mgn.UntagResourceInput) (*mgn.UntagResourceOutput, error) {
	r, err := a.tagger(ctx, in.ResourceArn)
	if err != nil {
		return nil, err
	}
	return &mgn.UntagResourceOutput{}, r.Untag(ctx, in.TagKeys)
}

// ListTagsForResource shows a resource's tags.
func (a *API) ListTagsForResource(ctx context.Context, in *mgn.ListTagsForResourceInput) (*mgn.ListTagsForResourceOutput, error) {
	r, err := a.tagger(ctx, in.ResourceArn)
	if err != nil {
		return nil, err
	}
	tags, err := r.Tags(ctx)
	return &mgn.ListTagsForResourceOutput{Tags: tags}, err
}
