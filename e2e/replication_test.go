// Package e2e is the black box: the real binary, real clients, real disks.
package e2e

import (
	"context"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strconv"
	"testing"
	"time"

	drstypes "github.com/aws/aws-sdk-go-v2/service/drs/types"
	"github.com/stretchr/testify/require"

	"github.com/understudy-dr/understudy/e2e/harness"
	"github.com/understudy-dr/understudy/e2e/workload"
	"github.com/understudy-dr/understudy/internal/operatorapi/schema"
)

// seed is UNDERSTUDY_SEED or a random one; it is printed either way.
func seed(t *testing.T) uint64 {
	t.Helper()
	s := rand.Uint64() >> 1
	if v := os.Getenv("UNDERSTUDY_SEED"); v != "" {
		n, err := strconv.ParseUint(v, 10, 64)
		require.NoError(t, err)
		s = n
	}
	t.Logf("UNDERSTUDY_SEED=%d", s)
	return s
}

// protected is one source server with a disk of each file system, mounted.
type protected struct {
	server *harness.Server
	agent  *harness.Agent
	link   *harness.Link
	id     string
	disks  []fsDisk
}

type fsDisk struct {
	*harness.Disk
	fs, mount string
}

// protect makes the disks, a server, and an agent that reaches it over a link.
func protect(t *testing.T, ringMiB int, args ...string) *protected {
	t.Helper()
	dir := t.TempDir()
	p := &protected{}
	var devices []string
	for _, f := range []struct {
		fs   string
		size int64
	}{{"ext4", 256 << 20}, {"xfs", 320 << 20}, {"btrfs", 320 << 20}} {
		d := fsDisk{Disk: harness.NewDisk(t, dir, f.fs+".img", f.size), fs: f.fs}
		d.Format(t, f.fs)
		d.mount = harness.Mount(t, d.Device, filepath.Join(dir, f.fs))
		p.disks = append(p.disks, d)
		devices = append(devices, d.Device)
	}
	p.connect(t, dir, ringMiB, devices, args...)
	return p
}

// connect makes the server, and the agent that reaches it over a link.
func (p *protected) connect(t *testing.T, dir string, ringMiB int, devices []string, args ...string) {
	t.Helper()
	p.server = harness.NewServer(t, filepath.Join(dir, "server"))
	p.link = harness.NewLink(t, p.server.DataAddr)
	p.server.Stop(t)
	p.server.Args = []string{"--advertise", p.link.Addr}
	p.server.Start(t)
	p.server.InitializeDRS(t)
	p.agent = p.server.NewAgent(t, "drs", filepath.Join(dir, "agent"), devices, append(args, "--ring-mib", strconv.Itoa(ringMiB), "--all-blocks")...)
	p.id = p.agent.ServerID(t)
}

func (p *protected) mounts() []string {
	var out []string
	for _, d := range p.disks {
		out = append(out, d.mount)
	}
	return out
}

// startLoad runs every kind of load on every disk until stop is called.
func (p *protected) startLoad(t *testing.T, seed uint64) (stop func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- workload.LoadAll(ctx, seed, p.mounts()...) }()
	stopped := false
	stop = func() {
		if stopped {
			return
		}
		stopped = true
		cancel()
		if err := <-done; err != nil {
			t.Errorf("load: %v", err)
		}
	}
	t.Cleanup(stop)
	return stop
}

func (p *protected) points(t *testing.T) schema.Points {
	t.Helper()
	var out schema.Points
	require.NoError(t, json.Unmarshal([]byte(p.server.CLI(t, "points", "--json", p.id)), &out))
	return out
}

// quiesce unmounts everything and waits until what was written by then is recoverable.
func (p *protected) quiesce(t *testing.T) {
	t.Helper()
	for _, d := range p.disks {
		if harness.Mounted(d.mount) {
			harness.Unmount(t, d.mount)
		}
	}
	now := time.Now()
	harness.Eventually(t, 3*time.Minute, "everything written is recoverable", func() (bool, string) {
		if p.agent.Ended() {
			t.Fatalf("the agent ended: %v\n%s", p.agent.Err(), p.agent.Log())
		}
		out, err := p.server.TryCLI(t.Context(), "points", "--json", p.id)
		if err != nil {
			return false, err.Error()
		}
		var got schema.Points
		if err := json.Unmarshal([]byte(out), &got); err != nil {
			return false, err.Error()
		}
		return got.Latest != nil && got.Latest.Time.After(now), fmt.Sprintf("latest %v, wanted after %s\nagent: %s", got.Latest, now, p.agent.Log())
	})
}

// same exports every disk and compares it with the source, byte for byte.
func (p *protected) same(t *testing.T) {
	t.Helper()
	for _, d := range p.disks {
		out := filepath.Join(t.TempDir(), d.fs+".raw")
		p.server.CLI(t, "export", "--server", p.id, "--device", d.Device, "--latest", out)
		require.NoError(t, harness.Identical(d.Device, out))
		require.NoError(t, harness.Check(t, d.fs, out))
		require.NoError(t, os.Remove(out))
	}
}

// Replica equals source, bit for bit, after every kind of write on every file system.
func TestReplicaEqualsSource(t *testing.T) {
	s := seed(t)
	p := protect(t, 64)
	stop := p.startLoad(t, s)
	p.server.WaitState(t, p.id, drstypes.DataReplicationStateContinuous, 3*time.Minute)
	wait(t, 15*time.Second)
	stop()
	p.quiesce(t)
	p.same(t)
}

