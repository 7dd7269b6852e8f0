package volume

import (
	"bytes"
	"context"
	"log/slog"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/understudy-dr/understudy/internal/encryption"
	"github.com/understudy-dr/understudy/internal/fault"
	"github.com/understudy-dr/understudy/internal/journal"
	"github.com/understudy-dr/understudy/internal/vfs/vfstest"
	"github.com/understudy-dr/understudy/internal/wire"
)

var disks = []wire.Disk{{Index: 2, Device: "/dev/sda", Bytes: 1 << 20}}

// newJournal holds one write of 4 KiB at each of the positions 101 to 100+n, filled with the number of the write.
func newJournal(t *testing.T, n int) *journal.Journal {
	keys, err := encryption.OpenKeyFile(filepath.Join(t.TempDir(), "keys"))
	require.NoError(t, err)
	j, err := journal.Create(t.Context(), vfstest.New(), "/j", disks, journal.Options{Keys: keys, Log: slog.New(slog.DiscardHandler)})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, j.Close()) })
	open, err := wire.Message(wire.TypeEpochOpen, 1, 100, 100, 1, wire.EpochOpen{Capture: "c", Disks: disks})
	require.NoError(t, err)
	frames := [][]byte{open, wire.Control(wire.TypeBaselineDone, 1, 100, 100, 1)}
	for i := range n {
		var b wire.Builder
		b.Reset(wire.TypeData, 1)
		b.Add(wire.Extent{
			Disk: 2, Kind: wire.KindData, Flags: wire.EndOfBio, Position: uint64(101 + i), Sector: 8, Bytes: 4096, Time: int64(i+1) * 1e9,
		}, bytes.Repeat([]byte{byte(i + 1)}, 4096))
		frames = append(frames, b.Finish(nil))
	}
	for _, b := range frames {
		f, err := wire.Parse(b)
		require.NoError(t, err)
		require.NoError(t, j.Append(f))
	}
	require.NoError(t, j.Sync())
	return j
}

func opener(t *testing.T, j *journal.Journal) *Opener {
	op := NewOpener(func(id string) (*journal.Journal, error) {
		if id != "s-1" {
			return nil, fault.New(fault.NotFound, "test", "no server %s", id)
		}
		return j, nil
	})
	t.Cleanup(func() { require.NoError(t, op.Close()) })
	return op
}

func TestChoices(t *testing.T) {
	o := opener(t, newJournal(t, 9))
	for _, c := range []struct {
		choice Choice
		want   byte
	}{{Choice{}, 9}, {Choice{Position: 104}, 4}, {Choice{At: time.Unix(6, 5)}, 6}, {Choice{Position: 100}, 0}} {
		v, err := o.Open(t.Context(), "s-1", 2, c.choice)
		require.NoError(t, err)
		require.EqualValues(t, 1<<20, v.Size())
		got := make([]byte, 3)
		require.NoError(t, v.ReadAt(t.Context(), got, 4096+4093))
		require.Equal(t, bytes.Repeat([]byte{c.want}, 3), got)
		require.NoError(t, v.ReadAt(t.Context(), got, 4094))
		require.Equal(t, []byte{0, 0, c.want}, got)
		var holes []Extent
		sparse := bytes.Repeat([]byte{0xee}, 12<<10)
		require.NoError(t, v.ReadSparse(t.Context(), sparse, 0, func(off, length int64) {
			holes = append(holes, Extent{Offset: off, Length: length, Hole: true})
			clear(sparse[off : off+length])
		}))
		want := make([]byte, 12<<10)
		if c.want > 0 {
			copy(want[4096:], bytes.Repeat([]byte{c.want}, 4096))
			require.Equal(t, []Extent{{Length: 4096, Hole: true}, {Offset: 8192, Length: 4096, Hole: true}}, holes)
		}
		require.Equal(t, want, sparse)
		extents, err := v.Extents(t.Context(), 0, v.Size())
		require.NoError(t, err)
		if c.want > 0 {
			require.Equal(t, []Extent{{Length: 4096, Hole: true}, {Offset: 4096, Length: 4096}, {Offset: 8192, Length: 1<<20 - 8192, Hole: true}}, extents)
		} else {
			require.Equal(t, []Extent{{Length: 1 << 20, Hole: true}}, extents)
		}
		require.Equal(t, fault.Invalid, fault.KindOf(v.ReadAt(t.Context(), got, v.Size()-1)))
		require.NoError(t, v.Close())
		require.NoError(t, v.Close())
		require.Equal(t, fault.Conflict, fault.KindOf(v.ReadAt(t.Context(), got, 0)))
	}
}

func TestRefused(t *testing.T) {
	o := opener(t, newJournal(t, 2))
	for _, c := range []struct {
		server string
		disk   uint16
		choice Choice
		kind   fault.Kind
	}{
		{"s-2", 2, Choice{}, fault.NotFound},
		{"s-1", 7, Choice{}, fault.NotFound},
		{"s-1", 2, Choice{Position: 99}, fault.NotFound},
		{"s-1", 2, Choice{Position: 100, At: time.Unix(1, 0)}, fault.Invalid},
		{"s-1", 2, Choice{At: time.Unix(9, 0)}, fault.Transient},
	} {
		_, err := o.Open(t.Context(), c.server, c.disk, c.choice)
		require.Equal(t, c.kind, fault.KindOf(err), err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	v, err := o.Open(ctx, "s-1", 2, Choice{})
	require.NoError(t, err)
	cancel()
	require.Equal(t, fault.Transient, fault.KindOf(v.ReadAt(ctx, make([]byte, 1), 0)))
	require.NoError(t, v.Close())
}

// Volumes of one point share a view, which is let go of with the last of them.
func TestSharing(t *testing.T) {
	j := newJournal(t, 9)
	o := opener(t, j)
	var all sync.WaitGroup
	volumes := make([]*Volume, 16)
	for i := range volumes {
		all.Go(func() {
			v, err := o.Open(t.Context(), "s-1", 2, Choice{Position: 105})
			if err == nil {
				volumes[i] = v
			}
		})
	}
	all.Wait()
	for _, v := range volumes {
		require.NotNil(t, v)
		require.Same(t, volumes[0].s.view, v.s.view)
	}
	view := volumes[0].s.view
	for i, v := range volumes {
		require.Len(t, o.views, 1, i)
		require.NoError(t, v.Close())
	}
	require.Empty(t, o.views)
	require.Equal(t, fault.Conflict, fault.KindOf(view.ReadAt(t.Context(), 2, make([]byte, 1), 0)), "it was let go")

	held, err := o.Open(t.Context(), "s-1", 2, Choice{})
	require.NoError(t, err)
	require.NoError(t, j.Close())
	require.Equal(t, fault.Conflict, fault.KindOf(held.ReadAt(t.Context(), make([]byte, 1), 0)))
	require.NoError(t, held.Close())
	require.Empty(t, o.views)
}
