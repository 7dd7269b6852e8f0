package records

import (
	"context"
	"database/sql"
	"strings"

	"github.com/understudy-dr/understudy/internal/state"
)

// scoped is one page of a table's bodies in a scope, oldest first.
func scoped[T any](ctx context.Context, t *tx, table string, s state.Scope, p state.Page, more func(*where), at func(T) place) ([]T, string, error) {
	var w where
	w.and("account = ? AND service = ?", s.Account, s.Service)
	if more != nil {
		more(&w)
	}
	if err := after(&w, p); err != nil {
		return nil, "", err
	}
	items, err := many[T](ctx, t, "state: list "+table,
		`SELECT body FROM `+table+` WHERE `+w.String()+` ORDER BY created_at, id LIMIT ?`, append(w.args, p.Size()+1)...)
	if err != nil {
		return nil, "", err
	}
	items, next := trim(items, p.Size(), func(v T) string { return at(v).String() })
	return items, next, nil
}

func (t *tx) DRSLaunchConfig(ctx context.Context, serverID string) (state.DRSLaunchConfig, error) {
	return one[state.DRSLaunchConfig](ctx, t, "state: launch configuration", `SELECT body FROM drs_launch_config WHERE server_id = ?`, serverID)
}

func (t *tx) PutDRSLaunchConfig(ctx context.Context, c state.DRSLaunchConfig) error {
	body, err := encode(c)
	if err != nil {
		return err
	}
	return t.exec(ctx, "state: put launch configuration",
		`INSERT INTO drs_launch_config (server_id, body) VALUES (?, ?) ON CONFLICT (server_id) DO UPDATE SET body = excluded.body`,
		c.ServerID, body)
}

func (t *tx) DRSLaunchTemplate(ctx context.Context, s state.Scope, id string) (state.DRSLaunchTemplate, error) {
	return one[state.DRSLaunchTemplate](ctx, t, "state: launch template",
		`SELECT body FROM drs_launch_template WHERE id = ? AND account = ? AND service = ?`, id, s.Account, s.Service)
}

func (t *tx) DRSLaunchTemplates(ctx context.Context, s state.Scope, p state.Page) ([]state.DRSLaunchTemplate, string, error) {
	return scoped(ctx, t, "drs_launch_template", s, p, nil,
		func(v state.DRSLaunchTemplate) place { return place{nanos(v.CreatedAt), v.ID} })
}

func (t *tx) PutDRSLaunchTemplate(ctx context.Context, v state.DRSLaunchTemplate) error {
	body, err := encode(v)
	if err != nil {
		return err
	}
	return t.exec(ctx, "state: put launch template",
		`INSERT INTO drs_launch_template (id, account, service, created_at, body) VALUES (?, ?, ?, ?, ?)
		 ON CONFLICT (id) DO UPDATE SET body = excluded.body`, v.ID, v.Scope.Account, v.Scope.Service, nanos(v.CreatedAt), body)
}

func (t *tx) DeleteDRSLaunchTemplate(ctx context.Context, s state.Scope, id string) error {
	return t.exec(ctx, "state: delete launch template",
		`DELETE FROM drs_launch_template WHERE id = ? AND account = ? AND service = ?`, id, s.Account, s.Service)
}

func (t *tx) DRSLaunchAction(ctx context.Context, resource, id string) (state.DRSLaunchAction, error) {
	return one[state.DRSLaunchAction](ctx, t, "state: launch action",
		`SELECT body FROM drs_launch_action WHERE resource = ? AND id = ?`, resource, id)
}

func (t *tx) DRSLaunchActions(ctx context.Context, resource string, ids []string, p state.Page) ([]state.DRSLaunchAction, string, error) {
	var w where
	w.and("resource = ?", resource)
	in(&w, "id", ids)
	if p.After != "" {
		at, err := parsePlace(p.After)
		if err != nil {
			return nil, "", err
		}
		w.and("(ord, id) > (?, ?)", at.nanos, at.id)
	}
	items, err := many[state.DRSLaunchAction](ctx, t, "state: launch actions",
		`SELECT body FROM drs_launch_action WHERE `+w.String()+` ORDER BY ord, id LIMIT ?`, append(w.args, p.Size()+1)...)
	if err != nil {
		return nil, "", err
	}
	items, next := trim(items, p.Size(), func(v state.DRSLaunchAction) string { return place{int64(v.Order), v.ID}.String() })
	return items, next, nil
}

func (t *tx) PutDRSLaunchAction(ctx context.Context, v state.DRSLaunchAction) error {
	body, err := encode(v)
	if err != nil {
		return err
	}
	server, template := sql.NullString{String: v.Resource, Valid: true}, sql.NullString{}
	if strings.HasPrefix(v.Resource, "lct-") {
		server, template = template, server
	}
	return t.exec(ctx, "state: put launch action",
		`INSERT INTO drs_launch_action (resource, id, ord, server_id, template_id, body) VALUES (?, ?, ?, ?, ?, ?)
		 ON CONFLICT (resource, id) DO UPDATE SET ord = excluded.ord, body = excluded.body`,
		v.Resource, v.ID, v.Order, server, template, body)
}

func (t *tx) DeleteDRSLaunchAction(ctx context.Context, resource, id string) error {
	return t.exec(ctx, "state: delete launch action", `DELETE FROM drs_launch_action WHERE resource = ? AND id = ?`, resource, id)
}

func (t *tx) SourceNetwork(ctx context.Context, s state.Scope, id string) (state.SourceNetwork, error) {
	return one[state.SourceNetwork](ctx, t, "state: source network",
		`SELECT body FROM source_network WHERE id = ? AND account = ? AND service = ?`, id, s.Account, s.Service)
}

