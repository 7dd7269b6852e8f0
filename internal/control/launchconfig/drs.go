package launchconfig

import (
	"context"
	"fmt"
	"regexp"
	"slices"
	"time"

	"github.com/understudy-dr/understudy/internal/control"
	"github.com/understudy-dr/understudy/internal/fault"
	"github.com/understudy-dr/understudy/internal/state"
)

// Resource types as they appear in errors.
const (
	templateType = "LaunchConfigurationTemplate"
	actionType   = "LaunchAction"
)

// DRSTemplates keeps DRS's launch configuration template: one per account, whose values every server added
// later starts with.
type DRSTemplates struct{ store state.Store }

// NewDRSTemplates returns the templates in store.
func NewDRSTemplates(store state.Store) *DRSTemplates { return &DRSTemplates{store} }

// DRSPatch is a partial launch configuration; nil members keep their value, in Create they take the default.
type DRSPatch struct {
	LaunchDisposition *string
	RightSizing       *string
	CopyPrivateIP     *bool
	CopyTags          *bool
	OSByol            *bool
	PostLaunchEnabled *bool

	ExportBucketARN          *string // of a template only
	LaunchIntoSourceInstance *bool   // of a template only
	Name                     *string // of a server's configuration only
	LaunchIntoInstance       *string // of a server's configuration only
}

// drsDefaults is what a server is launched with where there is no template.
var drsDefaults = state.DRSLaunchSettings{LaunchDisposition: "STARTED", RightSizing: "BASIC", OSByol: true}

func (p DRSPatch) apply(c *state.DRSLaunchSettings) {
	set(&c.LaunchDisposition, p.LaunchDisposition)
	set(&c.RightSizing, p.RightSizing)
	set(&c.CopyPrivateIP, p.CopyPrivateIP)
	set(&c.CopyTags, p.CopyTags)
	set(&c.OSByol, p.OSByol)
	set(&c.PostLaunchEnabled, p.PostLaunchEnabled)
}

func set[T any](to *T, from *T) {
	if from != nil {
		*to = *from
	}
}

var bucketARN = regexp.MustCompile(`^arn:[a-z-]+:s3:::[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]$`)

func (p DRSPatch) applyTemplate(t *state.DRSLaunchTemplate) error {
	p.apply(&t.Settings)
	set(&t.ExportBucketARN, p.ExportBucketARN)
	set(&t.LaunchIntoSourceInstance, p.LaunchIntoSourceInstance)
	if t.ExportBucketARN != "" && !bucketARN.MatchString(t.ExportBucketARN) {
		return control.Misfit("launch configuration", "exportBucketArn", "%s is not the ARN of an S3 bucket", t.ExportBucketARN)
	}
	return nil
}

// Create makes the scope's template; there can be one.
func (d *DRSTemplates) Create(ctx context.Context, s state.Scope, p DRSPatch, tags map[string]string) (state.DRSLaunchTemplate, error) {
	const op = "launch configuration templates: create"
	v := state.DRSLaunchTemplate{ID: control.NewID("lct-"), Scope: s, CreatedAt: time.Now().UTC(), Settings: drsDefaults}
	err := p.applyTemplate(&v)
	if err == nil {
		v.Tags, err = control.AddTags(nil, tags)
	}
	if err != nil {
		return v, fault.Wrap(op, err)
	}
	err = d.store.Update(ctx, func(tx state.Tx) error {
		have, _, err := tx.DRSLaunchTemplates(ctx, s, state.Page{Limit: 1})
		if err != nil {
			return err
		}
		if len(have) > 0 {
			return fault.New(fault.Conflict, op, "%w", &control.ResourceError{Type: templateType, ID: have[0].ID,
				Err: fmt.Errorf("is the one template of this account: %w", control.ErrQuota)})
		}
		return tx.PutDRSLaunchTemplate(ctx, v)
	})
	return v, fault.Wrap(op, err)
}

// Get returns one template.
func (d *DRSTemplates) Get(ctx context.Context, s state.Scope, id string) (v state.DRSLaunchTemplate, err error) {
	err = d.store.View(ctx, func(r state.Reader) error {
		v, err = getTemplate(ctx, r, s, id)
		return err
	})
	return v, fault.Wrap("launch configuration templates: get", err)
}

func getTemplate(ctx context.Context, r state.Reader, s state.Scope, id string) (state.DRSLaunchTemplate, error) {
	v, err := r.DRSLaunchTemplate(ctx, s, id)
	if fault.Is(err, fault.NotFound) {
		return v, control.Missing("launch configuration templates", templateType, id)
	}
	return v, err
}

// List returns the scope's templates, or those of ids that exist.
func (d *DRSTemplates) List(ctx context.Context, s state.Scope, ids []string, p state.Page) (items []state.DRSLaunchTemplate, next string, err error) {
	err = d.store.View(ctx, func(r state.Reader) error {
		items, next, err = r.DRSLaunchTemplates(ctx, s, p)
		return err
	})
	if len(ids) > 0 {
		items = slices.DeleteFunc(items, func(v state.DRSLaunchTemplate) bool { return !slices.Contains(ids, v.ID) })
	}
	return items, next, fault.Wrap("launch configuration templates: list", err)
}

// Update changes the members that p names. Servers that exist keep their configuration.
func (d *DRSTemplates) Update(ctx context.Context, s state.Scope, id string, p DRSPatch) (state.DRSLaunchTemplate, error) {
	v, err := d.change(ctx, s, id, p.applyTemplate)
	return v, fault.Wrap("launch configuration templates: update", err)
}

// Delete removes a template and its actions. Servers have copies, so it is never in use.
func (d *DRSTemplates) Delete(ctx context.Context, s state.Scope, id string) error {
	err := d.store.Update(ctx, func(tx state.Tx) error {
		if _, err := getTemplate(ctx, tx, s, id); err != nil {
			return err
		}
		return tx.DeleteDRSLaunchTemplate(ctx, s, id)
	})
	return fault.Wrap("launch configuration templates: delete", err)
}

// Tag adds or overwrites tags.
func (d *DRSTemplates) Tag(ctx context.Context, s state.Scope, id string, tags map[string]string) error {
	_, err := d.change(ctx, s, id, func(v *state.DRSLaunchTemplate) (err error) {
		v.Tags, err = control.AddTags(v.Tags, tags)
		return err
	})
	return fault.Wrap("launch configuration templates: tag", err)
}

// Untag removes tags by key.
func (d *DRSTemplates) Untag(ctx context.Context, s state.Scope, id string, keys []string) error {
	_, err := d.change(ctx, s, id, func(v *state.DRSLaunchTemplate) error {
		v.Tags = control.RemoveTags(v.Tags, keys)
		return nil
	})
	return fault.Wrap("launch configuration templates: untag", err)
}

func (d *DRSTemplates) change(ctx context.Context, s state.Scope, id string, fn func(*state.DRSLaunchTemplate) error) (v state.DRSLaunchTemplate, err error) {
	err = d.store.Update(ctx, func(tx state.Tx) error {
		if v, err = getTemplate(ctx, tx, s, id); err != nil {
			return err
		}
		if err := fn(&v); err != nil {
			return err
		}
		return tx.PutDRSLaunchTemplate(ctx, v)
	})
	return v, err
}
