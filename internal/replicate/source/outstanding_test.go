package source

import (
	"log/slog"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
)

// uncounted is a capture that missed the completion of dropped writes.
type uncounted struct {
	Capture
	outstanding, late uint64
}

func (u *uncounted) OutstandingDropped() uint64 { return u.outstanding }

func (u *uncounted) Drops() uint64 { return 0 }

func (u *uncounted) LateDropped() (uint64, error) {
	u.late = u.outstanding
	return u.late, nil
}

// A dropped write whose completion went uncounted holds a baseline up for settleAtMost, not for ever, and its blocks
// are read again.
func TestUncountedCompletionsDoNotHoldTheBaselineForEver(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := &uncounted{outstanding: 2}
		x := &session{s: &Source{log: slog.New(slog.DiscardHandler)}, cap: c}
		require.True(t, x.outstanding())
		<-time.After(settleAtMost - time.Second) // fake time
		require.True(t, x.outstanding())
		require.Zero(t, c.late)
		<-time.After(time.Second)
		require.False(t, x.outstanding())
		require.EqualValues(t, 2, c.late, "their blocks are marked late")

		require.False(t, x.outstanding(), "the same are not waited for again")
		x.recall()
		require.False(t, x.tainted, "they are as they were")
		c.outstanding = 3
		require.True(t, x.outstanding(), "a later one is")
		c.outstanding = 1
		require.False(t, x.outstanding(), "less than were forgiven")
		c.outstanding = 2
		require.True(t, x.outstanding(), "one more than is left of them")

		x.s.ep.done, x.announced = true, true
		c.outstanding = 0
		x.recall()
		require.True(t, x.tainted, "the one forgiven has completed: its blocks were read too early")
	})
}
