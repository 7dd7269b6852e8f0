package journal

import (
	"bytes"
	"encoding/binary"
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/understudy-dr/understudy/internal/fault"
	"github.com/understudy-dr/understudy/internal/vfs"
	"github.com/understudy-dr/understudy/internal/vfs/vfstest"
	"github.com/understudy-dr/understudy/internal/wire"
)

func mustParse(t testing.TB, b []byte) wire.Frame {
	f, err := wire.Parse(b)
	require.NoError(t, err)
	return f
}

func epochFrame(t testing.TB, epoch, first uint64) []byte {
	b, err := wire.Message(wire.TypeEpochOpen, epoch, first, first, 1, wire.EpochOpen{Capture: "cafe", Reason: "initial", Disks: simDisks})
	require.NoError(t, err)
	return b
}

func doneFrame(epoch, pos uint64) []byte {
	return wire.Control(wire.TypeBaselineDone, epoch, pos, pos, int64(pos))
}

func dataFrame(epoch, pos, sector uint64, fill byte) []byte {
	var b wire.Builder
	b.Reset(wire.TypeData, epoch)
	content := bytes.Repeat([]byte{fill}, 1024)
	b.Add(wire.Extent{Kind: wire.KindData, Flags: wire.EndOfBio, Position: pos, Sector: sector, Bytes: 1024, Time: int64(pos)}, content)
	return b.Finish(nil)
}

// small is a journal of three segments, the last one unsealed, and what disk 0 holds at each position.
func small(t testing.TB, o Options) (*vfstest.MemFS, map[uint64][]byte) { return smallOf(t, o, 15) }

func smallOf(t testing.TB, o Options, writes uint64) (*vfstest.MemFS, map[uint64][]byte) {
	fs := vfstest.New()
	o.Log, o.SegmentBytes = quiet, 1400
	j, err := Create(t.Context(), fs, simDir, simDisks, o)
	require.NoError(t, err)
	disk := make([]byte, simDisks[0].Bytes)
	states := map[uint64][]byte{100: bytes.Clone(disk)}
	require.NoError(t, j.Append(mustParse(t, epochFrame(t, 1, 100))))
	require.NoError(t, j.Append(mustParse(t, doneFrame(1, 100))))
	for i := uint64(1); i <= writes; i++ {
		require.NoError(t, j.Append(mustParse(t, dataFrame(1, 100+i, i*2%20, byte(i)))))
		copy(disk[i*2%20*512:], bytes.Repeat([]byte{byte(i)}, 1024))
		states[100+i] = bytes.Clone(disk)
	}
	require.NoError(t, j.Close())
	l, err := j.segments(0)
	require.NoError(t, err)
	require.EqualValues(t, 3, l.last)
	require.Len(t, l.sidecars, 2)
	return fs, states
}

// truthful opens a journal that was tampered with: everything it says must be true, or an error.
func truthful(t *testing.T, fs *vfstest.MemFS, states map[uint64][]byte, what ...any) (errs []error) {
	j, err := Open(t.Context(), fs, simDir, Options{Keys: testKeys, Log: quiet})
	if err != nil {
		return []error{err}
	}
	defer func() { require.NoError(t, j.Close()) }()
	for pos, want := range states {
		p, err := j.Check(pos)
		if err == nil {
			var v *View
			if v, err = j.View(t.Context(), p); err == nil {
				got := make([]byte, len(want))
				if err = v.ReadAt(t.Context(), 0, got, 0); err == nil {
					require.Equal(t, want, got, what...)
				}
			}
		}
		if err != nil {
			errs = append(errs, err)
		}
	}
	return errs
}

func TestEveryByteFlipped(t *testing.T) {
	fs, states := small(t, Options{Keys: testKeys})
	require.Empty(t, truthful(t, fs, states))
	files := fs.Snapshot()
	for name, content := range files {
		for at := range content {
			damaged := vfstest.Restore(files, simDir)
			f, err := damaged.OpenWrite(name)
			require.NoError(t, err)
			_, err = f.WriteAt([]byte{content[at] ^ 0x41}, int64(at))
			require.NoError(t, errors.Join(err, f.Close()))
			r, err := Verify(t.Context(), damaged, simDir, VerifyOptions{Keys: testKeys})
			require.True(t, err != nil || len(r.Problems) > 0, "verify missed %s at %d", name, at)
			for _, err := range truthful(t, damaged, states, name, at) {
				if strings.HasSuffix(name, segSuffix) && fault.Is(err, fault.Corruption) {
					require.ErrorContains(t, err, name[len(simDir)+1:])
					require.ErrorContains(t, err, "offset")
				}
			}
		}
	}
}

