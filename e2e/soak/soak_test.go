// Package soak breaks everything around a busy source server at random, for as long as one likes, and proves all the while that
// what is taken back is what was there. Nothing imports it; make soak runs it.
package soak

import (
	"fmt"
	"math/rand/v2"
	"os"
	"strconv"
	"testing"
	"time"

	drstypes "github.com/aws/aws-sdk-go-v2/service/drs/types"
	"github.com/stretchr/testify/require"

	"github.com/understudy-dr/understudy/e2e/harness"
)

// ending is what the end of a soak takes at least, proofs aside: everything is well again by itself, is compared, and verified offline.
const ending = 45 * time.Second

// patience is how long anything may take that comes by itself once nothing is broken any more, on a machine that is slow and busy.
const patience = 4 * time.Minute

// length is for how long to soak, setup and end included; without one there is nothing to do.
func length(t *testing.T) time.Duration {
	t.Helper()
	v := os.Getenv("UNDERSTUDY_SOAK")
	if v == "" {
		t.Skip("make soak runs it, or make soak SOAK=10m")
	}
	d, err := time.ParseDuration(v)
	require.NoError(t, err)
	return d
}

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

// A busy PostgreSQL, files coming and going, and stamped writes over all three disks of a server, while whatever can break
// breaks. Whichever instant is taken back meanwhile is one that was; in the end the replica is the disks.
func TestSoak(t *testing.T) {
	d := length(t)
	n := seed(t)
	workshop(t)
	l := newLab(t, n)
	defer l.report()
	l.well()
	l.logf("continuous; faults begin")
	cards := &deck{seed: l.seed}
	for round := uint64(1); l.another(d); round++ {
		rng := rand.New(rand.NewPCG(l.seed, round))
		begun := time.Now()
		l.round(rng, cards.draw(rng))
		l.costly = max(l.costly, time.Since(begun))
	}
	l.logf("faults are over")
	l.finish()
	l.summary(d)
}

// another tells whether there is time for another round as long as the longest, and for the end.
func (l *lab) another(d time.Duration) bool {
	round := min(max(l.costly, 30*time.Second), 90*time.Second) // one that waited for much is no measure
	return time.Since(l.born)+round+2*l.proof+ending < d
}

// round breaks one or two things for a while. Every other round waits until all is well again, the others go on to the next.
func (l *lab) round(rng *rand.Rand, faults []fault) {
	var ends []func()
	serves := true
	for _, f := range faults {
		l.logf("%s", f.name)
		l.broken[f.name]++
		l.told = append(l.told, fmt.Sprintf("%s %s", time.Now().UTC().Format(time.TimeOnly), f.name))
		ends = append(ends, f.begin(l, rng))
		serves = serves && f.serves
		l.linger(rng, time.Second)
	}
	l.linger(rng, 6*time.Second)
	if serves && rng.IntN(3) == 0 {
		l.verify(rng, "while broken")
	}
	for i := len(ends) - 1; i >= 0; i-- {
		ends[i]()
	}
	l.look()
	if rng.IntN(2) == 0 {
		l.linger(rng, 2*time.Second)
		return
	}
	l.logf("continuous again after %s", l.well().Round(time.Second))
	l.verify(rng, "afterwards")
}

// well waits until replication has come back by itself, on both sides: the agent is up to date, with all disks as large as they are.
func (l *lab) well() time.Duration {
	l.t.Helper()
	since := time.Now()
	l.server.WaitState(l.t, l.id, drstypes.DataReplicationStateContinuous, patience)
	harness.EventuallyEvery(l.t, time.Second, patience, "the agent is up to date", func() (bool, string) { return l.whole(since) })
	l.server.WaitState(l.t, l.id, drstypes.DataReplicationStateContinuous, patience) // a disk that joined was another epoch
	took := time.Since(since)
	l.slowest = max(l.slowest, took)
	l.agentClock.settle(time.Now())
	l.extend()
	return took
}

// linger lets the load run for a random while: here time passing is the point, not a stand-in for an event.
func (l *lab) linger(rng *rand.Rand, most time.Duration) {
	select {
	case <-time.After(time.Duration(rng.Int64N(int64(most)))):
	case err := <-l.failed:
		l.t.Fatalf("the load ended: %v", err)
	case <-l.bench.Done():
		l.t.Fatalf("pgbench ended: %v\n%s", l.bench.Err(), l.bench.Log())
	case <-l.t.Context().Done():
	}
	l.look()
}
