package capture

import (
	"testing"

	"github.com/stretchr/testify/require"
)

// The blocks of dropped writes that never complete can be found again.
func TestLateDroppedMarksTheirBlocks(t *testing.T) {
	needKernel(t)
	d := testDisk(t, 3, 16<<20)
	c := open(t, testOptions(t, 64<<10, d))
	late := c.bitmap(regionLate, d.Index)
	word := c.plan.disks[d.Index].word
	require.NoError(t, c.dropped.Put(uint64(1), droppedBio{Word: word, Sector: 17, Bytes: 9 << 9, Shift: 12}))
	require.NoError(t, c.dropped.Put(uint64(2), droppedBio{Word: word, Sector: 800, Bytes: 512, Shift: 12, Done: 1}))

	n, err := c.LateDropped()
	require.NoError(t, err)
	require.EqualValues(t, 1, n)
	start, end, ok := late.NextSet(0)
	require.True(t, ok)
	require.EqualValues(t, []uint64{2, 4}, []uint64{start, end}, "sectors 17 to 25")
	_, _, ok = late.NextSet(end)
	require.False(t, ok)
}
