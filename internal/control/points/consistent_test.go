package points

import (
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/understudy-dr/understudy/internal/fault"
	"github.com/understudy-dr/understudy/internal/state"
)

// below is a journal that has everything up to a position.
type below struct {
	epoch, reached uint64
	err            error
}

func (b *below) AtOrBelow(_ string, epoch, position uint64) (uint64, time.Time, error) {
	switch {
	case b.err != nil:
		return 0, time.Time{}, b.err
	case epoch != b.epoch:
		return 0, time.Time{}, fault.New(fault.NotFound, "test", "epoch %d", epoch)
	case position > b.reached:
		return 0, time.Time{}, fault.New(fault.Transient, "test", "not yet")
	}
	return position - position%10, time.Unix(0, 1), nil
}

func TestRequestedPoint(t *testing.T) {
	f := setup(t)
	defer f.store.Close()
	ctx, j := t.Context(), &below{epoch: 3, reached: 100}
	c := NewConsistent(f.points, j)
	v := f.server(t, "s-1", state.DRS, state.Continuous)
	f.intend(t, v, state.IntentRun)

	wanted, err := c.Wanted(ctx, v.ID)
	require.NoError(t, err)
	require.Empty(t, wanted)
	q, err := c.Request(ctx, v.Scope, v.ID)
	require.NoError(t, err)
	again, err := c.Request(ctx, v.Scope, v.ID)
	require.NoError(t, err)
	require.Equal(t, q.ID, again.ID, "who asks meanwhile gets the same")
	wanted, err = c.Wanted(ctx, v.ID)
	require.NoError(t, err)
	require.Equal(t, q.ID, wanted)

	m := Reported{ID: "x", RequestID: q.ID, Epoch: 3, Position: 105, Age: time.Minute}
	settled, err := c.Settle(ctx, v.Scope, v.ID, m)
	require.NoError(t, err)
	require.False(t, settled, "not all of it is durable")
	require.Empty(t, f.all(t, v))
	j.reached = 105
	for range 2 { // told again, because the answer was lost
		settled, err = c.Settle(ctx, v.Scope, v.ID, m)
		require.NoError(t, err)
		require.True(t, settled)
		all := f.all(t, v)
		require.Len(t, all, 1)
		require.Equal(t, state.ApplicationConsistent, all[0].Consistency)
		require.EqualValues(t, 100, all[0].Position, "the last write at or below the cut")
		require.WithinDuration(t, time.Now().Add(-time.Minute), all[0].At, 10*time.Second)
		require.Len(t, f.made, 1)
		q, err = c.Requested(ctx, v.Scope, v.ID, q.ID)
		require.NoError(t, err)
		require.Equal(t, all[0].ID, q.PointID)
	}
	wanted, err = c.Wanted(ctx, v.ID)
	require.NoError(t, err)
	require.Empty(t, wanted)
	_, err = c.Requested(ctx, v.Scope, v.ID, "ask-other")
	require.True(t, fault.Is(err, fault.NotFound))

	// Another server's agent that says the same makes a point of its own.
	other := f.server(t, "s-2", state.DRS, state.Continuous)
	settled, err = c.Settle(ctx, other.Scope, other.ID, m)
	require.NoError(t, err)
	require.True(t, settled)
	require.Len(t, f.all(t, other), 1)
	require.Len(t, f.all(t, v), 1)
}

func (f *fixture) intend(t *testing.T, v state.Server, i state.Intent) {
	require.NoError(t, f.store.Update(t.Context(), func(tx state.Tx) error {
		rec, err := tx.Replication(t.Context(), v.ID)
		require.NoError(t, err)
		rec.Intent = i
		return tx.PutReplication(t.Context(), rec)
	}))
}

