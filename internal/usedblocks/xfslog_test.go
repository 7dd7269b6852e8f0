package usedblocks

import (
	"bytes"
	"io"
	"maps"
	"math"
	"os"
	"os/exec"
	"regexp"
	"slices"
	"strconv"
	"testing"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"
)

// What was allocated a moment ago is in the log and not in the trees in place, which are not believed then. Once the log has been
// written back they are.
func TestXFSBelievesNoTreeThatIsNotInPlace(t *testing.T) {
	for _, y := range systems {
		if y.mkfs[0] != "mkfs.xfs" || y.none {
			continue
		}
		t.Run(y.name, func(t *testing.T) {
			calmXFS(t)
			path, dev, dir := y.make(t)
			c := &churn{rng: newRand(t), dir: dir, room: y.bytes / 8}
			f, size := direct(t, dev)
			x := &xfs{v: &disk{r: f, bytes: size}}
			require.NoError(t, x.parse())
			for range 20 { // until XFS, which does so now and then, does not write back just now
				c.run(t, 50)
				unix.Sync()
				if x.isBehind(t) {
					break
				}
			}
			require.True(t, x.isBehind(t))
			hurryXFS(t)
			want := filesBelow(t, dir)
			free, found := find(t, dev)
			y.judge(t, free, found, c.used)
			after := copyAtOneMoment(t, path, dev)
			spoil(t, after, "", 4096, free, c.rng)
			y.proves(t, after, want)
		})
	}
}

// isBehind sees that a tree whose header and blocks are not in place is not believed; false if there is none.
func (x *xfs) isBehind(t *testing.T) bool {
	log, err := x.look()
	require.NoError(t, err)
	headers, blocks := 0, 0
	for ag := range x.agCount {
		tree, err := x.group(ag)
		require.NoError(t, err)
		require.NoError(t, log.again())
		behind := false
		for _, r := range tree.read {
			behind = behind || log.before[r.sector] > r.lsn
			switch {
			case log.before[r.sector] <= r.lsn:
			case r.header:
				headers++
			default:
				blocks++
			}
		}
		require.False(t, behind && log.proves(tree))
	}
	return headers > 0 && blocks > 0
}

// A block that has changed since the first look may be left over from a tree of old, until it is in place.
func TestXFSProof(t *testing.T) {
	const at = 1000
	for _, c := range []struct {
		name          string
		before, after xlogAt // logged
		lsn           uint64 // in place
		header        bool
		proven        bool
	}{
		{"never logged", 0, 0, 7, false, true},
		{"made by mkfs", 0, 0, math.MaxUint64, false, true},
		{"not in place", 9, 0, 8, false, false},
		{"in place", 9, 0, 9, false, true},
		{"later in place", 9, 0, 10, false, true},
		{"logged again and not in place", 9, 12, 9, false, false},
		{"logged again and in place", 9, 12, 12, false, true},
		{"logged since", 0, 12, 7, false, false},
		{"logged since and in place", 0, 12, 13, false, true},
		{"header not in place", 9, 12, 8, true, false},
		{"header logged again", 9, 12, 9, true, true},
		{"of another life", 0, 0, 5 << 32, false, false},
	} {
		log := &xfsLog{last: 20, changed: map[int64]xfsChanged{at: {c.before, c.after}}}
		tree := &xfsTree{}
		tree.saw(3*xlogSector, 1, true)
		tree.saw(at*xlogSector, c.lsn, c.header)
		require.Equal(t, c.proven, log.proves(tree), c.name)
	}
}

// The log is read as xfs_logprint reads it, also where it goes around its end.
func TestXFSLogIsReadAsByOthers(t *testing.T) {
	needRoot(t, "mkfs.xfs", "xfs_logprint")
	calmXFS(t)
	y := systems[slices.IndexFunc(systems, func(y system) bool { return y.name == "xfs-1k" })]
	path, dev, dir := y.make(t)
	rng := newRand(t)
	c := &churn{rng: rng, dir: dir, room: y.bytes / 8}
	var x *xfs
	var log *xfsLog
	want := map[int64]bool{}
	for range 20 { // until XFS, which does so now and then, does not write all of it back just now
		for range 8 {
			c.run(t, 50)
			unix.Sync()
		}
		image := copyAtOneMoment(t, path, dev)
		f, err := os.Open(image)
		require.NoError(t, err)
		x = &xfs{v: &disk{r: f, bytes: y.bytes}}
		require.NoError(t, x.parse())
		log, err = x.look()
		require.NoError(t, err)
		want = x.asOthersReadIt(t, image)
		require.Subset(t, keys(log.before), want) // and what the tail's own tail adds
		require.NoError(t, os.Remove(image))
		defer f.Close()
		if len(want) > 10 {
			break
		}
	}
	require.Greater(t, len(want), 10)

	newest, err := x.newest()
	require.NoError(t, err)
	records, length := x.records(t, newest.tail)
	t.Logf("%d records, %d sectors, %d blocks", len(records), length, len(want))
	for range 200 {
		base := xlogAt(3)<<32 | xlogAt(x.logBlocks-rng.Int64N(length))
		moved := *x
		moved.logStart, moved.v = 0, x.moved(records, newest.tail, base)
		log, err := moved.look()
		require.NoError(t, err)
		require.Equal(t, want, keys(log.before), "from %d of %d", base.sector(), x.logBlocks)
	}
}

