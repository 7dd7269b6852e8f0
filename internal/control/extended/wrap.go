package extended

import (
	"context"
	"fmt"

	"github.com/understudy-dr/understudy/internal/control"
	"github.com/understudy-dr/understudy/internal/control/jobs"
	"github.com/understudy-dr/understudy/internal/fault"
	"github.com/understudy-dr/understudy/internal/state"
)

// link is the tie of one server in a scope. ok is false when it extends nothing, or does not exist.
func (e *Extensions) link(ctx context.Context, s state.Scope, id string) (l Link, ok bool, err error) {
	err = e.store.View(ctx, func(r state.Reader) error {
		x, err := r.Extension(ctx, id)
		if fault.Is(err, fault.NotFound) || err == nil && x.Scope != s {
			return nil
		}
		if err != nil {
			return err
		}
		ok = true
		l, err = follow(ctx, r, x)
		return err
	})
	return l, ok, err
}

// Servers wraps the servers of DRS: an extended server shows the machine that is staged elsewhere.
func (e *Extensions) Servers(inner control.Servers) control.Servers { return &servers{inner, e} }

type servers struct {
	control.Servers
	e *Extensions
}

func (v *servers) Get(ctx context.Context, s state.Scope, id string) (state.Server, error) {
	out, err := v.Servers.Get(ctx, s, id)
	if err != nil {
		return out, err
	}
	list := []state.Server{out}
	err = v.fill(ctx, list)
	return list[0], err
}

func (v *servers) List(ctx context.Context, s state.Scope, f state.ServerFilter, p state.Page) ([]state.Server, string, error) {
	items, next, err := v.Servers.List(ctx, s, f, p)
	if err == nil {
		err = v.fill(ctx, items)
	}
	return items, next, err
}

// fill takes over what the staging account knows of the machines.
func (v *servers) fill(ctx context.Context, list []state.Server) error {
	all, err := v.e.Links(ctx, list)
	if err != nil {
		return err
	}
	for i := range list {
		if l, ok := all[list[i].ID]; ok && l.Broken == "" {
			list[i].Agent, list[i].Properties, list[i].Disks = l.server.Agent, l.server.Properties, l.server.Disks
			name := list[i].Config.Name
			list[i].Config = l.server.Config
			list[i].Config.Name = name
		}
	}
	return nil
}

func (v *servers) UpdateConfig(ctx context.Context, s state.Scope, id string, p control.ConfigPatch) (state.Server, error) {
	l, ok, err := v.e.link(ctx, s, id)
	if err != nil {
		return state.Server{}, err
	}
	if ok {
		return state.Server{}, elsewhere("extended servers: update configuration", fault.Conflict, l)
	}
	return v.Servers.UpdateConfig(ctx, s, id, p)
}

// elsewhere refuses what only the staging account can do.
func elsewhere(op string, kind fault.Kind, l Link) error {
	return fault.New(kind, op, "%w", &control.ResourceError{Type: control.SourceServer, ID: l.ServerID,
		Err: fmt.Errorf("is an extended source server: its replication belongs to %s in account %s", l.StagingServer, l.StagingAccount)}).
		WithHint("call this in account " + l.StagingAccount)
}

// Replication wraps the replication of DRS: an extended server shows the staging server's, and can only be
// deleted.
func (e *Extensions) Replication(inner control.Replication) control.Replication {
	return &replication{inner, e}
}

type replication struct {
	control.Replication
	e *Extensions
}

// own passes on an operation on a server that is not extended.
func (v *replication) own(ctx context.Context, kind fault.Kind, do func(context.Context, state.Scope, string) error, s state.Scope, id string) error {
	l, ok, err := v.e.link(ctx, s, id)
	if err != nil {
		return err
	}
	if ok {
		return elsewhere("extended servers: replication", kind, l)
	}
	return do(ctx, s, id)
}

func (v *replication) Start(ctx context.Context, s state.Scope, id string) error {
	return v.own(ctx, fault.Conflict, v.Replication.Start, s, id)
}

func (v *replication) Stop(ctx context.Context, s state.Scope, id string) error {
	return v.own(ctx, fault.Conflict, v.Replication.Stop, s, id)
}

func (v *replication) Retry(ctx context.Context, s state.Scope, id string) error {
	return v.own(ctx, fault.Invalid, v.Replication.Retry, s, id)
}

func (v *replication) Disconnect(ctx context.Context, s state.Scope, id string) error {
	return v.own(ctx, fault.Conflict, v.Replication.Disconnect, s, id)
}

// Delete forgets an extended server at any time; nothing happens to what it extends.
func (v *replication) Delete(ctx context.Context, s state.Scope, id string) error {
	_, ok, err := v.e.link(ctx, s, id)
	if err != nil {
		return err
	}
	if !ok {
		return v.Replication.Delete(ctx, s, id)
	}
	return fault.Wrap("extended servers: delete", v.e.store.Update(ctx, func(tx state.Tx) error {
		if err := jobs.Idle(ctx, tx, id); err != nil {
			return err
		}
		return tx.DeleteServer(ctx, id)
	}))
}

func (v *replication) Describe(ctx context.Context, list []state.Server) ([]control.ReplicationInfo, error) {
	all, err := v.e.Links(ctx, list)
	if err != nil {
		return nil, err
	}
	if len(all) == 0 {
		return v.Replication.Describe(ctx, list)
	}
	real := make([]state.Server, len(list))
	for i := range list {
		real[i] = list[i]
		if l, ok := all[list[i].ID]; ok && l.Broken == "" {
			real[i] = l.server
		}
	}
	infos, err := v.Replication.Describe(ctx, real)
	if err != nil {
		return nil, err
	}
	for i := range list {
		if l, ok := all[list[i].ID]; ok && l.Broken != "" {
			infos[i] = control.ReplicationInfo{State: state.Disconnected}
		}
	}
	return infos, nil
}

// Points wraps the recovery points of DRS: an extended server's are the staging server's.
func (e *Extensions) Points(inner control.Points) control.Points { return &points{inner, e} }

type points struct {
	control.Points
	e *Extensions
}

func (v *points) List(ctx context.Context, s state.Scope, serverID string, f state.PointFilter, p state.Page) ([]state.Point, string, error) {
	l, ok, err := v.e.link(ctx, s, serverID)
	switch {
	case err != nil:
		return nil, "", err
	case !ok:
		return v.Points.List(ctx, s, serverID, f, p)
	case l.Broken != "":
		return nil, "", nil
	}
	items, next, err := v.Points.List(ctx, staging(l.StagingAccount), l.StagingServer, f, p)
	for i := range items {
		items[i].ServerID, items[i].Scope = serverID, s
	}
	return items, next, err
}
