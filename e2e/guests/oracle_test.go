package guests

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/understudy-dr/understudy/e2e/harness"
	"github.com/understudy-dr/understudy/internal/consistency"
)

// rounds is how often a busy disk is caught in the middle of its writes, and then held still.
const rounds = 12

// busy keeps a file system busy in every way there is, until /run/stop exists. No page is changed while it is on its way to the
// disk: what is written then is one thing in the kernel's log, another in ours and a third on the disk.
const busy = `cd /mnt/logged
going() { [ ! -e /run/stop ]; }
churn() { n=0; while going; do
	n=$((n + 1)); f=files/f$((n % 40))
	dd if=/dev/urandom of=files/new bs=$((RANDOM + 1)) count=1 iflag=fullblock conv=fsync status=none; mv files/new $f
	[ $((n % 7)) != 0 ] || rm $f; [ $((n % 20)) != 0 ] || { mkdir -p old; mv files/* old; rm -rf old; }; [ $((n % 50)) != 0 ] || fstrim .
done; }
overwrite() { while going; do
	dd if=/dev/urandom of=kept bs=1024 seek=$((RANDOM % 4064)) count=$((RANDOM % 24 + 1)) conv=notrunc oflag=direct status=none
done; }
stamp() { n=0; while going; do
	n=$((n + 1)); for f in a b; do printf '%08d\n' $n | dd of=stamps/$f oflag=append,dsync conv=notrunc status=none; done
	echo $n > /run/stamped.new; mv /run/stamped.new /run/stamped
done; }
churn & overwrite & stamp & wait
`

// catch marks the log and takes a position while all of that goes on, and again when it is held still; it prints what came of it.
const catch = `point() {
	until out=$(%[1]s agent point --json); do sleep 1; done # it refuses while the link is down
	echo $1 $2 $(cat /run/stamped) $out
}
before=$(cat /run/stamped); dmsetup message logged 0 mark busy%[2]d; point busy%[2]d $before
fsfreeze -f /mnt/logged; sync /dev/mapper/logged; dmsetup message logged 0 mark held%[2]d; point held%[2]d $(cat /run/stamped); fsfreeze -u /mnt/logged`

// caught is a point and what is known of it.
type caught struct {
	name          string
	before, after int // stamps that were on the disk before and after it was taken
	consistency.Point
	kept string // the recovery point that the server made of it
}

// dm-log-writes keeps every write of a disk in a log of its own: the kernel's testimony of what the disk was. At marks that
// were set while the disk was held still ours must be the same, byte by byte. At those that were set while it was busy, each
// sector must be what it was at the mark or what a later write made of it, as after a power cut at that moment.
func TestLogWritesIsTheOracle(t *testing.T) {
	EachKernel(t, func(t *testing.T, k Kernel) {
		const size = 96 << 20
		dir := t.TempDir()
		disk, log := NewDrive(t, dir, Virtio, "DISK", size), NewDrive(t, dir, Virtio, "LOG", 4<<30)
		s := Serve(t)
		g := Start(t, Options{Kernel: k, Drives: []Drive{disk, log}})
		if out, err := g.Try(t, "modprobe dm-log-writes"); err != nil {
			t.Skipf("kernel %s has no dm-log-writes: %v %s", g.Run(t, "uname -r"), err, out)
		}
		g.Run(t, `modprobe dm-mod
dmsetup create logged --table "0 $(blockdev --getsz /dev/vdb) log-writes /dev/vdb /dev/vdc"
udevadm settle; mkfs.ext4 -q -b 1024 /dev/mapper/logged; mkdir -p /mnt/logged; mount -o discard /dev/mapper/logged /mnt/logged
cd /mnt/logged; mkdir files stamps; touch stamps/a stamps/b; head -c 4M /dev/urandom > kept; sync; echo 0 > /run/stamped`)
		p := Meet(t, g, s)
		hook := "/etc/understudy/hooks.d/pre-freeze/nothing" // a point wants something to be done for it, and freezing is ours here
		g.Run(t, "mkdir -p $(dirname "+hook+"); printf '#!/bin/sh\n' > "+hook+"; chmod 755 "+hook)
		p.Install(t, "--devices /dev/vdb --freeze none --all-blocks")
		p.Continuous(t)
		points := p.catchBusyDisk(t)
		g.Run(t, "umount /mnt/logged; dmsetup remove logged; blockdev --flushbufs /dev/vdc")
		require.Zero(t, p.Status(t).Drops, "the link was too slow for the writes, so their order is not known everywhere")
		for i, k := range p.Kept(t, len(points)) {
			require.LessOrEqual(t, k.Position, points[i].Position, "%s: the last write before it", points[i].name)
			require.True(t, i == 0 || k.Position > points[i-1].Position, "%s: there were writes since the one before", points[i].name)
			points[i].kept = k.ID
		}
		p.compareWithLog(t, log, size, points)
	})
}

