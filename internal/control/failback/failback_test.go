package failback_test

import (
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/understudy-dr/understudy/internal/control/accounts"
	"github.com/understudy-dr/understudy/internal/control/failback"
	"github.com/understudy-dr/understudy/internal/control/jobs"
	"github.com/understudy-dr/understudy/internal/control/launches"
	"github.com/understudy-dr/understudy/internal/control/recovery"
	"github.com/understudy-dr/understudy/internal/fault"
	"github.com/understudy-dr/understudy/internal/state"
	"github.com/understudy-dr/understudy/internal/state/sqlite"
)

var (
	scope    = state.Scope{Account: "111122223333", Service: state.DRS}
	stranger = state.Scope{Account: "444455556666", Service: state.DRS}
)

type taken struct{ jobs []state.Job }

func (l *taken) Take(j state.Job) { l.jobs = append(l.jobs, j) }

type world struct {
	*failback.Failbacks
	store    state.Store
	launcher *taken
	made     int
}

func open(t *testing.T, withLauncher bool) *world {
	t.Helper()
	store, err := sqlite.Open(t.Context(), filepath.Join(t.TempDir(), "state.db"))
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, store.Close()) })
	for _, s := range []state.Scope{scope, stranger} {
		require.NoError(t, accounts.New(store).Initialize(t.Context(), s))
	}
	w := &world{store: store, launcher: &taken{}}
	var launcher launches.Launcher
	if withLauncher {
		launcher = w.launcher
	}
	w.Failbacks = failback.New(recovery.Keeper(store), jobs.New(store, nil), launcher)
	return w
}

func (w *world) instance(t *testing.T, in state.FailbackState, change ...func(*state.RecoveryInstance)) string {
	t.Helper()
	w.made++
	v := state.RecoveryInstance{ID: fmt.Sprintf("i-%017x", w.made), Scope: scope, ServerID: fmt.Sprintf("s-%017x", w.made), CreatedAt: time.Now().UTC(),
		State: state.RIRunning, Failback: failback.Fresh(false)}
	v.Failback.State = in
	for _, fn := range change {
		fn(&v)
	}
	require.NoError(t, w.store.Update(t.Context(), func(tx state.Tx) error { return tx.PutRecoveryInstance(t.Context(), v) }))
	return v.ID
}

func (w *world) read(t *testing.T, id string) (v state.RecoveryInstance) {
	t.Helper()
	require.NoError(t, w.store.View(t.Context(), func(r state.Reader) (err error) {
		v, err = r.RecoveryInstance(t.Context(), scope, id)
		return err
	}))
	return v
}

// golden is the whole state machine, written out by hand; "." is refused or ignored. Columns follow Operations,
// then Observations.
const golden = `
from                                | Reverse | Launch | Stop | linked | synced | lag  | failed | again | launched | out  | within
FAILBACK_NOT_STARTED                | .       | .      | .    | PROG   | .      | .    | .      | .     | .        | .    | .
FAILBACK_IN_PROGRESS                | .       | .      | NOT  | .      | READY  | .    | ERR    | .     | .        | .    | .
FAILBACK_READY_FOR_LAUNCH           | .       | READY  | NOT  | .      | .      | PROG | ERR    | .     | DONE     | .    | .
FAILBACK_COMPLETED                  | .       | .      | .    | PROG   | .      | .    | .      | .     | .        | .    | .
FAILBACK_ERROR                      | .       | .      | NOT  | PROG   | .      | .    | .      | PROG  | .        | .    | .
FAILBACK_NOT_READY_FOR_LAUNCH       | NREADY  | .      | .    | .      | READY  | .    | .      | .     | .        | AWAY | .
FAILBACK_LAUNCH_STATE_NOT_AVAILABLE | .       | .      | .    | .      | .      | .    | .      | .     | .        | .    | NREADY
`

var short = map[string]state.FailbackState{"NOT": state.FailbackNotStarted, "PROG": state.FailbackInProgress, "READY": state.FailbackReadyForLaunch,
	"DONE": state.FailbackCompleted, "ERR": state.FailbackError, "NREADY": state.FailbackNotReady, "AWAY": state.FailbackNotAvailable}

func TestEveryTransition(t *testing.T) {
	lines := strings.Split(strings.TrimSpace(golden), "\n")[1:]
	require.Len(t, lines, len(state.FailbackStates))
	triggers := slices.Concat(failback.Operations, failback.Observations)
	for i, line := range lines {
		cells := strings.Split(line, "|")
		require.Len(t, cells, len(triggers)+1)
		from := state.FailbackStates[i]
		require.Equal(t, string(from), strings.TrimSpace(cells[0]))
		for j, on := range triggers {
			want, allowed := short[strings.TrimSpace(cells[j+1])]
			v := state.RecoveryInstance{ID: "i-1", Failback: state.Failback{State: from}}
			err := failback.Move(&v, on)
			_, ok := failback.Next(from, on)
			require.Equal(t, allowed, ok, "%s %s", from, on)
			if allowed {
				require.NoError(t, err)
				require.Equal(t, want, v.Failback.State, "%s %s", from, on)
				continue
			}
			require.Equal(t, from, v.Failback.State)
			refused := on == failback.OpReverse || on == failback.OpLaunch
			require.Equal(t, refused, fault.Is(err, fault.Conflict), "%s %s: %v", from, on, err)
		}
	}
}