func (t *tx) SourceNetworks(ctx context.Context, s state.Scope, f state.SourceNetworkFilter, p state.Page) ([]state.SourceNetwork, string, error) {
	narrow := func(w *where) {
		in(w, "id", f.IDs)
		if f.OriginAccount != "" {
			w.and("origin_account = ?", f.OriginAccount)
		}
		if f.OriginRegion != "" {
			w.and("origin_region = ?", f.OriginRegion)
		}
	}
	return scoped(ctx, t, "source_network", s, p, narrow,
		func(v state.SourceNetwork) place { return place{nanos(v.CreatedAt), v.ID} })
}

func (t *tx) PutSourceNetwork(ctx context.Context, v state.SourceNetwork) error {
	body, err := encode(v)
	if err != nil {
		return err
	}
	return t.exec(ctx, "state: put source network",
		`INSERT INTO source_network (id, account, service, created_at, origin_account, origin_region, body) VALUES (?, ?, ?, ?, ?, ?, ?)
		 ON CONFLICT (id) DO UPDATE SET body = excluded.body`,
		v.ID, v.Scope.Account, v.Scope.Service, nanos(v.CreatedAt), v.OriginAccount, v.OriginRegion, body)
}

func (t *tx) DeleteSourceNetwork(ctx context.Context, s state.Scope, id string) error {
	return t.exec(ctx, "state: delete source network",
		`DELETE FROM source_network WHERE id = ? AND account = ? AND service = ?`, id, s.Account, s.Service)
}

func (t *tx) Extension(ctx context.Context, serverID string) (state.Extension, error) {
	return one[state.Extension](ctx, t, "state: extension", `SELECT body FROM extension WHERE server_id = ?`, serverID)
}

func (t *tx) Extensions(ctx context.Context, serverIDs []string) ([]state.Extension, error) {
	if len(serverIDs) == 0 {
		return nil, nil
	}
	var w where
	in(&w, "server_id", serverIDs)
	return many[state.Extension](ctx, t, "state: extensions", `SELECT body FROM extension WHERE `+w.String(), w.args...)
}

func (t *tx) ExtensionsOf(ctx context.Context, s state.Scope, stagingAccount string, serverIDs []string) ([]state.Extension, error) {
	if len(serverIDs) == 0 {
		return nil, nil
	}
	var w where
	w.and("account = ? AND service = ? AND staging_account = ?", s.Account, s.Service, stagingAccount)
	in(&w, "staging_server", serverIDs)
	return many[state.Extension](ctx, t, "state: extensions of", `SELECT body FROM extension WHERE `+w.String(), w.args...)
}

func (t *tx) StagingAccounts(ctx context.Context, s state.Scope, p state.Page) ([]string, string, error) {
	const op = "state: staging accounts"
	items, err := collect(ctx, t, op,
		`SELECT DISTINCT staging_account FROM extension WHERE account = ? AND service = ? AND staging_account > ? ORDER BY staging_account LIMIT ?`,
		[]any{s.Account, s.Service, p.After, p.Size() + 1}, func(r *sql.Rows) (v string, err error) { return v, t.classify(op, r.Scan(&v)) })
	if err != nil {
		return nil, "", err
	}
	items, next := trim(items, p.Size(), func(v string) string { return v })
	return items, next, nil
}

func (t *tx) PutExtension(ctx context.Context, e state.Extension) error {
	body, err := encode(e)
	if err != nil {
		return err
	}
	return t.exec(ctx, "state: put extension",
		`INSERT INTO extension (server_id, account, service, staging_account, staging_server, body) VALUES (?, ?, ?, ?, ?, ?)
		 ON CONFLICT (server_id) DO UPDATE SET body = excluded.body`,
		e.ServerID, e.Scope.Account, e.Scope.Service, e.StagingAccount, e.StagingServer, body)
}

func (t *tx) RecoveryInstance(ctx context.Context, s state.Scope, id string) (state.RecoveryInstance, error) {
	return one[state.RecoveryInstance](ctx, t, "state: recovery instance",
		`SELECT body FROM recovery_instance WHERE id = ? AND account = ? AND service = ?`, id, s.Account, s.Service)
}

func (t *tx) RecoveryInstances(ctx context.Context, s state.Scope, f state.RecoveryInstanceFilter, p state.Page) ([]state.RecoveryInstance, string, error) {
	narrow := func(w *where) {
		in(w, "id", f.IDs)
		in(w, "server_id", f.ServerIDs)
	}
	return scoped(ctx, t, "recovery_instance", s, p, narrow,
		func(v state.RecoveryInstance) place { return place{nanos(v.CreatedAt), v.ID} })
}

func (t *tx) PutRecoveryInstance(ctx context.Context, v state.RecoveryInstance) error {
	body, err := encode(v)
	if err != nil {
		return err
	}
	return t.exec(ctx, "state: put recovery instance",
		`INSERT INTO recovery_instance (id, account, service, created_at, server_id, body) VALUES (?, ?, ?, ?, ?, ?)
		 ON CONFLICT (id) DO UPDATE SET server_id = excluded.server_id, body = excluded.body`,
		v.ID, v.Scope.Account, v.Scope.Service, nanos(v.CreatedAt), v.ServerID, body)
}

func (t *tx) DeleteRecoveryInstance(ctx context.Context, s state.Scope, id string) error {
	return t.exec(ctx, "state: delete recovery instance",
		`DELETE FROM recovery_instance WHERE id = ? AND account = ? AND service = ?`, id, s.Account, s.Service)
}
