package workload

import (
	"testing"

	"github.com/stretchr/testify/require"
)

func TestBalances(t *testing.T) {
	require.NoError(t, balanced("-17|-17|-17|-17|4|4"))
	require.NoError(t, balanced("0|0|0|0|0|0"))
	for _, torn := range []string{"1|0|0|0|4|4", "0|1|0|0|4|4", "0|0|1|0|4|4", "0|0|0|1|4|4", "0|0|0|0|4|5", "0|0|0|0|4", ""} {
		require.Error(t, balanced(torn), "%q", torn)
	}
}

func TestTransactionLines(t *testing.T) {
	tx, ok := parseTransaction("2 41 3000 0 1700000000 5000 1000")
	require.True(t, ok)
	require.Equal(t, 2, tx.Client)
	require.EqualValues(t, 2000, tx.End.Sub(tx.Begun).Microseconds(), "what it waited for its turn is not its time")
	_, ok = parseTransaction("2 41 3000 0 17")
	require.False(t, ok)
}
