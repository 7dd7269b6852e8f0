package operator

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/understudy-dr/understudy/internal/control/events"
	"github.com/understudy-dr/understudy/internal/fault"
	"github.com/understudy-dr/understudy/internal/operatorapi/schema"
	"github.com/understudy-dr/understudy/internal/state"
	"github.com/understudy-dr/understudy/internal/state/location"
)

// cause makes events beside the running server, as another process over the same records does.
func cause(t *testing.T, in installation) (stall func(id string, s state.ReplicationState)) {
	where, err := location.Find(in.dir, "")
	require.NoError(t, err)
	store, err := where.Open(t.Context())
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, store.Close()) })
	r := events.NewRecorder(store, "us-east-1")
	scope := state.Scope{Account: home, Service: state.DRS}
	return func(id string, s state.ReplicationState) {
		require.NoError(t, r.Update(t.Context(), func(tx state.Tx) error {
			ctx := t.Context()
			return errors.Join(
				tx.PutInitialised(ctx, scope, time.Now()),
				tx.PutServer(ctx, state.Server{ID: id, Scope: scope, Identity: id, CreatedAt: time.Now()}),
				tx.PutReplication(ctx, state.Replication{ServerID: id, Scope: scope, State: s, Intent: state.IntentStop}))
		}))
	}
}

func TestEventsAreListedFollowedAndSent(t *testing.T) {
	in := install(t)
	c := in.as(t, schema.AccessKeyMade{})
	got := make(chan string, 10)
	far := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		var e struct{ Data events.Envelope }
		if json.NewDecoder(r.Body).Decode(&e) == nil {
			got <- e.Data.Detail["state"]
		}
	}))
	defer far.Close()
	hook, err := c.CreateWebhook(t.Context(), schema.NewWebhook{URL: far.URL})
	require.NoError(t, err)
	require.Contains(t, hook.Secret, "whsec_")
	stall := cause(t, in)
	stall("s-1", state.Stalled)
	page, err := c.Events(t.Context(), EventsFrom{}, 0)
	require.NoError(t, err)
	require.Len(t, page.Events, 1)
	last, err := c.LastEvent(t.Context())
	require.NoError(t, err)
	require.Equal(t, page.Next, last)

	ctx, stop := context.WithCancel(t.Context())
	followed := make(chan schema.Event)
	ended := make(chan error, 1)
	go func() {
		ended <- c.Follow(ctx, EventsFrom{After: last, Server: "s-2"}, func(e schema.Event) error { followed <- e; return nil }, func(error) {})
	}()
	stall("s-1", state.Continuous)
	stall("s-2", state.Stalled)
	e := <-followed
	require.Contains(t, string(e.Event), `"resources":["arn:aws:drs:us-east-1:`+home+`:source-server/s-2"]`)
	require.EqualValues(t, 3, e.Seq)
	stop()
	require.ErrorIs(t, <-ended, context.Canceled)
	var told []string
	for range 3 {
		told = append(told, <-got)
	}
	require.ElementsMatch(t, []string{"STALLED", "NOT_STALLED", "STALLED"}, told)

	all, err := c.Webhooks(t.Context())
	require.NoError(t, err)
	require.Len(t, all, 1)
	require.Empty(t, all[0].Secret, "it is told once")
	require.NoError(t, c.DeleteWebhook(t.Context(), hook.ID))
	requireKind(t, fault.NotFound, c.DeleteWebhook(t.Context(), hook.ID))
	require.FileExists(t, filepath.Join(in.dir, "audit", "audit.jsonl"))
}
