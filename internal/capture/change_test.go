package capture

import (
	"bytes"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"
)

// backing is the file of a loop device.
func backing(t *testing.T, d Disk) string {
	file, _, _ := strings.Cut(run(t, "losetup", "-nO", "BACK-FILE", d.Path), "\n")
	return strings.TrimSpace(file)
}

func grow(t *testing.T, d *Disk, bytes int64) {
	require.NoError(t, unix.Truncate(backing(t, *d), bytes))
	run(t, "losetup", "-c", d.Path)
	d.Bytes = uint64(bytes)
}

// Disks are added to a pinned capture, grow, are replaced and taken out, while writes to another go on and none is lost.
func TestDisksChangeInAPinnedCapture(t *testing.T) {
	needKernel(t)
	a, b := testDisk(t, 0, 16<<20), testDisk(t, 1, 8<<20)
	o := testOptions(t, 32<<20, a)
	c := open(t, o)
	id := c.ID()
	rep := newReplica(c, a)
	rep.images[1], rep.images[2] = make([]byte, 12<<20), make([]byte, 8<<20)
	content := randomBuffer(seeded(t), 64<<10)
	again := func(disks ...Disk) {
		t.Helper()
		require.NoError(t, c.Close())
		stop := writer(t, a)
		o.Disks = disks
		c = open(t, o)
		stop()
		require.Equal(t, id, c.ID())
		require.False(t, c.Fresh())
		require.Zero(t, c.Debt(a.Index).Count())
		require.Zero(t, c.Drops())
	}
	next := func(d Disk, off int64) {
		t.Helper()
		writeDirect(t, d, content, off)
		require.NoError(t, c.Flip())
		require.NoError(t, rep.take(c))
		require.Zero(t, c.Drops())
		require.Equal(t, content, rep.images[d.Index][off:][:len(content)])
	}

	again(a, b)
	require.Equal(t, c.Debt(1).Blocks(), c.Debt(1).Count(), "all of a new disk is debt")
	next(b, 4096)
	c.Debt(1).Clear(0, c.Debt(1).Blocks())

	grow(t, &b, 12<<20)
	again(a, b)
	start, end, _ := c.Debt(1).NextSet(0)
	require.Equal(t, [2]uint64{2048, 3072}, [2]uint64{start, end}, "what was added is debt")
	next(b, 11<<20)
	require.False(t, c.Coarse())
	c.Debt(1).Clear(0, c.Debt(1).Blocks())

	old := b
	b = testDisk(t, 1, 12<<20)
	again(a, b)
	require.Equal(t, c.Debt(1).Blocks(), c.Debt(1).Count(), "of another device with its number, too")
	require.True(t, c.Coarse(), "and it is worth comparing")
	next(b, 8192)
	writeDirect(t, old, content, 0)
	require.NoError(t, rep.take(c))
	require.False(t, bytes.Equal(content, rep.images[1][:len(content)]), "the old one is captured no more")

	again(a)
	writeDirect(t, b, content, 0)
	require.NoError(t, rep.take(c))
	require.False(t, bytes.Equal(content, rep.images[1][:len(content)]))
	rep.requireSame(t, a)
}

// Whoever died between the record and the map leaves it to the next to make the map true.
func TestAHalfMadeChangeIsCompleted(t *testing.T) {
	needKernel(t)
	a, b := testDisk(t, 0, 4<<20), testDisk(t, 1, 4<<20)
	o := testOptions(t, 1<<20, a, b)
	c := open(t, o)
	id := c.ID()
	require.NoError(t, c.disks.Delete(deviceKey(b.dev())))
	require.NoError(t, c.disks.Put(uint32(0xfff<<20|7), diskEntry{Index: 9}))
	require.NoError(t, c.Close())
	c = open(t, o)
	require.Equal(t, id, c.ID())
	var e diskEntry
	require.NoError(t, c.disks.Lookup(deviceKey(b.dev()), &e))
	require.Equal(t, c.plan.entry(c.owner.Disks[1]), e)
	require.Error(t, c.disks.Lookup(uint32(0xfff<<20|7), &e))
}

func TestRoomForDisks(t *testing.T) {
	disk := func(index uint16, bytes uint64) ownedDisk {
		return ownedDisk{Disk: Disk{Index: index, Minor: uint32(index), Bytes: bytes}, Sequence: uint64(index)}
	}
	o := owner{Version: formatV3, Disks: []ownedDisk{disk(1, 1<<30), disk(2, 2<<40)}}
	o.lay()
	want := owner{Disks: []ownedDisk{disk(1, 3<<30), disk(2, 2<<40), disk(3, 4<<40), disk(4, 1<<30)}}
	ch, why := o.become(want)
	require.Empty(t, why)
	require.Equal(t, o.Disks[0].place, ch.next.Disks[0].place, "it grows where it is")
	require.Greater(t, ch.next.Disks[2].Shift, uint8(minShift))
	used := []bool{}
	for _, d := range ch.next.Disks {
		require.True(t, d.holds(d.Bytes))
		require.LessOrEqual(t, d.Word+d.Room, o.Words)
		for w := d.Word; w < d.Word+d.Room; w++ {
			for uint64(len(used)) <= w {
				used = append(used, false)
			}
			require.False(t, used[w], "two disks share a word")
			used[w] = true
		}
	}
	want.Disks[0].Bytes = 100 << 30
	ch, why = o.become(want)
	require.Empty(t, why)
	require.NotEqual(t, o.Disks[0].place, ch.next.Disks[0].place, "it outgrew its place")
	for i := uint16(5); why == ""; i++ {
		require.Less(t, i, uint16(60))
		want.Disks = append(want.Disks, disk(i, 1<<40))
		_, why = o.become(want)
	}
	require.Contains(t, why, "no room")

	o.Version = formatV2
	_, why = o.become(owner{Disks: []ownedDisk{disk(1, 1<<30)}})
	require.Equal(t, "other disks", why)
	ch, why = o.become(owner{Disks: []ownedDisk{disk(1, 1<<30), disk(2, 2<<40)}})
	require.Empty(t, why)
	require.Equal(t, planFor(o.Disks), ch.next.plan(), "an older capture keeps its plan")
}