// catchBusyDisk takes positions, in their order.
func (p *Protected) catchBusyDisk(t *testing.T) []caught {
	t.Helper()
	began := time.Now()
	p.Put(t, "/root/busy", []byte(busy))
	p.Run(t, "systemd-run --quiet --unit=busy bash /root/busy; until [ $(cat /run/stamped) -ge 3 ]; do sleep 0.2; done")
	out := ""
	for i := range rounds {
		out += p.Run(t, fmt.Sprintf(catch, Program, i)) + "\n"
	}
	p.Run(t, "touch /run/stop; until ! systemctl --quiet is-active busy; do sleep 0.2; done")
	var points []caught
	for line := range strings.Lines(out) {
		var c caught
		_, err := fmt.Sscan(line, &c.name, &c.before, &c.after)
		require.NoError(t, err, line)
		require.NoError(t, json.Unmarshal([]byte(line[strings.IndexByte(line, '{'):]), &c.Point), line)
		points = append(points, c)
	}
	require.Len(t, points, 2*rounds, out)
	last := points[len(points)-1]
	require.Greater(t, last.before, rounds, "the disk was busy all the while")
	t.Logf("%d points in %s: %d stamps, positions %d to %d", len(points), time.Since(began).Round(time.Second), last.before, points[0].Position, last.Position)
	return points
}

func (p *Protected) compareWithLog(t *testing.T, log Drive, size int64, points []caught) {
	t.Helper()
	f, err := os.Open(log.File)
	require.NoError(t, err)
	defer f.Close()
	l, err := OpenLog(f)
	require.NoError(t, err)
	byName := map[string]caught{}
	for _, c := range points {
		byName[c.name] = c
	}
	seen := 0
	require.NoError(t, l.Replay(size, func(name string, disk []byte) error {
		if !strings.HasPrefix(name, "held") {
			return nil // dm-log-writes makes marks of its own
		}
		seen++
		c := byName[name]
		image := p.content(t, c)
		if diff := Different(disk, image); diff != "" {
			return fmt.Errorf("%s, position %d: the log's disk and ours differ at %s", name, c.Position, diff)
		}
		stamped(t, c, image)
		t.Logf("%s: %d KiB not zero, all the same", name, nonzero(disk)>>10)
		return nil
	}))
	require.Equal(t, rounds, seen, "every mark was found")
	versions, err := l.Versions(size)
	require.NoError(t, err)
	for i, c := range points {
		if strings.HasPrefix(c.name, "busy") {
			image := p.content(t, c)
			require.NoError(t, versions.Between(c.name, points[i+1].name, image), c.name)
			stamped(t, c, image)
		}
	}
}

// content is the disk at a point.
func (p *Protected) content(t *testing.T, c caught) []byte {
	t.Helper()
	file := p.Export(t, "/dev/vdb", "--point", c.kept)
	defer os.Remove(file)
	b, err := os.ReadFile(file)
	require.NoError(t, err)
	return b
}

// stamped checks that the file system comes up after a power cut at this point with each stamp in both files, in their order: all
// those that were durable before, and at most the one that was being written.
func stamped(t *testing.T, c caught, disk []byte) {
	t.Helper()
	image := t.TempDir() + "/disk.raw"
	require.NoError(t, os.WriteFile(image, disk, 0o600))
	defer os.Remove(image)
	_, _ = harness.Try(t.Context(), "e2fsck", "-fp", image) // replays the log, and says with its exit code that it did
	harness.Run(t, "e2fsck", "-fn", image)
	count := func(name string) int {
		lines := strings.Fields(harness.Run(t, "debugfs", "-R", "cat /stamps/"+name, image))
		n := 0
		for _, line := range lines {
			if len(line) == 8 && strings.Trim(line, "0123456789") == "" {
				n++
				require.Equal(t, fmt.Sprintf("%08d", n), line, "%s of %s", name, c.name)
			}
		}
		return n
	}
	a, b := count("a"), count("b")
	require.GreaterOrEqual(t, b, c.before, "%s: what was durable is there", c.name)
	require.LessOrEqual(t, a, c.after+1, "%s: and nothing of what came later", c.name)
	require.Contains(t, []int{b, b + 1}, a, "%s: a is written before b", c.name)
}

func nonzero(disk []byte) int {
	const block = 4096
	n, zero := 0, make([]byte, block)
	for off := 0; off+block <= len(disk); off += block {
		if !bytes.Equal(disk[off:off+block], zero) {
			n += block
		}
	}
	return n
}
