package points

import (
	"cmp"
	"context"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"path/filepath"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/understudy-dr/understudy/internal/fault"
	"github.com/understudy-dr/understudy/internal/state"
	"github.com/understudy-dr/understudy/internal/state/sqlite"
)

// ledger is the replication server's side: journals with one position a second. What one of them lets go of is gone for
// ever, as in a real one.
type ledger struct {
	mu       sync.Mutex
	journals map[string]*history
	fail     error
}

type history struct {
	newest time.Time
	since  time.Time
	kept   []uint64
	told   int
	quota  int64
}

func newLedger(ids ...string) *ledger {
	l := &ledger{journals: map[string]*history{}}
	for _, id := range ids {
		l.journals[id] = &history{newest: time.Now(), since: time.Now().Add(-100 * 24 * time.Hour)}
	}
	return l
}

func (l *ledger) Attached() (ids []string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for id := range l.journals {
		ids = append(ids, id)
	}
	slices.Sort(ids)
	return ids
}

func (l *ledger) of(id string) (*history, error) {
	if h := l.journals[id]; h != nil && !h.newest.IsZero() {
		return h, nil
	}
	return nil, fault.New(fault.NotFound, "test", "no journal of %s", id)
}

func (l *ledger) Newest(id string) (time.Time, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	h, err := l.of(id)
	if err != nil {
		return time.Time{}, err
	}
	return h.newest, nil
}

func (l *ledger) Recoverable(id string, pos uint64) (time.Time, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	h, err := l.of(id)
	if err != nil {
		return time.Time{}, err
	}
	at := time.Unix(int64(pos), 0)
	if at.After(h.newest) || at.Before(h.since) && !slices.Contains(h.kept, pos) {
		return time.Time{}, fault.New(fault.NotFound, "test", "position %d", pos)
	}
	return at, nil
}

func (l *ledger) RecoverablePosition(id string, at time.Time) (uint64, time.Time, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	h, err := l.of(id)
	if err != nil {
		return 0, time.Time{}, err
	}
	if at.After(h.newest) {
		at = h.newest
	}
	return uint64(at.Unix()), at, nil
}

func (l *ledger) Retain(_ context.Context, id string, since time.Time, positions []uint64) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	h, err := l.of(id)
	if err == nil {
		err = l.fail
	}
	if err != nil {
		return err
	}
	h.told++
	kept := positions[:0:0]
	for _, p := range positions { // what is gone stays gone
		if slices.Contains(h.kept, p) || !time.Unix(int64(p), 0).Before(h.since) {
			kept = append(kept, p)
		}
	}
	h.kept = kept
	if since.After(h.since) {
		h.since = since
	}
	return nil
}

func (l *ledger) SetQuota(id string, bytes int64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if h := l.journals[id]; h != nil {
		h.quota = bytes
	}
}

// look is what is known of a journal at this moment.
func (l *ledger) look(id string) history {
	l.mu.Lock()
	defer l.mu.Unlock()
	return *l.journals[id]
}

// attach makes a journal known, an empty one too.
func (l *ledger) attach(id string, h *history) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.journals[id] = h
}

// refuse makes what is asked fail with err from here on; nil ends that.
func (l *ledger) refuse(err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.fail = err
}

func (l *ledger) advance(id string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.journals[id].newest = time.Now()
}

type retained struct {
	*fixture
	ledger    *ledger
	retention *Retention
}

func setupRetention(t *testing.T, window time.Duration) *retained {
	s, err := sqlite.Open(t.Context(), filepath.Join(t.TempDir(), "state.db"))
	require.NoError(t, err)
	r := &retained{fixture: &fixture{store: s}, ledger: newLedger()}
	r.retention, err = NewRetention(s, r.ledger, window, slog.New(slog.DiscardHandler))
	require.NoError(t, err)
	r.points = New(s, r.ledger, func(p state.Point) { r.retention.Changed(p.ServerID) }, slog.New(slog.DiscardHandler))
	return r
}

func (r *retained) attached(t *testing.T, id string) state.Server {
	v := r.server(t, id, state.DRS, state.Continuous)
	r.ledger.attach(id, newLedger(id).journals[id])
	return v
}

