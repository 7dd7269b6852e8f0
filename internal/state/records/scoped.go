package records

import (
	"context"

	"github.com/understudy-dr/understudy/internal/state"
)

// Many tables have the same five columns: id, account, service, created_at and body. These functions read and delete
// in any of them; table is a constant of the caller's.

func getScoped[T any](ctx context.Context, t *tx, table string, s state.Scope, id string) (T, error) {
	return one[T](ctx, t, "state: "+table, `SELECT body FROM `+table+` WHERE id = ? AND account = ? AND service = ?`, id, s.Account, s.Service)
}

// ofScope is the condition of a list of the scope's records.
func ofScope(s state.Scope) *where {
	w := &where{}
	w.and("account = ? AND service = ?", s.Account, s.Service)
	return w
}

// listScoped lists what w selects, oldest first; at tells a record's place.
func listScoped[T any](ctx context.Context, t *tx, table string, w *where, p state.Page, at func(T) place) ([]T, string, error) {
	if err := after(w, p); err != nil {
		return nil, "", err
	}
	return page(ctx, t, table, w, "created_at, id", p, at)
}

// listNewest is listScoped, newest first.
func listNewest[T any](ctx context.Context, t *tx, table string, w *where, p state.Page, at func(T) place) ([]T, string, error) {
	if err := before(w, p); err != nil {
		return nil, "", err
	}
	return page(ctx, t, table, w, "created_at DESC, id DESC", p, at)
}

func page[T any](ctx context.Context, t *tx, table string, w *where, order string, p state.Page, at func(T) place) ([]T, string, error) {
	items, err := many[T](ctx, t, "state: list "+table,
		`SELECT body FROM `+table+` WHERE `+w.String()+` ORDER BY `+order+` LIMIT ?`, append(w.args, p.Size()+1)...)
	if err != nil {
		return nil, "", err
	}
	items, next := trim(items, p.Size(), func(v T) string { return at(v).String() })
	return items, next, nil
}

// putScoped writes a record of a table that has these five columns only.
func (t *tx) putScoped(ctx context.Context, table string, s state.Scope, id string, createdAt int64, v any) error {
	body, err := encode(v)
	if err != nil {
		return err
	}
	return t.exec(ctx, "state: put "+table,
		`INSERT INTO `+table+` (id, account, service, created_at, body) VALUES (?, ?, ?, ?, ?)
		 ON CONFLICT (id) DO UPDATE SET body = excluded.body`, id, s.Account, s.Service, createdAt, body)
}

func (t *tx) deleteScoped(ctx context.Context, table string, s state.Scope, id string) error {
	return t.exec(ctx, "state: delete "+table, `DELETE FROM `+table+` WHERE id = ? AND account = ? AND service = ?`, id, s.Account, s.Service)
}

func (t *tx) count(ctx context.Context, table string, w *where) (n int, err error) {
	err = t.queryRow(ctx, `SELECT COUNT(*) FROM `+table+` WHERE `+w.String(), w.args...).Scan(&n)
	return n, t.classify("state: count "+table, err)
}
