package records

import (
	"context"
	"database/sql"

	"github.com/understudy-dr/understudy/internal/state"
)

const (
	applications   = "application"
	waves          = "wave"
	connectors     = "connector"
	vcenterClients = "vcenter_client"
)

func (t *tx) Application(ctx context.Context, s state.Scope, id string) (state.Application, error) {
	return getScoped[state.Application](ctx, t, applications, s, id)
}

func (t *tx) ApplicationByName(ctx context.Context, s state.Scope, name string) (state.Application, error) {
	return one[state.Application](ctx, t, "state: application by name",
		`SELECT body FROM application WHERE account = ? AND service = ? AND name = ?`, s.Account, s.Service, name)
}

func (t *tx) Applications(ctx context.Context, s state.Scope, f state.ApplicationFilter, p state.Page) ([]state.Application, string, error) {
	w := ofScope(s)
	in(w, "id", f.IDs)
	if len(f.WaveIDs) > 0 {
		w.and("wave_id <> ''") // which the index is made for
		in(w, "wave_id", f.WaveIDs)
	}
	if f.Archived != nil {
		w.and("archived = ?", flag(*f.Archived))
	}
	return listScoped(ctx, t, applications, w, p, func(v state.Application) place { return place{nanos(v.CreatedAt), v.ID} })
}

func (t *tx) CountApplications(ctx context.Context, s state.Scope, archived bool) (int, error) {
	w := ofScope(s)
	w.and("archived = ?", flag(archived))
	return t.count(ctx, applications, w)
}

func (t *tx) CountInWaves(ctx context.Context, s state.Scope, waveIDs []string) (map[string]int, error) {
	const op = "state: count in waves"
	out := map[string]int{}
	if len(waveIDs) == 0 {
		return out, nil
	}
	w := ofScope(s)
	w.and("wave_id <> ''")
	in(w, "wave_id", waveIDs)
	rows, err := t.query(ctx, `SELECT wave_id, COUNT(*) FROM application WHERE `+w.String()+` GROUP BY wave_id`, w.args...)
	if err != nil {
		return nil, t.classify(op, err)
	}
	defer rows.Close()
	for rows.Next() {
		var id string
		var n int
		if err := rows.Scan(&id, &n); err != nil {
			return nil, t.classify(op, err)
		}
		out[id] = n
	}
	return out, t.classify(op, rows.Err())
}

func (t *tx) PutApplication(ctx context.Context, v state.Application) error {
	body, err := encode(v)
	if err != nil {
		return err
	}
	return t.exec(ctx, "state: put application",
		`INSERT INTO application (id, account, service, created_at, name, archived, wave_id, body) VALUES (?, ?, ?, ?, ?, ?, ?, ?)
		 ON CONFLICT (id) DO UPDATE SET name = excluded.name, archived = excluded.archived, wave_id = excluded.wave_id, body = excluded.body`,
		v.ID, v.Scope.Account, v.Scope.Service, nanos(v.CreatedAt), v.Name, flag(v.Archived), v.WaveID, body)
}

func (t *tx) DeleteApplication(ctx context.Context, s state.Scope, id string) error {
	return t.deleteScoped(ctx, applications, s, id)
}

func (t *tx) Wave(ctx context.Context, s state.Scope, id string) (state.Wave, error) {
	return getScoped[state.Wave](ctx, t, waves, s, id)
}

func (t *tx) WaveByName(ctx context.Context, s state.Scope, name string) (state.Wave, error) {
	return one[state.Wave](ctx, t, "state: wave by name",
		`SELECT body FROM wave WHERE account = ? AND service = ? AND name = ?`, s.Account, s.Service, name)
}

func (t *tx) Waves(ctx context.Context, s state.Scope, f state.WaveFilter, p state.Page) ([]state.Wave, string, error) {
	w := ofScope(s)
	in(w, "id", f.IDs)
	if f.Archived != nil {
		w.and("archived = ?", flag(*f.Archived))
	}
	return listScoped(ctx, t, waves, w, p, func(v state.Wave) place { return place{nanos(v.CreatedAt), v.ID} })
}

func (t *tx) CountWaves(ctx context.Context, s state.Scope, archived bool) (int, error) {
	w := ofScope(s)
	w.and("archived = ?", flag(archived))
	return t.count(ctx, waves, w)
}

func (t *tx) PutWave(ctx context.Context, v state.Wave) error {
	body, err := encode(v)
	if err != nil {
		return err
	}
	return t.exec(ctx, "state: put wave",
		`INSERT INTO wave (id, account, service, created_at, name, archived, body) VALUES (?, ?, ?, ?, ?, ?, ?)
		 ON CONFLICT (id) DO UPDATE SET name = excluded.name, archived = excluded.archived, body = excluded.body`,
		v.ID, v.Scope.Account, v.Scope.Service, nanos(v.CreatedAt), v.Name, flag(v.Archived), body)
}

