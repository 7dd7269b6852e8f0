package inventory

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/understudy-dr/understudy/internal/control"
	"github.com/understudy-dr/understudy/internal/control/quotas"
	"github.com/understudy-dr/understudy/internal/control/resource"
	"github.com/understudy-dr/understudy/internal/fault"
	"github.com/understudy-dr/understudy/internal/state"
)

// Application is an application with the state of its servers.
type Application struct {
	state.Application
	Status Status
}

// Applications keeps the applications of all accounts.
type Applications struct {
	resource.Keeper[state.Application]
	limits *quotas.Limits
}

// NewApplications returns the applications in store. nil limits are the default ones.
func NewApplications(store state.Store, limits *quotas.Limits) *Applications {
	return &Applications{limits: limits, Keeper: resource.Keeper[state.Application]{Store: store, Kind: KindApplication,
		Read: state.Reader.Application, Write: state.Tx.PutApplication,
		Tagged: func(v *state.Application) *map[string]string { return &v.Tags }}}
}

// Create adds an application. Its name must be new.
func (a *Applications) Create(ctx context.Context, s state.Scope, name, description string, tags map[string]string) (out Application, err error) {
	err = a.Store.Update(ctx, func(tx state.Tx) error {
		v, err := a.Add(ctx, tx, s, name, description, tags)
		if err != nil {
			return err
		}
		out, err = a.show(ctx, tx, v)
		return err
	})
	return out, fault.Wrap("application: create", err)
}

// Add is Create within the caller's transaction.
func (a *Applications) Add(ctx context.Context, tx state.Tx, s state.Scope, name, description string, tags map[string]string) (state.Application, error) {
	now := time.Now().UTC()
	v := state.Application{ID: control.NewID("app-"), Scope: s, Name: name, Description: description, CreatedAt: now, ModifiedAt: now}
	if err := a.free(ctx, tx, &v); err != nil {
		return v, err
	}
	if err := a.room(ctx, tx, s, false); err != nil {
		return v, err
	}
	var err error
	if v.Tags, err = control.AddTags(nil, tags); err != nil {
		return v, err
	}
	return v, tx.PutApplication(ctx, v)
}

// free refuses a name that another application has.
func (a *Applications) free(ctx context.Context, r state.Reader, v *state.Application) error {
	have, err := r.ApplicationByName(ctx, v.Scope, v.Name)
	switch {
	case fault.Is(err, fault.NotFound), err == nil && have.ID == v.ID:
		return nil
	case err != nil:
		return err
	}
	return control.Refuse("application", KindApplication, have.ID, "already has the name %s", v.Name)
}

func (a *Applications) room(ctx context.Context, r state.Reader, s state.Scope, archived bool) error {
	n, err := r.CountApplications(ctx, s, archived)
	if err != nil {
		return err
	}
	c := quotas.MGNApplications
	if archived {
		c = quotas.MGNArchivedApplications
	}
	return a.limits.Fits(ctx, r, s, c, KindApplication, "", n+1)
}

// Update changes what is not nil.
func (a *Applications) Update(ctx context.Context, s state.Scope, id string, name, description *string) (Application, error) {
	return a.change(ctx, s, id, func(tx state.Tx, v *state.Application) error { return a.Edit(ctx, tx, v, name, description) })
}

// Edit is Update of a record that the caller writes.
func (a *Applications) Edit(ctx context.Context, r state.Reader, v *state.Application, name, description *string) error {
	if name != nil {
		v.Name = *name
		if err := a.free(ctx, r, v); err != nil {
			return err
		}
	}
	if description != nil {
		v.Description = *description
	}
	v.ModifiedAt = time.Now().UTC()
	return nil
}

// Archive puts away an application that needs no more work; archiving it again changes nothing.
func (a *Applications) Archive(ctx context.Context, s state.Scope, id string) (Application, error) {
	return a.change(ctx, s, id, func(tx state.Tx, v *state.Application) error {
		if v.Archived {
			return nil
		}
		members, err := tx.ApplicationMembers(ctx, s, []string{id})
		if err != nil {
			return err
		}
		if n := over(members); n > 0 {
			return control.Refuse("application", KindApplication, id, "cannot be archived: %d of its servers are neither cut over nor disconnected", n)
		}
		v.Archived, v.ModifiedAt = true, time.Now().UTC()
		return a.room(ctx, tx, s, true)
	})
}

// Unarchive takes an application back.
func (a *Applications) Unarchive(ctx context.Context, s state.Scope, id string) (Application, error) {
	return a.change(ctx, s, id, func(tx state.Tx, v *state.Application) error {
		if !v.Archived {
			return nil
		}
		v.Archived, v.ModifiedAt = false, time.Now().UTC()
		return a.room(ctx, tx, s, false)
	})
}

// Delete forgets an application without servers.
func (a *Applications) Delete(ctx context.Context, s state.Scope, id string) error {
	return a.Remove(ctx, s, id, func(tx state.Tx, _ state.Application) error {
		members, err := tx.ApplicationMembers(ctx, s, []string{id})
		if err == nil && len(members) > 0 {
			return control.Refuse("application", KindApplication, id, "cannot be deleted while source servers are associated with it")
		}
		return err
	}, state.Tx.DeleteApplication)
}

