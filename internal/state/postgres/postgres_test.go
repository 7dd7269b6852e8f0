package postgres

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/understudy-dr/understudy/internal/state"
	"github.com/understudy-dr/understudy/internal/state/statetest"
)

func TestConformance(t *testing.T) {
	server := statetest.StartPostgres(t)
	statetest.Run(t, func(t *testing.T, dir string) state.Store {
		s, err := Open(t.Context(), server.Database(dir))
		require.NoError(t, err)
		return s
	})
}
