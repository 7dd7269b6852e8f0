package guests

import (
	"bytes"
	"fmt"
	"os"
	"testing"

	"github.com/stretchr/testify/require"
)

// marks is how often the disk is held still and compared.
const marks = 5

// dm-log-writes keeps every write of a disk in a log of its own: the kernel's testimony of what the disk was at each of
// its marks. Ours must be the same at the position of the mark, byte for byte.
func TestLogWritesIsTheOracle(t *testing.T) {
	EachKernel(t, func(t *testing.T, k Kernel) {
		const size = 96 << 20
		dir := t.TempDir()
		disk, log := NewDrive(t, dir, Virtio, "DISK", size), NewDrive(t, dir, Virtio, "LOG", 1<<30)
		s := Serve(t)
		g := Start(t, Options{Kernel: k, Drives: []Drive{disk, log}})
		if out, err := g.Try(t, "modprobe dm-log-writes"); err != nil {
			t.Skipf("kernel %s has no dm-log-writes: %v %s", g.Run(t, "uname -r"), err, out)
		}
		g.Run(t, `modprobe dm-mod
dmsetup create logged --table "0 $(blockdev --getsz /dev/vdb) log-writes /dev/vdb /dev/vdc"
udevadm settle; mkfs.ext4 -q -b 1024 /dev/mapper/logged; mkdir -p /mnt/logged; mount -o discard /dev/mapper/logged /mnt/logged`)
		p := Meet(t, g, s)
		p.Install(t, "--devices /dev/vdb --freeze none --all-blocks")
		p.Continuous(t)
		positions := map[string]uint64{}
		for i := range marks {
			positions[fmt.Sprintf("mark%d", i)] = p.mark(t, i)
		}
		g.Run(t, "umount /mnt/logged; dmsetup remove logged; blockdev --flushbufs /dev/vdc")
		last := uint64(0)
		for _, n := range positions {
			last = max(last, n)
		}
		p.Reached(t, last)
		p.compareWithLog(t, log, size, positions)
	})
}

// mark changes the file system in every way there is, holds it still, marks the log and takes the position.
func (p *Protected) mark(t *testing.T, i int) uint64 {
	t.Helper()
	p.Run(t, fmt.Sprintf(`cd /mnt/logged; rm -rf old; [ ! -d new ] || mv new old; mkdir new
for n in $(seq 20); do head -c $((RANDOM * 12 + 1)) /dev/urandom > new/f$n; [ $((n %% 5)) != 0 ] || sync new/f$n; done
dd if=/dev/urandom of=new/direct bs=%d count=13 oflag=direct,dsync status=none
for n in $(seq 25); do dd if=/dev/urandom of=kept bs=1024 seek=$((RANDOM %% 4096)) count=$((RANDOM %% 40 + 1)) conv=notrunc status=none; done
truncate -s $((RANDOM * 9)) new/f1; fallocate -l 300k new/reserved; fallocate -p -o 64k -l 128k new/f2 || true; rm new/f3 new/f4; fstrim /mnt/logged`, 1024*(1+i*5)))
	p.Run(t, "sync -f /mnt/logged; fsfreeze -f /mnt/logged; sync /dev/mapper/logged")
	p.Run(t, fmt.Sprintf("dmsetup message logged 0 mark mark%d", i))
	point := p.Point(t)
	p.Run(t, "fsfreeze -u /mnt/logged")
	return point.Position
}

func (p *Protected) compareWithLog(t *testing.T, log Drive, size int64, positions map[string]uint64) {
	t.Helper()
	f, err := os.Open(log.File)
	require.NoError(t, err)
	defer f.Close()
	seen := 0
	require.NoError(t, Replay(f, size, func(name string, disk []byte) error {
		position, ok := positions[name]
		if !ok {
			return nil // dm-log-writes makes marks of its own
		}
		seen++
		ours, err := os.ReadFile(p.Export(t, "/dev/vdb", "--position", fmt.Sprint(position)))
		if err != nil {
			return err
		}
		t.Logf("%s: position %d, %d KiB not zero", name, position, nonzero(disk)>>10)
		if diff := Different(disk, ours); diff != "" {
			return fmt.Errorf("%s, position %d: the log's disk and ours differ at %s", name, position, diff)
		}
		return nil
	}))
	require.Equal(t, len(positions), seen, "every mark was found")
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
