package source

import (
	"log/slog"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/understudy-dr/understudy/internal/capture"
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

// Where the kernel counts what is in flight, and each disk was seen without a write, a second is enough.
func TestUncountedCompletionsOfAQuietDisk(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := &uncounted{outstanding: 2}
		flying := map[uint16]uint64{0: 0, 1: 3}
		s := &Source{log: slog.New(slog.DiscardHandler), disks: []*disk{{Disk: Disk{Index: 0}}, {Disk: Disk{Index: 1}}}}
		s.cfg.InFlightWrites = func(disk uint16) (uint64, error) { return flying[disk], nil }
		x := &session{s: s, cap: c}
		require.True(t, x.outstanding())
		<-time.After(settleAtLeast - time.Millisecond) // fake time
		require.True(t, x.outstanding(), "it may not be in flight yet")
		<-time.After(time.Millisecond)
		require.True(t, x.outstanding(), "one disk is busy")
		flying[0], flying[1] = 7, 0
		require.False(t, x.outstanding(), "each was quiet once")
		require.EqualValues(t, 2, c.late, "their blocks are marked late")

		c.outstanding = 3
		require.True(t, x.outstanding(), "a later one is waited for")
		<-time.After(settleAtLeast)
		require.True(t, x.outstanding(), "and the disks are looked at anew")
	})
}

// A dropped write whose completion went uncounted holds a baseline up for settleAtMost at worst, not for ever, and its blocks
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

// completing is a capture of one record, of a write that was submitted when a dropped one had completed.
type completing struct {
	uncounted
	record capture.Record
}

func (c *completing) Next(offset uint64, r *capture.Record) (bool, error) {
	c.outstanding = 0 // after the agent last looked
	*r = c.record
	return offset < r.End, nil
}

func (c *completing) Release(uint64) {}

// What was submitted after a dropped write that is waited for no more had completed is no part of the epoch: it lacks that write.
func TestForgivenWriteCompletesBeforeTheNextIsSubmitted(t *testing.T) {
	c := &completing{uncounted: uncounted{outstanding: 1}, record: capture.Record{Start: 800, End: 880, Flags: capture.First | capture.Last}}
	s := &Source{log: slog.New(slog.DiscardHandler), forgiven: 1, ep: epoch{number: 3, done: true}}
	x := &session{s: s, cap: c, announced: true, read: 800, queue: make(chan outgoing, queueFrames), spoke: time.Now()}
	require.NoError(t, x.stream())
	require.EqualValues(t, 880, x.read)
	require.True(t, x.tainted)
	require.Equal(t, s.ep.position(800), x.gap, "it ends before that record")
	require.Empty(t, x.queue)
}
