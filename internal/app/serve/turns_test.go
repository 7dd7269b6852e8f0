package serve

import (
	"context"
	"testing"
	"testing/synctest"

	"github.com/stretchr/testify/require"
)

// TestTurnsComeInOrder: first come, first served; whoever has begun before those who have not.
func TestTurnsComeInOrder(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		turns := newTurns(1)
		require.NoError(t, turns.take(t.Context(), false))
		var order []string // by whoever has the turn
		impatient, leave := context.WithCancel(t.Context())
		for _, w := range []struct {
			name  string
			ctx   context.Context
			again bool
		}{
			{"first", t.Context(), false}, {"leaves", impatient, false}, {"second", t.Context(), false},
			{"begun", t.Context(), true}, {"leaves too", impatient, true}, {"begun later", t.Context(), true},
		} {
			go func() {
				if turns.take(w.ctx, w.again) == nil {
					order = append(order, w.name)
					turns.give()
				}
			}()
			synctest.Wait()
		}
		require.Equal(t, 6, turns.waiting())
		leave()
		synctest.Wait()
		require.Equal(t, 4, turns.waiting())
		turns.give()
		synctest.Wait()
		require.Equal(t, []string{"begun", "begun later", "first", "second"}, order)
		require.Zero(t, turns.waiting())
		require.Equal(t, 1, turns.free)
	})
}

// TestTurnThatComesTooLate: whoever leaves at the moment its turn comes hands it on.
func TestTurnThatComesTooLate(t *testing.T) {
	for range 1000 {
		turns := newTurns(1)
		require.NoError(t, turns.take(t.Context(), false))
		ctx, leave := context.WithCancel(t.Context())
		left := make(chan error, 1)
		go func() { left <- turns.take(ctx, false) }()
		for turns.waiting() == 0 {
			continue
		}
		go leave()
		turns.give()
		if <-left == nil {
			turns.give()
		}
		require.Equal(t, 1, turns.free)
	}
}
