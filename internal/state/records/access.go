package records

import (
	"context"
	"time"

	"github.com/understudy-dr/understudy/internal/state"
)

// list reads one page of a query that ends in a condition on a key, in order of that key.
func list[T any](ctx context.Context, t *tx, op, query string, args []any, p state.Page, key func(T) string) ([]T, string, error) {
	items, err := many[T](ctx, t, op, query, append(args, p.After, p.Size()+1)...)
	if err != nil {
		return nil, "", err
	}
	items, next := trim(items, p.Size(), key)
	return items, next, nil
}

func (t *tx) Account(ctx context.Context, id string) (state.Account, error) {
	return one[state.Account](ctx, t, "state: account", `SELECT body FROM account WHERE id = ?`, id)
}

func (t *tx) Accounts(ctx context.Context, p state.Page) ([]state.Account, string, error) {
	return list(ctx, t, "state: accounts", `SELECT body FROM account WHERE id > ? ORDER BY id LIMIT ?`, nil, p,
		func(a state.Account) string { return a.ID })
}

func (t *tx) PutAccount(ctx context.Context, a state.Account) error {
	body, err := encode(a)
	if err != nil {
		return err
	}
	return t.exec(ctx, "state: put account",
		`INSERT INTO account (id, body) VALUES (?, ?) ON CONFLICT (id) DO UPDATE SET body = excluded.body`, a.ID, body)
}

func (t *tx) User(ctx context.Context, account, name string) (state.User, error) {
	return one[state.User](ctx, t, "state: user", `SELECT body FROM access_user WHERE account = ? AND name = ?`, account, name)
}

func (t *tx) Users(ctx context.Context, account string, p state.Page) ([]state.User, string, error) {
	return list(ctx, t, "state: users", `SELECT body FROM access_user WHERE account = ? AND name > ? ORDER BY name LIMIT ?`,
		[]any{account}, p, func(u state.User) string { return u.Name })
}

func (t *tx) PutUser(ctx context.Context, u state.User) error {
	return t.putNamed(ctx, "state: put user", `access_user`, u.Account, u.Name, u)
}

func (t *tx) DeleteUser(ctx context.Context, account, name string) error {
	return t.exec(ctx, "state: delete user", `DELETE FROM access_user WHERE account = ? AND name = ?`, account, name)
}

func (t *tx) Role(ctx context.Context, account, name string) (state.Role, error) {
	return one[state.Role](ctx, t, "state: role", `SELECT body FROM access_role WHERE account = ? AND name = ?`, account, name)
}

func (t *tx) Roles(ctx context.Context, account string, p state.Page) ([]state.Role, string, error) {
	return list(ctx, t, "state: roles", `SELECT body FROM access_role WHERE account = ? AND name > ? ORDER BY name LIMIT ?`,
		[]any{account}, p, func(r state.Role) string { return r.Name })
}

func (t *tx) PutRole(ctx context.Context, r state.Role) error {
	return t.putNamed(ctx, "state: put role", `access_role`, r.Account, r.Name, r)
}

func (t *tx) DeleteRole(ctx context.Context, account, name string) error {
	return t.exec(ctx, "state: delete role", `DELETE FROM access_role WHERE account = ? AND name = ?`, account, name)
}

func (t *tx) Policy(ctx context.Context, account, name string) (state.Policy, error) {
	return one[state.Policy](ctx, t, "state: policy", `SELECT body FROM access_policy WHERE account = ? AND name = ?`, account, name)
}

func (t *tx) Policies(ctx context.Context, account string, p state.Page) ([]state.Policy, string, error) {
	return list(ctx, t, "state: policies", `SELECT body FROM access_policy WHERE account = ? AND name > ? ORDER BY name LIMIT ?`,
		[]any{account}, p, func(v state.Policy) string { return v.Name })
}

func (t *tx) PutPolicy(ctx context.Context, p state.Policy) error {
	return t.putNamed(ctx, "state: put policy", `access_policy`, p.Account, p.Name, p)
}

func (t *tx) DeletePolicy(ctx context.Context, account, name string) error {
	return t.exec(ctx, "state: delete policy", `DELETE FROM access_policy WHERE account = ? AND name = ?`, account, name)
}

// putNamed writes a record of a table whose key is (account, name).
func (t *tx) putNamed(ctx context.Context, op, table, account, name string, v any) error {
	body, err := encode(v)
	if err != nil {
		return err
	}
	return t.exec(ctx, op, `INSERT INTO `+table+` (account, name, body) VALUES (?, ?, ?)
		ON CONFLICT (account, name) DO UPDATE SET body = excluded.body`, account, name, body)
}

func (t *tx) Session(ctx context.Context, keyID string) (state.Session, error) {
	return one[state.Session](ctx, t, "state: session", `SELECT body FROM access_session WHERE key_id = ?`, keyID)
}

func (t *tx) Sessions(ctx context.Context, account string, p state.Page) ([]state.Session, string, error) {
	return list(ctx, t, "state: sessions", `SELECT body FROM access_session WHERE account = ? AND key_id > ? ORDER BY key_id LIMIT ?`,
		[]any{account}, p, func(s state.Session) string { return s.KeyID })
}

func (t *tx) PutSession(ctx context.Context, s state.Session) error {
	body, err := encode(s)
	if err != nil {
		return err
	}
	return t.exec(ctx, "state: put session",
		`INSERT INTO access_session (key_id, account, expires_at, body) VALUES (?, ?, ?, ?)
		 ON CONFLICT (key_id) DO UPDATE SET account = excluded.account, expires_at = excluded.expires_at, body = excluded.body`,
		s.KeyID, s.Account, nanos(s.ExpiresAt), body)
}

func (t *tx) DeleteSession(ctx context.Context, keyID string) error {
	return t.exec(ctx, "state: delete session", `DELETE FROM access_session WHERE key_id = ?`, keyID)
}

func (t *tx) DeleteSessionsBefore(ctx context.Context, at time.Time) error {
	return t.exec(ctx, "state: delete sessions", `DELETE FROM access_session WHERE expires_at < ?`, nanos(at))
}
