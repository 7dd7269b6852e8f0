package statetest

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/understudy-dr/understudy/internal/fault"
	"github.com/understudy-dr/understudy/internal/state"
)

func event(account, subject string, n int) state.Event {
	return state.Event{ID: fmt.Sprintf("e-%d", n), Account: account, Region: "r", Source: "aws.drs", DetailType: "Something", Subject: subject,
		Resources: []string{"arn"}, Detail: map[string]string{"state": "STALLED"}, At: epoch.Add(time.Duration(n) * time.Second)}
}

func testEvents(t *testing.T, s state.Store) {
	var all []state.Event
	for n := range 7 {
		e := event(drs.Account, fmt.Sprintf("s-%d", n%2), n)
		if n == 3 {
			e.Account = other.Account
		}
		update(t, s, func(ctx context.Context, tx state.Tx) (err error) {
			e, err = tx.AddEvent(ctx, e)
			return err
		})
		require.EqualValues(t, n+1, e.Seq)
		all = append(all, e)
	}
	boom := errors.New("boom")
	require.ErrorIs(t, try(t, s, func(ctx context.Context, tx state.Tx) error {
		_, err := tx.AddEvent(ctx, event(drs.Account, "s-0", 9))
		return errors.Join(boom, err)
	}), boom)
	for _, x := range []struct {
		filter state.EventFilter
		want   []state.Event
	}{
		{state.EventFilter{}, []state.Event{all[0], all[1], all[2], all[4], all[5], all[6]}},
		{state.EventFilter{After: 2, Limit: 2}, []state.Event{all[2], all[4]}},
		{state.EventFilter{Subject: "s-1"}, []state.Event{all[1], all[5]}},
		{state.EventFilter{Subject: "s-1", After: 2}, []state.Event{all[5]}},
		{state.EventFilter{After: 7}, nil},
	} {
		view(t, s, func(ctx context.Context, r state.Reader) {
			got, err := r.Events(ctx, drs.Account, x.filter)
			require.NoError(t, err)
			require.Equal(t, x.want, got, "%+v", x.filter)
		})
	}
	// An emptied table does not begin anew: places that readers remember stay good.
	update(t, s, func(ctx context.Context, tx state.Tx) error { return tx.ExpireEvents(ctx, epoch.Add(time.Hour)) })
	update(t, s, func(ctx context.Context, tx state.Tx) error {
		last, err := tx.LastEvent(ctx)
		require.NoError(t, err)
		require.EqualValues(t, 7, last)
		e, err := tx.AddEvent(ctx, event(drs.Account, "s-0", 10))
		require.EqualValues(t, 8, e.Seq)
		return err
	})
}

func testFirstTime(t *testing.T, s state.Store) {
	initialise(t, s)
	put(t, s, server(mgn, 1))
	first := func(what string) (yes bool) {
		update(t, s, func(ctx context.Context, tx state.Tx) (err error) {
			yes, err = tx.FirstTime(ctx, server(mgn, 1).ID, what)
			return err
		})
		return yes
	}
	require.True(t, first("a"))
	require.False(t, first("a"))
	require.True(t, first("b"))
	forget := func(what string) (was bool) {
		update(t, s, func(ctx context.Context, tx state.Tx) (err error) {
			was, err = tx.Forget(ctx, server(mgn, 1).ID, what)
			return err
		})
		return was
	}
	require.True(t, forget("b"))
	require.False(t, forget("b"))
	require.True(t, first("b"))
	update(t, s, func(ctx context.Context, tx state.Tx) error { return tx.DeleteServer(ctx, server(mgn, 1).ID) })
	put(t, s, server(mgn, 1))
	require.True(t, first("a"), "another life")
}

func testWebhooks(t *testing.T, s state.Store) {
	a := state.Webhook{ID: "wh-a", Account: drs.Account, URL: "https://a", CreatedAt: epoch.Add(time.Second)}
	b := state.Webhook{ID: "wh-b", Account: drs.Account, URL: "https://b", Binary: true, CreatedAt: epoch}
	c := state.Webhook{ID: "wh-c", Account: other.Account, URL: "https://c", CreatedAt: epoch}
	update(t, s, func(ctx context.Context, tx state.Tx) error {
		return errors.Join(tx.PutWebhook(ctx, a), tx.PutWebhook(ctx, b), tx.PutWebhook(ctx, c))
	})
	list := func(account string) (out []state.Webhook) {
		view(t, s, func(ctx context.Context, r state.Reader) {
			var err error
			out, err = r.Webhooks(ctx, account)
			require.NoError(t, err)
		})
		return out
	}
	require.Equal(t, []state.Webhook{b, a}, list(drs.Account))
	require.Len(t, list(""), 3)
	update(t, s, func(ctx context.Context, tx state.Tx) error { return tx.DeleteWebhook(ctx, other.Account, a.ID) })
	require.Len(t, list(drs.Account), 2, "a delete in another account must not reach it")
	view(t, s, func(ctx context.Context, r state.Reader) {
		got, err := r.Webhook(ctx, drs.Account, a.ID)
		require.NoError(t, err)
		require.Equal(t, a, got)
		_, err = r.Webhook(ctx, other.Account, a.ID)
		requireKind(t, fault.NotFound, err)
	})
}

func testLanes(t *testing.T, s state.Store) {
	testWebhooks(t, s) // leaves wh-a and wh-b
	update(t, s, func(ctx context.Context, tx state.Tx) error {
		for n, subject := range []string{"s-1", "s-0", "s-1"} {
			if _, err := tx.AddEvent(ctx, event(drs.Account, subject, n)); err != nil {
				return err
			}
		}
		return nil
	})
	lanes := func(webhook string) (out []state.Lane) {
		view(t, s, func(ctx context.Context, r state.Reader) {
			var err error
			out, err = r.Lanes(ctx, webhook, 10)
			require.NoError(t, err)
		})
		return out
	}
	one := state.Lane{Webhook: "wh-a", Subject: "s-1", After: 0, NextAt: epoch}
	zero := state.Lane{Webhook: "wh-a", Subject: "s-0", After: 1, NextAt: epoch.Add(time.Second)}
	require.Equal(t, []state.Lane{one, zero}, lanes("wh-a"))
	require.Len(t, lanes("wh-b"), 2)
	require.Empty(t, lanes("wh-c"), "events of another account")
	one.Attempts, one.NextAt = 3, epoch.Add(time.Hour)
	update(t, s, func(ctx context.Context, tx state.Tx) error { return tx.PutLane(ctx, one) })
	require.Equal(t, []state.Lane{zero, one}, lanes("wh-a"))
	update(t, s, func(ctx context.Context, tx state.Tx) error { return tx.DeleteLane(ctx, "wh-a", "s-0") })
	view(t, s, func(ctx context.Context, r state.Reader) {
		got, err := r.Lane(ctx, "wh-a", "s-1")
		require.NoError(t, err)
		require.Equal(t, one, got)
		_, err = r.Lane(ctx, "wh-a", "s-0")
		requireKind(t, fault.NotFound, err)
	})
	update(t, s, func(ctx context.Context, tx state.Tx) error { return tx.DeleteWebhook(ctx, drs.Account, "wh-a") })
	require.Empty(t, lanes("wh-a"))
}
