package bench

import (
	"bytes"
	"context"
	"flag"
	"fmt"
	"log/slog"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/understudy-dr/understudy/e2e/harness"
	"github.com/understudy-dr/understudy/internal/control"
	"github.com/understudy-dr/understudy/internal/control/points"
	"github.com/understudy-dr/understudy/internal/journal"
	"github.com/understudy-dr/understudy/internal/state"
	"github.com/understudy-dr/understudy/internal/state/sqlite"
	"github.com/understudy-dr/understudy/internal/wire"
)

var openWrites = flag.Int("open-writes", 1_000_000, "writes of 4 KiB in the journal that BenchmarkOpenAfterKill opens")

// BenchmarkPoint makes recovery points of a server with few or many of them, of a small or a huge disk, with the record's
// own fsync; and tells the journal after each of them what to retain, which the control plane does now and then.
func BenchmarkPoint(b *testing.B) {
	for _, retain := range []bool{false, true} {
		var all []contender
		for _, disk := range []int64{1 << 30, 16 << 40} {
			for _, n := range []int{1, 1000} {
				name := fmt.Sprintf("disk=%dGiB,points=%d", disk>>30, n)
				all = append(all, contender{name, func(b *testing.B) float64 { return takePoints(b, disk, n, retain) }})
			}
		}
		b.Run(map[bool]string{false: "take", true: "take-and-retain"}[retain], func(b *testing.B) {
			for b.Loop() {
				contest(b, "ms", all...)
			}
		})
	}
}

// answering is a journal's answer to where it can be recovered.
type answering struct{ j *journal.Journal }

func (a answering) RecoverablePosition(_ string, at time.Time) (uint64, time.Time, error) {
	p, err := a.j.Before(at)
	return p.Position, p.Time, err
}

func takePoints(b *testing.B, disk int64, have int, retain bool) float64 {
	const taken = 50
	dir := room(b)
	h := history{disk: disk, seed: 3}
	j, err := create(b.Context(), filepath.Join(dir, "journal"), h.disks())
	require.NoError(b, err)
	defer j.Close()
	require.NoError(b, h.fill(b.Context(), j, 0, 32*perFrame))
	store, err := sqlite.Open(b.Context(), filepath.Join(dir, "state.db"))
	require.NoError(b, err)
	defer store.Close()
	scope := state.Scope{Account: "111122223333", Service: state.DRS}
	keep := make([]journal.Point, have)
	for i := range keep {
		keep[i], err = j.Check(position(i))
		require.NoError(b, err)
	}
	latest, err := j.Latest()
	require.NoError(b, err)
	require.NoError(b, store.Update(b.Context(), func(tx state.Tx) error {
		if err := tx.PutInitialised(b.Context(), scope, time.Now()); err != nil {
			return err
		}
		if err := tx.PutServer(b.Context(), state.Server{ID: "s-1", Identity: "m", Scope: scope, CreatedAt: time.Now()}); err != nil {
			return err
		}
		for _, k := range keep {
			p := state.Point{ID: control.NewID("pit-"), Scope: scope, ServerID: "s-1", Expected: k.Time, At: k.Time, Position: k.Position}
			if err := tx.PutPoint(b.Context(), p); err != nil {
				return err
			}
		}
		return tx.PutReplication(b.Context(), state.Replication{ServerID: "s-1", Scope: scope, State: state.Continuous, Staged: true})
	}))
	p := points.New(store, answering{j}, func(state.Point) {}, slog.New(slog.DiscardHandler))
	settle(b)
	begin := time.Now()
	for range taken {
		_, err := p.Take(b.Context(), scope, "s-1")
		require.NoError(b, err)
		if retain {
			require.NoError(b, j.Retain(journal.Retention{Since: latest.Time, Points: keep}))
		}
	}
	return time.Since(begin).Seconds() * 1e3 / taken
}

// BenchmarkOpenAfterKill opens a journal whose writer was killed in the middle of its work.
func BenchmarkOpenAfterKill(b *testing.B) {
	dir := filepath.Join(room(b), "journal")
	h := history{disk: 16 << 30, seed: 4}
	j, err := create(b.Context(), dir, h.disks())
	require.NoError(b, err)
	require.NoError(b, h.fill(b.Context(), j, 0, *openWrites))
	require.NoError(b, j.Close())
	opening := func(b *testing.B, cold bool) float64 {
		killWriter(b, dir)
		if cold {
			dropCaches(b)
		}
		begin := time.Now()
		j, err := open(b.Context(), dir)
		require.NoError(b, err)
		took := time.Since(begin)
		_, err = j.Latest()
		require.NoError(b, err)
		require.NoError(b, j.Close())
		return took.Seconds() * 1e3
	}
	for b.Loop() {
		contest(b, "ms", contender{"warm", func(b *testing.B) float64 { return opening(b, false) }},
			contender{"cold", func(b *testing.B) float64 { return opening(b, true) }})
	}
}

// killWriter has a process append to the journal and kills it.
func killWriter(b *testing.B, dir string) {
	b.Helper()
	p := harness.Start(b, "writer", self(modeAdd, dir))
	harness.Eventually(b, time.Minute, "the writer writes", func() (bool, string) {
		if p.Ended() {
			b.Fatalf("it has ended: %v\n%s", p.Err(), p.Log())
		}
		return bytes.Contains([]byte(p.Log()), []byte("writing")), p.Log()
	})
	p.Kill()
}

// appendUntilKilled goes on where the journal ends, and says so after some frames.
func appendUntilKilled(dir string) error {
	j, err := open(context.Background(), dir)
	if err != nil {
		return err
	}
	latest, err := j.Latest()
	if err != nil {
		return err
	}
	h := history{disk: 16 << 30, seed: latest.Position}
	var w wire.Builder
	for i, n := int(latest.Position)-1, 0; ; i, n = i+perFrame, n+1 {
		if err := put(j, h.frame(&w, i, i+perFrame)); err != nil {
			return err
		}
		if n%8 == 7 {
			if err := j.Sync(); err != nil {
				return err
			}
		}
		if n == 100 {
			fmt.Println("writing")
		}
	}
}