// List shows the scope's applications with their states, oldest first.
func (a *Applications) List(ctx context.Context, s state.Scope, f state.ApplicationFilter, p state.Page) (out []Application, next string, err error) {
	err = a.Store.View(ctx, func(r state.Reader) error {
		items, n, err := r.Applications(ctx, s, f, p)
		if err != nil {
			return err
		}
		next = n
		out, err = a.shows(ctx, r, s, items)
		return err
	})
	return out, next, fault.Wrap("application: list", err)
}

func (a *Applications) shows(ctx context.Context, r state.Reader, s state.Scope, items []state.Application) ([]Application, error) {
	ids := make([]string, len(items))
	for i := range items {
		ids[i] = items[i].ID
	}
	members, err := r.ApplicationMembers(ctx, s, ids)
	if err != nil {
		return nil, err
	}
	now := time.Now().UTC()
	sums := sum(members, now)
	out := make([]Application, len(items))
	for i, v := range items {
		out[i] = Application{v, statusOf(sums[v.ID], v.Archived, now)}
	}
	return out, nil
}

// statusOf is a sum, or that of nothing.
func statusOf(s *Status, archived bool, now time.Time) Status {
	if s == nil {
		s = &Status{Health: Healthy, Progress: NotStarted, UpdatedAt: now}
	}
	if archived {
		s.Health = ""
	}
	return *s
}

func (a *Applications) show(ctx context.Context, r state.Reader, v state.Application) (Application, error) {
	out, err := a.shows(ctx, r, v.Scope, []state.Application{v})
	if err != nil {
		return Application{}, err
	}
	return out[0], nil
}

func (a *Applications) change(ctx context.Context, s state.Scope, id string, fn func(state.Tx, *state.Application) error) (out Application, err error) {
	_, err = a.Change(ctx, s, id, func(tx state.Tx, v *state.Application) error {
		if err := fn(tx, v); err != nil {
			return err
		}
		out, err = a.show(ctx, tx, *v)
		return err
	})
	return out, err
}

// Associate puts servers into an application. A server of another one has to be taken out of that first.
func (a *Applications) Associate(ctx context.Context, s state.Scope, id string, serverIDs []string) error {
	_, err := a.Change(ctx, s, id, func(tx state.Tx, v *state.Application) error { return a.Join(ctx, tx, v, serverIDs) })
	return err
}

// Join is Associate of a record that the caller writes.
func (a *Applications) Join(ctx context.Context, tx state.Tx, v *state.Application, serverIDs []string) error {
	const op = "application: associate"
	if v.Archived {
		return control.Refuse(op, KindApplication, v.ID, "is archived")
	}
	refused := control.Refusals{Kind: control.SourceServer}
	var joining []state.Server
	for _, id := range each(serverIDs) {
		x, err := server(ctx, tx, v.Scope, id)
		switch in := x.Migration.ApplicationID; {
		case err != nil:
			return err
		case in == v.ID:
		case in != "":
			refused.Add(id, fmt.Errorf("is associated with application %s", in))
		default:
			joining = append(joining, x)
		}
	}
	if err := refused.Err(op, "one or more of the source servers are associated with other applications"); err != nil {
		return err
	}
	members, err := tx.ApplicationMembers(ctx, v.Scope, []string{v.ID})
	if err != nil {
		return err
	}
	total := len(joining)
	for _, m := range members {
		total += m.Count
	}
	if err := a.limits.Fits(ctx, tx, v.Scope, quotas.MGNPerApplication, KindApplication, v.ID, total); err != nil {
		return err
	}
	v.ModifiedAt = time.Now().UTC()
	return assign(ctx, tx, joining, v.ID)
}

func assign(ctx context.Context, tx state.Tx, servers []state.Server, application string) error {
	for _, x := range servers {
		x.Migration.ApplicationID = application
		if err := tx.PutServer(ctx, x); err != nil {
			return err
		}
	}
	return nil
}

// Disassociate takes servers out of an application.
func (a *Applications) Disassociate(ctx context.Context, s state.Scope, id string, serverIDs []string) error {
	const op = "application: disassociate"
	_, err := a.Change(ctx, s, id, func(tx state.Tx, v *state.Application) error {
		refused := control.Refusals{Kind: control.SourceServer}
		var leaving []state.Server
		for _, serverID := range each(serverIDs) {
			x, err := server(ctx, tx, s, serverID)
			if err != nil {
				return err
			}
			if x.Migration.ApplicationID != id {
				refused.Add(serverID, errors.New("is not associated with this application"))
			}
			leaving = append(leaving, x)
		}
		if err := refused.Err(op, "one or more of the source servers are not associated with this application"); err != nil {
			return err
		}
		v.ModifiedAt = time.Now().UTC()
		return assign(ctx, tx, leaving, "")
	})
	return err
}