// A tail whose mark says nothing yet is cut at any point: what is left is a prefix. Below the mark it is corruption, and history ends there.
func TestEveryTruncation(t *testing.T) {
	fs, states := small(t, Options{Keys: testKeys})
	files := fs.Snapshot()
	tail := simDir + "/" + segName(3)
	whole := files[tail]
	for cut := range whole {
		files[tail] = whole[:cut]
		restored := vfstest.Restore(files, simDir)
		r, err := Verify(t.Context(), restored, simDir, VerifyOptions{Keys: testKeys})
		require.NoError(t, err)
		require.Len(t, r.Problems, 1, "cut at %d", cut)
		errs := truthful(t, restored, states, cut)
		require.NotEmpty(t, errs, "cut at %d", cut)
		for _, err := range errs {
			require.Equal(t, fault.NotFound, fault.KindOf(err), err)
		}
	}
	files[simDir+"/"+markName] = mark{segment: 2}.encode()
	last := len(states)
	for cut := range whole {
		files[tail] = whole[:cut]
		restored := vfstest.Restore(files, simDir)
		lost := len(truthful(t, restored, states, cut))
		require.Less(t, lost, last+1)
		r, err := Verify(t.Context(), restored, simDir, VerifyOptions{Keys: testKeys})
		require.NoError(t, err)
		require.Empty(t, r.Problems)
		j, err := Open(t.Context(), restored, simDir, Options{Keys: testKeys, Log: quiet})
		require.NoError(t, err)
		require.NoError(t, j.Append(mustParse(t, dataFrame(1, 200, 0, 9))), "cut at %d", cut)
		require.NoError(t, j.Close())
	}
}

// Space runs out at every byte: the frame is refused, everything before it stays, and all goes on when there is room.
func TestNoSpaceAtEveryByte(t *testing.T) {
	for room := int64(0); room < 2600; room += 7 {
		fs := vfstest.New()
		j, err := Create(t.Context(), fs, simDir, simDisks, Options{Keys: testKeys, SegmentBytes: 1000, Log: quiet})
		require.NoError(t, err)
		fs.SetCapacity(fs.Used() + room)
		frames := [][]byte{epochFrame(t, 1, 100), doneFrame(1, 100)}
		for pos := uint64(101); pos < 112; pos++ {
			frames = append(frames, dataFrame(1, pos, pos%20, byte(pos)))
		}
		failed := 0
		for _, b := range frames {
			err := j.Append(mustParse(t, b))
			if err == nil {
				continue
			}
			require.Equal(t, fault.OutOfSpace, fault.KindOf(err), err)
			failed++
			require.NoError(t, j.Sync())
			fs.SetCapacity(1 << 30)
			require.NoError(t, j.Append(mustParse(t, b)), "room %d", room)
		}
		require.LessOrEqual(t, failed, 1)
		require.NoError(t, j.Close())
		r, err := Verify(t.Context(), fs, simDir, VerifyOptions{Keys: testKeys})
		require.NoError(t, err)
		require.Empty(t, r.Problems, "room %d", room)
		require.Zero(t, r.TornBytes)
		require.Equal(t, len(frames), r.Frames)
	}
}

// The order in which things reach the disk is part of the format.
func TestOrderOfOperations(t *testing.T) {
	fs := vfstest.New()
	var ops []string
	fs.OnOp(func(op vfstest.Op) error {
		if op.Kind != "list" && op.Kind != "lock" && op.Kind != "open" {
			ops = append(ops, strings.TrimSpace(op.Kind+" "+strings.TrimPrefix(strings.TrimPrefix(op.Name, simDir), "/")))
		}
		return nil
	})
	j, err := Create(t.Context(), fs, simDir, simDisks, Options{Keys: testKeys, SegmentBytes: 300, Log: quiet})
	require.NoError(t, err)
	require.NoError(t, j.Append(mustParse(t, epochFrame(t, 1, 100))))
	require.NoError(t, j.Append(mustParse(t, dataFrame(1, 101, 0, 1))))
	require.NoError(t, j.Close())
	atomically := func(name string) []string {
		return []string{"remove " + name + ".tmp", "create " + name + ".tmp", "write " + name + ".tmp", "sync " + name + ".tmp", "rename " + name, "syncdir"}
	}
	one, idx, two := segName(1), idxName(1), segName(2)
	require.Equal(t, slices.Concat(
		atomically("tail.mark"), atomically("key.json"), atomically("catalogue"), atomically("catalogue.copy"),
		atomically("journal.json"), // last: until it is there the directory is no journal
		[]string{"create " + one, "write " + one, "sync " + one, "syncdir"}, // a segment exists before its first frame
		[]string{"write " + one, "sync " + one, "write tail.mark"},          // sealing syncs the frames before the index is made
		atomically(idx),
		[]string{"create " + two, "write " + two, "sync " + two, "syncdir"},
		[]string{"write " + two, "sync " + two, "write tail.mark", "sync tail.mark"},
	), withoutLayers(ops))
}

