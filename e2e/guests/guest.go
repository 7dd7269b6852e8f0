package guests

import (
	"bytes"
	"crypto/rand"
	"encoding/hex"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/understudy-dr/understudy/e2e/harness"
)

// HostAddress is how a guest reaches this machine's loopback.
const HostAddress = "10.0.2.2"

// Limits of what an emulated machine takes on two busy processors.
const (
	bootLimit = 30 * time.Minute
	runLimit  = 30 * time.Minute
)

// Options of a guest.
type Options struct {
	Kernel      Kernel
	CommandLine string  // more of the kernel's
	Drives      []Drive // beside the boot disk
	BootDisk    string  // boot from this file; a fresh copy of the kernel's image by default
	UUID        string  // of the machine; a random one by default
	Isolated    bool    // it reaches nobody; only ssh reaches it
}

// Guest is a running machine.
type Guest struct {
	Options
	*harness.Process
	Boot    Drive
	Booted  time.Duration // how long its last boot took, until ssh answered
	dir     string
	key     string
	port    int
	monitor *monitor
	shell   *harness.Process
	boots   int
}

// Start boots a guest and waits until ssh answers. It is powered off when the test ends, or by PowerOff.
func Start(t *testing.T, o Options) *Guest {
	t.Helper()
	image := imageOf(t, o.Kernel)
	dir, err := os.MkdirTemp("", "guest-") // the names of sockets must be short
	require.NoError(t, err)
	t.Cleanup(func() { os.RemoveAll(dir) })
	g := &Guest{Options: o, dir: dir, key: image.Key, port: freePort(t)}
	if g.BootDisk == "" {
		g.BootDisk = filepath.Join(dir, "boot.raw")
		copyDisk(t, image.Disk, g.BootDisk)
		prepare(t, g.BootDisk, harness.Binary(t), o.CommandLine)
	}
	if g.UUID == "" {
		g.UUID = randomUUID(t)
	}
	g.Boot = Drive{Virtio, g.BootDisk, "BOOT"}
	require.NoError(t, os.WriteFile(g.console(), nil, 0o600))
	t.Cleanup(func() { g.keepConsole(t) })
	began := time.Now()
	g.Process = harness.Start(t, "qemu", g.command())
	g.awaitBoot(t, began)
	harness.Eventually(t, monitorTimeout, "QEMU's monitor answers", func() (bool, string) {
		m, err := dialMonitor(g.socket("qmp"))
		if err != nil {
			return false, err.Error()
		}
		g.monitor = m
		t.Cleanup(func() { m.conn.Close() })
		return true, ""
	})
	return g
}

func (g *Guest) command() *exec.Cmd {
	network := fmt.Sprintf("user,id=net,hostfwd=tcp:127.0.0.1:%d-:22", g.port)
	if g.Isolated {
		network += ",restrict=on"
	}
	args := []string{"-accel", "tcg,thread=multi", "-cpu", "Nehalem", "-smp", "1", "-m", "1024", "-machine", "q35",
		"-nodefaults", "-no-user-config", "-display", "none", "-uuid", g.UUID, "-serial", "file:" + g.console(),
		"-qmp", "unix:" + g.socket("qmp") + ",server=on,wait=off",
		"-netdev", network, "-device", "virtio-net-pci,netdev=net,romfile=", "-device", "virtio-rng-pci", "-device", "virtio-scsi-pci,id=scsi"}
	for i, d := range append([]Drive{g.Boot}, g.Drives...) {
		args = append(args, d.arguments(i)...)
	}
	return politely("qemu-system-x86_64", args...)
}

func (g *Guest) socket(name string) string { return filepath.Join(g.dir, name) }
func (g *Guest) console() string           { return g.socket("console") }

// awaitBoot waits for one more boot than there was.
func (g *Guest) awaitBoot(t *testing.T, began time.Time) {
	t.Helper()
	g.boots++
	harness.Eventually(t, bootLimit, "the guest has booted", func() (bool, string) {
		console, err := os.ReadFile(g.console())
		require.NoError(t, err)
		if g.Ended() {
			t.Fatalf("QEMU ended: %v\n%s", g.Err(), g.Log())
		}
		for _, end := range []string{"Kernel panic", "ALERT!", "emergency mode"} {
			if bytes.Contains(console, []byte(end)) {
				t.Fatalf("the guest did not boot:\n%s", console[max(0, len(console)-4000):])
			}
		}
		return bytes.Count(console, []byte("TESTVM-READY")) >= g.boots, string(console[max(0, len(console)-500):])
	})
	g.connect(t)
	g.Booted = time.Since(began).Round(100 * time.Millisecond)
	t.Logf("booted in %s", g.Booted)
}

// Reboot has the guest's own system reboot.
func (g *Guest) Reboot(t *testing.T) {
	t.Helper()
	began := time.Now()
	_, _ = g.Try(t, "systemctl reboot") // the connection may break before the answer
	g.awaitBoot(t, began)
}

// Reset is a power cut: the machine starts anew, and what it had in memory is gone.
func (g *Guest) Reset(t *testing.T) {
	t.Helper()
	began := time.Now()
	require.NoError(t, g.monitor.do("system_reset"))
	g.awaitBoot(t, began)
}

// Pause stops the guest's processor, with its disks as they are in the files here, until Resume.
func (g *Guest) Pause(t *testing.T) { t.Helper(); require.NoError(t, g.monitor.do("stop")) }

// Resume lets the guest go on.
func (g *Guest) Resume(t *testing.T) { t.Helper(); require.NoError(t, g.monitor.do("cont")) }

// PowerOff is pulling the plug. The disks' files stay.
func (g *Guest) PowerOff(t *testing.T) {
	t.Helper()
	if err := g.monitor.do("quit"); err != nil && !g.Ended() {
		g.Kill()
	}
	<-g.Done()
}

func (g *Guest) keepConsole(t *testing.T) {
	dir := os.Getenv(keepVariable)
	if dir == "" {
		return
	}
	b, err := os.ReadFile(g.console())
	if err == nil {
		err = os.WriteFile(filepath.Join(dir, filepath.Base(g.dir)+".log"), b, 0o600)
	}
	if err != nil {
		t.Logf("the console is lost: %v", err)
	}
}

func randomUUID(t *testing.T) string {
	t.Helper()
	var b [16]byte
	_, err := rand.Read(b[:])
	require.NoError(t, err)
	h := hex.EncodeToString(b[:])
	return h[:8] + "-" + h[8:12] + "-4" + h[13:16] + "-8" + h[17:20] + "-" + h[20:]
}

// freePort is a loopback port that was free a moment ago.
func freePort(t *testing.T) int {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer l.Close()
	_, port, err := net.SplitHostPort(l.Addr().String())
	require.NoError(t, err)
	n, err := strconv.Atoi(port)
	require.NoError(t, err)
	return n
}
