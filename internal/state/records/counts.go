package records

import (
	"context"
	"database/sql"
	"errors"

	"github.com/understudy-dr/understudy/internal/state"
)

// CountServers reads what counted keeps.
func (t *tx) CountServers(ctx context.Context, s state.Scope) (state.ServerCounts, error) {
	var c state.ServerCounts
	err := t.queryRow(ctx, `SELECT total, archived, replicating FROM server_count WHERE account = ? AND service = ?`,
		s.Account, s.Service).Scan(&c.Total, &c.Archived, &c.Replicating)
	if errors.Is(err, sql.ErrNoRows) {
		return c, nil
	}
	return c, t.classify("state: count servers", err)
}

// share is what one server adds to the counts of its account: nothing while it does not exist or is being deleted.
type share struct {
	state.Scope
	state.ServerCounts
}

func (t *tx) share(ctx context.Context, id string) (v share, err error) {
	err = t.queryRow(ctx,
		`SELECT v.account, v.service, 1, v.archived, CASE WHEN r.state NOT IN (?, ?) THEN 1 ELSE 0 END
		 FROM source_server v LEFT JOIN replication r ON r.server_id = v.id WHERE v.id = ? AND v.deleting = 0`,
		state.Stopped, state.Disconnected, id).Scan(&v.Account, &v.Service, &v.Total, &v.Archived, &v.Replicating)
	if errors.Is(err, sql.ErrNoRows) {
		return share{}, nil
	}
	return v, t.classify("state: share of a server", err)
}

// counted makes a change of one server and takes it into the counts. Updates come one after another, so that nothing is
// counted between its two looks.
func (t *tx) counted(ctx context.Context, id string, change func() error) error {
	was, err := t.share(ctx, id)
	if err != nil {
		return err
	}
	if err := change(); err != nil {
		return err
	}
	is, err := t.share(ctx, id)
	if err != nil || is == was {
		return err
	}
	scope := is.Scope // which never changes
	if is.Total == 0 {
		scope = was.Scope
	}
	return t.exec(ctx, "state: count",
		`INSERT INTO server_count (account, service, total, archived, replicating) VALUES (?, ?, ?, ?, ?)
		 ON CONFLICT (account, service) DO UPDATE SET total = server_count.total + excluded.total,
		     archived = server_count.archived + excluded.archived, replicating = server_count.replicating + excluded.replicating`,
		scope.Account, scope.Service, is.Total-was.Total, is.Archived-was.Archived, is.Replicating-was.Replicating)
}
