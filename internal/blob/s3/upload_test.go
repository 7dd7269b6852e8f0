package s3

import (
	"testing"

	"github.com/stretchr/testify/require"
)

// The largest object there may be fits the parts there may be, none of them larger than allowed.
func TestPartsSuffice(t *testing.T) {
	total := int64(0)
	for n := range maxParts {
		require.LessOrEqual(t, int64(partSize(n)), int64(5<<30))
		require.GreaterOrEqual(t, partSize(n), 5<<20)
		total += int64(partSize(n))
	}
	require.GreaterOrEqual(t, total, int64(5<<40))
}
