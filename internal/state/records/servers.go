package records

import (
	"context"
	"slices"

	"github.com/understudy-dr/understudy/internal/state"
)

func (t *tx) Server(ctx context.Context, s state.Scope, id string) (state.Server, error) {
	return one[state.Server](ctx, t, "state: server",
		`SELECT body FROM source_server WHERE id = ? AND account = ? AND service = ? AND deleting = 0`, id, s.Account, s.Service)
}

func (t *tx) ServerByIdentity(ctx context.Context, s state.Scope, identity string) (state.Server, error) {
	return one[state.Server](ctx, t, "state: server by identity",
		`SELECT body FROM source_server WHERE account = ? AND service = ? AND identity = ? AND deleting = 0`,
		s.Account, s.Service, identity)
}

func (t *tx) Servers(ctx context.Context, s state.Scope, f state.ServerFilter, p state.Page) ([]state.Server, string, error) {
	query, args, err := serversQuery(s, f, p)
	if err != nil {
		return nil, "", err
	}
	items, err := many[state.Server](ctx, t, "state: servers", query, args...)
	if err != nil {
		return nil, "", err
	}
	items, next := trim(items, p.Size(), func(v state.Server) string { return place{nanos(v.CreatedAt), v.ID}.String() })
	return items, next, nil
}

func serversQuery(s state.Scope, f state.ServerFilter, p state.Page) (string, []any, error) {
	if byKind(f) {
		return kindsQuery(s, f, p)
	}
	var w where
	w.and("account = ? AND service = ? AND deleting = 0", s.Account, s.Service)
	in(&w, "id", f.IDs)
	in(&w, "life_cycle", f.LifeCycleStates)
	in(&w, "replication_type", f.ReplicationTypes)
	in(&w, "application_id", f.ApplicationIDs)
	if f.UserProvidedID != "" {
		w.and("user_provided_id = ? AND user_provided_id <> ''", f.UserProvidedID) // which the index is made for
	}
	if f.Archived != nil {
		w.and("archived = ?", flag(*f.Archived))
	}
	if f.HardwareID != "" {
		w.and("id IN (SELECT server_id FROM server_hardware WHERE value = ?)", f.HardwareID)
	}
	stagedIn(&w, s, f.StagingAccounts)
	if by := f.ExtensibleBy; by != nil {
		w.and(`NOT EXISTS (SELECT 1 FROM extension x WHERE x.server_id = source_server.id)`)
		w.and(`NOT EXISTS (SELECT 1 FROM extension x WHERE x.account = ? AND x.service = ? AND x.staging_account = ? AND x.staging_server = source_server.id)`,
			by.Account, by.Service, s.Account)
	}
	if err := after(&w, p); err != nil {
		return "", nil, err
	}
	return `SELECT body FROM source_server WHERE ` + w.String() + ` ORDER BY created_at, id LIMIT ?`, append(w.args, p.Size()+1), nil
}

// stagedIn selects by the account that a server is staged in: its extension's, or its own where it is none.
func stagedIn(w *where, s state.Scope, accounts []string) {
	if len(accounts) == 0 {
		return
	}
	var these where
	in(&these, "x.staging_account", accounts)
	if slices.Contains(accounts, s.Account) {
		w.and(`NOT EXISTS (SELECT 1 FROM extension x WHERE x.server_id = source_server.id AND NOT (`+these.String()+`))`, these.args...)
		return
	}
	w.and(`id IN (SELECT x.server_id FROM extension x WHERE x.account = ? AND x.service = ? AND `+these.String()+`)`,
		append([]any{s.Account, s.Service}, these.args...)...)
}

func (t *tx) PutServer(ctx context.Context, v state.Server) error {
	body, err := encode(v)
	if err != nil {
		return err
	}
	err = t.counted(ctx, v.ID, func() error { return t.putServer(ctx, v, body) })
	if err != nil {
		return err
	}
	return t.putHardware(ctx, v)
}

func (t *tx) putServer(ctx context.Context, v state.Server, body string) error {
	return t.exec(ctx, "state: put server",
		`INSERT INTO source_server (id, account, service, identity, created_at, archived, deleting, life_cycle, replication_type, application_id,
		     user_provided_id, body)
		 VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
		 ON CONFLICT (id) DO UPDATE SET identity = excluded.identity, created_at = excluded.created_at,
		     archived = excluded.archived, deleting = excluded.deleting, life_cycle = excluded.life_cycle,
		     replication_type = excluded.replication_type, application_id = excluded.application_id,
		     user_provided_id = excluded.user_provided_id, body = excluded.body`,
		v.ID, v.Scope.Account, v.Scope.Service, v.Identity, nanos(v.CreatedAt), flag(v.Archived), flag(v.Deleting),
		v.LifeCycle.State, v.ReplicationType, v.Migration.ApplicationID, v.UserProvidedID, body)
}

func (t *tx) putHardware(ctx context.Context, v state.Server) error {
	const op = "state: put hardware"
	if err := t.exec(ctx, op, `DELETE FROM server_hardware WHERE server_id = ?`, v.ID); err != nil {
		return err
	}
	values := []string{v.Properties.Hints.AWSInstanceID, v.Properties.Hints.VMWareUUID}
	for _, n := range v.Properties.NICs {
		values = append(values, n.MAC)
	}
	for _, value := range values {
		if value == "" {
			continue
		}
		err := t.exec(ctx, op, `INSERT INTO server_hardware (value, server_id) VALUES (?, ?) ON CONFLICT DO NOTHING`, value, v.ID)
		if err != nil {
			return err
		}
	}
	return nil
}

func (t *tx) DeleteServer(ctx context.Context, id string) error {
	return t.counted(ctx, id, func() error {
		return t.exec(ctx, "state: delete server", `DELETE FROM source_server WHERE id = ?`, id)
	})
}

func (t *tx) Replication(ctx context.Context, serverID string) (state.Replication, error) {
	return one[state.Replication](ctx, t, "state: replication", `SELECT body FROM replication WHERE server_id = ?`, serverID)
}

func (t *tx) Replications(ctx context.Context, f state.ReplicationFilter, p state.Page) ([]state.Replication, string, error) {
	query, args := replicationsQuery(f, p)
	items, err := many[state.Replication](ctx, t, "state: replications", query, args...)
	if err != nil {
		return nil, "", err
	}
	items, next := trim(items, p.Size(), func(v state.Replication) string { return v.ServerID })
	return items, next, nil
}

func replicationsQuery(f state.ReplicationFilter, p state.Page) (string, []any) {
	var w where
	w.and("server_id > ?", p.After)
	in(&w, "server_id", f.ServerIDs)
	in(&w, "state", f.States)
	return `SELECT body FROM replication WHERE ` + w.String() + ` ORDER BY server_id LIMIT ?`, append(w.args, p.Size()+1)
}

func (t *tx) PutReplication(ctx context.Context, v state.Replication) error {
	body, err := encode(v)
	if err != nil {
		return err
	}
	return t.counted(ctx, v.ServerID, func() error {
		return t.exec(ctx, "state: put replication",
			`INSERT INTO replication (server_id, state, first_byte_at, body) VALUES (?, ?, ?, ?)
			 ON CONFLICT (server_id) DO UPDATE SET state = excluded.state, first_byte_at = excluded.first_byte_at, body = excluded.body`,
			v.ServerID, v.State, nanos(v.FirstByteAt), body)
	})
}
