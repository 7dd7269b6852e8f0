package replication

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/understudy-dr/understudy/internal/state"
)

// golden is the whole state machine, written out by hand. "." is refused or ignored, "<" goes back to
// what was interrupted (here BACKLOG). Columns follow Operations, then Observations.
const golden = `
from              | Start | Stop | Pause | Resume | Retry | Disco | Final | Delete | reinst | stepF | due  | lost | stall | unstall | copy | rescan | backlog | drained | missing | point
STOPPED           | INIT  | .    | .     | .      | .     | DISC  | DISC  | .      | .      | .     | .    | .    | .     | .       | .    | .      | .       | .       | .       | .
INITIATING        | .     | STOP | PAUS  | .      | .     | DISC  | DISC  | .      | INIT   | STAL  | .    | .    | STAL  | .       | SYNC | RESC   | BACK    | .       | .       | .
INITIAL_SYNC      | .     | STOP | PAUS  | .      | .     | DISC  | DISC  | .      | INIT   | .     | .    | INIT | STAL  | .       | .    | RESC   | BACK    | .       | .       | .
BACKLOG           | .     | STOP | PAUS  | .      | .     | DISC  | DISC  | .      | INIT   | .     | .    | INIT | STAL  | .       | SYNC | RESC   | .       | CONT    | CREA    | .
CREATING_SNAPSHOT | .     | STOP | PAUS  | .      | .     | DISC  | DISC  | .      | INIT   | .     | .    | INIT | STAL  | .       | SYNC | RESC   | BACK    | .       | .       | CONT
CONTINUOUS        | .     | STOP | PAUS  | .      | .     | DISC  | DISC  | .      | INIT   | .     | .    | INIT | STAL  | .       | SYNC | RESC   | BACK    | .       | .       | .
PAUSED            | .     | STOP | .     | BACK   | .     | DISC  | DISC  | .      | .      | .     | .    | .    | .     | .       | .    | .      | .       | .       | .       | .
RESCAN            | .     | STOP | PAUS  | .      | .     | DISC  | DISC  | .      | INIT   | .     | .    | INIT | STAL  | .       | SYNC | .      | BACK    | .       | .       | .
STALLED           | .     | STOP | PAUS  | .      | STAL  | DISC  | DISC  | .      | INIT   | .     | INIT | .    | .     | BACK    | .    | .      | .       | .       | .       | .
DISCONNECTED      | .     | .    | .     | .      | .     | .     | .     | DISC   | INIT   | .     | .    | .    | .     | .       | .    | .      | .       | .       | .       | .
`

var short = map[string]state.ReplicationState{"INIT": state.Initiating, "STOP": state.Stopped, "PAUS": state.Paused, "DISC": state.Disconnected,
	"STAL": state.Stalled, "SYNC": state.InitialSync, "RESC": state.Rescan, "BACK": state.Backlog, "CONT": state.Continuous, "CREA": state.CreatingSnapshot}

func TestEveryTransition(t *testing.T) {
	lines := strings.Split(strings.TrimSpace(golden), "\n")[1:]
	require.Len(t, lines, len(state.ReplicationStates))
	triggers := slices.Concat(Operations, Observations)
	for i, line := range lines {
		cells := strings.Split(line, "|")
		require.Len(t, cells, len(triggers)+1)
		from := state.ReplicationStates[i]
		require.Equal(t, string(from), strings.TrimSpace(cells[0]))
		for j, on := range triggers {
			cell := strings.TrimSpace(cells[j+1])
			for _, service := range []state.Service{state.MGN, state.DRS} {
				t.Run(fmt.Sprintf("%s %s %s", service, from, on), func(t *testing.T) {
					want, allowed := short[cell]
					if service == state.DRS && (on == OpPause || on == OpResume || on == OpFinalize) {
						allowed = false
					}
					r := state.Replication{State: from, Resume: state.Backlog, Scope: state.Scope{Service: service}}
					before := clone(r)
					require.Equal(t, allowed, move(&r, on, time.Now()))
					if allowed {
						require.Equal(t, want, r.State)
					} else {
						require.Equal(t, before, r)
					}
				})
			}
		}
	}
}