// withoutLayers leaves out the directory of layers, which is empty here.
func withoutLayers(ops []string) []string {
	return slices.DeleteFunc(ops, func(op string) bool { return strings.Contains(op, layerDir) || op == "mkdir" })
}

func TestOneOwner(t *testing.T) {
	dir := t.TempDir() + "/j"
	j, err := Create(t.Context(), vfs.OS, dir, simDisks, Options{Keys: testKeys, Log: quiet})
	require.NoError(t, err)
	for _, again := range []func() error{
		func() error { _, err := Open(t.Context(), vfs.OS, dir, Options{Keys: testKeys}); return err },
		func() error {
			_, err := Create(t.Context(), vfs.OS, dir, simDisks, Options{Keys: testKeys})
			return err
		},
		func() error { _, err := Verify(t.Context(), vfs.OS, dir, VerifyOptions{Keys: testKeys}); return err },
		func() error { return Remove(vfs.OS, dir) },
	} {
		require.Equal(t, fault.Conflict, fault.KindOf(again()))
	}
	require.NoError(t, j.Append(mustParse(t, epochFrame(t, 1, 100))))
	require.NoError(t, j.Close())
	require.Equal(t, fault.Conflict, fault.KindOf(j.Append(mustParse(t, dataFrame(1, 101, 0, 1)))))
	_, err = Create(t.Context(), vfs.OS, dir, simDisks, Options{Keys: testKeys})
	require.Equal(t, fault.Conflict, fault.KindOf(err))
	j, err = Open(t.Context(), vfs.OS, dir, Options{Keys: testKeys, Log: quiet})
	require.NoError(t, err)
	require.EqualValues(t, 1, j.State().Epoch)
	require.NoError(t, j.Close())
	require.NoError(t, Remove(vfs.OS, dir))
	require.NoError(t, Remove(vfs.OS, dir))
	_, err = Open(t.Context(), vfs.OS, dir, Options{Keys: testKeys})
	require.Equal(t, fault.NotFound, fault.KindOf(err))
}

// A header that lies across two sectors may come without its second part.
func TestTornHeader(t *testing.T) {
	fs, states := small(t, Options{Keys: testKeys})
	files := fs.Snapshot()
	tail := simDir + "/" + segName(3)
	for n := 1; n < wire.HeaderSize; n++ {
		head := dataFrame(1, 200, 0, 9)[:n]
		torn := append(bytes.Clone(files[tail]), head...)
		m := vfstest.Restore(files, simDir)
		f, err := m.OpenWrite(tail)
		require.NoError(t, err)
		_, err = f.WriteAt(append(torn, make([]byte, 300)...), 0)
		require.NoError(t, errors.Join(err, f.Close()))
		require.Empty(t, truthful(t, m, states), "after %d bytes", n)
	}
}

// Two frames of a sealed segment in each other's place verify, but they are not what the index says.
func TestSwappedFrames(t *testing.T) {
	fs, states := small(t, Options{Keys: testKeys})
	files := fs.Snapshot()
	seg := files[simDir+"/"+segName(2)]
	n := recHeaderSize + int(binary.LittleEndian.Uint32(seg[segHeaderSize+4:]))
	first, second := seg[segHeaderSize:][:n], seg[segHeaderSize+n:][:n]
	require.Equal(t, first[:recHeaderSize/2], second[:recHeaderSize/2])
	for i := recHeaderSize; i < n; i++ {
		first[i], second[i] = second[i], first[i]
	}
	errs := truthful(t, vfstest.Restore(files, simDir), states)
	require.NotEmpty(t, errs)
	for _, err := range errs {
		require.Equal(t, fault.Corruption, fault.KindOf(err), err)
	}
}
