package agent

import (
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/understudy-dr/understudy/internal/replicate/source"
	"github.com/understudy-dr/understudy/internal/usedblocks"
)

func TestMountedBySysfs(t *testing.T) {
	sys := t.TempDir()
	put := func(path, text string) {
		path = filepath.Join(sys, path)
		require.NoError(t, os.MkdirAll(filepath.Dir(path), 0o755))
		require.NoError(t, os.WriteFile(path, []byte(text), 0o600))
	}
	link := func(path, to string) {
		path = filepath.Join(sys, path)
		require.NoError(t, os.MkdirAll(filepath.Dir(path), 0o755))
		require.NoError(t, os.Symlink(filepath.Join(sys, to), path))
	}
	group, volume := strings.Repeat("G", 32), strings.Repeat("v", 32)
	for _, disk := range []string{"sda", "sdb"} {
		put("devices/"+disk+"/"+disk+"1/partition", "1\n")
		put("devices/"+disk+"/"+disk+"1/start", "2048\n")
		link("class/block/"+disk, "devices/"+disk)
		link("class/block/"+disk+"1", "devices/"+disk+"/"+disk+"1")
	}
	put("devices/dm-0/dm/uuid", "LVM-"+group+volume+"\n")
	put("devices/dm-1/dm/uuid", "LVM-"+group+strings.Repeat("w", 32)+"-real\n")
	for _, dm := range []string{"dm-0", "dm-1"} {
		link("class/block/"+dm, "devices/"+dm)
	}
	put("fs/ext4/sda1/delayed_allocation_blocks", "0\n")
	put("fs/ext4/features/lazy_itable_init", "supported\n")
	put("fs/ext4/dm-1/delayed_allocation_blocks", "0\n")
	put("fs/xfs/dm-0/log/log_head_lsn", "1:2\n")
	put("fs/xfs/stats/stats", "\n")
	link("fs/btrfs/0a-1b/devices/sdb", "devices/sdb")

	a, b := mounted{sys, "sda"}, mounted{sys, "sdb"}
	partition, whole, lv := usedblocks.Place{Offset: 1 << 20}, usedblocks.Place{}, usedblocks.Place{Volume: volume}
	require.True(t, a.has("ext4", partition))
	require.False(t, b.has("ext4", partition), "of another disk")
	require.False(t, a.has("xfs", partition), "of another kind")
	require.False(t, a.has("ext4", usedblocks.Place{Offset: 2 << 20}), "at another place")
	require.False(t, a.has("ext4", whole))
	require.True(t, b.has("btrfs", whole))
	require.False(t, b.has("btrfs", partition))
	require.True(t, a.has("xfs", lv))
	require.False(t, a.has("ext4", lv))
	require.False(t, a.has("ext4", usedblocks.Place{Volume: strings.Repeat("w", 32)}), "what a snapshot stands on")
}

// The kernel says what is mounted as it is read here.
func TestMountedByTheKernel(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("needs root, for loop devices and mounts")
	}
	run := func(name string, args ...string) string {
		out, err := exec.Command(name, args...).CombinedOutput()
		require.NoError(t, err, "%s %s: %s", name, strings.Join(args, " "), out)
		return strings.TrimSpace(string(out))
	}
	for kind, mkfs := range map[string][]string{"ext4": {"mkfs.ext4", "-q", "-F"}, "xfs": {"mkfs.xfs", "-q", "-f"}, "btrfs": {"mkfs.btrfs", "-q", "-f"}} {
		t.Run(kind, func(t *testing.T) {
			if _, err := exec.LookPath(mkfs[0]); err != nil {
				t.Skip("needs " + mkfs[0])
			}
			image, dir := filepath.Join(t.TempDir(), "disk"), t.TempDir()
			require.NoError(t, os.WriteFile(image, nil, 0o600))
			require.NoError(t, os.Truncate(image, 320<<20))
			run(mkfs[0], append(mkfs[1:], image)...)
			dev := run("losetup", "--find", "--show", image)
			t.Cleanup(func() { _ = exec.Command("losetup", "-d", dev).Run() })
			m, err := mountedFrom(dev)
			require.NoError(t, err)
			require.Equal(t, filepath.Base(dev), m.disk)
			require.False(t, m.has(kind, usedblocks.Place{}))
			if out, err := exec.Command("mount", dev, dir).CombinedOutput(); err != nil {
				t.Skipf("this kernel does not mount it: %s", out)
			}
			t.Cleanup(func() { _ = unix.Unmount(dir, unix.MNT_DETACH) })
			require.True(t, m.has(kind, usedblocks.Place{}))

			disks := []source.Disk{{Device: dev, Bytes: 320 << 20, Reader: direct(t, dev)}}
			unix.Sync()
			free, err := newUnusedBlocks(disks, slog.New(slog.DiscardHandler)).Find(t.Context(), 0, true)
			require.NoError(t, err)
			require.NotEmpty(t, free)
		})
	}
}

func direct(t *testing.T, dev string) *os.File {
	f, err := os.OpenFile(dev, os.O_RDONLY|unix.O_DIRECT, 0)
	require.NoError(t, err)
	t.Cleanup(func() { _ = f.Close() })
	return f
}