// run keeps points and retention going until the test ends.
func (r *retained) run(t *testing.T) (stop func()) {
	ctx, cancel := context.WithCancel(t.Context())
	var all sync.WaitGroup
	all.Go(func() { require.NoError(t, r.points.Run(ctx)) })
	all.Go(func() { require.NoError(t, r.retention.Run(ctx)) })
	return func() {
		cancel()
		all.Wait()
		require.NoError(t, r.store.Close())
	}
}

// TestNothingWantedIsLetGo lets days pass over random pins, points, windows and outages, and asks after every step for
// everything that was promised.
func TestNothingWantedIsLetGo(t *testing.T) {
	rng := seed(t)
	synctest.Test(t, func(t *testing.T) {
		r := setupRetention(t, time.Hour)
		v := r.attached(t, "s-1")
		stop := r.run(t)
		defer stop()
		window, began := time.Hour, time.Now()
		var begins time.Time // the latest beginning that the window ever had: what was let go of stays away
		promise := func() {
			if b := r.ledger.look(v.ID).newest.Add(-max(window, leastWindow)); b.After(begins) {
				begins = b
			}
		}
		var owners []string
		for step := range 200 {
			promise()
			<-time.After(time.Duration(1+rng.IntN(900)) * time.Second)
			if rng.IntN(8) > 0 {
				r.ledger.advance(v.ID)
				promise()
			}
			switch rng.IntN(6) {
			case 0:
				owner := fmt.Sprintf("job-%d", step)
				if r.pinSomething(t, rng, v, owner) {
					owners = append(owners, owner)
				}
			case 1:
				if len(owners) > 0 {
					n := rng.IntN(len(owners))
					require.NoError(t, r.retention.Release(t.Context(), owners[n]))
					owners = slices.Delete(owners, n, n+1)
				}
			case 2:
				w := time.Duration(rng.IntN(300)) * time.Minute
				require.NoError(t, r.retention.SetWindow(t.Context(), v.Scope, v.ID, &w))
				window = w
				promise()
			case 3:
				_, err := r.points.Take(t.Context(), v.Scope, v.ID)
				if err != nil { // one of the same instant
					require.True(t, fault.Is(err, fault.Conflict), "%v", err)
				}
			}
			synctest.Wait()
			r.requireKept(t, v, begins)
		}
		require.Greater(t, r.ledger.look(v.ID).told, 500)
		require.Greater(t, r.ledger.look(v.ID).since.Sub(began), 10*time.Hour, "and nothing is kept for ever")
	})
}

func (r *retained) pinSomething(t *testing.T, rng *rand.Rand, v state.Server, owner string) bool {
	q := PinRequest{ServerID: v.ID, Owner: owner, Purpose: state.PinLaunch}
	if all := r.all(t, v); len(all) > 0 && rng.IntN(2) == 0 {
		q.PointID = all[rng.IntN(len(all))].ID
	} else {
		q.Position = uint64(r.ledger.look(v.ID).newest.Add(-time.Duration(rng.IntN(7200)) * time.Second).Unix())
	}
	pin, err := r.retention.Pin(t.Context(), v.Scope, q)
	if err != nil {
		require.True(t, fault.Is(err, fault.NotFound) && q.PointID == "", "%v", err)
		return false
	}
	again, err := r.retention.Pin(t.Context(), v.Scope, q)
	require.NoError(t, err)
	require.Equal(t, pin, again, "asked for again")
	return true
}

func (r *retained) requireKept(t *testing.T, v state.Server, begins time.Time) {
	t.Helper()
	for _, p := range r.all(t, v) {
		_, err := r.ledger.Recoverable(v.ID, p.Position)
		require.NoError(t, err, "point of %s", p.At)
	}
	pins, _, err := r.retention.Pins(t.Context(), v.Scope, state.Page{Limit: 1000})
	require.NoError(t, err)
	for _, p := range pins {
		_, err := r.ledger.Recoverable(v.ID, p.Position)
		require.NoError(t, err, "pin of %s at %s", p.Owner, p.At)
		if p.PointID != "" {
			_, err := r.points.Get(t.Context(), v.Scope, p.PointID)
			require.NoError(t, err)
		}
	}
	h := r.ledger.look(v.ID)
	require.False(t, h.since.After(begins), "the window begins at %s, not at %s", h.since, begins)
}