// The same while the agent and the server are killed, the link is cut and the ring overflows, at random times.
func TestReplicaEqualsSourceUnderFaults(t *testing.T) {
	s := seed(t)
	rng := rand.New(rand.NewPCG(s, 2))
	// Three times what the load writes at once, in some 30 ms; and overfull when the link is away for long.
	p := protect(t, 64, "--backlog-mib", "8")
	stop := p.startLoad(t, s)
	rounds := 10
	if testing.Short() {
		rounds = 4
	}
	for round := range rounds {
		if round == rounds/2 { // the first half disturbs the initial sync
			p.server.WaitState(t, p.id, drstypes.DataReplicationStateContinuous, 3*time.Minute)
		}
		wait(t, time.Duration(500+rng.IntN(3500))*time.Millisecond)
		p.disturb(t, rng)
	}
	wait(t, 2*time.Second)
	stop()
	p.quiesce(t)
	p.same(t)
	windows := p.points(t).Windows
	t.Logf("%d windows", len(windows))
	for _, w := range windows[max(0, len(windows)-3):] {
		at := within(rng, w)
		for _, d := range p.disks {
			p.checkAt(t, d, at)
		}
	}
}

// within is a random instant of a window.
func within(rng *rand.Rand, w schema.Window) time.Time {
	return w.From.Add(time.Duration(rng.Int64N(int64(w.To.Sub(w.From)) + 1)))
}

// disturb breaks one thing for a while.
func (p *protected) disturb(t *testing.T, rng *rand.Rand) {
	t.Helper()
	away := time.Duration(rng.IntN(4000)) * time.Millisecond
	switch what := rng.IntN(4); what {
	case 0:
		t.Logf("agent killed for %s", away)
		p.agent.Kill()
		wait(t, away)
		p.agent.Start(t)
	case 1:
		t.Logf("server killed for %s", away)
		p.server.Kill()
		wait(t, away)
		p.server.Start(t)
	case 2:
		t.Logf("link cut for %s", away)
		p.link.Cut()
		wait(t, away)
		p.link.Join()
	case 3:
		t.Logf("agent and server killed for %s", away)
		p.agent.Kill()
		p.server.Kill()
		wait(t, away)
		p.server.Start(t)
		p.agent.Start(t)
	}
}

// wait lets the load run: here time passing is the point, not a stand-in for an event.
func wait(t *testing.T, d time.Duration) {
	t.Helper()
	select {
	case <-time.After(d):
	case <-t.Context().Done():
	}
}

// A killed agent and a cut link cost no order while the ring has room: one window, no gap.
func TestInterruptionsWithinTheRingLeaveNoGap(t *testing.T) {
	s := seed(t)
	p := protect(t, 256)
	stop := p.startLoad(t, s)
	p.server.WaitState(t, p.id, drstypes.DataReplicationStateContinuous, 3*time.Minute)
	p.agent.Kill()
	wait(t, time.Second)
	p.agent.Start(t)
	wait(t, 2*time.Second)
	p.link.Cut()
	wait(t, time.Second)
	p.link.Join()
	wait(t, 2*time.Second)
	p.server.Kill()
	wait(t, time.Second)
	p.server.Start(t)
	wait(t, 2*time.Second)
	stop()
	p.quiesce(t)
	require.Len(t, p.points(t).Windows, 1)
	p.same(t)
}

// Any position of a gapless window is a state that a power cut could have left: it mounts, and its file system's
// own check finds nothing after the log was replayed.
func TestRandomPositionsAreConsistent(t *testing.T) {
	s := seed(t)
	rng := rand.New(rand.NewPCG(s, 3))
	p := protect(t, 256)
	stop := p.startLoad(t, s)
	p.server.WaitState(t, p.id, drstypes.DataReplicationStateContinuous, 3*time.Minute)
	wait(t, 20*time.Second)
	stop()
	p.quiesce(t)
	windows := p.points(t).Windows
	w := windows[len(windows)-1]
	positions := 17 // of each file system
	if testing.Short() {
		positions = 3
	}
	for range positions {
		at := within(rng, w)
		for _, d := range p.disks {
			p.checkAt(t, d, at)
		}
	}
}

// checkAt mounts a disk as it was at an instant, which replays its log, and checks it.
func (p *protected) checkAt(t *testing.T, d fsDisk, at time.Time) {
	t.Helper()
	t.Run(fmt.Sprintf("%s at %s", d.fs, at.Format("15:04:05.000000")), func(t *testing.T) {
		out := filepath.Join(t.TempDir(), d.fs+".raw")
		p.server.CLI(t, "export", "--server", p.id, "--device", d.Device, "--at", at.Format(time.RFC3339Nano), out)
		dev := harness.Attach(t, out)
		dir := harness.Mount(t, dev, filepath.Join(t.TempDir(), "copy"))
		_, err := harness.Try(t.Context(), "sh", "-c", "find \"$0\" -type f -exec cat {} + > /dev/null", dir)
		require.NoError(t, err, "every file reads")
		harness.Unmount(t, dir)
		require.NoError(t, harness.Check(t, d.fs, dev))
	})
}
