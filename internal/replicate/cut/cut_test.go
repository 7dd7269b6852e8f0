package cut

import (
	"context"
	"errors"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/understudy-dr/understudy/internal/fault"
)

// bench is a server whose dirty bytes and freezer the test sets.
type bench struct {
	*Cutter
	dirty  uint64
	frozen atomic.Bool
	holds  int
	refuse error
	cancel context.CancelFunc
	ended  chan struct{}
}

func newBench(t *testing.T, change func(*Config)) *bench {
	b := &bench{ended: make(chan struct{})}
	c := Config{Every: time.Minute, HoldAtMost: 2 * time.Second, Dirty: func() uint64 { return b.dirty }}
	c.Hold = func(ctx context.Context, f func(context.Context) error) error {
		if b.refuse != nil {
			return b.refuse
		}
		b.holds++
		b.frozen.Store(true)
		defer b.frozen.Store(false)
		return f(ctx)
	}
	if change != nil {
		change(&c)
	}
	b.Cutter = New(c)
	ctx, cancel := context.WithCancel(t.Context())
	b.cancel = cancel
	go func() {
		defer close(b.ended)
		b.Run(ctx)
	}()
	return b
}

func (b *bench) stop() {
	b.cancel()
	<-b.ended
}

// asked is what the source does while an epoch that ended owes nothing: it asks until it may, or for long.
func (b *bench) asked(atMost time.Duration) (after time.Duration, may bool) {
	start := time.Now()
	tick := time.NewTicker(2 * time.Millisecond)
	defer tick.Stop()
	for {
		synctest.Wait()
		if b.MayOpen() {
			return time.Since(start), true
		}
		if time.Since(start) >= atMost {
			return atMost, false
		}
		<-tick.C
	}
}

func pass(d time.Duration) { <-time.After(d) }

// A busy server: rounds while writing goes on, then a hold for the last of them, then rest.
func TestRoundsThenHold(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, nil)
		defer b.stop()
		for i, dirty := range []uint64{10 << 30, 400 << 20, 60 << 20} {
			b.dirty = dirty
			after, may := b.asked(time.Second)
			require.True(t, may, "round %d", i)
			require.Zero(t, after, "rounds follow each other")
			require.False(t, b.frozen.Load())
			pass(time.Duration(dirty/(50<<20)) * time.Second)
		}
		b.dirty = 2 << 20
		_, may := b.asked(time.Second)
		require.True(t, may)
		require.True(t, b.frozen.Load(), "the last epoch is opened while nothing is written")
		pass(80 * time.Millisecond)
		b.Completed()
		synctest.Wait()
		require.False(t, b.frozen.Load(), "thawed at once")
		require.InDelta(t, 80*time.Millisecond, b.Status().Held, float64(5*time.Millisecond))
		require.WithinDuration(t, time.Now(), b.Status().LastPoint, 0)
		require.Empty(t, b.Status().Failed)

		rests := 216 * time.Second // as long as the rounds took: 204 + 8 + 1 and a little
		after, may := b.asked(time.Hour)
		require.True(t, may)
		require.InDelta(t, rests, after, float64(6*time.Second))
	})
}

// A write while everything is held, or a disk too slow for the limit: thawed, no point, said why.
func TestHoldsThatFail(t *testing.T) {
	for name, c := range map[string]struct {
		then func(b *bench)
		why  string
	}{
		"a write came": {func(b *bench) { require.False(t, b.MayOpen()) }, "something was written"},
		"too slow":     {func(*bench) { pass(2 * time.Second) }, "could not be read in time"},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				b := newBench(t, nil)
				defer b.stop()
				for range 2 {
					_, may := b.asked(time.Second)
					require.True(t, may)
				}
				require.True(t, b.frozen.Load())
				c.then(b)
				synctest.Wait()
				require.False(t, b.frozen.Load())
				require.Contains(t, b.Status().Failed, c.why)
				require.Zero(t, b.Status().LastPoint)
				after, may := b.asked(time.Hour)
				require.True(t, may)
				require.InDelta(t, time.Minute, after, float64(3*time.Second))
				require.Equal(t, 1, b.holds)
				b.Completed() // by itself
				require.Empty(t, b.Status().Failed)
			})
		})
	}
}

// Writes that come as fast as they are read are not chased: the server rests at least as long as the attempt took.
func TestNotConverging(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, nil)
		defer b.stop()
		b.dirty = 10 << 30
		_, may := b.asked(time.Second)
		require.True(t, may)
		pass(5 * time.Minute)
		after, may := b.asked(time.Hour)
		require.True(t, may)
		require.GreaterOrEqual(t, after, 5*time.Minute)
		require.Contains(t, b.Status().Failed, "as fast as they are read")
		require.Zero(t, b.holds)
	})
}

// Without a way to hold, or with one that fails, epochs are tried, and the reason is there to see.
func TestWithoutHolding(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, func(c *Config) { c.HoldAtMost = 0 })
		defer b.stop()
		b.dirty = 4096
		for range maxRounds {
			after, may := b.asked(time.Second)
			require.True(t, may)
			require.Zero(t, after)
		}
		after, _ := b.asked(time.Hour)
		require.Equal(t, time.Minute, after.Round(time.Second))
		require.Zero(t, b.holds)
	})
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, nil)
		defer b.stop()
		b.refuse = errors.New("no file system to freeze")
		b.dirty = 4096
		_, may := b.asked(time.Second)
		require.True(t, may)
		after, may := b.asked(time.Hour)
		require.True(t, may)
		require.Equal(t, time.Minute, after.Round(time.Second))
		require.Equal(t, "no file system to freeze", b.Status().Failed)
	})
}

// Somebody else who keeps everything still gets a point too, from any state, and one at a time.
func TestTake(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, nil)
		defer b.stop()
		b.Completed()
		require.False(t, b.MayOpen(), "resting")
		taken := make(chan error)
		go func() { taken <- b.Take(t.Context()) }()
		synctest.Wait()
		require.True(t, fault.Is(b.Take(t.Context()), fault.Conflict))
		require.True(t, b.MayOpen(), "not due, and wanted all the same")
		b.Completed()
		require.NoError(t, <-taken)
		require.False(t, b.MayOpen())

		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		require.True(t, fault.Is(b.Take(ctx), fault.Transient))
		require.False(t, b.MayOpen(), "it is not left holding")
	})
}

// The end of the agent ends a hold.
func TestEndOfRunThaws(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, nil)
		for range 2 {
			_, may := b.asked(time.Second)
			require.True(t, may)
		}
		require.True(t, b.frozen.Load())
		b.stop()
		require.False(t, b.frozen.Load())
	})
}
