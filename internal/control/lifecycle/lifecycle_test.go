package lifecycle

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/understudy-dr/understudy/internal/fault"
	"github.com/understudy-dr/understudy/internal/state"
)

var states = []state.LifeCycleState{state.LifeCycleNone, state.LifeCycleStopped, state.NotReady, state.ReadyForTest, state.Testing,
	state.ReadyForCutover, state.CuttingOver, state.Cutover, state.LifeDisconnected, state.Discovered, state.PendingInstallation}

// golden is the whole machine, written out by hand: "-" stays, "!" refuses.
const golden = `
from                 | imported             | registered | started   | stopped | launchable     | disconnected | StartTest | StartCutover | Finalize | ReadyForTest   | ReadyForCutover   | Cutover
                     | PENDING_INSTALLATION | NOT_READY  | -         | STOPPED | -              | -            | !         | !            | !        | !              | !                 | !
STOPPED              | -                    | -          | NOT_READY | -       | -              | DISCONNECTED | !         | !            | !        | !              | !                 | !
NOT_READY            | -                    | -          | -         | STOPPED | READY_FOR_TEST | DISCONNECTED | !         | !            | !        | !              | !                 | !
READY_FOR_TEST       | -                    | -          | -         | STOPPED | -              | DISCONNECTED | TESTING   | !            | !        | !              | !                 | !
TESTING              | -                    | -          | -         | STOPPED | -              | DISCONNECTED | TESTING   | !            | !        | READY_FOR_TEST | READY_FOR_CUTOVER | !
READY_FOR_CUTOVER    | -                    | -          | -         | STOPPED | -              | DISCONNECTED | TESTING   | CUTTING_OVER | !        | READY_FOR_TEST | !                 | !
CUTTING_OVER         | -                    | -          | -         | STOPPED | -              | DISCONNECTED | !         | CUTTING_OVER | CUTOVER  | !              | READY_FOR_CUTOVER | CUTOVER
CUTOVER              | -                    | NOT_READY  | -         | -       | -              | -            | !         | !            | !        | !              | READY_FOR_CUTOVER | !
DISCONNECTED         | -                    | NOT_READY  | -         | -       | -              | -            | !         | !            | !        | !              | !                 | CUTOVER
DISCOVERED           | -                    | NOT_READY  | NOT_READY | -       | -              | DISCONNECTED | !         | !            | !        | !              | !                 | !
PENDING_INSTALLATION | -                    | NOT_READY  | -         | -       | -              | DISCONNECTED | !         | !            | !        | !              | !                 | !
`

func TestEveryTransition(t *testing.T) {
	lines := strings.Split(strings.TrimSpace(golden), "\n")[1:]
	require.Len(t, lines, len(states))
	for i, line := range lines {
		cells := strings.Split(line, "|")
		require.Len(t, cells, len(Triggers)+1)
		require.Equal(t, string(states[i]), strings.TrimSpace(cells[0]))
		for j, on := range Triggers {
			want := strings.TrimSpace(cells[j+1])
			t.Run(fmt.Sprintf("%s %s", states[i], on), func(t *testing.T) {
				v := state.Server{Scope: state.Scope{Service: state.MGN}, LifeCycle: state.LifeCycle{State: states[i]}}
				err := Apply(&v, on)
				if want == "!" {
					require.True(t, fault.Is(err, fault.Conflict), "%v", err)
				} else {
					require.NoError(t, err)
				}
				if slices.Contains([]string{"!", "-"}, want) {
					want = string(states[i])
				}
				require.Equal(t, want, string(v.LifeCycle.State))
			})
		}
	}
}

func TestDRSHasNone(t *testing.T) {
	for _, on := range Triggers {
		v := state.Server{Scope: state.Scope{Service: state.DRS}}
		require.NoError(t, Apply(&v, on))
		require.Empty(t, v.LifeCycle.State)
	}
}
