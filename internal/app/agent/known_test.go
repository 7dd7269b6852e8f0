package agent

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/understudy-dr/understudy/internal/blockdev"
	"github.com/understudy-dr/understudy/internal/fault"
)

// at is a disk as a look finds it.
func at(path, identity string, sequence uint64) found {
	dev := blockdev.Dev{Major: 8, Minor: uint32(sequence)}
	return found{Info: blockdev.Info{Path: path, Name: "sd", Bytes: 1 << 30, Sequence: sequence, Dev: dev, Disk: dev}, identity: identity}
}

func TestDisksAreKnownByIdentity(t *testing.T) {
	var k ledger
	sees := func(boot string, devices []string, disks ...found) (paths []string) {
		t.Helper()
		wanted, err := k.wanted(disks, devices, boot, false)
		require.NoError(t, err)
		for _, f := range wanted {
			paths = append(paths, f.Path+" "+f.identity)
		}
		return paths
	}
	ab := []string{"/dev/sda", "/dev/sdb"}
	require.Equal(t, []string{"/dev/sda serial:a", "/dev/sdb serial:b"},
		sees("1", ab, at("/dev/sda", "serial:a", 1), at("/dev/sdb", "serial:b", 2), at("/dev/sdc", "serial:c", 3)))
	id := k.Disks[0].ID

	// Names are exchanged, the excluded disk's too.
	require.Equal(t, []string{"/dev/sdb serial:a", "/dev/sdc serial:b"},
		sees("2", ab, at("/dev/sda", "serial:c", 1), at("/dev/sdb", "serial:a", 2), at("/dev/sdc", "serial:b", 3)))
	require.Equal(t, id, k.Disks[0].ID)

	// A new disk at an old name is not the old one, and not replicated because somebody once named the path.
	require.Equal(t, []string{"/dev/sdb serial:a"}, sees("3", ab, at("/dev/sda", "serial:new", 1), at("/dev/sdb", "serial:a", 2)))
	// The old one comes back.
	require.Equal(t, []string{"/dev/sdb serial:a", "/dev/sdx serial:b"},
		sees("3", ab, at("/dev/sda", "serial:new", 1), at("/dev/sdb", "serial:a", 2), at("/dev/sdx", "serial:b", 9)))

	// It is named no more; the excluded one is, where it was found.
	now := []found{at("/dev/sdb", "serial:a", 2), at("/dev/sdx", "serial:b", 9), at("/dev/sdd", "serial:c", 4)}
	sees("3", []string{"/dev/sda"}, now...)
	require.Equal(t, []string{"/dev/sdb serial:a", "/dev/sdd serial:c"}, sees("3", []string{"/dev/sda", "/dev/sdd"}, now...))
}

// A disk without a name of its own that is partitioned while the kernel runs stays the disk that it is, to the service too.
func TestADiskIsPartitioned(t *testing.T) {
	var k ledger
	devices := []string{"/dev/vdb"}
	first, err := k.wanted([]found{at("/dev/vdb", "path:/dev/vdb", 2)}, devices, "1", false)
	require.NoError(t, err)
	for _, f := range []found{at("/dev/vdb", "gpt:1", 2), at("/dev/vdb", "path:/dev/vdb", 2)} {
		then, err := k.wanted([]found{f}, devices, "1", false)
		require.NoError(t, err)
		require.Equal(t, first[0].id, then[0].id)
	}
	then, err := k.wanted([]found{at("/dev/vdc", "gpt:1", 7)}, devices, "2", false)
	require.NoError(t, err)
	require.Equal(t, first[0].id, then[0].id, "found by its partition table after a start")
	then, err = k.wanted([]found{at("/dev/vdb", "gpt:2", 8)}, devices, "2", false)
	require.NoError(t, err)
	require.Empty(t, then)
}

func TestThePolicyForNewDisks(t *testing.T) {
	for _, add := range []bool{false, true} {
		var k ledger
		_, err := k.wanted([]found{at("/dev/sda", "serial:a", 1), at("/dev/sdb", "serial:b", 2)}, []string{"/dev/sda"}, "1", add)
		require.NoError(t, err)
		all := []found{at("/dev/sda", "serial:a", 1), at("/dev/sdb", "serial:b", 2), at("/dev/sdc", "serial:c", 3)}
		all[2].Hardware = true
		wanted, err := k.wanted(all, []string{"/dev/sda"}, "1", add)
		require.NoError(t, err)
		want := 1
		if add {
			want++ // and never the one that was excluded
		}
		require.Len(t, wanted, want)
		again, err := k.wanted(all, []string{"/dev/sda"}, "1", !add)
		require.NoError(t, err)
		require.Len(t, again, want, "what was decided stays")
	}
}

func TestTwoDisksOfOneName(t *testing.T) {
	var k ledger
	_, err := k.wanted([]found{at("/dev/sda", "wwn:1", 1)}, []string{"/dev/sda"}, "1", false)
	require.NoError(t, err)
	two := []found{at("/dev/sdc", "wwn:1", 3), at("/dev/sda", "wwn:1", 2)}
	wanted, err := k.wanted(two, []string{"/dev/sda"}, "2", false)
	require.NoError(t, err)
	require.Equal(t, "/dev/sda", wanted[0].Path)
	two[1].Path = "/dev/sdb"
	_, err = k.wanted(two, []string{"/dev/sda"}, "3", false)
	require.True(t, fault.Is(err, fault.Conflict), "%v", err)
}

func TestTheLedgerIsKept(t *testing.T) {
	dir := t.TempDir()
	k, err := loadKnown(dir)
	require.NoError(t, err)
	_, err = k.wanted([]found{at("/dev/sda", "serial:a", 1)}, []string{"/dev/sda"}, "1", false)
	require.NoError(t, err)
	require.NoError(t, k.save(dir))
	again, err := loadKnown(dir)
	require.NoError(t, err)
	require.Equal(t, k, again)
	k.Version++
	require.NoError(t, k.save(dir))
	_, err = loadKnown(dir)
	require.True(t, fault.Is(err, fault.Unsupported), "%v", err)
}
