package records

import (
	"strings"

	"github.com/understudy-dr/understudy/internal/state"
)

// byKind tells whether a filter has nothing better to go by than columns of few values. One index range holds the servers of
// one combination of them in the order of the list; a list of several combinations is merged from as many ranges. Reading on
// in the order of all servers instead would pass over all of them to find the few that match.
func byKind(f state.ServerFilter) bool {
	selective := len(f.IDs) > 0 || len(f.ApplicationIDs) > 0 || f.HardwareID != "" || f.UserProvidedID != "" || len(f.StagingAccounts) > 0 || f.ExtensibleBy != nil
	return !selective && (len(f.LifeCycleStates) > 0 || len(f.ReplicationTypes) > 0)
}

var (
	replicationTypes = []string{"", state.AgentBased, state.SnapshotShipping}
	lifeCycleStates  = append([]state.LifeCycleState{state.LifeCycleNone}, state.LifeCycleStates...)
)

// kindsQuery merges the first servers of every combination that f selects.
func kindsQuery(s state.Scope, f state.ServerFilter, p state.Page) (string, []any, error) {
	archived := []bool{false, true}
	if f.Archived != nil {
		archived = []bool{*f.Archived}
	}
	states, types := f.LifeCycleStates, f.ReplicationTypes
	if len(states) == 0 {
		states = lifeCycleStates
	}
	if len(types) == 0 {
		types = replicationTypes
	}
	var ranges []string
	var args []any
	for _, a := range archived {
		for _, l := range distinct(states) {
			for _, r := range distinct(types) {
				var w where
				w.and("account = ? AND service = ? AND deleting = 0 AND archived = ? AND life_cycle = ? AND replication_type = ?",
					s.Account, s.Service, flag(a), string(l), r)
				if err := after(&w, p); err != nil {
					return "", nil, err
				}
				ranges = append(ranges, `SELECT * FROM (SELECT created_at, id FROM source_server WHERE `+w.String()+
					` ORDER BY created_at, id LIMIT ?) AS one`)
				args = append(append(args, w.args...), p.Size()+1)
			}
		}
	}
	return `SELECT s.body FROM (SELECT created_at, id FROM (` + strings.Join(ranges, ` UNION ALL `) + `) AS every ORDER BY created_at, id LIMIT ?) AS k
	        JOIN source_server s ON s.id = k.id ORDER BY k.created_at, k.id`, append(args, p.Size()+1), nil
}

func distinct[T comparable](in []T) (out []T) {
	seen := map[T]bool{}
	for _, v := range in {
		if !seen[v] {
			seen[v] = true
			out = append(out, v)
		}
	}
	return out
}
