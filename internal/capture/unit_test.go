package capture

import (
	"encoding/binary"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"unsafe"

	"github.com/stretchr/testify/require"

	"github.com/understudy-dr/understudy/internal/fault"
)

// fakeRing is a ring in ordinary memory, with the kernel's double mapping done by hand.
type fakeRing struct {
	ring
	consumer, producer uint64
}

func newFakeRing(size int) *fakeRing {
	words := make([]uint64, size/4) // for alignment; twice the size
	f := &fakeRing{}
	f.ring = ring{size: uint64(size), data: unsafe.Slice((*byte)(unsafe.Pointer(&words[0])), 2*size)}
	f.ring.consumer, f.ring.producer = &f.consumer, &f.producer
	return f
}

// put reserves and writes a record as the kernel would.
func (f *fakeRing) put(bits uint32, body []byte) (start, end uint64) {
	start = f.producer
	whole := make([]byte, (ringHead+len(body)+7)&^7)
	binary.LittleEndian.PutUint32(whole, uint32(len(body))|bits)
	copy(whole[ringHead:], body)
	for i, b := range whole {
		at := (start + uint64(i)) % f.size
		f.data[at], f.data[at+f.size] = b, b
	}
	f.producer += uint64(len(whole))
	return start, f.producer
}

func (f *fakeRing) setHead(start uint64, head uint32) {
	atomic.StoreUint32((*uint32)(unsafe.Pointer(&f.data[start%f.size])), head)
}

func body(r Record, room int) []byte {
	b := make([]byte, recordHead+room)
	binary.LittleEndian.PutUint64(b[0:], r.Sector)
	binary.LittleEndian.PutUint64(b[8:], r.Bytes)
	binary.LittleEndian.PutUint64(b[16:], r.Time)
	binary.LittleEndian.PutUint64(b[24:], r.Drops)
	binary.LittleEndian.PutUint32(b[32:], r.CPU)
	binary.LittleEndian.PutUint16(b[36:], r.Disk)
	b[38], b[39] = byte(r.Op), byte(r.Flags)
	copy(b[recordHead:], r.Data)
	return b
}

func TestRingReadsBusyDiscardedAndWrapped(t *testing.T) {
	f := newFakeRing(4096)
	want := Record{Disk: 9, Op: Write, Flags: First | Last | FUA, CPU: 3, Sector: 1 << 40, Bytes: 512, Time: 5, Drops: 6, Data: make([]byte, 512)}
	want.Data[0], want.Data[511] = 0xaa, 0xbb
	var got Record
	ok, err := f.Next(0, &got)
	require.NoError(t, err)
	require.False(t, ok, "empty")

	for range 50 { // many times around
		from := f.producer
		f.put(ringDiscard, make([]byte, 13))
		start, end := f.put(ringBusy, body(want, 700))
		ok, err = f.Next(from, &got)
		require.NoError(t, err)
		require.False(t, ok, "busy")
		f.setHead(start, recordHead+700)
		ok, err = f.Next(from, &got)
		require.NoError(t, err)
		require.True(t, ok)
		want.Start, want.End = start, end
		require.Equal(t, want, got)
		require.Len(t, got.Data, 512)
		require.Equal(t, 512, cap(got.Data))
		ok, err = f.Next(end, &got)
		require.NoError(t, err)
		require.False(t, ok)
		f.Release(end)
		require.Equal(t, end, f.Consumer())
	}
	f.put(ringDiscard, nil)
	ok, err = f.Next(f.consumer, &got)
	require.NoError(t, err)
	require.False(t, ok, "only a discarded record")
}

func TestRingReleaseIgnoresNonsense(t *testing.T) {
	f := newFakeRing(4096)
	_, end := f.put(0, body(Record{Op: Flush}, 0))
	f.Release(end + 8)
	require.Zero(t, f.Consumer())
	f.Release(end)
	f.Release(0)
	require.Equal(t, end, f.Consumer())
	_, err := f.Next(0, &Record{})
	require.True(t, fault.Is(err, fault.Bug), err)
	_, err = f.Next(end+4, &Record{})
	require.True(t, fault.Is(err, fault.Bug), err)
}

func TestRingReportsDamage(t *testing.T) {
	for name, b := range map[string][]byte{
		"shorter than a head": make([]byte, recordHead-1),
		"unknown op":          body(Record{Op: 7}, 0),
		"more than there is":  body(Record{Op: Write, Bytes: 513}, 512),
		"write of nothing":    body(Record{Op: Write}, 512),
	} {
		f := newFakeRing(4096)
		f.put(0, b)
		_, err := f.Next(0, &Record{})
		require.True(t, fault.Is(err, fault.Corruption), "%s: %v", name, err)
	}
	f := newFakeRing(4096)
	f.put(0, body(Record{Op: Flush}, 0))
	f.setHead(0, 4000)
	_, err := f.Next(0, &Record{})
	require.True(t, fault.Is(err, fault.Corruption), err)
}

