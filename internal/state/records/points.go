package records

import (
	"context"
	"database/sql"

	"github.com/understudy-dr/understudy/internal/state"
)

const pointColumns = `id, account, service, server_id, expected, at, position, consistency`

func (t *tx) scanPoint(row interface{ Scan(...any) error }) (state.Point, error) {
	var p state.Point
	var expected, at, position int64
	err := row.Scan(&p.ID, &p.Scope.Account, &p.Scope.Service, &p.ServerID, &expected, &at, &position, &p.Consistency)
	p.Expected, p.At, p.Position = fromNanos(expected), fromNanos(at), uint64(position)
	return p, t.classify("state: point", err)
}

func (t *tx) Point(ctx context.Context, s state.Scope, id string) (state.Point, error) {
	return t.scanPoint(t.queryRow(ctx,
		`SELECT `+pointColumns+` FROM recovery_point WHERE id = ? AND account = ? AND service = ?`, id, s.Account, s.Service))
}

func (t *tx) Points(ctx context.Context, serverID string, f state.PointFilter, p state.Page) ([]state.Point, string, error) {
	query, args, err := pointsQuery(serverID, f, p)
	if err != nil {
		return nil, "", err
	}
	items, err := collect(ctx, t, "state: points", query, args, func(r *sql.Rows) (state.Point, error) { return t.scanPoint(r) })
	if err != nil {
		return nil, "", err
	}
	items, next := trim(items, p.Size(), func(v state.Point) string { return place{nanos(v.Expected), v.ID}.String() })
	return items, next, nil
}

func pointsQuery(serverID string, f state.PointFilter, p state.Page) (string, []any, error) {
	var w where
	w.and("server_id = ?", serverID)
	if !f.From.IsZero() {
		w.and("expected >= ?", nanos(f.From))
	}
	if !f.To.IsZero() {
		w.and("expected <= ?", nanos(f.To))
	}
	order, beyond := "expected", "expected > ?"
	if f.Descending {
		order, beyond = "expected DESC", "expected < ?"
	}
	if p.After != "" {
		at, err := parsePlace(p.After)
		if err != nil {
			return "", nil, err
		}
		w.and(beyond, at.nanos) // a server has one point per expected time
	}
	return `SELECT ` + pointColumns + ` FROM recovery_point WHERE ` + w.String() + ` ORDER BY ` + order + ` LIMIT ?`,
		append(w.args, p.Size()+1), nil
}

func (t *tx) PutPoint(ctx context.Context, p state.Point) error {
	return t.exec(ctx, "state: put point",
		`INSERT INTO recovery_point (`+pointColumns+`) VALUES (?, ?, ?, ?, ?, ?, ?, ?)
		 ON CONFLICT (id) DO UPDATE SET expected = excluded.expected, at = excluded.at, position = excluded.position,
		 consistency = excluded.consistency`,
		p.ID, p.Scope.Account, p.Scope.Service, p.ServerID, nanos(p.Expected), nanos(p.At), int64(p.Position), p.Consistency)
}
