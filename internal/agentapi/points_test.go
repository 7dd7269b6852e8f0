package agentapi

import (
	"context"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/understudy-dr/understudy/internal/agentapi/agentpb"
	"github.com/understudy-dr/understudy/internal/control/points"
	"github.com/understudy-dr/understudy/internal/fault"
	"github.com/understudy-dr/understudy/internal/state"
)

// keeper settles what is not at position 0.
type keeper struct {
	wanted string
	got    []points.Reported
}

func (k *keeper) Wanted(context.Context, string) (string, error) { return k.wanted, nil }

func (k *keeper) Settle(_ context.Context, _ state.Scope, _ string, m points.Reported) (bool, error) {
	if m.ID == "" {
		return false, fault.New(fault.Unknown, "test", "the store is gone")
	}
	k.got = append(k.got, m)
	return m.Position != 0, nil
}

func TestHandshakeCarriesPoints(t *testing.T) {
	k := &keeper{}
	s := &service{Config{Points: k}}
	now := time.Now()
	ask := func(told ...*agentpb.ConsistentPoint) (*agentpb.HandshakeResponse, error) {
		out := &agentpb.HandshakeResponse{NextHandshakeSeconds: 10}
		r := &agentpb.HandshakeRequest{SourceServerId: "s-1", AgentTimeNs: now.UnixNano(), Points: told}
		return out, s.points(t.Context(), state.Scope{}, r, out)
	}
	out, err := ask()
	require.NoError(t, err)
	require.EqualValues(t, 10, out.NextHandshakeSeconds)

	done := &agentpb.ConsistentPoint{Id: "a", RequestId: "ask-1", Epoch: 2, Position: 9, TimeNs: now.Add(-time.Minute).UnixNano()}
	out, err = ask(done)
	require.NoError(t, err)
	require.Equal(t, []string{"a"}, out.PointsSettled)
	require.EqualValues(t, 10, out.NextHandshakeSeconds)
	require.Equal(t, []points.Reported{{ID: "a", RequestID: "ask-1", Epoch: 2, Position: 9, Age: time.Minute}}, k.got, "the age is by one clock")

	k.wanted = "ask-2"
	out, err = ask()
	require.NoError(t, err)
	require.Equal(t, "ask-2", out.PointWanted)
	require.EqualValues(t, 1, out.NextHandshakeSeconds, "it is waited for")
	k.wanted = ""
	out, err = ask(done, &agentpb.ConsistentPoint{Id: "b"})
	require.NoError(t, err)
	require.Equal(t, []string{"a"}, out.PointsSettled)
	require.EqualValues(t, 1, out.NextHandshakeSeconds, "one is not settled")

	many := make([]*agentpb.ConsistentPoint, 1000)
	for i := range many {
		many[i] = done
	}
	k.got = nil
	_, err = ask(many...)
	require.NoError(t, err)
	require.Len(t, k.got, maxPoints)
	_, err = ask(&agentpb.ConsistentPoint{})
	require.Error(t, err)
}
