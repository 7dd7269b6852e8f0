package records

import (
	"context"

	"github.com/understudy-dr/understudy/internal/state"
)

func (t *tx) CountServers(ctx context.Context, s state.Scope) (state.ServerCounts, error) {
	const op = "state: count servers"
	var c state.ServerCounts
	err := t.queryRow(ctx,
		`SELECT COUNT(*), COALESCE(SUM(archived), 0) FROM source_server WHERE account = ? AND service = ? AND deleting = 0`,
		s.Account, s.Service).Scan(&c.Total, &c.Archived)
	if err != nil {
		return c, t.classify(op, err)
	}
	err = t.queryRow(ctx,
		`SELECT COUNT(*) FROM source_server v JOIN replication r ON r.server_id = v.id
		 WHERE v.account = ? AND v.service = ? AND v.deleting = 0 AND r.state NOT IN (?, ?)`,
		s.Account, s.Service, state.Stopped, state.Disconnected).Scan(&c.Replicating)
	return c, t.classify(op, err)
}
