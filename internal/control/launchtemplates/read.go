package launchtemplates

import (
	"context"
	"fmt"
	"strconv"

	"github.com/understudy-dr/understudy/internal/control"
	"github.com/understudy-dr/understudy/internal/fault"
	"github.com/understudy-dr/understudy/internal/state"
)

// Names of versions that move.
const (
	Latest  = "$Latest"
	Default = "$Default"
)

// Get returns one template.
func (t *Templates) Get(ctx context.Context, account string, ref Ref) (of state.LaunchTemplate, err error) {
	err = t.store.View(ctx, func(r state.Reader) error {
		of, err = find(ctx, r, account, ref)
		return err
	})
	return of, fault.Wrap("launch templates: get", err)
}

// List returns an account's templates, oldest first.
func (t *Templates) List(ctx context.Context, account string, f state.LaunchTemplateFilter, p state.Page) (items []state.LaunchTemplate, next string, err error) {
	err = t.store.View(ctx, func(r state.Reader) error {
		items, next, err = r.LaunchTemplates(ctx, account, f, p)
		return err
	})
	return items, next, fault.Wrap("launch templates: list", err)
}

// Version returns one version: a number, $Latest or $Default.
func (t *Templates) Version(ctx context.Context, account string, ref Ref, version string) (of state.LaunchTemplate, v state.LaunchTemplateVersion, err error) {
	err = t.store.View(ctx, func(r state.Reader) error {
		if of, err = find(ctx, r, account, ref); err != nil {
			return err
		}
		v, err = findVersion(ctx, r, of, version)
		return err
	})
	return of, v, fault.Wrap("launch templates: version", err)
}

// Versions lists a template's versions, newest first.
func (t *Templates) Versions(ctx context.Context, account string, ref Ref, p state.Page) (of state.LaunchTemplate, items []state.LaunchTemplateVersion, next string, err error) {
	err = t.store.View(ctx, func(r state.Reader) error {
		if of, err = find(ctx, r, account, ref); err != nil {
			return err
		}
		items, next, err = r.LaunchTemplateVersions(ctx, of.ID, p)
		return err
	})
	return of, items, next, fault.Wrap("launch templates: versions", err)
}

func find(ctx context.Context, r state.Reader, account string, ref Ref) (state.LaunchTemplate, error) {
	const op = "launch templates"
	switch {
	case (ref.ID == "") == (ref.Name == ""):
		return state.LaunchTemplate{}, fault.New(fault.Invalid, op, "%w", fields(TemplateID, "exactly one of LaunchTemplateId and LaunchTemplateName is needed"))
	case ref.ID != "":
		of, err := r.LaunchTemplate(ctx, account, ref.ID)
		if fault.Is(err, fault.NotFound) {
			return of, control.Missing(op, TemplateID, ref.ID)
		}
		return of, err
	}
	found, _, err := r.LaunchTemplates(ctx, account, state.LaunchTemplateFilter{Names: []string{ref.Name}}, state.Page{Limit: 1})
	if err != nil {
		return state.LaunchTemplate{}, err
	}
	if len(found) == 0 {
		return state.LaunchTemplate{}, control.Missing(op, TemplateName, ref.Name)
	}
	return found[0], nil
}

func findVersion(ctx context.Context, r state.Reader, of state.LaunchTemplate, version string) (state.LaunchTemplateVersion, error) {
	const op = "launch templates"
	number := of.Default
	switch version {
	case Latest:
		number = of.Latest
	case Default:
	default:
		n, err := strconv.ParseInt(version, 10, 64)
		if err != nil || n < 1 {
			return state.LaunchTemplateVersion{}, fault.New(fault.Invalid, op, "%w", fields(Version, fmt.Sprintf("%q is neither a number nor $Latest nor $Default", version)))
		}
		number = n
	}
	v, err := r.LaunchTemplateVersion(ctx, of.ID, number)
	if fault.Is(err, fault.NotFound) {
		return v, control.Missing(op, Version, of.ID+":"+version)
	}
	return v, err
}
