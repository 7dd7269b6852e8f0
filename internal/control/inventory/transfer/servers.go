package transfer

import (
	"cmp"
	"context"
	"fmt"

	"github.com/understudy-dr/understudy/internal/control"
	"github.com/understudy-dr/understudy/internal/control/servers"
	"github.com/understudy-dr/understudy/internal/fault"
	"github.com/understudy-dr/understudy/internal/state"
)

// server does what a row says of a source server.
func (a *applier) server(ctx context.Context, r *row, app *entry[state.Application]) error {
	if !r.namesServer() {
		return nil
	}
	e, err := a.findServer(ctx, r)
	if err != nil {
		return err
	}
	for property, value := range map[string]string{"platform": r.server.platform, "fqdn": r.server.fqdn, "user-provided id": r.server.userID} {
		if value == "" {
			continue
		}
		if err := a.claim(r, e.id, property, value); err != nil {
			return err
		}
	}
	e.now.Migration.Platform = cmp.Or(r.server.platform, e.now.Migration.Platform)
	if r.server.fqdn != "" && r.server.fqdn != reachedBy(e.now) {
		e.now.Migration.ActionFQDN = r.server.fqdn
	}
	if r.server.userID != "" {
		e.now.UserProvidedID = r.server.userID
	}
	if app != nil {
		if err := a.claim(r, e.id, "application", app.id); err != nil {
			return err
		}
		e.now.Migration.ApplicationID = app.id
	}
	if err := a.tags(r, e.id, &e.now.Tags, r.server.tags); err != nil {
		return err
	}
	return a.launch(ctx, r, e)
}

// reachedBy is what a server is reached by.
func reachedBy(v state.Server) string {
	name := cmp.Or(v.Migration.ActionFQDN, v.Properties.Hints.FQDN, v.Properties.Hints.Hostname)
	for _, n := range v.Properties.NICs {
		for _, ip := range n.IPs {
			name = cmp.Or(name, ip)
		}
	}
	return name
}

func (a *applier) findServer(ctx context.Context, r *row) (*entry[state.Server], error) {
	id, userID := r.server.id, r.server.userID
	if e := a.servers.find(id, userID); e != nil {
		return e, a.isStill(e.now, userID)
	}
	v, made, err := a.readServer(ctx, r)
	if err != nil {
		return nil, err
	}
	if v.Archived {
		return nil, control.Refuse(opImport, control.SourceServer, v.ID, "is archived")
	}
	if err := a.isStill(v, userID); err != nil {
		return nil, err
	}
	e := a.servers.add(v.ID, v, made, r.number)
	if userID != "" {
		a.servers.names[userID] = e.id
	}
	return e, nil
}

// isStill refuses to change a user-provided id: agents are installed with it.
func (a *applier) isStill(v state.Server, userID string) error {
	if userID != "" && v.UserProvidedID != "" && v.UserProvidedID != userID {
		return contradiction(v.ID, v.UserProvidedID, userID)
	}
	return nil
}

func (a *applier) readServer(ctx context.Context, r *row) (v state.Server, made bool, err error) {
	if r.server.id != "" {
		v, err = a.tx.Server(ctx, a.scope, r.server.id)
		if fault.Is(err, fault.NotFound) {
			err = control.Missing(opImport, control.SourceServer, r.server.id)
		}
		return v, false, err
	}
	have, _, err := a.tx.Servers(ctx, a.scope, state.ServerFilter{UserProvidedID: r.server.userID}, state.Page{Limit: 1})
	if err != nil || len(have) > 0 {
		return append(have, v)[0], false, err
	}
	if r.server.fqdn == "" {
		return v, false, fault.New(fault.Invalid, opImport, "%w", errNoName)
	}
	v, err = a.t.cfg.Servers.Import(ctx, a.tx, a.scope, servers.Planned{UserProvidedID: r.server.userID, FQDN: r.server.fqdn, Platform: r.server.platform})
	return v, err == nil, err
}

// launch does what a row says of a server's launches. Rows that repeat a server may say it again, but not otherwise.
func (a *applier) launch(ctx context.Context, r *row, e *entry[state.Server]) error {
	if !r.launch.said() {
		return nil
	}
	if err := a.claim(r, e.id, "launch", r.launch.String()); err != nil {
		return err
	}
	changed, err := a.t.cfg.LaunchTemplates.Amend(ctx, a.tx, e.now, "by an import of the inventory", r.launch.template)
	if err != nil {
		return err
	}
	if p, any := r.launch.patch(); any {
		before, err := a.t.cfg.LaunchConfigs.In(ctx, a.tx, a.scope, e.id)
		if err != nil {
			return err
		}
		after, err := a.t.cfg.LaunchConfigs.Edit(ctx, a.tx, a.scope, e.id, p)
		if err != nil {
			return err
		}
		changed = changed || before.OSByol != after.OSByol || before.CopyTags != after.CopyTags
	}
	e.touched = e.touched || changed
	return nil
}

// String tells apart what rows say of launches; maps print in order.
func (l *launch) String() string {
	flag := func(b *bool) string {
		if b == nil {
			return ""
		}
		return fmt.Sprint(*b)
	}
	cards := map[int]nic{}
	for n, c := range l.nics {
		cards[n] = *c
	}
	return fmt.Sprint(l.size, l.profile, l.host, l.tenancy, flag(l.ownLicence), flag(l.copyTags), cards, l.tags, l.volumes)
}

// writeServers stores what has changed of servers.
func (a *applier) writeServers(ctx context.Context) error {
	for _, e := range a.servers.order {
		if !e.changed() {
			continue
		}
		if err := a.take(e.row, a.tx.PutServer(ctx, e.now), func(x *state.TransferError) { x.ServerID = e.id }); err != nil {
			return err
		}
	}
	return nil
}
