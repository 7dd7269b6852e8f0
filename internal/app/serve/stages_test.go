package serve

import (
	"context"
	"errors"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestStagesStopInReverseOrder(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	var order []string
	s := func(name string) stage {
		return func(ctx context.Context) error {
			<-ctx.Done()
			order = append(order, name) // one at a time: the next is stopped when this one has ended
			return nil
		}
	}
	done := make(chan error)
	go func() { done <- runStages(ctx, s("sink"), s("engine"), s("edge")) }()
	cancel()
	require.NoError(t, <-done)
	require.Equal(t, []string{"edge", "engine", "sink"}, order)
}

func TestAFailedStageEndsTheOthers(t *testing.T) {
	boom := errors.New("boom")
	wait := func(ctx context.Context) error { <-ctx.Done(); return nil }
	err := runStages(t.Context(), wait, func(context.Context) error { return boom }, wait)
	require.ErrorIs(t, err, boom)
}
