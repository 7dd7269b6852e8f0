package points

import (
	"context"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/understudy-dr/understudy/internal/fault"
	"github.com/understudy-dr/understudy/internal/state"
	"github.com/understudy-dr/understudy/internal/state/sqlite"
)

func seed(t *testing.T) *rand.Rand {
	n := uint64(time.Now().UnixNano())
	if s := os.Getenv("UNDERSTUDY_SEED"); s != "" {
		v, err := strconv.ParseUint(s, 10, 64)
		require.NoError(t, err)
		n = v
	}
	t.Logf("UNDERSTUDY_SEED=%d", n)
	return rand.New(rand.NewPCG(n, 0))
}

func defaultRules() []state.PITRule {
	return []state.PITRule{
		{ID: 1, Units: state.Minute, Interval: 10, Retention: 60, Enabled: true},
		{ID: 2, Units: state.Hour, Interval: 1, Retention: 24, Enabled: true},
		{ID: 3, Units: state.Day, Interval: 1, Retention: 7, Enabled: true},
	}
}

func TestDue(t *testing.T) {
	at := func(s string) time.Time {
		v, err := time.Parse(time.RFC3339Nano, s)
		require.NoError(t, err)
		return v
	}
	p := policy{rules: defaultRules()}
	off := policy{rules: defaultRules()}
	off.rules[0].Enabled = false
	for when, want := range map[string][2]bool{
		"2026-03-04T05:10:00Z":      {true, false},
		"2026-03-04T05:00:00Z":      {true, true},
		"2026-03-04T05:10:00+05:30": {true, false},
		"2026-03-04T05:05:00Z":      {false, false},
		"2026-03-04T05:10:01Z":      {false, false},
		"2026-03-04T05:10:00.5Z":    {false, false},
	} {
		require.Equal(t, want[0], p.due(at(when)), when)
		require.Equal(t, want[1], off.due(at(when)), when)
	}
}

// oracle is the policy as its documentation says it, without any cleverness: a point stays if some rule
// finds no earlier point in the same interval and the point is young enough.
func oracle(rules []state.PITRule, newest int, all []state.Point, now time.Time) map[string]bool {
	kept := map[string]bool{}
	for _, p := range all {
		younger := 0
		for _, q := range all {
			if q.Expected.After(p.Expected) {
				younger++
			}
		}
		if younger < newest {
			kept[p.ID] = true
		}
		for _, r := range rules {
			if !r.Enabled {
				continue
			}
			length := time.Duration(r.Interval) * r.Units.Duration()
			start := p.Expected.Add(-time.Duration(p.Expected.UnixNano() % int64(length)))
			first := true
			for _, q := range all {
				if q.Expected.Before(p.Expected) && !q.Expected.Before(start) {
					first = false
				}
			}
			if first && p.Expected.Add(time.Duration(r.Retention)*r.Units.Duration()).After(now) {
				kept[p.ID] = true
			}
		}
	}
	return kept
}

// TestExpiryAgainstOracle lets weeks pass over random policies and outages.
func TestExpiryAgainstOracle(t *testing.T) {
	rng := seed(t)
	for range 10 {
		rules := defaultRules()
		rules[2].Retention = 1 + rng.Int64N(20)
		for i := range rules {
			rules[i].Enabled = rng.IntN(5) > 0
		}
		p := policy{rules: rules, newest: 1 + rng.IntN(6)}
		now := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC).Add(time.Duration(rng.IntN(1000)) * 10 * time.Minute)
		var have []state.Point
		for range 600 {
			now = now.Add(interval)
			if rng.IntN(50) == 0 {
				now = now.Add(time.Duration(rng.IntN(300)) * interval) // nothing ran
			}
			if p.due(now) && rng.IntN(10) > 0 {
				have = append(have, state.Point{ID: fmt.Sprint(now.Unix()), Expected: now})
			}
			if rng.IntN(20) == 0 { // made on demand
				odd := now.Add(time.Duration(1 + rng.Int64N(int64(interval)-2)))
				have = append(have, state.Point{ID: fmt.Sprint(odd.UnixNano()), Expected: odd})
			}
			kept := oracle(rules, p.newest, have, now)
			for _, old := range p.expired(have, now) {
				require.False(t, kept[old.ID], "%s at %s", old.Expected, now)
				have = slices.DeleteFunc(have, func(x state.Point) bool { return x.ID == old.ID })
			}
			require.Len(t, have, len(kept))
			require.LessOrEqual(t, len(have), 6+24+int(rules[2].Retention)+p.newest+10)
		}
	}
}

func TestSteadyStateIsSixHoursAndDays(t *testing.T) {
	p := policy{rules: defaultRules(), newest: 1}
	now := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	var have []state.Point
	for range 10 * 24 * 6 {
		now = now.Add(interval)
		have = append(have, state.Point{ID: fmt.Sprint(now.Unix()), Expected: now})
		for _, old := range p.expired(have, now) {
			have = slices.DeleteFunc(have, func(x state.Point) bool { return x.ID == old.ID })
		}
		require.LessOrEqual(t, len(have), 6+24+7)
	}
	require.Len(t, have, 5+23+7, "at midnight one point serves all three rules")
}

// positions is a server whose every moment up to now is recoverable.
type positions struct {
	mu   sync.Mutex
	fail map[string]error
}

func (p *positions) RecoverablePosition(id string, at time.Time) (uint64, time.Time, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if err := p.fail[id]; err != nil {
		return 0, time.Time{}, err
	}
	return uint64(at.Unix()), at.Add(-time.Second), nil
}

