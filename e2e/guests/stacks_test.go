package guests

import (
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/understudy-dr/understudy/e2e/harness"
	"github.com/understudy-dr/understudy/internal/app/agent"
)

// stacks makes every stack on the drives of the test below: RAID with dm-crypt and LVM above it, LVM on a whole disk, a
// partitioned disk, bare file systems on NVMe, and dm-crypt on SCSI.
const stacks = `modprobe -a dm-mod dm-crypt raid1 xfs btrfs
echo secret > /root/luks.key
crypt() { cryptsetup luksFormat -q --type luks2 --pbkdf pbkdf2 --pbkdf-force-iterations 1000 --luks2-metadata-size 16k --luks2-keyslots-size 256k $1 /root/luks.key; cryptsetup open --key-file /root/luks.key $1 $2; }
mdadm --create /dev/md0 --run --quiet --metadata=1.2 --homehost=any --level=1 --raid-devices=2 --assume-clean /dev/vdb /dev/vdc
crypt /dev/md0 safe; pvcreate -q /dev/mapper/safe; vgcreate -q secure /dev/mapper/safe; lvcreate -q -y -L 64M -n books secure; mkfs.ext4 -q /dev/secure/books
pvcreate -q /dev/vdd; vgcreate -q data /dev/vdd; lvcreate -q -y -L 320M -n big data; lvcreate -q -y -L 160M -n small data
mkfs.xfs -q /dev/data/big; mkfs.btrfs -q /dev/data/small
printf 'label: gpt\nsize=64M\nsize=320M\nsize=160M\nsize=32M, type=swap\n' | sfdisk -q /dev/vde; udevadm settle
mkfs.ext4 -q /dev/vde1; mkfs.xfs -q /dev/vde2; mkfs.btrfs -q /dev/vde3; mkswap -q /dev/vde4
mkfs.ext4 -q /dev/nvme0n1; mkfs.ext4 -q /dev/nvme1n1
crypt /dev/sda scsi; mkfs.ext4 -q /dev/mapper/scsi
`

// mountStacks mounts what there is of them.
const mountStacks = `while read dev dir; do mkdir -p /mnt/$dir; mount $dev /mnt/$dir; done <<END
/dev/secure/books books
/dev/data/big big
/dev/data/small small
/dev/vde1 part1
/dev/vde2 part2
/dev/vde3 part3
/dev/nvme0n1 nvme0
/dev/nvme1n1 nvme1
/dev/mapper/scsi scsi
END
swapon /dev/vde4
`

// assemble finds the stacks again, as a machine does that was booted from the copies.
const assemble = `modprobe -a dm-mod dm-crypt raid1 xfs btrfs
mdadm --stop --scan --quiet || true # where udev has found it already it has another name
mdadm --assemble /dev/md0 --run --quiet /dev/vdb /dev/vdc
cryptsetup open --key-file /root/luks.key /dev/md0 safe; cryptsetup open --key-file /root/luks.key /dev/sda scsi
udevadm settle; vgchange -q -ay; udevadm settle
`

// compareMirror compares what the halves of the mirror have in common, before anything writes to it: as soon as something does, the
// kernel makes them alike by itself, if it had not noted yet at that moment that nothing was being written.
const compareMirror = `offset=$(mdadm --examine /dev/vdb | awk '/Data Offset/ {print $4 * 512}'); [ $offset -ge 8192 ]
cmp --ignore-initial=$offset /dev/vdb /dev/vdc
`

var mounted = []string{"books", "big", "small", "part1", "part2", "part3", "nvme0", "nvme1", "scsi"}

// everywhere runs a script in every mounted directory.
func everywhere(script string) string {
	return "for m in " + strings.Join(mounted, " ") + "; do (cd /mnt/$m; " + script + "); done\n"
}

