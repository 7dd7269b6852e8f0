package agent

import (
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/understudy-dr/understudy/internal/fault"
	"github.com/understudy-dr/understudy/internal/replicate/source"
)

func TestProofsComeBack(t *testing.T) {
	dir := t.TempDir()
	none, err := loadProofs(dir)
	require.NoError(t, err)
	require.Nil(t, none)
	p := source.Proofs{Journal: "j", Found: source.Findings{Differed: 4096, Last: time.Unix(9, 0).UTC()},
		Disks: []source.DiskProofs{{Index: 3, Bytes: 40 << 20, Range: 16 << 20, Proven: []int64{7, 0, 8}}}}
	require.NoError(t, saveProofs(dir, p))
	got, err := loadProofs(dir)
	require.NoError(t, err)
	require.Equal(t, &p, got)
}

// Files of every version that ever was must open; what is no such file is said.
func TestProofsOfEarlierVersions(t *testing.T) {
	dir := t.TempDir()
	put := func(content []byte) {
		require.NoError(t, os.WriteFile(filepath.Join(dir, proofsFile), content, 0o600))
	}
	v1, err := os.ReadFile(filepath.Join("testdata", "proofs.v1.json"))
	require.NoError(t, err)
	put(v1)
	got, err := loadProofs(dir)
	require.NoError(t, err)
	require.Equal(t, []int64{1795420800, 0, 1795420816, 1795420824}, got.Disks[0].Proven)
	require.EqualValues(t, 4096, got.Found.Differed)

	put([]byte(`{"version": 2}`))
	_, err = loadProofs(dir)
	require.True(t, fault.Is(err, fault.Unsupported), "%v", err)
	put(v1[:len(v1)/2])
	_, err = loadProofs(dir)
	require.True(t, fault.Is(err, fault.Corruption), "%v", err)
}
