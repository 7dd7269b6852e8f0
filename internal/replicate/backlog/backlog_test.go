package backlog

import (
	"bytes"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"strconv"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/understudy-dr/understudy/internal/capture"
)

// fakeRing keeps the promises of the capture's ring, without end.
type fakeRing struct {
	records  []capture.Record // not released
	consumer uint64
	producer uint64
	err      error
}

func (f *fakeRing) Consumer() uint64 { return f.consumer }

func (f *fakeRing) Next(offset uint64, r *capture.Record) (bool, error) {
	if f.err != nil {
		return false, f.err
	}
	if offset < f.consumer {
		return false, errors.New("offset below the consumer position")
	}
	for _, have := range f.records {
		if have.Start >= offset {
			*r = have
			return true, nil
		}
	}
	return false, nil
}

// Release spoils what it gives back, as the kernel would.
func (f *fakeRing) Release(offset uint64) {
	for len(f.records) > 0 && f.records[0].End <= offset {
		for i := range f.records[0].Data {
			f.records[0].Data[i] = 0xdb
		}
		f.records = f.records[1:]
	}
	f.consumer = max(f.consumer, offset)
}

// add appends a record, now and then behind one that was discarded.
func (f *fakeRing) add(rng *rand.Rand, bytes int) capture.Record {
	if rng.IntN(5) == 0 {
		f.producer += 64
	}
	r := capture.Record{
		Disk: uint16(rng.IntN(5)), Op: capture.Write, Flags: capture.Flags(rng.IntN(16)), CPU: rng.Uint32(), Sector: rng.Uint64(),
		Bytes: uint64(bytes), Time: rng.Uint64(), Drops: rng.Uint64(), Start: f.producer,
	}
	if bytes == 0 {
		r.Op, r.Bytes = capture.Discard, rng.Uint64()
	}
	for range bytes {
		r.Data = append(r.Data, byte(rng.Uint32()))
	}
	f.producer += uint64(48+bytes+7) &^ 7
	r.End = f.producer
	f.records = append(f.records, r)
	return r
}

func nothing(uint64, uint64) {}

func seed(t *testing.T) uint64 {
	s := uint64(time.Now().UnixNano())
	if given := os.Getenv("UNDERSTUDY_SEED"); given != "" {
		var err error
		s, err = strconv.ParseUint(given, 10, 64)
		require.NoError(t, err)
	}
	t.Logf("UNDERSTUDY_SEED=%d", s)
	return s
}

// TestModel compares a backlog with the list of everything that was ever added.
func TestModel(t *testing.T) {
	first := seed(t)
	for n := range uint64(50) {
		t.Run(fmt.Sprint(first+n), func(t *testing.T) { runModel(t, rand.New(rand.NewPCG(first+n, 1))) })
	}
}

func runModel(t *testing.T, rng *rand.Rand) {
	ring := &fakeRing{producer: 8 * rng.Uint64N(1000)}
	ring.consumer = ring.producer
	b := New(ring, rng.IntN(40)*4096)
	defer b.Close()
	var all []capture.Record
	kept := ring.consumer
	for range 400 {
		switch rng.IntN(6) {
		case 0, 1:
			r := ring.add(rng, []int{0, 8, 512, 3000, 4032, 4096}[rng.IntN(6)])
			r.Data = bytes.Clone(r.Data)
			all = append(all, r)
		case 2:
			require.NoError(t, b.Move(rng.Uint64N(20000), nothing))
			require.LessOrEqual(t, b.Used(), b.Limit())
		case 3:
			if i := rng.IntN(len(all) + 1); i < len(all) && rng.IntN(3) == 0 && all[i].End > kept {
				kept = all[i].End
				b.Release(kept)
			}
		default:
			requireFrom(t, b, all, kept, rng)
		}
		require.Equal(t, kept, b.Consumer())
		require.GreaterOrEqual(t, b.Emptied(), kept)
		require.Equal(t, ring.consumer, b.Emptied())
	}
}

// requireFrom reads everything from a random record on.
func requireFrom(t *testing.T, b *Backlog, all []capture.Record, kept uint64, rng *rand.Rand) {
	t.Helper()
	for len(all) > 0 && all[0].Start < kept {
		all = all[1:]
	}
	offset := kept
	if len(all) > 0 {
		skip := rng.IntN(len(all))
		all = all[skip:]
		if skip > 0 {
			offset = all[0].Start
		}
	}
	var r capture.Record
	for _, want := range all {
		ok, err := b.Next(offset, &r)
		require.NoError(t, err)
		require.True(t, ok)
		require.Equal(t, want, r)
		offset = r.End
	}
	ok, err := b.Next(offset, &r)
	require.NoError(t, err)
	require.False(t, ok)
}

func TestItIsBounded(t *testing.T) {
	const limit = 8 << 20
	rng := rand.New(rand.NewPCG(1, 1))
	ring := &fakeRing{}
	b := New(ring, limit)
	defer b.Close()
	require.Equal(t, limit, b.Limit())
	last := uint64(0)
	for range 3000 { // twelve mebibytes
		ring.add(rng, 4096)
		require.NoError(t, b.Move(1<<30, func(from, to uint64) {
			require.Equal(t, last, from)
			require.Equal(t, from, ring.consumer, "the ring keeps its own until the holders were told")
			last = to
		}))
		require.LessOrEqual(t, b.Used(), limit)
	}
	require.Equal(t, limit, b.Used())
	require.Greater(t, last, uint64(limit*95/100), "most of it is of use")
	require.Equal(t, last, ring.consumer)
	before := len(ring.records)
	require.NotZero(t, before)

	b.Release(last / 2)
	require.InDelta(t, limit/2, b.Used(), float64(2*b.size))
	require.NoError(t, b.Move(1<<30, nothing))
	require.Less(t, len(ring.records), before, "there is room again")
	b.Release(ring.producer)
	require.Zero(t, b.Used())
	require.Equal(t, ring.producer, ring.consumer)
}

func TestWithoutMemoryNothingMoves(t *testing.T) {
	ring := &fakeRing{}
	ring.add(rand.New(rand.NewPCG(1, 1)), 512)
	b := New(ring, 0)
	require.NoError(t, b.Move(1<<20, func(uint64, uint64) { t.Error("moved") }))
	require.Zero(t, b.Limit())
	require.False(t, b.Holds())
	require.Zero(t, b.Emptied())
}

// A record that no slab can take stays where it is, and all behind it.
func TestATooLargeRecordStays(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 1))
	ring := &fakeRing{}
	b := New(ring, 16*4096)
	defer b.Close()
	small := ring.add(rng, 512)
	ring.add(rng, 4096)
	ring.add(rng, 512)
	require.NoError(t, b.Move(1<<20, nothing))
	require.Equal(t, small.End, b.Emptied())
	require.NoError(t, b.Move(1<<20, func(uint64, uint64) { t.Error("moved") }))
}

func TestARingThatFailsIsReported(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 1))
	ring := &fakeRing{err: errors.New("makes no sense")}
	b := New(ring, 1<<20)
	defer b.Close()
	ring.add(rng, 512)
	require.ErrorIs(t, b.Move(1<<20, nothing), ring.err)
	require.False(t, b.Holds())
}
