package guests

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/understudy-dr/understudy/e2e/harness"
	"github.com/understudy-dr/understudy/internal/app/agent"
)

// files writes n files of random content below a directory of the guest, synced, with their sums in a file beside them.
func files(dir, name string, n, kib int) string {
	return fmt.Sprintf(`mkdir -p %[1]s/%[2]s; cd %[1]s/%[2]s
for i in $(seq %[3]d); do head -c $((%[4]d * 1024 / i + i)) /dev/urandom > f$i; done
sha256sum f* > sums; sync -f .`, dir, name, n, kib)
}

// Everything that a server goes through with its boot disk: examined, installed, copied, followed, its agent killed, rebooted,
// its power cut, uninstalled.
func TestBootDisk(t *testing.T) {
	EachKernel(t, func(t *testing.T, k Kernel) {
		s := Serve(t)
		g := Start(t, Options{Kernel: k})
		t.Log("kernel ", g.Run(t, "uname -r"))
		p := Meet(t, g, s)
		found := p.Doctor(t, "--devices /dev/vda")
		require.Equal(t, agent.Check{Name: "capture mode", Verdict: agent.Good, Found: "payload"}, found["capture mode"])
		before := leftovers(t, g)
		p.Install(t, "")
		v := p.Continuous(t)
		require.Equal(t, "/dev/vda", *v.SourceProperties.Disks[0].DeviceName)
		st := p.Status(t)
		require.Len(t, st.Disks, 1)
		require.Greater(t, st.Disks[0].Unused, st.Disks[0].Total/3, "only what is used is copied")
		t.Log("hardening:", g.Run(t, "systemd-analyze security --no-pager understudy-agent.service | tail -n 1 || true"))

		p.pointOfARootFileSystem(t)
		p.killTheAgent(t)
		p.rescanAfter(t, "reboot", g.Reboot)
		p.stillBootDisk(t)
		p.rescanAfter(t, "power cut", g.Reset)

		for range 2 {
			g.Run(t, Program+" agent uninstall")
			require.Equal(t, before, leftovers(t, g))
		}
	})
}

// leftovers is all that an agent could leave in a guest.
func leftovers(t *testing.T, g *Guest) string {
	t.Helper()
	return g.Run(t, `find / -xdev -ipath '*understudy*' -not -path /root/understudy -not -path '/proc/*' || true
find /run /sys/fs/bpf /dev/shm -ipath '*understudy*' || true
ls -A /sys/fs/bpf
systemctl list-units --all --no-legend --plain '*understudy*'
systemctl list-unit-files --no-legend '*understudy*' || true
pgrep -a understudy || true`)
}

// A point of the mounted root file system has what was written before, nothing of what came later, and no log to replay.
func (p *Protected) pointOfARootFileSystem(t *testing.T) {
	t.Helper()
	p.Run(t, files("/srv", "before", 20, 4096))
	point := p.Point(t)
	require.Contains(t, point.FileSystems, "/")
	require.Empty(t, point.Warnings)
	p.Run(t, "rm /srv/before/f3; echo other > /srv/before/f4; "+files("/srv", "after", 2, 64))
	image := p.Export(t, "/dev/vda", "--point", p.Kept(t, 1)[0].ID)
	Root(t, image, []string{"ro", "noload"}, func(dir string) {
		require.NoError(t, checkSums(t, filepath.Join(dir, "srv/before")))
		require.NoDirExists(t, filepath.Join(dir, "srv/after"))
	})
	require.NoError(t, checkRoot(t, image))
}

func checkSums(t *testing.T, dir string) error {
	t.Helper()
	_, err := harness.Try(t.Context(), "sh", "-c", `cd "$0" && sha256sum --quiet -c sums`, dir)
	return err
}

// checkRoot checks the root file system on a boot disk's image, without writing.
func checkRoot(t *testing.T, image string) error {
	t.Helper()
	_, err := harness.Try(t.Context(), "e2fsck", "-fn", fmt.Sprintf("%s?offset=%d", image, rootStart))
	return err
}

// An agent that is killed goes on where it was: what was written meanwhile arrives, in the same epoch.
func (p *Protected) killTheAgent(t *testing.T) {
	t.Helper()
	before := p.Status(t)
	windows := p.Points(t).Windows
	p.Run(t, "systemctl kill --signal=KILL understudy-agent; "+files("/srv", "meanwhile", 5, 1024))
	var after agent.Status
	harness.EventuallyEvery(t, pollEvery, patience, "another agent runs", func() (bool, string) {
		after = p.Status(t)
		return after.PID != before.PID && after.Connected, fmt.Sprintf("pid %d, connected %t", after.PID, after.Connected)
	})
	p.Settled(t)
	after = p.Status(t)
	t.Logf("after a kill: epoch %d (%s), misses %v", after.Epoch, after.Reason, after.Doubts.RecursionMisses)
	require.Equal(t, before.Epoch, after.Epoch, "no rescan: %s\n%s", after.Reason, p.Journal(t))
	require.Zero(t, after.Disks[0].Missed)
	last := p.Points(t).Windows
	require.Len(t, last, len(windows))
	require.Equal(t, windows[len(windows)-1].From, last[len(last)-1].From, "no gap")
}

// The kernel's start until the agent's is not tracked: all is compared, little is sent.
func (p *Protected) rescanAfter(t *testing.T, what string, restart func(*testing.T)) {
	t.Helper()
	before := p.Status(t)
	restart(t)
	harness.EventuallyEvery(t, pollEvery, patience, "the agent runs again", func() (bool, string) {
		out, err := p.Try(t, "systemctl is-active understudy-agent")
		return err == nil, out
	})
	harness.EventuallyEvery(t, pollEvery, patience, "another epoch", func() (bool, string) {
		now := p.Status(t)
		return now.Epoch > before.Epoch, fmt.Sprintf("epoch %d: %s", now.Epoch, now.Error)
	})
	p.Continuous(t)
	p.Settled(t)
	s := p.Status(t)
	t.Logf("after a %s: epoch %d (%s), %d KiB on the wire, %d MiB the same, misses %v", what, s.Epoch, s.Reason, s.WireBytes>>10, s.Disks[0].Same>>20, s.Doubts.RecursionMisses)
	require.Greater(t, s.Disks[0].Same, s.Disks[0].Total*9/10)
	require.Less(t, s.WireBytes, s.Disks[0].Total/20)
}

// With its file systems made read-only nothing writes to the boot disk any more, and the replica is the disk, byte by byte.
func (p *Protected) stillBootDisk(t *testing.T) {
	t.Helper()
	p.Run(t, files("/srv", "last", 3, 512)+"; cd /; echo s > /proc/sysrq-trigger; echo u > /proc/sysrq-trigger")
	harness.EventuallyEvery(t, pollEvery, patience, "the root file system is read-only", func() (bool, string) {
		out := p.Run(t, "awk '$2 == \"/\" {print $4}' /proc/mounts")
		return strings.HasPrefix(out, "ro"), out
	})
	p.Settled(t)
	image := p.Export(t, "/dev/vda", "--latest")
	p.Pause(t)
	require.NoError(t, harness.SameContent(p.Boot.File, image))
	p.Resume(t)
	require.NoError(t, checkRoot(t, image))
	Root(t, image, []string{"ro", "noload"}, func(dir string) {
		for _, name := range []string{"after", "meanwhile", "last"} {
			require.NoError(t, checkSums(t, filepath.Join(dir, "srv", name)))
		}
		other, err := os.ReadFile(filepath.Join(dir, "srv/before/f4"))
		require.NoError(t, err)
		require.Equal(t, "other\n", string(other))
	})
}
