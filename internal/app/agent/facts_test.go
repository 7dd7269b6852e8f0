package agent

import (
	"context"
	"os"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/understudy-dr/understudy/internal/agentapi/agentpb"
	"github.com/understudy-dr/understudy/internal/capture"
	"github.com/understudy-dr/understudy/internal/fault"
	"github.com/understudy-dr/understudy/internal/machine"
)

func TestFactsAreToldWhenTheyChangeAndOnceAnHour(t *testing.T) {
	facts := &agentpb.SourceProperties{Hostname: "one"}
	reads := 0
	b := &bulletin{read: func(context.Context) *agentpb.SourceProperties { reads++; return facts }}
	now := time.Now()
	require.Same(t, facts, b.news(t.Context(), now))
	require.Same(t, facts, b.news(t.Context(), now), "the service did not answer")
	b.accepted(facts, now)
	require.Nil(t, b.news(t.Context(), now.Add(time.Second)))
	require.Equal(t, 2, reads, "they are not read at every handshake")
	require.Nil(t, b.news(t.Context(), now.Add(factsEvery)))
	facts = &agentpb.SourceProperties{Hostname: "two"}
	got := b.news(t.Context(), now.Add(2*factsEvery))
	require.Equal(t, "two", got.GetHostname())
	b.accepted(got, now.Add(2*factsEvery))
	require.Nil(t, b.news(t.Context(), now.Add(factsAgain)))
	require.NotNil(t, b.news(t.Context(), now.Add(2*factsEvery+factsAgain)))
}

func TestSourcePropertiesAreThisMachines(t *testing.T) {
	p := sourceProperties(t.Context(), diskSet{{path: "/dev/replicated", bytes: 7}}, chosen(capture.ModePayload, ""))
	require.NotEmpty(t, p.GetHostname())
	require.NotEmpty(t, p.GetFqdn())
	require.NotZero(t, p.GetRamBytes())
	require.NotEmpty(t, p.GetCpus())
	require.Equal(t, "/dev/replicated", p.GetDisks()[0].GetDeviceName())
	for _, d := range p.GetDisks()[1:] {
		require.NotContains(t, d.GetDeviceName(), "loop", "it is made of a file")
	}
}

// A copy is told so by the service; it must end at once, and must not wait for its turn.
func TestACopyEnds(t *testing.T) {
	t.Setenv(machine.IDFileVariable, t.TempDir()+"/id")
	require.NoError(t, os.WriteFile(os.Getenv(machine.IDFileVariable), []byte("a machine"), 0o600))
	var mu sync.Mutex
	var reported *agentpb.HandshakeRequest
	refuses := func(_ context.Context, r *agentpb.HandshakeRequest) (*agentpb.HandshakeResponse, error) {
		mu.Lock()
		defer mu.Unlock()
		reported = r
		refusal, _ := agentpb.Refusal(fault.New(fault.Fenced, "machine", "it is a copy"))
		return nil, refusal
	}
	err := sessionWith(t.TempDir(), service{answer: refuses}).run(t.Context())
	require.True(t, fault.Is(err, fault.Fenced), "%v", err)
	require.ErrorContains(t, err, "it is a copy")
	require.NotEmpty(t, reported.GetPresence().GetMachineIdentity())
	require.NotEmpty(t, reported.GetPresence().GetBootId())
}
