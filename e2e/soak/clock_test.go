package soak

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/understudy-dr/understudy/e2e/harness"
)

// A signature may be five minutes off: the agent's clock, the server's, and the operator's, which is right, stay within that.
const (
	agentOff  = 170 * time.Second
	serverOff = 110 * time.Second
)

// stretch is when a clock was off by so much, for whoever turned a write's monotonic stamp into a time of day.
type stretch struct {
	from, to time.Time // to is zero while that may still be so
	set      time.Time
	ahead    time.Duration
}

// clock is one that jumps, and what is known of its past.
//
// A write's stamp becomes a time of day when it is sent. So a jump counts for what was still to be sent as well, and for what is
// written until the agent has looked at its clocks again: stretches overlap, from when all was known to be sent to when it is again.
type clock struct {
	*harness.Clock
	past    []stretch
	settled time.Time // everything written before it has its time
}

// inFlight is more than an agent that is CONTINUOUS has not sent yet, or takes to look at its clocks.
const inFlight = 30 * time.Second

func newClock(t *testing.T, file string, now time.Time) *clock {
	c := &clock{settled: now}
	if file != "" {
		c.Clock = harness.NewClock(t, file)
	}
	c.past = []stretch{{}}
	return c
}

func (c *clock) String() string {
	var said []string
	for _, s := range c.past {
		said = append(said, fmt.Sprintf("%s ahead, set %s, for writes from %s to %s", s.ahead, hour(s.set), hour(s.from), hour(s.to)))
	}
	return strings.Join(said, "; ")
}

func hour(t time.Time) string {
	if t.IsZero() {
		return "-"
	}
	return t.UTC().Format("15:04:05.000")
}

// jump sets the clock.
func (c *clock) jump(now time.Time, ahead time.Duration) {
	if c.Clock != nil {
		c.Set(ahead)
	}
	c.past = append(c.past, stretch{from: c.settled, set: now, ahead: ahead})
}

// settle takes note that the agent is up to date: what was written before has its times, and a clock that was set before is known.
func (c *clock) settle(now time.Time) {
	c.settled = now.Add(-inFlight)
	for i := range c.past[:len(c.past)-1] {
		if s := &c.past[i]; s.to.IsZero() && c.past[i+1].set.Before(c.settled) {
			s.to = now
		}
	}
}

// most is the farthest ahead that the clock ever was.
func (c *clock) most() time.Duration {
	most := time.Duration(0)
	for _, s := range c.past {
		most = max(most, s.ahead)
	}
	return most
}

// when tells what an instant of this clock, whose times never run backwards, stands for: a state between those at two true instants.
// All writes that had completed by the first have a time at or before it, however they were stamped; none that was begun after the second has.
func (c *clock) when(at time.Time) (from, to time.Time) {
	for _, s := range c.past {
		meant := at.Add(-s.ahead)
		late := meant // from then on a stamp may be past it
		if late.Before(s.from) {
			late = s.from
		}
		if (s.to.IsZero() || late.Before(s.to)) && (from.IsZero() || late.Before(from)) {
			from = late
		}
		early := meant // until then a stamp may be at or before it
		if !s.to.IsZero() && early.After(s.to) {
			early = s.to
		}
		if !early.Before(s.from) && early.After(to) {
			to = early
		}
	}
	if to.Before(from) {
		to = from
	}
	return from, to
}

// far is an offset that is not a trifle, either way.
func far(rng *rand.Rand, most time.Duration) time.Duration {
	d := 2*time.Second + time.Duration(rng.Int64N(int64(most-2*time.Second)))
	if rng.IntN(2) == 0 {
		return -d
	}
	return d
}

// jumps has a clock jump, and be set right or not.
func (l *lab) jumps(c *clock, who string, rng *rand.Rand, most time.Duration) func() {
	set := func(ahead time.Duration) {
		l.logf("%s clock: %s", who, ahead)
		c.jump(time.Now(), ahead)
	}
	set(far(rng, most))
	return func() {
		if rng.IntN(2) == 0 {
			set(0)
		}
	}
}

func TestWhatAnInstantOfAJumpingClockStandsFor(t *testing.T) {
	start := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	at := func(s int) time.Time { return start.Add(time.Duration(s) * time.Second) }
	c := newClock(t, "", start)
	check := func(instant, from, to int) {
		t.Helper()
		a, b := c.when(at(instant))
		require.Equal(t, [2]time.Time{at(from), at(to)}, [2]time.Time{a, b})
	}
	check(50, 50, 50)

	c.settle(at(130)) // sent: all up to 100
	c.jump(at(140), time.Minute)
	check(90, 90, 90)
	check(120, 100, 120) // either clock's, and what was not sent yet may have the new one's
	check(170, 110, 170)
	c.settle(at(200))
	check(100, 100, 100)
	check(130, 100, 130)
	check(165, 105, 165)
	check(250, 190, 200) // no later one was stamped with the old clock
	check(300, 240, 240)

	c.settle(at(330))
	c.jump(at(340), 0) // back: for a minute all writes have the time of the last before
	c.settle(at(500))
	check(350, 290, 350)
	check(370, 310, 370)
	check(500, 440, 500)
	check(570, 570, 570)
	require.Equal(t, time.Minute, c.most())
}