func TestWindowMovesAndSpaceIsLimited(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := setupRetention(t, 0)
		v := r.attached(t, "s-1")
		silent := r.server(t, "s-2", state.DRS, state.Continuous)
		r.ledger.attach(silent.ID, &history{}) // nothing is recoverable yet
		stop := r.run(t)
		defer stop()
		since := func() time.Duration { h := r.ledger.look(v.ID); return h.newest.Sub(h.since) }
		about := func(want time.Duration) {
			t.Helper()
			require.GreaterOrEqual(t, since(), want)
			require.LessOrEqual(t, since(), want+want/100+time.Second)
		}
		synctest.Wait()
		about(DefaultWindow)
		<-time.After(time.Hour)
		about(DefaultWindow) // it counts from the newest instant, and nothing came
		moved := r.ledger.look(v.ID).since
		r.ledger.advance(v.ID)
		<-time.After(retainEvery + time.Second)
		about(DefaultWindow)
		require.True(t, r.ledger.look(v.ID).since.After(moved))

		short := time.Duration(0)
		require.NoError(t, r.retention.SetWindow(t.Context(), v.Scope, v.ID, &short))
		synctest.Wait()
		about(leastWindow) // at once, and never less
		got, err := r.retention.Settings(t.Context(), v.Scope, v.ID)
		require.NoError(t, err)
		require.Equal(t, Settings{Own: true}, got)
		require.NoError(t, r.retention.SetWindow(t.Context(), v.Scope, v.ID, nil))
		require.NoError(t, r.retention.SetQuota(t.Context(), v.Scope, v.ID, 77))
		require.NoError(t, r.retention.SetQuota(t.Context(), v.Scope, silent.ID, 88))
		synctest.Wait()
		about(leastWindow) // what was let go of does not come back
		require.EqualValues(t, 77, r.ledger.look(v.ID).quota)
		require.EqualValues(t, 88, r.ledger.look(silent.ID).quota, "a limit needs nothing recoverable")
		require.Zero(t, r.ledger.look(silent.ID).told, "silence keeps")
		got, err = r.retention.Settings(t.Context(), v.Scope, v.ID)
		require.NoError(t, err)
		require.Equal(t, Settings{Window: DefaultWindow, QuotaBytes: 77}, got)

		r.ledger.refuse(fault.New(fault.Transient, "test", "disk hangs"))
		r.ledger.advance(v.ID)
		told := r.ledger.look(v.ID).told
		<-time.After(3 * time.Minute)
		require.Equal(t, told, r.ledger.look(v.ID).told)
		r.ledger.refuse(nil)
		<-time.After(2 * time.Minute)
		require.Greater(t, r.ledger.look(v.ID).told, told, "told again by itself")
	})
}