func TestConfiguration(t *testing.T) {
	w, ctx := open(t, false), t.Context()
	id := w.instance(t, state.FailbackNotStarted)
	c, err := w.Config(ctx, scope, id)
	require.NoError(t, err)
	require.Equal(t, state.FailbackConfig{Name: "Failback Replication Configuration", InternetProtocol: "IPV4"}, c)
	require.NoError(t, w.UpdateConfig(ctx, scope, id, failback.Patch{BandwidthMbps: new(int64(50)), UsePrivateIP: new(true)}))
	require.NoError(t, w.UpdateConfig(ctx, scope, id, failback.Patch{Name: new("mine")}))
	c, err = w.Config(ctx, scope, id)
	require.NoError(t, err)
	require.Equal(t, state.FailbackConfig{Name: "mine", BandwidthMbps: 50, UsePrivateIP: true, InternetProtocol: "IPV4"}, c)
	_, err = w.Config(ctx, stranger, id)
	require.True(t, fault.Is(err, fault.NotFound), "%v", err)
	require.True(t, fault.Is(w.UpdateConfig(ctx, scope, "i-0", failback.Patch{}), fault.NotFound))
}

func TestStop(t *testing.T) {
	w, ctx := open(t, false), t.Context()
	for _, in := range state.FailbackStates {
		id := w.instance(t, in, func(v *state.RecoveryInstance) {
			v.Failback.Replication, v.Failback.ClientID, v.Failback.Config.BandwidthMbps = state.InitialSync, "client", 9
		})
		require.NoError(t, w.Stop(ctx, scope, id), in)
		require.NoError(t, w.Stop(ctx, scope, id), "%s, again", in)
		f := w.read(t, id).Failback
		require.EqualValues(t, 9, f.Config.BandwidthMbps)
		if in == state.FailbackInProgress || in == state.FailbackReadyForLaunch || in == state.FailbackError {
			require.Equal(t, state.FailbackNotStarted, f.State)
			require.Equal(t, state.ReplicationNotStarted, f.Replication)
			require.Empty(t, f.ClientID)
			continue
		}
		require.Equal(t, in, f.State)
		require.Equal(t, "client", f.ClientID, "there was nothing to stop")
	}
	require.True(t, fault.Is(w.Stop(ctx, scope, "i-0"), fault.NotFound))
}

func TestLaunch(t *testing.T) {
	w, ctx := open(t, true), t.Context()
	a, b, early := w.instance(t, state.FailbackReadyForLaunch), w.instance(t, state.FailbackReadyForLaunch), w.instance(t, state.FailbackInProgress)
	for _, c := range []struct {
		ids  []string
		kind fault.Kind
	}{{[]string{a, "i-0"}, fault.NotFound}, {[]string{a, early}, fault.Conflict}, {[]string{a, a}, fault.Invalid}} {
		_, err := w.Launch(ctx, scope, c.ids, nil)
		require.True(t, fault.Is(err, c.kind), "%v: %v", c.ids, err)
	}
	require.Empty(t, w.read(t, a).Failback.JobID, "all or none")
	j, err := w.Launch(ctx, scope, []string{a, b}, map[string]string{"k": "v"})
	require.NoError(t, err)
	require.Equal(t, state.ByFailback, j.InitiatedBy)
	require.Equal(t, []state.Job{j}, w.launcher.jobs)
	require.Equal(t, j.ID, w.read(t, b).Failback.JobID)
	_, err = w.Launch(ctx, scope, []string{a}, nil)
	require.True(t, fault.Is(err, fault.Conflict), "it is in a job: %v", err)

	without := open(t, false)
	_, err = without.Launch(ctx, scope, []string{without.instance(t, state.FailbackInProgress)}, nil)
	require.True(t, fault.Is(err, fault.Conflict), "what is wrong is said first: %v", err)
	_, err = without.Launch(ctx, scope, []string{without.instance(t, state.FailbackReadyForLaunch)}, nil)
	require.True(t, fault.Is(err, fault.Unsupported), "%v", err)
	require.ErrorContains(t, err, "no launch provider is configured")
}

func TestReverseIsCheckedAndRefused(t *testing.T) {
	w, ctx := open(t, true), t.Context()
	aws := func(v *state.RecoveryInstance) { v.OriginAWS = true }
	for name, c := range map[string]struct {
		id   string
		kind fault.Kind
	}{
		"unknown":          {"i-0", fault.NotFound},
		"of own hardware":  {w.instance(t, state.FailbackNotStarted), fault.Invalid},
		"disconnected":     {w.instance(t, state.FailbackNotReady, aws, func(v *state.RecoveryInstance) { v.Disconnected = true }), fault.Conflict},
		"reversed already": {w.instance(t, state.FailbackNotReady, aws, func(v *state.RecoveryInstance) { v.Failback.ReversedServer = "s-1" }), fault.Conflict},
		"on its way back":  {w.instance(t, state.FailbackReadyForLaunch, aws), fault.Conflict},
		"as it should be":  {w.instance(t, state.FailbackNotReady, aws), fault.Unsupported},
	} {
		err := w.Reverse(ctx, scope, c.id)
		require.True(t, fault.Is(err, c.kind), "%s: %v", name, err)
	}
}
