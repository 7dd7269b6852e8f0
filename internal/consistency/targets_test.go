package consistency

import (
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestParseMounts(t *testing.T) {
	const text = `22 1 8:2 / / rw,relatime shared:1 - ext4 /dev/sda2 rw,errors=remount-ro
31 22 0:29 /@home /home ro,relatime shared:5 master:1 - btrfs /dev/sdb1 rw,subvol=/@home
40 22 8:17 / /mnt/a\040b\011c\134d rw - xfs /dev/sd\134x ro
garbage
`
	got, err := parseMounts(strings.NewReader(text))
	require.NoError(t, err)
	require.Equal(t, []*Target{
		{Mount: "/", Device: "8:2", id: 22, fs: "ext4", source: "/dev/sda2", writable: true},
		{Mount: "/home", Device: "0:29", id: 31, fs: "btrfs", source: "/dev/sdb1", writable: true},
		{Mount: "/mnt/a b\tc\\d", Device: "8:17", id: 40, fs: "xfs", source: `/dev/sd\x`},
	}, got)
}

func TestServedDevices(t *testing.T) {
	require.Equal(t, "nbd0", stack{"43:0": "nbd0"}.served())
	require.Empty(t, stack{"8:0": "sda", "253:0": "dm-0"}.served())
	require.True(t, stack{"8:0": "sda", "253:0": "dm-0"}.on([]string{"8:0"}))
	require.False(t, stack{"8:0": "sda"}.on([]string{"8:16"}))
}

// A file system is found once, however often and through whatever it is mounted, and only if it lies on the disk.
func TestAutomaticTargets(t *testing.T) {
	log := slog.New(slog.DiscardHandler)
	other := newVolume(t, "ext4", t.TempDir())
	v := newVolume(t, "btrfs", t.TempDir())
	require.NotEqual(t, other.number, v.number)
	run1(t, "btrfs", "subvolume", "create", filepath.Join(v.mount, "sub"))
	again := t.TempDir()
	run1(t, "mount", "-o", "subvol=sub", v.device, again)
	t.Cleanup(func() { cleanup(t, "umount", again) })
	got, err := Selection{}.targets([]string{v.number}, log)
	require.NoError(t, err)
	require.Len(t, got, 1)
	require.Equal(t, v.mount, got[0].Mount)

	// What hides behind another mount is reached by its other path.
	run1(t, "mount", "-t", "tmpfs", "none", v.mount)
	t.Cleanup(func() { cleanup(t, "umount", v.mount) })
	got, err = Selection{}.targets([]string{v.number}, log)
	require.NoError(t, err)
	require.Len(t, got, 1)
	require.Equal(t, again, got[0].Mount)
}

// A partition and a mapped device lie on their disk.
func TestStackReachesTheDisk(t *testing.T) {
	image := filepath.Join(t.TempDir(), "disk.img")
	require.NoError(t, os.WriteFile(image, nil, 0o600))
	require.NoError(t, os.Truncate(image, 64<<20))
	disk := run1(t, "losetup", "--find", "--show", "--partscan", image)
	t.Cleanup(func() { cleanup(t, "losetup", "-d", disk) })
	run1(t, "addpart", disk, "1", "2048", "65536")
	part := filepath.Base(disk) + "p1"
	number, err := os.ReadFile("/sys/class/block/" + part + "/dev")
	require.NoError(t, err)
	whole, err := os.ReadFile("/sys/class/block/" + filepath.Base(disk) + "/dev")
	require.NoError(t, err)
	s := stack{}
	s.add(strings.TrimSpace(string(number)))
	require.True(t, s.on([]string{strings.TrimSpace(string(whole))}), "%v", s)
	require.Contains(t, s, strings.TrimSpace(string(number)))
}
