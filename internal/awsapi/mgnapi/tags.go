package mgnapi

import (
	"context"

	"github.com/understudy-dr/understudy/api/mgn"
	"github.com/understudy-dr/understudy/internal/awsapi/wireform"
)

func (a *API) tagger(ctx context.Context, arn string) (wireform.Tagged, error) {
	return wireform.Tagger{Servers: a.d.Servers, Templates: a.d.Templates, Region: a.d.Region}.Find(scope(ctx), arn)
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