// Disks are replicated whole, whatever is made of them: a machine booted from the copies finds its RAID, its volumes, its
// encrypted disks and all file systems, as they were at one moment over all eight disks.
func TestStorageStacks(t *testing.T) {
	EachKernel(t, func(t *testing.T, k Kernel) {
		s := Serve(t)
		dir := t.TempDir()
		drives := []Drive{
			NewDrive(t, dir, Virtio, "MIRROR1", 128<<20), NewDrive(t, dir, Virtio, "MIRROR2", 128<<20), NewDrive(t, dir, Virtio, "VOLUMES", 640<<20),
			NewDrive(t, dir, Virtio, "PARTITIONS", 640<<20), NewDrive(t, dir, NVMe, "NVME", 128<<20), NewDrive(t, dir, NVMePaths, "PATHS", 128<<20),
			NewDrive(t, dir, SCSI, "SCSI", 128<<20),
		}
		g := Start(t, Options{Kernel: k, Drives: drives})
		devices := g.devices(t, drives)
		g.Run(t, stacks+mountStacks+everywhere("head -c 3M /dev/urandom > first; sync first"))
		t.Log(g.Run(t, "lsblk -o NAME,TYPE,FSTYPE,SIZE,SERIAL,MOUNTPOINTS"))
		p := Meet(t, g, s)
		found := p.Doctor(t, "")
		for _, d := range append(devices, "/dev/vda") {
			require.Equal(t, agent.Good, found["disk "+d].Verdict, d)
		}
		p.Install(t, "")
		v := p.Continuous(t)
		var replicated []string
		for _, d := range v.DataReplicationInfo.ReplicatedDisks {
			replicated = append(replicated, *d.DeviceName)
		}
		require.ElementsMatch(t, append(devices, "/dev/vda"), replicated, "all of the hardware, and nothing that is made of it")

		g.Run(t, everywhere("rm first; "+files(".", "kept", 6, 700)))
		point := p.Point(t)
		require.Contains(t, point.FileSystems, "/")
		for _, m := range mounted {
			require.Contains(t, point.FileSystems, "/mnt/"+m)
		}
		g.Run(t, everywhere("rm kept/f2; "+files(".", "later", 3, 200)))

		kept := p.Kept(t, 1)[0].ID
		replica := []Drive{{Virtio, p.Export(t, "/dev/vda", "--point", kept), "BOOT"}}
		for i, d := range drives {
			replica = append(replica, Drive{d.Bus, p.Export(t, devices[i], "--point", kept), d.Serial})
		}
		p.stillDisks(t, drives, devices)
		g.PowerOff(t)
		recovered(t, g, replica)
	})
}

// devices finds the drives in the guest: NVMe controllers are numbered as they answer.
func (g *Guest) devices(t *testing.T, drives []Drive) []string {
	t.Helper()
	bySerial := map[string]string{}
	for line := range strings.Lines(g.Run(t, "udevadm settle; lsblk -dnpo NAME,SERIAL")) {
		if f := strings.Fields(line); len(f) == 2 {
			bySerial[f[1]] = f[0]
		}
	}
	var found []string
	for _, d := range drives {
		require.Contains(t, bySerial, d.Serial)
		found = append(found, bySerial[d.Serial])
	}
	return found
}

// stillDisks takes the stacks apart, so that nothing writes to their disks any more: then the copies are the disks, byte by byte.
func (p *Protected) stillDisks(t *testing.T, drives []Drive, devices []string) {
	t.Helper()
	p.Run(t, `swapoff -a; for m in /mnt/*; do umount $m; done; vgchange -q -an; cryptsetup close safe; cryptsetup close scsi; mdadm --stop --quiet /dev/md0; sync`)
	p.Settled(t)
	st := p.Status(t)
	for _, d := range st.Disks {
		require.Zero(t, d.Missed, d.Device)
		require.Empty(t, d.Unaudited, d.Device)
		require.NotZero(t, d.Proven, d.Device)
	}
	for i, d := range drives {
		require.NoError(t, harness.SameContent(d.File, p.Export(t, devices[i], "--latest")), devices[i])
	}
}

// recovered boots the copies in the place of the machine, on a network that reaches nobody, and looks whether all is there.
func recovered(t *testing.T, was *Guest, replica []Drive) {
	t.Helper()
	g := Start(t, Options{Kernel: was.Kernel, BootDisk: replica[0].File, Drives: slices.Clone(replica[1:]), UUID: was.UUID, Isolated: true})
	g.Run(t, "systemctl stop understudy-agent")
	g.Run(t, compareMirror) // both halves are of one moment
	g.Run(t, assemble)
	g.Run(t, "e2fsck -fn /dev/secure/books; e2fsck -fn /dev/vde1; e2fsck -fn /dev/nvme0n1; e2fsck -fn /dev/nvme1n1; e2fsck -fn /dev/mapper/scsi")
	g.Run(t, "btrfs check --readonly /dev/data/small; btrfs check --readonly /dev/vde3")
	g.Run(t, `for d in /dev/data/big /dev/vde2; do # a frozen XFS leaves one record in its log, which nothing needs but xfs_repair wants replayed
	mount -o ro,norecovery $d /mnt; (cd /mnt/kept; sha256sum --quiet -c sums); umount /mnt
	mount $d /mnt; umount /mnt; xfs_repair -n $d
done`)
	g.Run(t, mountStacks+everywhere("[ ! -e first ]; [ ! -e later ]; cd kept; sha256sum --quiet -c sums"))
	g.PowerOff(t)
}