func TestPinRefusals(t *testing.T) {
	r := setupRetention(t, time.Hour)
	defer r.store.Close()
	v := r.attached(t, "s-1")
	p, err := r.points.Take(t.Context(), v.Scope, v.ID)
	require.NoError(t, err)
	other := state.Scope{Account: v.Scope.Account, Service: state.MGN}
	for _, c := range []struct {
		scope state.Scope
		q     PinRequest
		kind  fault.Kind
	}{
		{v.Scope, PinRequest{ServerID: v.ID, PointID: "pit-none", Owner: "o", Purpose: state.PinHold}, fault.NotFound},
		{other, PinRequest{ServerID: v.ID, PointID: p.ID, Owner: "o", Purpose: state.PinHold}, fault.NotFound},
		{other, PinRequest{ServerID: v.ID, Position: p.Position, Owner: "o", Purpose: state.PinHold}, fault.NotFound},
		{v.Scope, PinRequest{ServerID: "s-2", PointID: p.ID, Owner: "o", Purpose: state.PinHold}, fault.NotFound},
		{v.Scope, PinRequest{ServerID: v.ID, Position: 1, Owner: "o", Purpose: state.PinHold}, fault.NotFound},
		{v.Scope, PinRequest{ServerID: v.ID, Owner: "o", Purpose: state.PinHold}, fault.Invalid},
		{v.Scope, PinRequest{ServerID: v.ID, PointID: p.ID, Purpose: state.PinHold}, fault.Bug},
	} {
		_, err := r.retention.Pin(t.Context(), c.scope, c.q)
		require.Equal(t, c.kind, fault.KindOf(err), "%+v: %v", c.q, err)
	}
	pin, err := r.retention.Pin(t.Context(), v.Scope, PinRequest{ServerID: v.ID, PointID: p.ID, Owner: "drsjob-1", Purpose: state.PinLaunch})
	require.NoError(t, err)
	require.Equal(t, p.Position, pin.Position)
	err = r.points.Delete(t.Context(), v.Scope, p.ID)
	require.Equal(t, fault.Conflict, fault.KindOf(err))
	require.NotEmpty(t, fault.HintOf(err))
	require.NoError(t, r.retention.Release(t.Context(), "drsjob-1"))
	require.NoError(t, r.retention.Release(t.Context(), "drsjob-1"))
	require.NoError(t, r.points.Delete(t.Context(), v.Scope, p.ID))
	require.Equal(t, fault.NotFound, fault.KindOf(r.points.Delete(t.Context(), v.Scope, p.ID)))
	require.Equal(t, fault.NotFound, fault.KindOf(r.retention.SetQuota(t.Context(), other, v.ID, 1)))
	require.Equal(t, fault.Invalid, fault.KindOf(r.retention.SetQuota(t.Context(), v.Scope, v.ID, -1)))
	for _, w := range []time.Duration{-1, MaxWindow + 1} {
		require.Equal(t, fault.Invalid, fault.KindOf(r.retention.SetWindow(t.Context(), v.Scope, v.ID, &w)))
		_, err := NewRetention(r.store, r.ledger, w, slog.Default())
		require.Equal(t, fault.Invalid, fault.KindOf(err))
	}
}

// TestPinnedPointOutlivesItsRules: the rules drop a point, but not under whoever uses it; and a restart changes nothing.
func TestPinnedPointOutlivesItsRules(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := setupRetention(t, time.Hour)
		v := r.attached(t, "s-1")
		v.Config.PITPolicy[2].Enabled = false
		require.NoError(t, r.store.Update(t.Context(), func(tx state.Tx) error { return tx.PutServer(t.Context(), v) }))
		p, err := r.points.Take(t.Context(), v.Scope, v.ID)
		require.NoError(t, err)
		for _, q := range []PinRequest{
			{ServerID: v.ID, PointID: p.ID, Owner: "drsjob-1", Purpose: state.PinLaunch},
			{ServerID: v.ID, Position: p.Position, Owner: "nbd-1", Purpose: state.PinExport},
		} {
			_, err = r.retention.Pin(t.Context(), v.Scope, q)
			require.NoError(t, err)
		}
		stop := r.run(t) // as after a restart: what was read through a connection is read no more
		defer stop()
		for range 30 {
			<-time.After(time.Hour)
			r.ledger.advance(v.ID)
		}
		synctest.Wait()
		require.LessOrEqual(t, len(r.all(t, v)), 6+24+2, "the others go meanwhile")
		first := slices.MinFunc(r.all(t, v), func(a, b state.Point) int { return cmp.Compare(a.Position, b.Position) })
		require.Equal(t, p.ID, first.ID)
		pins, _, err := r.retention.Pins(t.Context(), v.Scope, state.Page{})
		require.NoError(t, err)
		require.Len(t, pins, 1)
		r.requireKept(t, v, time.Now())
		require.NoError(t, r.retention.Release(t.Context(), "drsjob-1"))
		<-time.After(interval + time.Minute)
		_, err = r.points.Get(t.Context(), v.Scope, p.ID)
		require.Equal(t, fault.NotFound, fault.KindOf(err))
		_, err = r.ledger.Recoverable(v.ID, p.Position)
		require.Equal(t, fault.NotFound, fault.KindOf(err), "nothing keeps it any more")
	})
}
