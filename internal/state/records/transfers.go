package records

import (
	"context"
	"strconv"

	"github.com/understudy-dr/understudy/internal/fault"
	"github.com/understudy-dr/understudy/internal/state"
)

const (
	transfers         = "transfer"
	networkMigrations = "network_migration"
	networkExecutions = "network_execution"
)

func (t *tx) Transfer(ctx context.Context, s state.Scope, k state.TransferKind, id string) (state.Transfer, error) {
	return one[state.Transfer](ctx, t, "state: transfer",
		`SELECT body FROM transfer WHERE id = ? AND account = ? AND service = ? AND kind = ?`, id, s.Account, s.Service, k)
}

func (t *tx) TransferByToken(ctx context.Context, s state.Scope, token string) (state.Transfer, error) {
	return one[state.Transfer](ctx, t, "state: transfer by token",
		`SELECT body FROM transfer WHERE account = ? AND service = ? AND client_token = ? AND client_token <> ''`, s.Account, s.Service, token)
}

func transferPlace(v state.Transfer) place { return place{nanos(v.CreatedAt), v.ID} }

func (t *tx) Transfers(ctx context.Context, s state.Scope, k state.TransferKind, ids []string, p state.Page) ([]state.Transfer, string, error) {
	w := ofScope(s)
	w.and("kind = ?", k)
	in(w, "id", ids)
	return listNewest(ctx, t, transfers, w, p, transferPlace)
}

func (t *tx) UnfinishedTransfers(ctx context.Context, p state.Page) ([]state.Transfer, string, error) {
	w := &where{}
	w.and("finished = 0")
	return listScoped(ctx, t, transfers, w, p, transferPlace)
}

func (t *tx) PutTransfer(ctx context.Context, v state.Transfer) error {
	body, err := encode(v)
	if err != nil {
		return err
	}
	finished := v.Status == state.TransferFailed || v.Status == state.TransferSucceeded
	return t.exec(ctx, "state: put transfer",
		`INSERT INTO transfer (id, account, service, kind, created_at, client_token, finished, body) VALUES (?, ?, ?, ?, ?, ?, ?, ?)
		 ON CONFLICT (id) DO UPDATE SET finished = excluded.finished, body = excluded.body`,
		v.ID, v.Scope.Account, v.Scope.Service, v.Kind, nanos(v.CreatedAt), v.ClientToken, flag(finished), body)
}

func (t *tx) TransferErrors(ctx context.Context, id string, p state.Page) ([]state.TransferError, string, error) {
	from := int64(0)
	if p.After != "" {
		var err error
		if from, err = strconv.ParseInt(p.After, 10, 64); err != nil {
			return nil, "", fault.New(fault.Invalid, "state: transfer errors", "page token %q is not one of ours", p.After)
		}
	}
	items, err := many[state.TransferError](ctx, t, "state: transfer errors",
		`SELECT body FROM transfer_error WHERE transfer_id = ? AND seq > ? ORDER BY seq LIMIT ?`, id, from, p.Size()+1)
	if err != nil {
		return nil, "", err
	}
	items, next := trim(items, p.Size(), func(e state.TransferError) string { return strconv.FormatInt(e.Seq, 10) })
	return items, next, nil
}

func (t *tx) AddTransferErrors(ctx context.Context, id string, list []state.TransferError) error {
	const op = "state: add transfer errors"
	var last int64
	if err := t.queryRow(ctx, `SELECT COALESCE(MAX(seq), 0) FROM transfer_error WHERE transfer_id = ?`, id).Scan(&last); err != nil {
		return t.classify(op, err)
	}
	for _, e := range list {
		last++
		e.TransferID, e.Seq = id, last
		body, err := encode(e)
		if err != nil {
			return err
		}
		if err := t.exec(ctx, op, `INSERT INTO transfer_error (transfer_id, seq, body) VALUES (?, ?, ?)`, id, e.Seq, body); err != nil {
			return err
		}
	}
	return nil
}

func (t *tx) NetworkMigration(ctx context.Context, s state.Scope, id string) (state.NetworkMigration, error) {
	return getScoped[state.NetworkMigration](ctx, t, networkMigrations, s, id)
}

func (t *tx) NetworkMigrations(ctx context.Context, s state.Scope, ids []string, p state.Page) ([]state.NetworkMigration, string, error) {
	w := ofScope(s)
	in(w, "id", ids)
	return listNewest(ctx, t, networkMigrations, w, p, func(v state.NetworkMigration) place { return place{nanos(v.CreatedAt), v.ID} })
}

func (t *tx) CountNetworkMigrations(ctx context.Context, s state.Scope) (int, error) {
	return t.count(ctx, networkMigrations, ofScope(s))
}

func (t *tx) PutNetworkMigration(ctx context.Context, v state.NetworkMigration) error {
	return t.putScoped(ctx, networkMigrations, v.Scope, v.ID, nanos(v.CreatedAt), v)
}

func (t *tx) DeleteNetworkMigration(ctx context.Context, s state.Scope, id string) error {
	return t.deleteScoped(ctx, networkMigrations, s, id)
}

func (t *tx) NetworkExecution(ctx context.Context, s state.Scope, definitionID, id string) (state.NetworkExecution, error) {
	return one[state.NetworkExecution](ctx, t, "state: network execution",
		`SELECT body FROM network_execution WHERE id = ? AND account = ? AND service = ? AND definition_id = ?`, id, s.Account, s.Service, definitionID)
}

func (t *tx) NetworkExecutions(ctx context.Context, s state.Scope, definitionID string, f state.ExecutionFilter, p state.Page) ([]state.NetworkExecution, string, error) {
	w := &where{}
	w.and("definition_id = ?", definitionID)
	w.and("account = ? AND service = ?", s.Account, s.Service)
	in(w, "id", f.IDs)
	in(w, "status", f.Statuses)
	return listNewest(ctx, t, networkExecutions, w, p, func(v state.NetworkExecution) place { return place{nanos(v.CreatedAt), v.ID} })
}

func (t *tx) PutNetworkExecution(ctx context.Context, v state.NetworkExecution) error {
	body, err := encode(v)
	if err != nil {
		return err
	}
	return t.exec(ctx, "state: put network execution",
		`INSERT INTO network_execution (id, account, service, definition_id, created_at, status, body) VALUES (?, ?, ?, ?, ?, ?, ?)
		 ON CONFLICT (id) DO UPDATE SET status = excluded.status, body = excluded.body`,
		v.ID, v.Scope.Account, v.Scope.Service, v.DefinitionID, nanos(v.CreatedAt), v.Status, body)
}
