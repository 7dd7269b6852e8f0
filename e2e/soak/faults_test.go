package soak

import (
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strconv"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/understudy-dr/understudy/e2e/harness"
)

// part is what a fault keeps for itself. Two at once touch different parts.
type part uint8

const (
	agentPart part = 1 << iota
	linkPart
	serverPart // whether it answers
	loadPart
	clockPart
)

// fault is something that breaks, and what ends it.
type fault struct {
	name    string
	touches part
	serves  bool // the server can be asked meanwhile
	begin   func(l *lab, rng *rand.Rand) (end func())
}

var faults = []fault{
	{"agent killed", agentPart, true, func(l *lab, _ *rand.Rand) func() {
		l.agent.Kill()
		return func() { l.agent.Start(l.t) }
	}},
	{"agent upgraded: another file takes over", agentPart, true, (*lab).upgrade},
	{"agent stopped by SIGSTOP", agentPart, true, func(l *lab, _ *rand.Rand) func() { return l.freeze(l.agent.Process) }},
	{"server killed", serverPart, false, func(l *lab, _ *rand.Rand) func() {
		l.server.Kill()
		return func() { l.server.Start(l.t) }
	}},
	{"server restarted", serverPart, false, func(l *lab, _ *rand.Rand) func() {
		l.server.Stop(l.t)
		return func() { l.server.Start(l.t) }
	}},
	{"server stopped by SIGSTOP", serverPart, false, func(l *lab, _ *rand.Rand) func() { return l.freeze(l.server.Process) }},
	{"link cut", linkPart, true, func(l *lab, _ *rand.Rand) func() { l.link.Cut(); return l.link.Join }},
	{"link silent: nothing passes, nothing breaks", linkPart, true, func(l *lab, _ *rand.Rand) func() { l.link.Block(); return l.link.Unblock }},
	{"link slow", linkPart, true, func(l *lab, rng *rand.Rand) func() {
		l.link.Pace(64<<10 + rng.IntN(448<<10))
		return func() { l.link.Pace(0) }
	}},
	{"throttled by the API", linkPart | serverPart, true, (*lab).throttle},
	{"staging disk full", serverPart, true, (*lab).fill},
	{"ring overflown by a burst", linkPart | loadPart, true, (*lab).burst},
	{"burst of writes", loadPart, true, (*lab).write},
	{"ring overflown while the agent is stopped by SIGSTOP", agentPart | loadPart, true, func(l *lab, rng *rand.Rand) func() {
		thaw := l.freeze(l.agent.Process)
		l.write(rng)
		return thaw
	}},
	{"a disk grows", agentPart | loadPart, true, (*lab).grow},
	{"a disk shrinks", agentPart | loadPart, false, (*lab).shrink},
	{"the agent's clock jumps", clockPart, true, func(l *lab, rng *rand.Rand) func() { return l.jumps(l.agentClock, "agent's", rng, agentOff) }},
	{"the server's clock jumps", clockPart, true, func(l *lab, rng *rand.Rand) func() { return l.jumps(l.serverClock, "server's", rng, serverOff) }},
	{"everything killed at once", agentPart | serverPart, false, func(l *lab, _ *rand.Rand) func() {
		l.agent.Kill()
		l.server.Kill()
		return func() { l.server.Start(l.t); l.agent.Start(l.t) }
	}},
}

// deck deals every fault once, in an order of its own, before any comes again.
type deck struct {
	seed   uint64
	rounds uint64
	left   []fault
}

// draw is one fault, or with luck two that touch different parts.
func (d *deck) draw(rng *rand.Rand) []fault {
	out := []fault{d.next()}
	if rng.IntN(2) == 0 {
		if second := faults[rng.IntN(len(faults))]; second.touches&out[0].touches == 0 {
			out = append(out, second)
		}
	}
	return out
}

func (d *deck) next() fault {
	if len(d.left) == 0 {
		d.rounds++
		for _, i := range rand.New(rand.NewPCG(d.seed, 1<<63|d.rounds)).Perm(len(faults)) {
			d.left = append(d.left, faults[i])
		}
	}
	f := d.left[0]
	d.left = d.left[1:]
	return f
}

func TestEveryFaultComesBeforeAnyComesAgain(t *testing.T) {
	d := &deck{seed: 1}
	seen := map[string]int{}
	for range 2 * len(faults) {
		seen[d.next().name]++
	}
	require.Len(t, seen, len(faults))
	for name, n := range seen {
		require.Equal(t, 2, n, name)
	}
}

// upgrade ends the agent as its service manager would, and starts it from another file.
func (l *lab) upgrade(*rand.Rand) func() {
	l.agent.Stop(l.t)
	next := filepath.Join(l.dir, fmt.Sprintf("understudy-%d", l.broken["agent upgraded: another file takes over"]%2))
	_ = os.Remove(next) // the one before the last
	require.NoError(l.t, copyFile(l.server.Binary, next))
	l.agent.Binary = next
	return func() { l.agent.Start(l.t) }
}

func (l *lab) freeze(p *harness.Process) func() {
	require.NoError(l.t, p.Cmd.Process.Signal(syscall.SIGSTOP))
	l.t.Cleanup(func() { _ = p.Cmd.Process.Signal(syscall.SIGCONT) }) // or it could not be ended
	return func() { require.NoError(l.t, p.Cmd.Process.Signal(syscall.SIGCONT)) }
}

// throttle sets what may be sent, live; what is written is more than the lower of these. AWS's SDK for Go leaves 0 out of its
// requests, so it is their command line that lifts it.
func (l *lab) throttle(rng *rand.Rand) func() {
	set := func(mbps int64) {
		l.server.AWS(l.t, nil, "drs", "update-replication-configuration", "--source-server-id", l.id, "--bandwidth-throttling", strconv.FormatInt(mbps, 10))
	}
	set(1 + rng.Int64N(16))
	return func() { set(0) }
}

// fill leaves the server less than it keeps in reserve, or nothing at all.
func (l *lab) fill(rng *rand.Rand) func() {
	var st unix.Statfs_t
	require.NoError(l.t, unix.Statfs(l.room, &st))
	leave := []int64{0, 8 << 20, 48 << 20}[rng.IntN(3)]
	name := filepath.Join(l.room, "ballast")
	f, err := os.Create(name)
	require.NoError(l.t, err)
	defer f.Close()
	if err := unix.Fallocate(int(f.Fd()), 0, 0, int64(st.Bavail)*st.Bsize-leave); err != nil {
		require.ErrorIs(l.t, err, unix.ENOSPC) // the server took some meanwhile; what it got is kept
	}
	return func() { require.NoError(l.t, os.Remove(name)) }
}

// burst writes several times what the ring holds while nothing can be sent.
func (l *lab) burst(rng *rand.Rand) func() {
	l.link.Block()
	l.write(rng)
	return l.link.Unblock
}

// write fills what of the raw disk has no stamps, as fast as it goes.
func (l *lab) write(rng *rand.Rand) func() {
	const from = stampedBlocks * 4096
	key := fmt.Sprintf("--randseed=%d", rng.Uint32()>>1)
	_, err := harness.Try(l.t.Context(), "fio", "--name=burst", "--filename="+l.raw.Device, "--rw=randwrite", "--bsrange=4k-1m", "--blockalign=4k",
		"--direct=1", "--ioengine=libaio", "--iodepth=8", fmt.Sprintf("--offset=%d", from), fmt.Sprintf("--io_size=%d", 8*ringMiB<<20), key,
		"--refill_buffers", "--output-format=terse", "--time_based=0")
	require.NoError(l.t, err)
	return func() {}
}
