package source

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/understudy-dr/understudy/internal/capture"
)

// A wall clock that is set ahead makes no write in the ring late: the monotonic clock says how old it is.
func TestAStepOfTheClockIsNoLag(t *testing.T) {
	const second = uint64(time.Second)
	mono, ahead := 100*second, time.Duration(0)
	c := &fakeCapture{host: &host{}}
	c.records = []*record{{Record: capture.Record{Time: mono, Start: 0, End: 64}}}
	s := &Source{cap: newBuffered(c, 0), clock: clock{read: func() (uint64, time.Time) { return mono, time.Unix(0, int64(mono)).Add(ahead) }}}
	s.ep.done = true
	x := &session{s: s}
	require.Equal(t, PhaseContinuous, x.phase())
	ahead, mono = time.Hour, mono+second
	require.Equal(t, PhaseContinuous, x.phase())
	ahead, mono = -time.Hour, mono+second
	require.Equal(t, PhaseContinuous, x.phase())
	mono += 10 * second
	require.Equal(t, PhaseBacklog, x.phase(), "it is late now")
}
