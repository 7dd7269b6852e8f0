package records

import (
	"context"

	"github.com/understudy-dr/understudy/internal/fault"
	"github.com/understudy-dr/understudy/internal/state"
)

func (t *tx) Pins(ctx context.Context, s state.Scope, p state.Page) ([]state.Pin, string, error) {
	var w where
	w.and("account = ? AND service = ?", s.Account, s.Service)
	if err := after(&w, p); err != nil {
		return nil, "", err
	}
	items, err := many[state.Pin](ctx, t, "state: pins",
		`SELECT body FROM recovery_pin WHERE `+w.String()+` ORDER BY created_at, id LIMIT ?`, append(w.args, p.Size()+1)...)
	if err != nil {
		return nil, "", err
	}
	items, next := trim(items, p.Size(), func(v state.Pin) string { return place{nanos(v.CreatedAt), v.ID}.String() })
	return items, next, nil
}

func (t *tx) ServerPins(ctx context.Context, serverID string) ([]state.Pin, error) {
	return many[state.Pin](ctx, t, "state: pins of a server",
		`SELECT body FROM recovery_pin WHERE server_id = ? ORDER BY created_at, id`, serverID)
}

func (t *tx) OwnerPins(ctx context.Context, owner string) ([]state.Pin, error) {
	return many[state.Pin](ctx, t, "state: pins of an owner",
		`SELECT body FROM recovery_pin WHERE owner = ? ORDER BY server_id, position`, owner)
}

func (t *tx) PutPin(ctx context.Context, p state.Pin) error {
	body, err := encode(p)
	if err != nil {
		return err
	}
	var point any
	if p.PointID != "" {
		point = p.PointID
	}
	return t.exec(ctx, "state: put pin",
		`INSERT INTO recovery_pin (id, account, service, server_id, point_id, position, owner, purpose, created_at, body)
		 VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
		 ON CONFLICT (id) DO UPDATE SET owner = excluded.owner, purpose = excluded.purpose, body = excluded.body`,
		p.ID, p.Scope.Account, p.Scope.Service, p.ServerID, point, int64(p.Position), p.Owner, p.Purpose, nanos(p.CreatedAt), body)
}

func (t *tx) DeletePin(ctx context.Context, id string) error {
	return t.exec(ctx, "state: delete pin", `DELETE FROM recovery_pin WHERE id = ?`, id)
}

func (t *tx) DeletePins(ctx context.Context, owner string) error {
	return t.exec(ctx, "state: delete pins", `DELETE FROM recovery_pin WHERE owner = ?`, owner)
}

func (t *tx) DeletePinsFor(ctx context.Context, purpose state.PinPurpose) error {
	return t.exec(ctx, "state: delete pins", `DELETE FROM recovery_pin WHERE purpose = ?`, purpose)
}

func (t *tx) DeletePoint(ctx context.Context, id string) error {
	const op = "state: delete point"
	if err := t.unpinned(ctx, op, `SELECT body FROM recovery_pin WHERE point_id = ? ORDER BY created_at, id LIMIT 1`, id); err != nil {
		return err
	}
	return t.exec(ctx, op, `DELETE FROM recovery_point WHERE id = ?`, id)
}

func (t *tx) WipePoints(ctx context.Context, serverID string) error {
	const op = "state: wipe points"
	if err := t.unpinned(ctx, op, `SELECT body FROM recovery_pin WHERE server_id = ? ORDER BY created_at, id LIMIT 1`, serverID); err != nil {
		return err
	}
	return t.exec(ctx, op, `DELETE FROM recovery_point WHERE server_id = ?`, serverID)
}

// unpinned refuses while the query finds a pin. The schema would refuse too, for a pinned point; here the operator is
// told by whom it is used.
func (t *tx) unpinned(ctx context.Context, op, query, arg string) error {
	p, err := one[state.Pin](ctx, t, op, query, arg)
	if fault.Is(err, fault.NotFound) {
		return nil
	}
	if err != nil {
		return err
	}
	what := "position " + p.At.UTC().Format("2006-01-02T15:04:05.000Z")
	if p.PointID != "" {
		what = "recovery point " + p.PointID
	}
	t.failed = fault.New(fault.Conflict, op, "%s of source server %s is in use: %s by %s", what, p.ServerID, p.Purpose, p.Owner).
		WithHint("end that first; 'understudy pins' lists what is in use")
	return t.failed
}

func (t *tx) JournalSettings(ctx context.Context, serverID string) (state.JournalSettings, error) {
	return one[state.JournalSettings](ctx, t, "state: journal settings", `SELECT body FROM journal_settings WHERE server_id = ?`, serverID)
}

func (t *tx) PointRequest(ctx context.Context, serverID string) (state.PointRequest, error) {
	return one[state.PointRequest](ctx, t, "state: point request", `SELECT body FROM point_request WHERE server_id = ?`, serverID)
}

func (t *tx) PutPointRequest(ctx context.Context, q state.PointRequest) error {
	body, err := encode(q)
	if err != nil {
		return err
	}
	return t.exec(ctx, "state: put point request",
		`INSERT INTO point_request (server_id, body) VALUES (?, ?) ON CONFLICT (server_id) DO UPDATE SET body = excluded.body`, q.ServerID, body)
}

func (t *tx) PutJournalSettings(ctx context.Context, v state.JournalSettings) error {
	body, err := encode(v)
	if err != nil {
		return err
	}
	return t.exec(ctx, "state: put journal settings",
		`INSERT INTO journal_settings (server_id, body) VALUES (?, ?) ON CONFLICT (server_id) DO UPDATE SET body = excluded.body`, v.ServerID, body)
}
