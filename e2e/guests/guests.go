// Package guests boots real machines for the end-to-end tests: QEMU guests with Debian's stock kernels, booted from disks
// with their own boot loader, which run the real agent under the real systemd. Only tests of e2e import it.
//
// Guests are emulated (TCG), so that they run wherever QEMU does; docs/guests.md says what that costs. One guest
// runs at a time, over all processes that share a cache.
package guests

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/understudy-dr/understudy/e2e/harness"
)

// Kernel is a stock kernel of Debian's repositories.
type Kernel struct {
	Name    string
	Suite   string
	Package string
	Asked   bool // only when it is named: the scenarios do not always pass there, and docs/guests.md says why
}

// Kernels that the scenarios run on: Debian 12's own, the newest of its repositories, and the newest of any stable release's.
var Kernels = []Kernel{
	{Name: "6.1", Suite: "bookworm", Package: "linux-image-cloud-amd64"},
	{Name: "6.12", Suite: "bookworm", Package: "linux-image-6.12-cloud-amd64"},
	{Name: "7.3", Suite: "trixie", Package: "linux-image-cloud-amd64/trixie-backports", Asked: true},
}

// The environment of the tests.
const (
	enableVariable  = "UNDERSTUDY_GUESTS"        // anything: guests are booted
	kernelsVariable = "UNDERSTUDY_GUEST_KERNELS" // names of Kernels, as 6.1,6.12; all that need not be asked for by default
	cacheVariable   = "UNDERSTUDY_GUEST_CACHE"   // where images are kept
	keepVariable    = "UNDERSTUDY_GUEST_CONSOLE" // a directory that consoles are kept in
)

// tools are what making an image and booting it take, and the packages that have them.
var tools = map[string]string{
	"qemu-system-x86_64": "qemu-system-x86", "debootstrap": "debootstrap", "sfdisk": "fdisk", "mkfs.vfat": "dosfstools", "mcopy": "mtools",
	"grub-mkimage": "grub-common", "ssh": "openssh-client", "ssh-keygen": "openssh-client", "zstd": "zstd", "losetup": "mount", "e2fsck": "e2fsprogs",
}

// Require skips a test that cannot boot guests, saying what is missing.
func Require(t *testing.T) {
	t.Helper()
	if os.Getenv(enableVariable) == "" {
		t.Skipf("%s is not set: 'make e2e' boots guests", enableVariable)
	}
	if os.Geteuid() != 0 {
		t.Skip("not root: making an image takes loop devices and mounts")
	}
	var missing []string
	for tool, pkg := range tools {
		if _, err := exec.LookPath(tool); err != nil {
			missing = append(missing, tool+" of package "+pkg)
		}
	}
	for _, dir := range []string{"/usr/lib/grub/i386-pc", "/usr/lib/grub/x86_64-efi"} {
		if _, err := os.Stat(dir); err != nil {
			missing = append(missing, dir+" of packages grub-pc-bin and grub-efi-amd64-bin")
		}
	}
	if len(missing) > 0 {
		t.Skipf("missing: %s; 'scripts/install-deps guests' installs them", strings.Join(missing, ", "))
	}
}

// EachKernel runs a scenario on every kernel that is asked for.
func EachKernel(t *testing.T, scenario func(t *testing.T, k Kernel)) {
	t.Helper()
	Require(t)
	for _, k := range Kernels {
		t.Run(k.Name, func(t *testing.T) {
			if names := os.Getenv(kernelsVariable); names == "" && k.Asked || names != "" && !slices.Contains(strings.Split(names, ","), k.Name) {
				t.Skipf("%s=%s leaves it out", kernelsVariable, names)
			}
			alone(t)
			scenario(t, k)
		})
	}
}

// alone waits until nobody else on this machine runs guests, and keeps others waiting until the test ends.
func alone(t *testing.T) {
	t.Helper()
	cache, err := cacheDir()
	require.NoError(t, err)
	f, err := os.OpenFile(filepath.Join(mkdir(t, cache), "guest.lock"), os.O_CREATE|os.O_RDWR|unix.O_CLOEXEC, 0o600)
	require.NoError(t, err)
	t.Cleanup(func() { f.Close() })
	harness.Eventually(t, 2*time.Hour, "no other guest runs", func() (bool, string) {
		err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB)
		return err == nil, fmt.Sprint(err)
	})
}

// politely runs what computes for minutes behind everything else, if this process does not run there already.
func politely(name string, args ...string) *exec.Cmd {
	const behind = 10
	if n, err := unix.Getpriority(unix.PRIO_PROCESS, 0); err == nil && 20-n >= behind { // the system call says 20 - nice
		return exec.Command(name, args...)
	}
	return exec.Command("nice", append([]string{"-n", fmt.Sprint(behind), name}, args...)...)
}

// cacheDir is where images stay between runs.
func cacheDir() (string, error) {
	if dir := os.Getenv(cacheVariable); dir != "" {
		return filepath.Abs(dir)
	}
	dir, err := os.UserCacheDir()
	if err != nil {
		return "", err
	}
	return filepath.Join(dir, "understudy-guests"), nil
}

// root of the checkout.
func root() string {
	dir, err := os.Getwd()
	for err == nil && dir != "/" {
		if _, err := os.Stat(filepath.Join(dir, "go.mod")); err == nil {
			return dir
		}
		dir = filepath.Dir(dir)
	}
	return "."
}
