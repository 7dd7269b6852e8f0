package blockdev

import (
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/understudy-dr/understudy/internal/fault"
)

// nobodys is a device number that no disk has.
var nobodys = Dev{4000, 33}

func TestAClaimLeavesNothing(t *testing.T) {
	file := filepath.Join(claimDir, nobodys.String())
	c, err := ClaimDisk(nobodys, "one")
	require.NoError(t, err)
	_, err = ClaimDisk(nobodys, "two")
	require.True(t, fault.Is(err, fault.Conflict), "%v", err)
	require.ErrorContains(t, err, `is claimed by "one"`)
	SweepClaims()
	require.FileExists(t, file, "it is held")
	require.NoError(t, c.Close())
	require.NoFileExists(t, file)

	require.NoError(t, os.MkdirAll(claimDir, 0o700))
	require.NoError(t, os.WriteFile(file, []byte("one that was killed"), 0o600))
	SweepClaims()
	require.NoFileExists(t, file)
}

// Files that come and go never let two have one disk.
func TestADiskHasOneOwner(t *testing.T) {
	var owners, claims atomic.Int32
	var group sync.WaitGroup
	for range 3 {
		group.Go(func() {
			for range 300 {
				SweepClaims()
				c, err := ClaimDisk(nobodys, "me")
				if err != nil {
					if !fault.Is(err, fault.Conflict) {
						t.Errorf("%v", err)
					}
					continue
				}
				if owners.Add(1) != 1 {
					t.Error("two own the disk")
				}
				claims.Add(1)
				owners.Add(-1)
				if err := c.Close(); err != nil {
					t.Errorf("%v", err)
				}
			}
		})
	}
	group.Wait()
	require.Positive(t, claims.Load())
}
