package records

import (
	"context"
	"time"

	"github.com/understudy-dr/understudy/internal/state"
)

func (t *tx) Initialised(ctx context.Context, s state.Scope) (time.Time, error) {
	var at int64
	err := t.queryRow(ctx, `SELECT at FROM initialisation WHERE account = ? AND service = ?`, s.Account, s.Service).Scan(&at)
	if err != nil {
		return time.Time{}, t.classify("state: initialisation", err)
	}
	return fromNanos(at), nil
}

func (t *tx) PutInitialised(ctx context.Context, s state.Scope, at time.Time) error {
	return t.exec(ctx, "state: put initialisation",
		`INSERT INTO initialisation (account, service, at) VALUES (?, ?, ?)
		 ON CONFLICT (account, service) DO UPDATE SET at = excluded.at`, s.Account, s.Service, nanos(at))
}

func (t *tx) AccessKey(ctx context.Context, id string) (state.AccessKey, error) {
	return one[state.AccessKey](ctx, t, "state: access key", `SELECT body FROM access_key WHERE id = ?`, id)
}

func (t *tx) AccessKeys(ctx context.Context, account string) ([]state.AccessKey, error) {
	return many[state.AccessKey](ctx, t, "state: access keys",
		`SELECT body FROM access_key WHERE account = ? ORDER BY created_at, id`, account)
}

func (t *tx) PutAccessKey(ctx context.Context, k state.AccessKey) error {
	body, err := encode(k)
	if err != nil {
		return err
	}
	return t.exec(ctx, "state: put access key",
		`INSERT INTO access_key (id, account, created_at, body) VALUES (?, ?, ?, ?)
		 ON CONFLICT (id) DO UPDATE SET account = excluded.account, created_at = excluded.created_at, body = excluded.body`,
		k.ID, k.Account, nanos(k.CreatedAt), body)
}

func (t *tx) DeleteAccessKey(ctx context.Context, id string) error {
	return t.exec(ctx, "state: delete access key", `DELETE FROM access_key WHERE id = ?`, id)
}

func (t *tx) Template(ctx context.Context, s state.Scope, id string) (state.Template, error) {
	return one[state.Template](ctx, t, "state: template",
		`SELECT body FROM template WHERE id = ? AND account = ? AND service = ?`, id, s.Account, s.Service)
}

func (t *tx) Templates(ctx context.Context, s state.Scope, p state.Page) ([]state.Template, string, error) {
	query, args, err := templatesQuery(s, p)
	if err != nil {
		return nil, "", err
	}
	items, err := many[state.Template](ctx, t, "state: templates", query, args...)
	if err != nil {
		return nil, "", err
	}
	items, next := trim(items, p.Size(), func(v state.Template) string { return place{nanos(v.CreatedAt), v.ID}.String() })
	return items, next, nil
}

func templatesQuery(s state.Scope, p state.Page) (string, []any, error) {
	var w where
	w.and("account = ? AND service = ?", s.Account, s.Service)
	if err := after(&w, p); err != nil {
		return "", nil, err
	}
	return `SELECT body FROM template WHERE ` + w.String() + ` ORDER BY created_at, id LIMIT ?`, append(w.args, p.Size()+1), nil
}

// after continues a list ordered by (created_at, id).
func after(w *where, p state.Page) error {
	if p.After == "" {
		return nil
	}
	at, err := parsePlace(p.After)
	if err != nil {
		return err
	}
	w.and("(created_at, id) > (?, ?)", at.nanos, at.id)
	return nil
}

func (t *tx) PutTemplate(ctx context.Context, v state.Template) error {
	body, err := encode(v)
	if err != nil {
		return err
	}
	return t.exec(ctx, "state: put template",
		`INSERT INTO template (id, account, service, created_at, body) VALUES (?, ?, ?, ?, ?)
		 ON CONFLICT (id) DO UPDATE SET created_at = excluded.created_at, body = excluded.body`,
		v.ID, v.Scope.Account, v.Scope.Service, nanos(v.CreatedAt), body)
}

func (t *tx) DeleteTemplate(ctx context.Context, s state.Scope, id string) error {
	return t.exec(ctx, "state: delete template",
		`DELETE FROM template WHERE id = ? AND account = ? AND service = ?`, id, s.Account, s.Service)
}
