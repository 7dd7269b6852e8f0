package records_test

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/understudy-dr/understudy/internal/state"
	"github.com/understudy-dr/understudy/internal/state/postgres"
	"github.com/understudy-dr/understudy/internal/state/records"
	"github.com/understudy-dr/understudy/internal/state/sqlite"
	"github.com/understudy-dr/understudy/internal/state/statetest"
)

// database is one of the two, with the means to look under it.
type database struct {
	state.Store
	records *records.Store
	explain func(t *testing.T, list, query string, args []any)
}

func openSQLite(t testing.TB) database {
	s, err := sqlite.Open(t.Context(), filepath.Join(t.TempDir(), "state.db"))
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, s.Close()) })
	d := database{Store: s, records: s.Store}
	d.explain = d.explainSQLite
	return d
}

func openPostgres(t testing.TB) database {
	s, err := postgres.Open(t.Context(), statetest.StartPostgres(t).Database(t.Name()))
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, s.Close()) })
	d := database{Store: s, records: s.Store}
	d.explain = d.explainPostgres
	return d
}

// statement is one that a list ran.
type statement struct {
	query string
	args  []any
}

// each explains every statement of every list.
func (d database) each(t *testing.T) {
	for name, list := range lists {
		var all []statement
		d.records.Trace(func(q string, args []any) { all = append(all, statement{q, args}) })
		require.NoError(t, d.View(t.Context(), func(r state.Reader) error { return list(r, t) }), name)
		d.records.Trace(nil)
		require.NotEmpty(t, all, name)
		for _, v := range all {
			d.explain(t, name, v.query, v.args)
		}
	}
}

// sorts are the lists that sort something: the few servers of one hardware id, those of an application, those that are staged in
// another account, and as many pages as there are kinds of servers.
var sorts = map[string]bool{"servers by hardware": true, "servers staged elsewhere": true, "members": true, "servers by life cycle": true, "servers by type": true}

func (d database) explainSQLite(t *testing.T, list, query string, args []any) {
	steps, err := d.records.Rows(t.Context(), "EXPLAIN QUERY PLAN "+query, args...)
	require.NoError(t, err)
	require.NotEmpty(t, steps, list)
	for _, step := range steps {
		if sorts[list] {
			require.NotContains(t, step, "SCAN source_server", "%s: %s", list, query)
			continue
		}
		require.NotContains(t, step, "SCAN", "%s: %s", list, query)
		require.NotContains(t, step, "TEMP B-TREE", "%s: %s", list, query)
	}
}

// node is a step of PostgreSQL's plan, as far as it was run.
type node struct {
	Type     string  `json:"Node Type"`
	Relation string  `json:"Relation Name"`
	Rows     float64 `json:"Actual Rows"`
	Removed  float64 `json:"Rows Removed by Filter"`
	Loops    float64 `json:"Actual Loops"`
	Plans    []node  `json:"Plans"`
}

// mostRows is what a list may look at: a page of each of several kinds, but nothing that grows with the number of records.
const mostRows = 2000

func (d database) explainPostgres(t *testing.T, list, query string, args []any) {
	out, err := d.records.Rows(t.Context(), "EXPLAIN (ANALYZE, FORMAT JSON) "+query, args...)
	require.NoError(t, err)
	var plans []struct{ Plan node }
	require.NoError(t, json.Unmarshal([]byte(strings.Join(out, "\n")), &plans))
	require.NotEmpty(t, plans)
	var visit func(n node)
	visit = func(n node) {
		touched := (n.Rows + n.Removed) * n.Loops
		require.LessOrEqual(t, touched, float64(mostRows), "%s: %s on %s touches %v rows: %s", list, n.Type, n.Relation, touched, query)
		for _, p := range n.Plans {
			visit(p)
		}
	}
	visit(plans[0].Plan)
}

// TestListsUseIndexes asks SQLite how it would run every list: none may read a whole table or sort one.
func TestListsUseIndexes(t *testing.T) { openSQLite(t).each(t) }

// many is the number of source servers; UNDERSTUDY_SERVERS=100000 is what the schema is for, and takes minutes on a small machine.
var many = 20_000

func TestMain(m *testing.M) {
	if n, err := strconv.Atoi(os.Getenv("UNDERSTUDY_SERVERS")); err == nil && n >= 1000 {
		many = n
	}
	os.Exit(m.Run())
}

