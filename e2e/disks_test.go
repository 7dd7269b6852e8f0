package e2e

import (
	"encoding/json"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"
	"time"

	drstypes "github.com/aws/aws-sdk-go-v2/service/drs/types"
	"github.com/stretchr/testify/require"

	"github.com/understudy-dr/understudy/e2e/harness"
	"github.com/understudy-dr/understudy/internal/app/agent"
)

// moving is a source server whose disks grow, come, go and change their names.
type moving struct {
	t      *testing.T
	dir    string
	server *harness.Server
	agent  *harness.Agent
	id     string
	rng    *rand.Rand
}

func (m *moving) status() agent.Status {
	var s agent.Status
	require.NoError(m.t, json.Unmarshal([]byte(m.server.CLI(m.t, "agent", "status", "--json", "--state-dir", m.agent.StateDir)), &s))
	return s
}

// disk is a loop device that is full of noise.
func (m *moving) disk(name string, bytes int64) *harness.Disk {
	d := harness.NewDisk(m.t, m.dir, name, bytes)
	m.fill(d.Device, 0, bytes)
	return d
}

func (m *moving) fill(device string, off, bytes int64) {
	f, err := os.OpenFile(device, os.O_WRONLY, 0)
	require.NoError(m.t, err)
	defer f.Close()
	b := make([]byte, bytes)
	for i := range b {
		b[i] = byte(m.rng.Uint32())
	}
	_, err = f.WriteAt(b, off)
	require.NoError(m.t, err)
	require.NoError(m.t, f.Sync())
}

// settled waits until an agent that runs now replicates these devices, whole, at their sizes.
func (m *moving) settled(devices ...string) agent.Status {
	var s agent.Status
	harness.Eventually(m.t, 2*time.Minute, "all disks are replicated", func() (bool, string) {
		s = m.status()
		why := s.Phase + " " + s.Reason + " " + s.Error
		if s.Phase != "continuous" || len(s.Disks) != len(devices) || !s.Connected {
			return false, why
		}
		for i, d := range s.Disks {
			info, err := os.ReadFile("/sys/block/" + filepath.Base(devices[i]) + "/size")
			require.NoError(m.t, err)
			var sectors uint64
			require.NoError(m.t, json.Unmarshal(info, &sectors))
			if d.Device != devices[i] || d.Total != sectors<<9 || d.Replicated != d.Total || d.Joining {
				return false, why
			}
		}
		return true, ""
	})
	return s
}

// same compares a device with an export of the newest state.
func (m *moving) same(device string) {
	image := filepath.Join(m.dir, "image")
	defer os.Remove(image)
	var err error
	harness.Eventually(m.t, time.Minute, device+" is replicated", func() (bool, string) {
		_ = os.Remove(image)
		if _, err = m.server.TryCLI(m.t.Context(), "export", "--server", m.id, "--device", device, "--latest", image); err == nil {
			err = harness.Identical(device, image)
		}
		if err != nil {
			return false, err.Error()
		}
		return true, ""
	})
}

func (m *moving) names() (names []string) {
	v, err := m.server.Describe(m.t, m.server.DRS(m.t), m.id)
	require.NoError(m.t, err)
	for _, d := range v.DataReplicationInfo.ReplicatedDisks {
		names = append(names, *d.DeviceName)
	}
	return names
}

// A disk grows under the agent; another is found under another name when the agent comes back, while a stranger has its own; a
// third is added and then taken out. None of it is a rescan of what stays, and the disks are always those that are there.
func TestDisksGrowMoveComeAndGo(t *testing.T) {
	m := &moving{t: t, dir: t.TempDir(), rng: rand.New(rand.NewPCG(7, 7))}
	a, b := m.disk("a", 32<<20), m.disk("b", 16<<20)
	m.server = harness.NewServer(t, filepath.Join(m.dir, "server"))
	m.server.InitializeDRS(t)
	m.agent = m.server.NewAgent(t, "drs", filepath.Join(m.dir, "agent"), []string{a.Device, b.Device}, "--all-blocks")
	m.id = m.agent.ServerID(t)
	m.server.WaitState(t, m.id, drstypes.DataReplicationStateContinuous, time.Minute)
	m.settled(a.Device, b.Device)
	m.fill(a.Device, 0, 4096) // else the positions before and after are the same
	small := time.Now()

	require.NoError(t, os.Truncate(a.File, 48<<20))
	harness.Run(t, "losetup", "-c", a.Device)
	began := time.Now()
	s := m.settled(a.Device, b.Device)
	require.Less(t, time.Since(began), time.Minute)
	require.Equal(t, "disks", s.Reason)
	require.Less(t, s.Disks[0].Rescanned+s.Disks[1].Rescanned, uint64(16<<20), "what was there is not read again")
	m.fill(a.Device, 40<<20, 8<<20)
	m.same(a.Device)
	image := filepath.Join(m.dir, "before")
	m.server.CLI(t, "export", "--server", m.id, "--device", a.Device, "--at", small.Format(time.RFC3339Nano), image)
	info, err := os.Stat(image)
	require.NoError(t, err)
	require.EqualValues(t, 32<<20, info.Size(), "a point has the size of its time")

	m.agent.Stop(t)
	old := b.Device
	harness.Run(t, "losetup", "--detach", old)
	stranger := filepath.Join(m.dir, "stranger")
	require.NoError(t, os.WriteFile(stranger, make([]byte, 16<<20), 0o600))
	harness.Run(t, "losetup", old, stranger)
	harness.DetachAtTheEnd(t, old, stranger)
	b.Device = harness.Attach(t, b.File)
	require.NotEqual(t, old, b.Device)
	m.agent.Start(t)
	s = m.settled(a.Device, b.Device)
	// What was written in the last two seconds before the agent stopped is dirty still: all that was filled, on a fast machine.
	require.Less(t, s.Disks[0].Rescanned, uint64(16<<20), "the other disk was never away")
	m.same(a.Device)
	m.same(b.Device)
	require.Equal(t, []string{a.Device, b.Device}, m.names())

	c := m.disk("c", 16<<20)
	m.agent.Stop(t)
	m.agent.Devices = append(m.agent.Devices, c.Device)
	m.agent.Start(t)
	s = m.settled(a.Device, b.Device, c.Device)
	require.Less(t, s.Disks[0].Rescanned+s.Disks[1].Rescanned, uint64(8<<20))
	m.fill(c.Device, 4<<20, 1<<20)
	m.same(c.Device)

	harness.Run(t, "losetup", "--detach", b.Device) // the kernel lets go of it when the agent does
	m.agent.Stop(t)
	m.agent.Start(t)
	m.settled(a.Device, c.Device)
	m.same(a.Device)
	m.same(c.Device)
	harness.Eventually(t, time.Minute, "the API shows it", func() (bool, string) { return len(m.names()) == 2, "" })
}
