package journal

import (
	"testing"

	"github.com/stretchr/testify/require"
)

// TestPressure: what waits presses by its entries, and by its bytes only when there are many of them.
func TestPressure(t *testing.T) {
	for _, c := range []struct {
		name     string
		segments int
		entries  int   // of each
		bytes    int64 // of each
		want     Pressure
	}{
		{"nothing", 0, 0, 0, Relaxed},
		{"2 GiB of a first copy but for a segment", slowBytes/defaultSegmentBytes - 1, 300, defaultSegmentBytes, Relaxed},
		{"2 GiB of a first copy", slowBytes / defaultSegmentBytes, 300, defaultSegmentBytes, Slow},
		{"8 GiB of it", fullBytes / defaultSegmentBytes, 300, defaultSegmentBytes, Full},
		{"a quarter of a GiB of small writes but for one", 4, slowEntries/4 - 1, defaultSegmentBytes, Relaxed},
		{"a quarter of a GiB of small writes", 4, slowEntries / 4, defaultSegmentBytes, Slow},
		{"a GiB of them", 16, fullEntries / 16, defaultSegmentBytes, Full},
		{"segments that ended early", fullSegments, 1, 4096, Full},
	} {
		j := &Journal{}
		for range c.segments {
			j.pub.sealed = append(j.pub.sealed, &segment{entries: c.entries})
			j.pub.bytes += c.bytes
		}
		require.Equal(t, c.want, j.Pressure(), c.name)
	}
}
