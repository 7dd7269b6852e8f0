package records

import (
	"context"
	"database/sql"
	"time"

	"github.com/understudy-dr/understudy/internal/fault"
	"github.com/understudy-dr/understudy/internal/state"
)

func (t *tx) Events(ctx context.Context, account string, f state.EventFilter) ([]state.Event, error) {
	var w where
	w.and("account = ?", account)
	if f.Subject != "" {
		w.and("subject = ?", f.Subject)
	}
	w.and("seq > ?", f.After)
	return many[state.Event](ctx, t, "state: events", `SELECT body FROM event WHERE `+w.String()+` ORDER BY seq LIMIT ?`,
		append(w.args, state.Page{Limit: f.Limit}.Size())...)
}

func (t *tx) LastEvent(ctx context.Context) (seq int64, err error) {
	err = t.queryRow(ctx, `SELECT value FROM sequence WHERE name = 'event'`).Scan(&seq)
	return seq, t.classify("state: last event", err)
}

func (t *tx) AddEvent(ctx context.Context, e state.Event) (state.Event, error) {
	const op = "state: add event"
	err := t.queryRow(ctx, `UPDATE sequence SET value = value + 1 WHERE name = 'event' RETURNING value`).Scan(&e.Seq)
	if err != nil {
		return e, t.classify(op, err)
	}
	body, err := encode(e)
	if err != nil {
		return e, err
	}
	if err := t.exec(ctx, op, `INSERT INTO event (seq, account, subject, at, body) VALUES (?, ?, ?, ?, ?)`,
		e.Seq, e.Account, e.Subject, nanos(e.At), body); err != nil {
		return e, err
	}
	hooks, err := t.Webhooks(ctx, e.Account)
	for i := 0; err == nil && i < len(hooks); i++ {
		err = t.exec(ctx, op, `INSERT INTO webhook_lane (webhook, subject, after_seq, attempts, next_at) VALUES (?, ?, ?, 0, ?)
		                       ON CONFLICT DO NOTHING`, hooks[i].ID, e.Subject, e.Seq-1, nanos(e.At))
	}
	return e, err
}

func (t *tx) ExpireEvents(ctx context.Context, before time.Time) error {
	return t.exec(ctx, "state: expire events", `DELETE FROM event WHERE at < ?`, nanos(before))
}

func (t *tx) FirstTime(ctx context.Context, serverID, what string) (bool, error) {
	const op = "state: first time"
	var one int
	err := t.queryRow(ctx, `SELECT 1 FROM event_told WHERE server_id = ? AND what = ?`, serverID, what).Scan(&one)
	if err = t.classify(op, err); !fault.Is(err, fault.NotFound) {
		return false, err
	}
	return true, t.exec(ctx, op, `INSERT INTO event_told (server_id, what) VALUES (?, ?)`, serverID, what)
}

func (t *tx) Forget(ctx context.Context, serverID, what string) (bool, error) {
	const op = "state: forget"
	var one int
	err := t.queryRow(ctx, `DELETE FROM event_told WHERE server_id = ? AND what = ? RETURNING 1`, serverID, what).Scan(&one)
	if err = t.classify(op, err); fault.Is(err, fault.NotFound) {
		return false, nil
	}
	return err == nil, err
}

func (t *tx) Webhook(ctx context.Context, account, id string) (state.Webhook, error) {
	return one[state.Webhook](ctx, t, "state: webhook", `SELECT body FROM webhook WHERE id = ? AND account = ?`, id, account)
}

func (t *tx) Webhooks(ctx context.Context, account string) ([]state.Webhook, error) {
	const op = "state: webhooks"
	if account == "" {
		return many[state.Webhook](ctx, t, op, `SELECT body FROM webhook ORDER BY account, created_at, id`)
	}
	return many[state.Webhook](ctx, t, op, `SELECT body FROM webhook WHERE account = ? ORDER BY created_at, id`, account)
}

func (t *tx) PutWebhook(ctx context.Context, w state.Webhook) error {
	body, err := encode(w)
	if err != nil {
		return err
	}
	return t.exec(ctx, "state: put webhook",
		`INSERT INTO webhook (id, account, created_at, body) VALUES (?, ?, ?, ?) ON CONFLICT (id) DO UPDATE SET body = excluded.body`,
		w.ID, w.Account, nanos(w.CreatedAt), body)
}

func (t *tx) DeleteWebhook(ctx context.Context, account, id string) error {
	return t.exec(ctx, "state: delete webhook", `DELETE FROM webhook WHERE id = ? AND account = ?`, id, account)
}

const laneColumns = `webhook, subject, after_seq, attempts, next_at`

func (t *tx) scanLane(row interface{ Scan(...any) error }) (l state.Lane, err error) {
	var next int64
	err = row.Scan(&l.Webhook, &l.Subject, &l.After, &l.Attempts, &next)
	l.NextAt = fromNanos(next)
	return l, t.classify("state: lane", err)
}

func (t *tx) Lanes(ctx context.Context, webhook string, limit int) ([]state.Lane, error) {
	return collect(ctx, t, "state: lanes", `SELECT `+laneColumns+` FROM webhook_lane WHERE webhook = ? ORDER BY next_at, subject LIMIT ?`,
		[]any{webhook, state.Page{Limit: limit}.Size()}, func(r *sql.Rows) (state.Lane, error) { return t.scanLane(r) })
}

func (t *tx) Lane(ctx context.Context, webhook, subject string) (state.Lane, error) {
	return t.scanLane(t.queryRow(ctx, `SELECT `+laneColumns+` FROM webhook_lane WHERE webhook = ? AND subject = ?`, webhook, subject))
}

func (t *tx) PutLane(ctx context.Context, l state.Lane) error {
	return t.exec(ctx, "state: put lane",
		`INSERT INTO webhook_lane (`+laneColumns+`) VALUES (?, ?, ?, ?, ?)
		 ON CONFLICT (webhook, subject) DO UPDATE SET after_seq = excluded.after_seq, attempts = excluded.attempts, next_at = excluded.next_at`,
		l.Webhook, l.Subject, l.After, l.Attempts, nanos(l.NextAt))
}

func (t *tx) DeleteLane(ctx context.Context, webhook, subject string) error {
	return t.exec(ctx, "state: delete lane", `DELETE FROM webhook_lane WHERE webhook = ? AND subject = ?`, webhook, subject)
}