// Random operations on a bitmap against a plain slice.
func TestBitmapAgainstOracle(t *testing.T) {
	rng := seeded(t)
	for range 200 {
		d := diskPlan{word: 8, blocks: 1 + rng.Uint64N(300), shift: 12}
		d.words = (d.blocks + 63) / 64
		region := make([]uint64, 32)
		b := d.bitmap(region)
		oracle := make([]bool, d.blocks)
		for range 40 {
			start := rng.Uint64N(d.blocks + 10)
			end := start + rng.Uint64N(d.blocks+10)
			set := rng.IntN(2) == 0
			if set {
				b.Set(start, end)
			} else {
				b.Clear(start, end)
			}
			for i := start; i < min(end, d.blocks); i++ {
				oracle[i] = set
			}
			checkBitmap(t, rng, b, oracle)
		}
		for i, w := range region {
			require.True(t, w == 0 || uint64(i) >= d.word && uint64(i) < d.word+d.words, "bits of another disk")
		}
	}
}

func checkBitmap(t *testing.T, rng *rand.Rand, b Bitmap, oracle []bool) {
	t.Helper()
	var count uint64
	for _, set := range oracle {
		if set {
			count++
		}
	}
	require.Equal(t, count, b.Count())
	from := rng.Uint64N(uint64(len(oracle)) + 2)
	start := from
	for start < uint64(len(oracle)) && !oracle[start] {
		start++
	}
	end := start
	for end < uint64(len(oracle)) && oracle[end] {
		end++
	}
	gotStart, gotEnd, ok := b.NextSet(from)
	require.Equal(t, end > start, ok)
	if ok {
		require.Equal(t, [2]uint64{start, end}, [2]uint64{gotStart, gotEnd})
	}
}

func TestPlan(t *testing.T) {
	p := planFor([]ownedDisk{
		{Disk: Disk{Index: 5, Bytes: 1<<20 + 512}},
		{Disk: Disk{Index: 1, Bytes: 512 << 30}},
		{Disk: Disk{Index: 2, Bytes: 512<<30 + 512}},
		{Disk: Disk{Index: 3, Bytes: 16 << 40}},
	})
	require.Equal(t, diskPlan{word: 0, words: 5, blocks: 257, shift: 12}, p.disks[5])
	require.Equal(t, diskPlan{word: 8, words: maxBits / 64, blocks: maxBits, shift: 12}, p.disks[1])
	require.Equal(t, diskPlan{word: 8 + maxBits/64, words: maxBits/128 + 1, blocks: maxBits/2 + 1, shift: 13}, p.disks[2])
	require.EqualValues(t, 17, p.disks[3].shift)
	require.EqualValues(t, maxBits, p.disks[3].blocks)
}

func TestLateToDebtAndDirtyToDebt(t *testing.T) {
	c := &Capture{shared: &shared{control: &control{}}}
	for i := range c.region {
		c.region[i] = make([]uint64, 4)
	}
	require.False(t, c.LateToDebt())
	c.region[regionLate][2], c.region[regionDebt][2] = 6, 1
	require.True(t, c.LateToDebt())
	require.EqualValues(t, 7, c.region[regionDebt][2])
	require.Zero(t, c.region[regionLate][2])
	c.region[regionGen0][0], c.region[regionGen1][0] = 1, 2
	c.DirtyToDebt()
	require.EqualValues(t, 3, c.region[regionDebt][0])
	require.EqualValues(t, 1, c.region[regionGen0][0], "the current generation stays")
	require.Zero(t, c.region[regionGen1][0])
}

// The committed objects are what the committed sources build to, wherever the checkout is.
func TestObjectsAreReproducible(t *testing.T) {
	version, err := exec.Command("clang", "--version").Output()
	if err != nil || !strings.Contains(string(version), "clang version 14.") {
		t.Skip("needs clang 14 (Debian 12), which the object is built with")
	}
	dir := filepath.Join(t.TempDir(), "elsewhere")
	require.NoError(t, os.CopyFS(filepath.Join(dir, "bpf"), os.DirFS("bpf")))
	objects := map[string][]byte{"bpf/capture.bpf.o": payloadObject, "bpf/bitmap.bpf.o": bitmapObject}
	for name := range objects {
		require.NoError(t, os.Remove(filepath.Join(dir, name)))
	}
	source, err := os.ReadFile("programs.go")
	require.NoError(t, err)
	for line := range strings.Lines(string(source)) {
		if command, ok := strings.CutPrefix(strings.TrimSpace(line), "//go:generate "); ok {
			fields := strings.Fields(command)
			cmd := exec.Command(fields[0], fields[1:]...)
			cmd.Dir = dir
			out, err := cmd.CombinedOutput()
			require.NoError(t, err, "%s", out)
		}
	}
	for name, object := range objects {
		built, err := os.ReadFile(filepath.Join(dir, name))
		require.NoError(t, err)
		require.True(t, string(built) == string(object), "%s: run go generate ./internal/capture", name)
	}
}
