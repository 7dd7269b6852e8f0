package source

import (
	"time"

	"github.com/understudy-dr/understudy/internal/fault"
)

// complainEvery is how often an interruption that goes on is told again.
const complainEvery = time.Minute

// complaint decides which interruptions are logged: each that comes after a connection that worked, each of another kind, and of one
// that goes on only some. A server that is away for a night is dialed thousands of times.
type complaint struct {
	kind   fault.Kind
	told   time.Time
	untold int
}

// of an attempt that failed: whether to tell of it, and how many were not told before it.
func (c *complaint) of(err error, worked bool, now time.Time) (tell bool, untold int) {
	kind := fault.KindOf(err)
	if !worked && kind == c.kind && !c.told.IsZero() && now.Sub(c.told) < complainEvery {
		c.untold++
		return false, 0
	}
	untold = c.untold
	*c = complaint{kind: kind, told: now}
	return true, untold
}
