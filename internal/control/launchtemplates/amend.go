package launchtemplates

import (
	"context"
	"reflect"

	"github.com/understudy-dr/understudy/internal/fault"
	"github.com/understudy-dr/understudy/internal/state"
)

// Current is what a server's next launch takes from its template, read within the caller's transaction; nothing when it
// has none yet.
func (t *Templates) Current(ctx context.Context, r state.Reader, v state.Server) (state.LaunchTemplateData, error) {
	of, err := r.LaunchTemplateByServer(ctx, v.Scope, v.ID)
	if fault.Is(err, fault.NotFound) {
		return state.LaunchTemplateData{}, nil
	}
	if err != nil {
		return state.LaunchTemplateData{}, err
	}
	version, err := r.LaunchTemplateVersion(ctx, of.ID, of.Default)
	return version.Data, err
}

// Amend makes what change does to a server's template its default version, in the caller's transaction. It tells
// whether anything changed; nothing is written when not.
func (t *Templates) Amend(ctx context.Context, tx state.Tx, v state.Server, why string, change func(*state.LaunchTemplateData)) (bool, error) {
	const op = "launch templates: amend"
	of, err := t.ensure(ctx, tx, v)
	if err != nil {
		return false, fault.Wrap(op, err)
	}
	from, err := tx.LaunchTemplateVersion(ctx, of.ID, of.Default)
	if err != nil {
		return false, fault.Wrap(op, err)
	}
	to := from.Data
	if change(&to); reflect.DeepEqual(from.Data, to) {
		return false, nil
	}
	of.Latest++
	of.Default = of.Latest
	next, err := t.version(of, Draft{Data: to, Description: why, By: from.CreatedBy})
	if err != nil {
		return false, fault.Wrap(op, err)
	}
	if err := tx.PutLaunchTemplate(ctx, of); err != nil {
		return false, fault.Wrap(op, err)
	}
	return true, fault.Wrap(op, tx.PutLaunchTemplateVersion(ctx, next))
}
