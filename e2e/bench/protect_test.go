package bench

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	drstypes "github.com/aws/aws-sdk-go-v2/service/drs/types"
	"github.com/stretchr/testify/require"

	"github.com/understudy-dr/understudy/e2e/harness"
	"github.com/understudy-dr/understudy/internal/operatorapi/schema"
)

// protection is a server of its own and an agent that replicates disks to it.
type protection struct {
	dir    string
	server *harness.Server
	agent  *harness.Agent
	id     string
	disks  []*harness.Disk
}

// prepareProtection starts the server; the agent is started by whoever measures that.
func prepareProtection(b *testing.B, dir string, disks ...*harness.Disk) *protection {
	b.Helper()
	own, err := os.MkdirTemp(dir, "protection-")
	require.NoError(b, err)
	p := &protection{dir: own, disks: disks, server: harness.NewServer(b, filepath.Join(own, "server"))}
	p.server.InitializeDRS(b)
	var devices []string
	for _, d := range disks {
		devices = append(devices, d.Device)
	}
	p.agent = p.server.PrepareAgent(b, "drs", filepath.Join(own, "agent"), devices)
	return p
}

// protect returns when the disks are protected: CONTINUOUS.
func protect(b *testing.B, dir string, disks ...*harness.Disk) *protection {
	b.Helper()
	p := prepareProtection(b, dir, disks...)
	p.agent.Start(b)
	p.continuous(b)
	return p
}

func (p *protection) continuous(b *testing.B) {
	b.Helper()
	p.id = p.agent.ServerID(b)
	p.server.WaitState(b, p.id, drstypes.DataReplicationStateContinuous, 5*time.Minute)
}

// recoverable waits until everything written by now is.
func (p *protection) recoverable(b *testing.B) {
	b.Helper()
	now := time.Now()
	harness.Eventually(b, 5*time.Minute, "everything written is recoverable", func() (bool, string) {
		if p.agent.Ended() {
			b.Fatalf("the agent ended: %v\n%s", p.agent.Err(), p.agent.Log())
		}
		out, err := p.server.TryCLI(b.Context(), "points", "--json", p.id)
		if err != nil {
			return false, err.Error()
		}
		var got schema.Points
		if err := json.Unmarshal([]byte(out), &got); err != nil {
			return false, err.Error()
		}
		return got.Latest != nil && got.Latest.Time.After(now), fmt.Sprintf("latest %v, wanted after %s", got.Latest, now)
	})
}

// verify compares the newest recoverable state of every disk with the disk: a figure of a replica that differs is none.
func (p *protection) verify(b *testing.B, same func(device, image string) error) {
	b.Helper()
	for i, d := range p.disks {
		image := filepath.Join(p.dir, fmt.Sprintf("image-%d", i))
		p.server.CLI(b, "export", "--server", p.id, "--device", d.Device, "--latest", image)
		require.NoError(b, same(d.Device, image))
		require.NoError(b, os.Remove(image))
	}
}

// end removes all of it: programs, capture, journal.
func (p *protection) end(b *testing.B) {
	b.Helper()
	p.agent.Stop(b)
	harness.Run(b, p.server.Binary, "agent", "uninstall", "--state-dir", p.agent.StateDir)
	p.server.Stop(b)
	require.NoError(b, os.RemoveAll(p.dir))
}

// status is what the agent wrote in the last second.
func (p *protection) status(b *testing.B) agentStatus {
	b.Helper()
	raw, err := os.ReadFile(filepath.Join(p.agent.StateDir, "status.json"))
	require.NoError(b, err)
	var s agentStatus
	require.NoError(b, json.Unmarshal(raw, &s))
	return s
}

type agentStatus struct {
	LagP50     float64 `json:"lagMillisecondsP50"`
	LagP99     float64 `json:"lagMillisecondsP99"`
	LagSamples int     `json:"lagSamples"`
	Drops      uint64  `json:"drops"`
	RawBytes   uint64  `json:"rawBytes"`
	WireBytes  uint64  `json:"wireBytes"`
}
