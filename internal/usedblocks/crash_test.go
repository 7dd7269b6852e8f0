package usedblocks

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// What a crash leaves: the newest transactions are in ext4's journal only. They are not replayed to find what is free.
func TestAfterACrash(t *testing.T) {
	for _, y := range systems {
		if y.none || strings.HasPrefix(y.name, "xfs") { // XFS waits until its log is written back
			continue
		}
		t.Run(y.name, func(t *testing.T) {
			path, dev, dir := y.make(t)
			rng := newRand(t)
			c := &churn{rng: rng, dir: dir, room: y.bytes / 8}
			var crashed, spoilt string
			var free []Range
			var found []Content
			btrfs := strings.HasPrefix(y.name, "btrfs")
			for range 10 { // until nobody, for whatever reason, syncs all of the machine's file systems meanwhile
				c.run(t, 120)
				last, err := os.Create(filepath.Join(dir, "last")) // fsync commits, and writes no bitmap in place
				require.NoError(t, err)
				require.NoError(t, last.Sync())
				require.NoError(t, last.Close())
				crashed = copyAtOneMoment(t, path, dev)
				spoilt = copyOfImage(t, crashed)
				if free, found = look(t, crashed); !btrfs || found[0].Err != nil {
					break
				}
			}
			if btrfs { // what was synced alone is in the log tree only
				require.ErrorContains(t, found[0].Err, "log was not replayed")
				require.Empty(t, free)
				return
			}
			require.NoError(t, found[0].Err)
			require.Greater(t, spoil(t, spoilt, "", 4096, free, rng), y.bytes/4)
			replayed := mount(t, attach(t, crashed), "rw,noatime")
			y.proves(t, spoilt, filesBelow(t, replayed))
		})
	}
}
