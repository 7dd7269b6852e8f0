package usedblocks

import (
	"os"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// A file system that another kernel has mounted, a guest's, has changes in memory that no sync(2) here commits: data that was
// written long ago, in blocks that its bitmaps call free until it commits.
func TestMountedElsewhere(t *testing.T) {
	for _, y := range systems {
		if y.name != "ext4" && y.name != "xfs" && y.name != "btrfs" {
			continue
		}
		t.Run(y.name, func(t *testing.T) {
			path, dev, dir := y.make(t)
			c := &churn{rng: newRand(t), dir: dir, room: y.bytes / 8}
			c.run(t, 50)
			look := func(here bool) ([]Range, Content) {
				f, err := os.Open(path)
				require.NoError(t, err)
				defer f.Close()
				asked := 0
				free, found, err := Find(t.Context(), f, y.bytes, Options{MinFree: 4096, Settle: time.Minute, Poll: 200 * time.Millisecond,
					Mounted: func(kind string, at Place) bool {
						asked++
						require.Equal(t, y.mkfs[0], "mkfs."+kind)
						require.Equal(t, Place{}, at)
						return here
					}})
				require.NoError(t, err)
				require.Positive(t, asked)
				require.Len(t, found, 1)
				return free, found[0]
			}
			sh(t, "sync", dev)
			free, found := look(false)
			require.ErrorContains(t, found.Err, "not mounted here")
			require.Empty(t, free)
			unmount(t, dir)
			if y.name == "ext4" { // whose superblock tells that nobody has it mounted, once another mount namespace's copy is gone
				require.Eventually(t, func() bool {
					free, found = look(false)
					return found.Err == nil && len(free) > 0
				}, time.Minute, 100*time.Millisecond)
			} else {
				_, found = look(false)
				require.ErrorContains(t, found.Err, "not mounted here")
			}
			free, found = look(true)
			require.NoError(t, found.Err)
			require.NotEmpty(t, free)
		})
	}
}

func TestPlaces(t *testing.T) {
	d := &disk{bytes: 1 << 30}
	lv := &logical{id: "x", of: &part{of: d, from: 4096}}
	for _, c := range []struct {
		v  volume
		at Place
		ok bool
	}{
		{d, Place{}, true},
		{&part{of: d, from: 1 << 20}, Place{Offset: 1 << 20}, true},
		{lv, Place{Volume: "x"}, true},
		{&logical{of: d}, Place{}, false},
		{&part{of: lv, from: 1 << 20}, Place{}, false}, // a guest's
		{&part{of: &part{of: d, from: 1 << 20}, from: 1 << 20}, Place{}, false},
	} {
		at, ok := placeOf(c.v)
		require.Equal(t, c.ok, ok)
		if ok {
			require.Equal(t, c.at, at)
		}
	}
}
