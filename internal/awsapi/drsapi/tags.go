package drsapi

import (
	"context"

	"github.com/understudy-dr/understudy/api/drs"
	"github.com/understudy-dr/understudy/internal/awsapi/wireform"
	"github.com/understudy-dr/understudy/internal/state"
)

func (a *API) tagger(ctx context.Context, arn string) (wireform.Tagged, error) {
	return wireform.Tagger{Servers: a.d.Servers, Templates: a.d.Templates, Region: a.d.Region, Others: map[string]wireform.Finder{
		wireform.LaunchConfigurationTemplate: wireform.Keeping(a.d.LaunchTemplates, func(t state.DRSLaunchTemplate) map[string]string { return t.Tags }),
		wireform.RecoveryInstance:            wireform.Keeping(a.d.Recoveries, func(i state.RecoveryInstance) map[string]string { return i.Tags }),
		wireform.SourceNetwork:               wireform.Keeping(a.d.Networks, func(n state.SourceNetwork) map[string]string { return n.Tags }),
		wireform.Job:                         wireform.Keeping(a.d.Jobs, func(j state.Job) map[string]string { return j.Tags }),
	}}.Find(scope(ctx), arn)
}

// TagResource adds or overwrites tags.
func (a *API) TagResource(ctx context.Context, in *drs.TagResourceInput) (*drs.TagResourceOutput, error) {
	r, err := a.tagger(ctx, in.ResourceArn)
	if err != nil {
		return nil, err
	}
	return &drs.TagResourceOutput{}, r.Tag(ctx, in.Tags)
}

// UntagResource removes tags by key.
func (a *API) UntagResource(ctx context.Context, in *drs.UntagResourceInput) (*drs.UntagResourceOutput, error) {
	r, err := a.tagger(ctx, in.ResourceArn)
	if err != nil {
		return nil, err
	}
	return &drs.UntagResourceOutput{}, r.Untag(ctx, in.TagKeys)
}

// ListTagsForResource shows a resource's tags.
func (a *API) ListTagsForResource(ctx context.Context, in *drs.ListTagsForResourceInput) (*drs.ListTagsForResourceOutput, error) {
	r, err := a.tagger(ctx, in.ResourceArn)
	if err != nil {
		return nil, err
	}
	tags, err := r.Tags(ctx)
	return &drs.ListTagsForResourceOutput{Tags: tags}, err
}
