package points

import (
	"bytes"
	"context"
	"log/slog"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/understudy-dr/understudy/internal/control"
	"github.com/understudy-dr/understudy/internal/encryption"
	"github.com/understudy-dr/understudy/internal/journal"
	"github.com/understudy-dr/understudy/internal/state"
	"github.com/understudy-dr/understudy/internal/state/sqlite"
	"github.com/understudy-dr/understudy/internal/vfs/vfstest"
	"github.com/understudy-dr/understudy/internal/wire"
)

// real is a journal's answer to where it can be recovered.
type real struct{ j *journal.Journal }

func (r real) RecoverablePosition(_ string, at time.Time) (uint64, time.Time, error) {
	p, err := r.j.Before(at)
	return p.Position, p.Time, err
}

var disk = wire.Disk{Device: "/dev/sda", Bytes: 16 << 40}

// written is a journal of a 16 TiB disk with a few writes in it.
func written(t testing.TB, fs *vfstest.MemFS) *journal.Journal {
	keys, err := encryption.OpenKeyFile(filepath.Join(t.TempDir(), "keys"))
	require.NoError(t, err)
	j, err := journal.Create(t.Context(), fs, "/j", []wire.Disk{disk}, journal.Options{Keys: keys, Log: slog.New(slog.DiscardHandler)})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, j.Close()) })
	open, err := wire.Message(wire.TypeEpochOpen, 1, 100, 100, 1, wire.EpochOpen{Capture: "c", Disks: []wire.Disk{disk}})
	require.NoError(t, err)
	frames := [][]byte{open, wire.Control(wire.TypeBaselineDone, 1, 100, 100, 1)}
	for i := range uint64(100) {
		var b wire.Builder
		b.Reset(wire.TypeData, 1)
		b.Add(wire.Extent{Kind: wire.KindData, Flags: wire.EndOfBio, Position: 101 + i, Sector: i << 25, Bytes: 4096, Time: int64(i + 1)},
			bytes.Repeat([]byte{byte(i)}, 4096))
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

// counted counts what a store is asked.
type counted struct {
	state.Store
	updates, calls int
}

type countedTx struct {
	state.Tx
	c *counted
}

func (c *counted) Update(ctx context.Context, fn func(state.Tx) error) error {
	c.updates++
	return c.Store.Update(ctx, func(tx state.Tx) error { return fn(countedTx{tx, c}) })
}

func (c *counted) View(context.Context, func(state.Reader) error) error {
	c.calls += 1000 // what is read outside of the update is no part of making a point
	return nil
}

func (t countedTx) Replication(ctx context.Context, id string) (state.Replication, error) {
	t.c.calls++
	return t.Tx.Replication(ctx, id)
}

func (t countedTx) PutPoint(ctx context.Context, p state.Point) error {
	t.c.calls++
	return t.Tx.PutPoint(ctx, p)
}

// crowded is a server with n points.
func crowded(t testing.TB, n int) (*sqlite.Store, state.Server) {
	s, err := sqlite.Open(t.Context(), filepath.Join(t.TempDir(), "state.db"))
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, s.Close()) })
	v := state.Server{ID: "s-1", Identity: "m", Scope: state.Scope{Account: "111122223333", Service: state.DRS}, CreatedAt: time.Now()}
	require.NoError(t, s.Update(t.Context(), func(tx state.Tx) error {
		require.NoError(t, tx.PutInitialised(t.Context(), v.Scope, time.Now()))
		require.NoError(t, tx.PutServer(t.Context(), v))
		for i := range n {
			at := time.Unix(int64(i), 0)
			require.NoError(t, tx.PutPoint(t.Context(), state.Point{ID: control.NewID("pit-"), Scope: v.Scope, ServerID: v.ID, Expected: at, At: at, Position: 100}))
		}
		return tx.PutReplication(t.Context(), state.Replication{ServerID: v.ID, Scope: v.Scope, State: state.Continuous, Staged: true})
	}))
	return s, v
}

// TestAPointIsARecord: making one costs the same few steps with none and with a thousand there, and touches no data.
func TestAPointIsARecord(t *testing.T) {
	for _, n := range []int{0, 1000} {
		fs := vfstest.New()
		j := written(t, fs)
		s, v := crowded(t, n)
		c := &counted{Store: s}
		p := New(c, real{j}, func(state.Point) {}, slog.New(slog.DiscardHandler))
		before := fs.Ops()
		_, err := p.Take(t.Context(), v.Scope, v.ID)
		require.NoError(t, err)
		require.Equal(t, before, fs.Ops(), "the journal's files were touched")
		require.Equal(t, 1, c.updates)
		require.Equal(t, 2, c.calls, "one look at the server's state, one point put")
	}
}

// BenchmarkTake is the time of one point, fsync of its record included, of a server that has a thousand.
func BenchmarkTake(b *testing.B) {
	j := written(b, vfstest.New())
	s, v := crowded(b, 1000)
	p := New(s, real{j}, func(state.Point) {}, slog.New(slog.DiscardHandler))
	for b.Loop() {
		if _, err := p.Take(b.Context(), v.Scope, v.ID); err != nil {
			b.Fatal(err)
		}
	}
}
