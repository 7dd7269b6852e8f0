package wireform

import (
	"context"

	"github.com/understudy-dr/understudy/internal/control"
	"github.com/understudy-dr/understudy/internal/fault"
	"github.com/understudy-dr/understudy/internal/state"
)

// Tagger finds what an ARN names, for the tag operations of both services.
type Tagger struct {
	Servers   control.Servers
	Templates control.Templates
	Region    string
	Others    map[string]Finder // by the kind in the ARN
}

// Finder makes what can be done with the tags of one resource.
type Finder func(s state.Scope, id string) Tagged

// Tagged is a resource that has tags.
type Tagged struct {
	Tag   func(ctx context.Context, tags map[string]string) error
	Untag func(ctx context.Context, keys []string) error
	Tags  func(ctx context.Context) (map[string]string, error)
}

// Find is the resource of an ARN.
func (t Tagger) Find(s state.Scope, arn string) (Tagged, error) {
	kind, id, err := Namer{Service: string(s.Service), Region: t.Region, Account: s.Account}.Parse(arn)
	if err != nil {
		return Tagged{}, err
	}
	switch kind {
	case SourceServer:
		return tagged(t.Servers, s, id, func(r state.Server) map[string]string { return r.Tags }), nil
	case ReplicationConfigurationTemplate:
		return tagged(t.Templates, s, id, func(r state.Template) map[string]string { return r.Tags }), nil
	}
	if find, ok := t.Others[kind]; ok {
		return find(s, id), nil
	}
	return Tagged{}, fault.New(fault.NotFound, "awsapi: find by ARN", "resource %s does not exist", arn)
}

// Keeping is the finder of what a domain package keeps.
func Keeping[R any](k Keeper[R], tags func(R) map[string]string) Finder {
	return func(s state.Scope, id string) Tagged { return tagged(k, s, id, tags) }
}

// Keeper is what the domain's packages have in common.
type Keeper[R any] interface {
	Get(ctx context.Context, s state.Scope, id string) (R, error)
	Tag(ctx context.Context, s state.Scope, id string, tags map[string]string) error
	Untag(ctx context.Context, s state.Scope, id string, keys []string) error
}

func tagged[R any](k Keeper[R], s state.Scope, id string, tags func(R) map[string]string) Tagged {
	return Tagged{
		Tag:   func(ctx context.Context, tags map[string]string) error { return k.Tag(ctx, s, id, tags) },
		Untag: func(ctx context.Context, keys []string) error { return k.Untag(ctx, s, id, keys) },
		Tags: func(ctx context.Context) (map[string]string, error) {
			r, err := k.Get(ctx, s, id)
			return tags(r), err
		},
	}
}