type fixture struct {
	store  *sqlite.Store
	pos    *positions
	points *Points
	made   []state.Point
}

func setup(t *testing.T) *fixture {
	s, err := sqlite.Open(t.Context(), filepath.Join(t.TempDir(), "state.db"))
	require.NoError(t, err)
	f := &fixture{store: s, pos: &positions{fail: map[string]error{}}}
	f.points = New(s, f.pos, func(p state.Point) { f.made = append(f.made, p) }, slog.New(slog.DiscardHandler))
	return f
}

func (f *fixture) server(t *testing.T, id string, service state.Service, st state.ReplicationState) state.Server {
	v := state.Server{ID: id, Identity: id, Scope: state.Scope{Account: "111122223333", Service: service}, CreatedAt: time.Now()}
	v.Config.PITPolicy = defaultRules()
	require.NoError(t, f.store.Update(t.Context(), func(tx state.Tx) error {
		require.NoError(t, tx.PutInitialised(t.Context(), v.Scope, time.Now()))
		require.NoError(t, tx.PutServer(t.Context(), v))
		return tx.PutReplication(t.Context(), state.Replication{ServerID: id, Scope: v.Scope, State: st, Staged: st != state.Stopped})
	}))
	return v
}

func (f *fixture) all(t *testing.T, v state.Server) []state.Point {
	items, _, err := f.points.List(t.Context(), v.Scope, v.ID, state.PointFilter{}, state.Page{Limit: 1000})
	require.NoError(t, err)
	return items
}

func TestScheduler(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := setup(t)
		drs := f.server(t, "s-1", state.DRS, state.Continuous)
		mgn := f.server(t, "s-2", state.MGN, state.Continuous)
		lagging := f.server(t, "s-3", state.DRS, state.Backlog)
		broken := f.server(t, "s-0", state.DRS, state.Continuous)
		f.pos.fail["s-0"] = fault.New(fault.Corruption, "test", "damaged")
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error, 1)
		go func() { done <- f.points.Run(ctx) }()
		defer func() {
			cancel()
			require.NoError(t, <-done)
			require.NoError(t, f.store.Close())
		}()
		begin := time.Now()
		<-time.After(3*time.Hour + time.Minute)
		synctest.Wait()
		require.Empty(t, f.all(t, lagging))
		require.Empty(t, f.all(t, broken), "one server's trouble is not another's")
		got := f.all(t, mgn)
		require.Len(t, got, 6)
		for i, p := range got {
			require.Equal(t, begin.Add(3*time.Hour-time.Duration(5-i)*interval).UTC(), p.Expected)
			require.Equal(t, p.Expected.Add(-time.Second), p.At)
			require.EqualValues(t, p.Expected.Unix(), p.Position)
			require.Regexp(t, `^pit-[0-9a-f]{17}$`, p.ID)
		}
		require.Len(t, f.all(t, drs), 6+3, "the last six, and the first of each hour before")
		require.Len(t, f.made, 2*19, "the first at once: the bubble's time begins at midnight")
	})
}

// A clock that was set a month ahead, and right again after three instants, has cost nothing that it called old.
func TestAClockSetAheadExpiresLittle(t *testing.T) {
	f := setup(t)
	defer f.store.Close()
	v := f.server(t, "s-1", state.DRS, state.Continuous)
	right := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	old := time.Time{}
	tick := func(now time.Time) {
		old = horizon(old, now)
		require.NoError(t, f.points.tick(t.Context(), now, old))
	}
	for range 48 {
		right = right.Add(interval)
		tick(right)
	}
	before := f.all(t, v)
	require.Greater(t, len(before), 10)
	for range 3 {
		right = right.Add(interval)
		tick(right.Add(30 * 24 * time.Hour))
	}
	right = right.Add(interval)
	tick(right)
	require.Equal(t, right, old)
	kept := map[string]bool{}
	for _, p := range f.all(t, v) {
		kept[p.ID] = true
	}
	lost := 0
	for _, p := range before {
		if !kept[p.ID] {
			lost++
		}
	}
	require.LessOrEqual(t, lost, 6, "what an hour takes; all but one were old by the clock")
}

func TestTake(t *testing.T) {
	f := setup(t)
	defer f.store.Close()
	v := f.server(t, "s-1", state.DRS, state.Stalled)
	p, err := f.points.Take(t.Context(), v.Scope, v.ID)
	require.NoError(t, err, "a stalled server can still be launched at its newest position")
	got, err := f.points.Get(t.Context(), v.Scope, p.ID)
	require.NoError(t, err)
	require.Equal(t, p, got)

	stopped := f.server(t, "s-2", state.DRS, state.Stopped)
	_, err = f.points.Take(t.Context(), stopped.Scope, stopped.ID)
	require.True(t, fault.Is(err, fault.Conflict), "%v", err)
	f.pos.fail["s-1"] = fault.New(fault.NotFound, "test", "none yet")
	_, err = f.points.Take(t.Context(), v.Scope, v.ID)
	require.True(t, fault.Is(err, fault.NotFound))
	other := state.Scope{Account: v.Scope.Account, Service: state.MGN}
	_, err = f.points.Get(t.Context(), other, p.ID)
	require.True(t, fault.Is(err, fault.NotFound))
	items, _, err := f.points.List(t.Context(), other, v.ID, state.PointFilter{}, state.Page{})
	require.NoError(t, err)
	require.Empty(t, items)
	delete(f.pos.fail, "s-1")
	_, err = f.points.Take(t.Context(), other, v.ID)
	require.True(t, fault.Is(err, fault.NotFound))
}