// crowd fills one account with many servers: nearly all alike, the few that filters look for at the end of the list.
func (d database) crowd(t testing.TB) {
	ctx := t.Context()
	first := state.Server{ID: "s-first", Scope: scope, Identity: "first", CreatedAt: time.Unix(0, 1), ReplicationType: state.AgentBased,
		LifeCycle: state.LifeCycle{State: state.ReadyForTest}, Tags: map[string]string{"Name": "server", "owner": "somebody"},
		Disks: []state.Disk{{DeviceName: "/dev/sda", Bytes: 1 << 40, Boot: true}, {DeviceName: "/dev/sdb", Index: 1, Bytes: 1 << 40}},
		Properties: state.SourceProperties{OS: "Linux version 6.1.0-28-amd64", RAMBytes: 1 << 34, CPUs: []state.CPU{{Cores: 8, Model: "Xeon"}},
			NICs: []state.NIC{{MAC: "0a:00", IPs: []string{"10.0.0.1", "fe80::1"}, Primary: true}}, Hints: state.Hints{Hostname: "first", FQDN: "first.example.org"}}}
	replication := state.Replication{ServerID: first.ID, Scope: scope, Intent: state.IntentRun, State: state.Continuous,
		Attempt: state.Attempt{ID: 1, Steps: make([]state.Step, 11)}, Disks: make([]state.DiskProgress, 2)}
	require.NoError(t, d.Update(ctx, func(tx state.Tx) error {
		if err := tx.PutInitialised(ctx, scope, time.Unix(1, 0)); err != nil {
			return err
		}
		if err := tx.PutServer(ctx, first); err != nil {
			return err
		}
		return tx.PutReplication(ctx, replication)
	}))
	numbers := fmt.Sprintf(`WITH RECURSIVE n(i) AS (SELECT CAST(2 AS BIGINT) UNION ALL SELECT i + 1 FROM n WHERE i < %d)`, many)
	id := `'s-' || CAST(i + 10000000000000000 AS TEXT)`
	created := `'1970-01-01T00:00:00.' || SUBSTR(CAST(i + 1000000000 AS TEXT), 2) || 'Z'`
	last := func(n int, yes, no string) string {
		return fmt.Sprintf(`CASE WHEN i > %d THEN %s ELSE %s END`, many-n, yes, no)
	}
	for _, sql := range []string{
		`INSERT INTO source_server (id, account, service, identity, created_at, archived, deleting, life_cycle, replication_type, body) ` + numbers +
			` SELECT ` + id + `, '1', 'drs', 'm' || CAST(i AS TEXT), i, ` + last(5, `1`, `0`) + `, 0, ` +
			last(10, `'TESTING'`, `'READY_FOR_TEST'`) + `, ` + last(20, `'SNAPSHOT_SHIPPING'`, `'AGENT_BASED'`) +
			`, REPLACE(REPLACE(b.body, 's-first', ` + id + `), '1970-01-01T00:00:00.000000001Z', ` + created + `) FROM n, (SELECT body FROM source_server WHERE id = 's-first') AS b`,
		`INSERT INTO server_hardware (value, server_id) ` + numbers + ` SELECT 'x' || CAST(i AS TEXT), ` + id + ` FROM n`,
		`INSERT INTO replication (server_id, state, body) ` + numbers + ` SELECT ` + id + `, ` + last(10, `'STALLED'`, `'CONTINUOUS'`) + `,
			  REPLACE(b.body, 's-first', ` + id + `) FROM n, (SELECT body FROM replication WHERE server_id = 's-first') AS b`,
		`INSERT INTO recovery_point (id, account, service, server_id, expected, at, position) ` + numbers +
			` SELECT 'pit-' || CAST(i AS TEXT), '1', 'drs', ` + id + `, i, i, i FROM n`,
		`INSERT INTO event (seq, account, subject, at, body) ` + numbers + ` SELECT i, '1', ` + id + `, i, '{}' FROM n`,
		`ANALYZE`,
	} {
		_, err := d.records.Rows(ctx, sql)
		require.NoError(t, err)
	}
}

// TestListsOfManyServers runs every list over many servers and looks at what the database really did.
func TestListsOfManyServers(t *testing.T) {
	for name, open := range map[string]func(testing.TB) database{"sqlite": openSQLite, "postgres": openPostgres} {
		t.Run(name, func(t *testing.T) {
			d := open(t)
			d.crowd(t)
			d.each(t)
			d.requireFound(t)
		})
	}
}

// requireFound sees that the few are found among the many, and that pages add up.
func (d database) requireFound(t *testing.T) {
	yes, no := true, false
	count := func(f state.ServerFilter, most int) (n int) {
		for p := (state.Page{Limit: state.MaxLimit}); n < most; {
			require.NoError(t, d.View(t.Context(), func(r state.Reader) error {
				items, next, err := r.Servers(t.Context(), scope, f, p)
				n += len(items)
				p.After = next
				return err
			}))
			if p.After == "" {
				break
			}
		}
		return n
	}
	require.Equal(t, 5, count(state.ServerFilter{Archived: &yes}, many))
	require.Equal(t, 10, count(state.ServerFilter{LifeCycleStates: []state.LifeCycleState{state.Testing, state.Cutover}}, many))
	require.Equal(t, 15, count(state.ServerFilter{ReplicationTypes: []string{state.SnapshotShipping}, Archived: &no}, many))
	require.Equal(t, 5, count(state.ServerFilter{LifeCycleStates: []state.LifeCycleState{state.Testing, state.Testing}, Archived: &no}, many))
	require.Equal(t, many-10, count(state.ServerFilter{LifeCycleStates: []state.LifeCycleState{state.ReadyForTest}}, many))
}

// BenchmarkPage reads pages of 100 servers at random places among many, as DescribeSourceServers does.
func BenchmarkPage(b *testing.B) {
	filters := map[string]state.ServerFilter{"all": {}, "life cycle": {LifeCycleStates: []state.LifeCycleState{state.ReadyForTest, state.Testing}}}
	for name, open := range map[string]func(testing.TB) database{"sqlite": openSQLite, "postgres": openPostgres} {
		d := open(b)
		d.crowd(b)
		rng := rand.New(rand.NewPCG(1, 2))
		for filter, f := range filters {
			b.Run(name+"/"+filter, func(b *testing.B) {
				for b.Loop() {
					p := state.Page{After: fmt.Sprintf("%d.s", rng.IntN(many-200)), Limit: 100}
					err := d.View(b.Context(), func(r state.Reader) error {
						items, _, err := r.Servers(b.Context(), scope, f, p)
						if len(items) != 100 {
							return fmt.Errorf("%d servers", len(items))
						}
						return err
					})
					if err != nil {
						b.Fatal(err)
					}
				}
			})
		}
	}
}