// asOthersReadIt are the blocks of trees and the headers of groups that xfs_logprint finds in the log of an image.
func (x *xfs) asOthersReadIt(t *testing.T, image string) map[int64]bool {
	out, err := exec.Command("xfs_logprint", "-t", "-b", image).CombinedOutput()
	require.NoError(t, err, "%s", out)
	found := map[int64]bool{}
	for _, m := range regexp.MustCompile(`blkno:(0x[0-9a-f]+) .*flags:(0x[0-9a-f]+)`).FindAllSubmatch(out, -1) {
		at, err := strconv.ParseInt(string(m[1]), 0, 64)
		require.NoError(t, err)
		flags, err := strconv.ParseInt(string(m[2]), 0, 64)
		require.NoError(t, err)
		if kind := flags >> 11; kind == xlogBTree || kind == xlogGroup {
			found[at] = true
		}
	}
	return found
}

func keys(m map[int64]xlogAt) map[int64]bool {
	out := map[int64]bool{}
	for at := range maps.Keys(m) {
		out[at] = true
	}
	return out
}

// records are those from a place on, as they lie in the log.
func (x *xfs) records(t *testing.T, at xlogAt) (list [][]byte, sectors int64) {
	for {
		r, _, found, err := x.recordAt(at)
		require.NoError(t, err)
		if found != xlogWhole {
			return list, sectors
		}
		b, err := x.sectors(at, r.sectors())
		require.NoError(t, err)
		list, sectors, at = append(list, b), sectors+r.sectors(), x.forward(at, r.sectors())
	}
}

// moved is a log in which records lie elsewhere. What was there before is of the cycle before.
func (x *xfs) moved(records [][]byte, tail, to xlogAt) memory {
	log := make(memory, x.logBlocks*xlogSector)
	for at := to - xlogAt(to.sector()); at.sector() < x.logBlocks; at++ {
		cycle := at.cycle()
		if at >= to {
			cycle-- // to be written in this cycle, was written in the last
		}
		be.PutUint32(log[at.sector()*xlogSector:], cycle)
	}
	by := func(at xlogAt) xlogAt { return x.forward(to, at.sector()-tail.sector()) }
	for _, b := range records {
		b = bytes.Clone(b)
		at := by(xlogAt(be.Uint64(b[16:])))
		be.PutUint32(b[4:], at.cycle())
		be.PutUint64(b[24:], uint64(by(xlogAt(be.Uint64(b[24:])))))
		be.PutUint64(b[16:], uint64(at))
		for i := range int64(len(b) / xlogSector) {
			sector := b[i*xlogSector:][:xlogSector]
			if i > 0 {
				be.PutUint32(sector, x.forward(at, i).cycle())
			}
			copy(log[x.forward(at, i).sector()*xlogSector:], sector)
		}
	}
	return log
}

// The tail may be the record of a commit, and the checkpoint have begun before it.
func TestXFSCheckpointThatBeganBeforeTheTail(t *testing.T) {
	const block, id = 1000, 7
	x := &xfs{logBlocks: 64}
	log := make(memory, x.logBlocks*xlogSector)
	x.v = log
	op := func(flags byte, region []byte) []byte {
		b := make([]byte, 12, 12+len(region))
		be.PutUint32(b, id)
		be.PutUint32(b[4:], uint32(len(region)))
		b[8], b[9] = xlogTransaction, flags
		return append(b, region...)
	}
	put := func(at, tail xlogAt, ops ...[]byte) {
		head, body := make([]byte, xlogSector), make([]byte, xlogSector)
		copy(body, bytes.Join(ops, nil))
		for at, n := range map[int]uint32{0: xlogMagic, 4: at.cycle(), 8: 2, 12: xlogSector, 40: uint32(len(ops)), 44: be.Uint32(body), 320: xlogPerHead} {
			be.PutUint32(head[at:], n)
		}
		be.PutUint64(head[16:], uint64(at))
		be.PutUint64(head[24:], uint64(tail))
		be.PutUint32(body, at.cycle())
		copy(log[at.sector()*xlogSector:], append(head, body...))
	}
	header, buffer := make([]byte, 16), make([]byte, 24)
	le.PutUint32(header, xlogHeader)
	le.PutUint16(buffer, xlogBuffer)
	le.PutUint16(buffer[2:], 2)
	le.PutUint16(buffer[4:], xlogBTree<<11)
	le.PutUint64(buffer[8:], block)
	const cycle = xlogAt(3) << 32
	begin, commit, last := cycle|10, cycle|12, cycle|14
	put(begin, begin, op(xlogStart, nil), op(0, header), op(0, buffer), op(0, make([]byte, 128)))
	put(commit, begin, op(xlogCommit, nil))
	put(last, commit)
	l, err := x.look()
	require.NoError(t, err)
	require.Equal(t, map[int64]xlogAt{block: begin}, l.before)
	require.Equal(t, last, l.last)

	put(commit, cycle|4, op(xlogCommit, nil)) // where nothing is
	l, err = x.look()
	require.NoError(t, err)
	require.Empty(t, l.before)
}

// memory is a volume.
type memory []byte

func (m memory) size() int64          { return int64(len(m)) }
func (m memory) disk(off int64) int64 { return off }
func (m memory) read(p []byte, off int64) error {
	if off < 0 || off+int64(len(p)) > m.size() {
		return io.ErrUnexpectedEOF
	}
	copy(p, m[off:])
	return nil
}