func (t *tx) DeleteWave(ctx context.Context, s state.Scope, id string) error {
	return t.deleteScoped(ctx, waves, s, id)
}

func (t *tx) ApplicationMembers(ctx context.Context, s state.Scope, ids []string) ([]state.Members, error) {
	if len(ids) == 0 {
		return nil, nil
	}
	var w where
	w.and("v.account = ? AND v.service = ? AND v.deleting = 0", s.Account, s.Service)
	in(&w, "v.application_id", ids)
	return t.members(ctx, "v.application_id", `source_server v`, &w)
}

func (t *tx) WaveMembers(ctx context.Context, s state.Scope, ids []string) ([]state.Members, error) {
	if len(ids) == 0 {
		return nil, nil
	}
	var w where
	w.and("a.account = ? AND a.service = ? AND a.wave_id <> '' AND v.deleting = 0", s.Account, s.Service)
	in(&w, "a.wave_id", ids)
	return t.members(ctx, "a.wave_id",
		`application a JOIN source_server v ON v.account = a.account AND v.service = a.service AND v.application_id = a.id`, &w)
}

// members counts servers of a group by their states. In SQL MIN leaves NULL out, as the time of those that have not begun.
func (t *tx) members(ctx context.Context, group, from string, w *where) ([]state.Members, error) {
	const op = "state: members"
	return collect(ctx, t, op,
		`SELECT `+group+`, v.life_cycle, COALESCE(r.state, ''), COUNT(*), COALESCE(MIN(NULLIF(r.first_byte_at, 0)), 0)
		 FROM `+from+` LEFT JOIN replication r ON r.server_id = v.id
		 WHERE `+w.String()+` GROUP BY `+group+`, v.life_cycle, r.state`, w.args,
		func(rows *sql.Rows) (m state.Members, err error) {
			var first int64
			err = rows.Scan(&m.Of, &m.LifeCycle, &m.Replication, &m.Count, &first)
			m.FirstByteAt = fromNanos(first)
			return m, t.classify(op, err)
		})
}

func (t *tx) Connector(ctx context.Context, s state.Scope, id string) (state.Connector, error) {
	return getScoped[state.Connector](ctx, t, connectors, s, id)
}

func (t *tx) Connectors(ctx context.Context, s state.Scope, ids []string, p state.Page) ([]state.Connector, string, error) {
	w := ofScope(s)
	in(w, "id", ids)
	return listScoped(ctx, t, connectors, w, p, func(v state.Connector) place { return place{nanos(v.CreatedAt), v.ID} })
}

func (t *tx) PutConnector(ctx context.Context, v state.Connector) error {
	return t.putScoped(ctx, connectors, v.Scope, v.ID, nanos(v.CreatedAt), v)
}

func (t *tx) DeleteConnector(ctx context.Context, s state.Scope, id string) error {
	return t.deleteScoped(ctx, connectors, s, id)
}

func (t *tx) VcenterClient(ctx context.Context, s state.Scope, id string) (state.VcenterClient, error) {
	return getScoped[state.VcenterClient](ctx, t, vcenterClients, s, id)
}

func (t *tx) VcenterClients(ctx context.Context, s state.Scope, p state.Page) ([]state.VcenterClient, string, error) {
	return listScoped(ctx, t, vcenterClients, ofScope(s), p, func(v state.VcenterClient) place { return place{nanos(v.CreatedAt), v.ID} })
}

func (t *tx) PutVcenterClient(ctx context.Context, v state.VcenterClient) error {
	return t.putScoped(ctx, vcenterClients, v.Scope, v.ID, nanos(v.CreatedAt), v)
}

func (t *tx) DeleteVcenterClient(ctx context.Context, s state.Scope, id string) error {
	return t.deleteScoped(ctx, vcenterClients, s, id)
}

func (t *tx) InitialisedAccounts(ctx context.Context, service state.Service, p state.Page) ([]string, string, error) {
	const op = "state: initialised accounts"
	items, err := collect(ctx, t, op, `SELECT account FROM initialisation WHERE service = ? AND account > ? ORDER BY account LIMIT ?`,
		[]any{service, p.After, p.Size() + 1}, func(rows *sql.Rows) (account string, err error) {
			err = rows.Scan(&account)
			return account, t.classify(op, err)
		})
	if err != nil {
		return nil, "", err
	}
	items, next := trim(items, p.Size(), func(v string) string { return v })
	return items, next, nil
}
