package guests

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/understudy-dr/understudy/e2e/harness"
)

// What every image has beyond a minimal Debian: the tools of the storage stacks.
const extraPackages = "lvm2 dmsetup mdadm cryptsetup-bin xfsprogs btrfs-progs"

const (
	imageSize = "1G"
	rootStart = 36864 * 512 // of the root partition, as the script partitions
)

// Image is a bootable disk that is kept; guests boot copies.
type Image struct {
	Disk string
	Key  string // ssh's, for root
}

// imageOf makes a kernel's image unless the cache has it.
func imageOf(t *testing.T, k Kernel) Image {
	t.Helper()
	cache, err := cacheDir()
	require.NoError(t, err)
	script := filepath.Join(root(), "scripts", "make-test-image")
	text, err := os.ReadFile(script)
	require.NoError(t, err)
	sum := sha256.Sum256([]byte(strings.Join([]string{string(text), k.Suite, k.Package, extraPackages, imageSize}, "\x00")))
	dir := filepath.Join(cache, k.Name+"-"+hex.EncodeToString(sum[:6]))
	image := Image{Disk: filepath.Join(dir, "disk.img"), Key: filepath.Join(dir, "disk.img.key")}
	if _, err := os.Stat(dir); err == nil {
		return image
	}
	began := time.Now()
	making, err := os.MkdirTemp(mkdir(t, cache), "making-")
	require.NoError(t, err)
	t.Cleanup(func() { os.RemoveAll(making) })
	cmd := politely(script, filepath.Join(making, "disk.img"), imageSize)
	cmd.Env = append(os.Environ(), "SUITE="+k.Suite, "KERNEL="+k.Package, "EXTRA_PKGS="+extraPackages, "CACHE_DIR="+filepath.Join(cache, "debian"),
		"VM_HOSTNAME=guest", "TMPDIR="+making)
	cmd.SysProcAttr = &unix.SysProcAttr{Pdeathsig: unix.SIGTERM}
	out, err := cmd.CombinedOutput()
	require.NoErrorf(t, err, "%s %s: %s", script, k.Package, out)
	require.NoError(t, os.Rename(making, dir))
	t.Logf("image of kernel %s made in %s:\n%s", k.Name, time.Since(began).Round(time.Second), out)
	return image
}

func mkdir(t *testing.T, dir string) string {
	t.Helper()
	require.NoError(t, os.MkdirAll(dir, 0o755))
	return dir
}

// copyDisk makes a sparse copy.
func copyDisk(t *testing.T, from, to string) {
	t.Helper()
	harness.Run(t, "cp", "--sparse=always", "--reflink=auto", from, to)
}

// Root mounts the root file system of a boot disk that no guest runs from, for as long as f takes.
func Root(t *testing.T, disk string, options []string, f func(dir string)) {
	t.Helper()
	dev := strings.TrimSpace(harness.Run(t, "losetup", "--find", "--show", "--offset", strconv.Itoa(rootStart), disk))
	detach := func() error {
		_, err := harness.Try(context.WithoutCancel(t.Context()), "losetup", "--detach", dev)
		return err
	}
	t.Cleanup(func() {
		if b, err := os.ReadFile("/sys/block/" + filepath.Base(dev) + "/loop/backing_file"); err == nil && strings.TrimSpace(string(b)) == disk {
			_ = detach() // f failed
		}
	})
	dir := harness.Mount(t, dev, filepath.Join(t.TempDir(), "root"), options...)
	f(dir)
	harness.Unmount(t, dir)
	require.NoError(t, detach())
}

// patientKernel keeps a kernel from calling a timer broken, and panicking, whose ticks a busy host delivers late.
const patientKernel = "no_timer_check"

// patientSystem keeps systemd from giving up after 90 s what an emulated machine on a busy host takes minutes for, such as seeing a disk.
const patientSystem = "[Manager]\nDefaultTimeoutStartSec=30min\nDefaultDeviceTimeoutSec=30min\n"

// prepare gives a copy of a boot disk the program under test and a kernel command line.
func prepare(t *testing.T, disk, program, commandLine string) {
	t.Helper()
	Root(t, disk, nil, func(dir string) {
		harness.Run(t, "cp", program, filepath.Join(dir, strings.TrimPrefix(Program, "/")))
		conf := mkdir(t, filepath.Join(dir, "etc/systemd/system.conf.d"))
		require.NoError(t, os.WriteFile(filepath.Join(conf, "patient.conf"), []byte(patientSystem), 0o600))
		file := filepath.Join(dir, "boot/grub/grub.cfg")
		text, err := os.ReadFile(file)
		require.NoError(t, err)
		const known = "mitigations=off"
		require.Contains(t, string(text), known)
		require.NoError(t, os.WriteFile(file, []byte(strings.ReplaceAll(string(text), known, known+" "+patientKernel+" "+commandLine)), 0o600))
	})
}

// Program is the binary under test, in a guest.
const Program = "/root/understudy"
