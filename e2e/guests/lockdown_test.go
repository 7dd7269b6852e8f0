package guests

import (
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/understudy-dr/understudy/internal/app/agent"
)

// A kernel that is locked down for confidentiality lets nobody read what is written: blocks are tracked instead, the agent
// says so wherever one looks, and there are points all the same.
func TestLockdownConfidentiality(t *testing.T) {
	EachKernel(t, func(t *testing.T, k Kernel) {
		s := Serve(t)
		g := Start(t, Options{Kernel: k, CommandLine: "lockdown=confidentiality"})
		require.Contains(t, g.Run(t, "cat /sys/kernel/security/lockdown"), "[confidentiality]")
		p := Meet(t, g, s)
		found := p.Doctor(t, "--devices /dev/vda")
		require.Equal(t, agent.Warning, found["kernel: lockdown"].Verdict)
		require.Equal(t, agent.Warning, found["capture mode"].Verdict)
		require.Contains(t, found["capture mode"].Found, "bitmap, no payload: ")
		require.NotEqual(t, agent.Failed, found["kernel: bitmap programs"].Verdict)
		before := leftovers(t, g)
		p.Install(t, "--point-interval 5s --hold-at-most 10s")
		v := p.Continuous(t)
		require.Contains(t, *v.SourceProperties.Os.FullString, "understudy captures by bitmap")
		st := p.Status(t)
		require.Equal(t, "bitmap", st.Capture)
		require.Contains(t, st.CaptureWhy, "confidentiality")
		require.Contains(t, p.Run(t, "journalctl -u understudy-agent -o cat --no-pager | grep 'making a new capture'"), "mode=bitmap")

		p.Run(t, files("/srv", "before", 10, 1024))
		p.Settled(t)
		held := p.Status(t).Points
		t.Logf("file systems were held for %.0f ms, last failure %q", held.Held, held.Failed)
		image := p.Export(t, "/dev/vda", "--latest")
		Root(t, image, nil, func(dir string) { // a moment that was still by itself has a log to replay
			require.NoError(t, checkSums(t, filepath.Join(dir, "srv/before")))
		})
		require.NoError(t, checkRoot(t, image))
		g.Run(t, Program+" agent uninstall")
		require.Equal(t, before, leftovers(t, g))
	})
}