func TestRequestThatFails(t *testing.T) {
	f := setup(t)
	defer f.store.Close()
	ctx, j := t.Context(), &below{epoch: 3, reached: 100}
	c := NewConsistent(f.points, j)
	v := f.server(t, "s-1", state.DRS, state.Continuous)
	_, err := c.Request(ctx, v.Scope, v.ID)
	require.True(t, fault.Is(err, fault.Conflict), "it is not to run: %v", err)
	_, err = c.Request(ctx, state.Scope{Account: "x", Service: state.DRS}, v.ID)
	require.True(t, fault.Is(err, fault.NotFound), "%v", err)
	f.intend(t, v, state.IntentRun)
	for _, m := range []Reported{{ID: "a", Error: "the script failed"}, {ID: "b", Epoch: 2, Position: 7}} {
		q, err := c.Request(ctx, v.Scope, v.ID)
		require.NoError(t, err)
		m.RequestID = q.ID
		settled, err := c.Settle(ctx, v.Scope, v.ID, m)
		require.NoError(t, err)
		require.True(t, settled)
		q, err = c.Requested(ctx, v.Scope, v.ID, q.ID)
		require.NoError(t, err)
		require.NotEmpty(t, q.Error)
	}
	require.Empty(t, f.all(t, v))
	j.err = fault.New(fault.Corruption, "test", "damaged")
	settled, err := c.Settle(ctx, v.Scope, v.ID, Reported{ID: "c", Epoch: 3, Position: 7})
	require.False(t, settled)
	require.Error(t, err)
	// A server that was stopped keeps nothing.
	j.err = nil
	f.server(t, "s-1", state.DRS, state.Stopped)
	settled, err = c.Settle(ctx, v.Scope, v.ID, Reported{ID: "c", Epoch: 3, Position: 7})
	require.NoError(t, err)
	require.True(t, settled)
	require.Empty(t, f.all(t, v))
}

func TestRequestThatNobodyAnswers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := setup(t)
		defer f.store.Close()
		c := NewConsistent(f.points, &below{})
		v := f.server(t, "s-1", state.DRS, state.Continuous)
		f.intend(t, v, state.IntentRun)
		q, err := c.Request(t.Context(), v.Scope, v.ID)
		require.NoError(t, err)
		<-time.After(RequestFor)
		late, err := c.Requested(t.Context(), v.Scope, v.ID, q.ID)
		require.NoError(t, err)
		require.Contains(t, late.Error, "in time")
		wanted, err := c.Wanted(t.Context(), v.ID)
		require.NoError(t, err)
		require.Empty(t, wanted)
		next, err := c.Request(t.Context(), v.Scope, v.ID)
		require.NoError(t, err)
		require.NotEqual(t, q.ID, next.ID)
	})
}

// All application-consistent points of the last hour are kept, then the first of each interval, beside the others.
func TestConsistentPointsAreKeptBesideTheOthers(t *testing.T) {
	p := policy{rules: defaultRules(), newest: 1}
	now := time.Unix(0, 0).UTC().Add(1000 * 24 * time.Hour)
	var all []state.Point
	for i := 48 * 60; i > 0; i-- {
		at := now.Add(-time.Duration(i) * time.Minute)
		if i%10 == 0 {
			all = append(all, state.Point{ID: fmt.Sprint("crash", i), Expected: at})
		}
		if i%3 == 0 {
			all = append(all, state.Point{ID: fmt.Sprint("app", i), Expected: at.Add(time.Second), Consistency: state.ApplicationConsistent})
		}
	}
	gone := map[string]bool{}
	for _, pt := range p.expired(all, now) {
		gone[pt.ID] = true
	}
	kept := map[state.Consistency]int{}
	for _, pt := range all {
		if !gone[pt.ID] {
			kept[pt.Consistency]++
		}
	}
	// Minutes: one in ten of the last hour; hours: one each of the last 24; days: one each of three.
	plain := policy{rules: defaultRules(), newest: 1}
	var crash []state.Point
	for _, pt := range all {
		if pt.Consistency == state.CrashConsistent {
			crash = append(crash, pt)
		}
	}
	require.Equal(t, len(crash)-len(plain.expired(crash, now)), kept[state.CrashConsistent], "as if there were no others")
	require.GreaterOrEqual(t, kept[state.ApplicationConsistent], 20+23)
	require.LessOrEqual(t, kept[state.ApplicationConsistent], 20+24+3)
	require.False(t, gone["app3"] || gone["app57"], "of the last hour")
}
