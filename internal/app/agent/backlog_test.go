package agent

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/understudy-dr/understudy/internal/fault"
)

func TestStatusShowsTheBacklog(t *testing.T) {
	s := Status{RingBytes: 1 << 20, RingUsed: 512 << 10, Backlog: 256 << 20}
	show := func() string {
		var text strings.Builder
		s.Print(&text)
		return text.String()
	}
	require.NotContains(t, show(), "backlog")
	s.Waiting = 3<<20 - 1
	require.Contains(t, show(), "3 of 256 MiB of memory")
	for _, want := range []string{"backlog_memory_bytes 268435456", "backlog_memory_used_bytes 3145727"} {
		require.Contains(t, s.Metrics(), "understudy_agent_"+want+"\n")
	}
}

func TestTheUnitKeepsTheBacklog(t *testing.T) {
	c := sampleConfig()
	c.BacklogBytes = DefaultBacklogBytes
	text, err := c.unit()
	require.NoError(t, err)
	require.NotContains(t, text, "--backlog-mib")
	for mib, want := range map[int]string{0: "--backlog-mib 0", 1024: "--backlog-mib 1024"} {
		c.BacklogBytes = mib << 20
		text, err := c.unit()
		require.NoError(t, err)
		require.Contains(t, text, want)
	}
}

func TestTheDoctorCountsTheBacklog(t *testing.T) {
	var d Diagnosis
	d.memory(1 << 50)
	require.Equal(t, Warning, d.Checks[0].Verdict)
	require.Contains(t, d.Checks[0].Do, "--backlog-mib")
}

func TestANegativeBacklogIsRefused(t *testing.T) {
	c := sampleConfig()
	c.BacklogBytes = -1
	require.True(t, fault.Is(c.check(), fault.Invalid))
}