func TestTableRowsAreUnambiguous(t *testing.T) {
	seen := map[string]bool{}
	for _, row := range Table {
		require.True(t, slices.Contains(Operations, row.On) || slices.Contains(Observations, row.On), row.On)
		for _, from := range row.From {
			key := fmt.Sprint(row.On, from)
			require.False(t, seen[key], key)
			seen[key] = true
		}
	}
}

func TestWhatAnInterruptionGoesBackTo(t *testing.T) {
	for from, want := range map[state.ReplicationState]state.ReplicationState{
		state.Initiating: state.Initiating, state.InitialSync: state.InitialSync, state.Rescan: state.Rescan,
		state.Backlog: state.Backlog, state.CreatingSnapshot: state.Backlog, state.Continuous: state.Backlog,
	} {
		for _, way := range [][]Trigger{{Stall, Unstall}, {OpPause, OpResume}, {Stall, OpPause, OpResume}} {
			r := state.Replication{State: from, Scope: state.Scope{Service: state.MGN}}
			for _, on := range way {
				require.True(t, move(&r, on, time.Now()), "%s %s", from, on)
			}
			require.Equal(t, want, r.State, "%s %v", from, way)
		}
	}
}

func TestAttemptWindow(t *testing.T) {
	at := func(s string) time.Time {
		v, err := time.Parse(time.RFC3339Nano, "2026-01-02T"+s+"Z")
		require.NoError(t, err)
		return v
	}
	// The real services' values.
	for start, want := range map[string]string{"18:54:33.5": "19:25:00", "18:50:35": "19:21:00", "18:54:00": "19:24:00"} {
		r := state.Replication{State: state.Stopped}
		require.True(t, move(&r, OpStart, at(start)))
		require.Equal(t, at(want), r.Attempt.NextAttemptAt)
		require.Len(t, r.Attempt.Steps, 11)
	}
	r := state.Replication{State: state.Stopped}
	move(&r, OpStart, at("18:54:26"))
	r.State = state.Continuous
	move(&r, PathLost, at("18:56:10"))
	require.Equal(t, at("18:56:10"), r.Attempt.StartedAt)
	require.Equal(t, at("19:25:00"), r.Attempt.NextAttemptAt, "a repair keeps the window")
	require.EqualValues(t, 2, r.Attempt.ID)
	r.State = state.Continuous
	move(&r, PathLost, at("20:00:30"))
	require.Equal(t, at("20:31:00"), r.Attempt.NextAttemptAt, "a later one does not")
	r.State = state.Stalled
	move(&r, AttemptDue, at("20:02:00"))
	require.Equal(t, at("20:32:00"), r.Attempt.NextAttemptAt)
	shown := describe(r, at("23:07:49"), 0, rate{})
	require.Equal(t, at("23:08:00"), shown.Attempt.NextAttemptAt)
}

func TestStepLimitsFitTheWindow(t *testing.T) {
	sum := time.Duration(0)
	for _, s := range state.StepNames {
		if limit, ok := waitLimits[s]; ok {
			sum += limit
		} else {
			sum += stepLimit
		}
	}
	require.LessOrEqual(t, sum, AttemptWindow)
}

func TestRate(t *testing.T) {
	var r rate
	now := time.Unix(1000, 0)
	require.Zero(t, r.eta(now))
	for i := range 200 {
		r.sample(now.Add(time.Duration(i)*time.Second), uint64(1000-4*i))
	}
	end := now.Add(199 * time.Second)
	require.WithinDuration(t, end.Add(51*time.Second), r.eta(end), time.Second) // 204 left at 4 per second
	for i := 200; i < 500; i++ {
		r.sample(now.Add(time.Duration(i)*time.Second), 204)
	}
	require.Zero(t, r.eta(now.Add(500*time.Second)), "what does not get less never arrives")
}
