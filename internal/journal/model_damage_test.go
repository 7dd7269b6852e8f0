package journal

import (
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/understudy-dr/understudy/internal/fault"
	"github.com/understudy-dr/understudy/internal/wire"
)

// Bytes of layers, timelines, segments and sidecars change or cannot be read, a few files at a time, while everything goes on. What is read is true
// or a Corruption, nothing stops, and when the source has sent everything again all that is newer is whole.
func TestModelDamage(t *testing.T) {
	var lost atomic.Int64
	t.Cleanup(func() {
		if !testing.Short() && !t.Failed() && os.Getenv("UNDERSTUDY_SEED") == "" {
			require.Positive(t, lost.Load())
		}
	})
	sharded(t, 150, func(t *testing.T, seed uint64) {
		n, _ := damaged(t, seed)
		lost.Add(int64(n))
	})
}

// Some of what is older is whole again. That takes chance, and some seeds: these are always the same.
func TestModelDamageHeals(t *testing.T) {
	for seed := range uint64(1000) {
		if _, healed := damaged(t, seed); healed > 0 {
			t.Logf("with seed %d", seed)
			return
		}
	}
	t.Fatal("never")
}

// damaged runs one model and tells how many blocks were lost, and how many of them are whole in the end.
func damaged(t *testing.T, seed uint64) (lost, healed int) {
	m := newModel(t, seed, false)
	for range 120 {
		require.True(t, m.step())
	}
	m.prune()
	m.looked()
	m.views = nil
	m.damage()
	for range 80 {
		m.damagedStep()
	}
	broken := m.readable(20)
	m.src.boot(m.j.State())
	booted := m.src.pos
	m.settle()
	m.quiesce()
	for range 30 { // until what came meets what was lost
		m.src.write()
		if m.rng.IntN(4) == 0 {
			m.settle()
			m.quiesce()
		}
	}
	m.settle()
	m.quiesce()
	m.mended(booted)
	for b := range broken {
		lost++
		if m.whole(b) {
			healed++
		}
	}
	require.NoError(t, m.j.Close())
	return lost, healed
}

// damage changes a byte of each of a few files. Of a segment and its sidecar only one: with both gone nobody knows what was lost.
func (m *model) damage() {
	files := m.fs.Snapshot()
	tail := m.j.lastSegment() + 1
	hit := map[string]bool{}
	for n := 1 + m.rng.IntN(4); n > 0; n-- {
		names := slices.Sorted(maps.Keys(files))
		name := names[m.rng.IntN(len(names))]
		base := filepath.Base(name)
		number, sealed := parseName(base, segSuffix)
		idx, side := parseName(base, idxSuffix)
		switch {
		case filepath.Dir(name) != m.j.dir && !strings.Contains(name, m.j.dir+"/"+layerDir):
			continue
		case sealed && number < tail, side:
			base = segName(max(number, idx))
		case !strings.HasPrefix(base, "layer-") && !strings.HasPrefix(base, "timeline-"):
			continue
		}
		if hit[base] || len(files[name]) == 0 {
			continue
		}
		hit[base] = true
		m.spoil(name, files[name])
	}
	if m.rng.IntN(2) == 0 {
		require.NoError(m.t, m.j.Close())
		before := m.j.State()
		if m.rng.IntN(2) == 0 {
			m.damageTail(files, simDir+"/"+segName(tail))
		}
		var err error
		m.j, err = Open(m.t.Context(), m.fs, m.j.dir, m.o)
		require.NoError(m.t, err)
		if st := m.j.State(); st.Frames < before.Frames { // as the agent sees
			require.Greater(m.t, st.Highest, before.Highest, "positions that were lost may be given again")
			m.src.boot(st)
		}
	}
}

// spoil changes a byte of a file, or makes some that the disk cannot read.
func (m *model) spoil(name string, content []byte) {
	at := m.rng.IntN(len(content))
	if m.rng.IntN(3) == 0 {
		require.NoError(m.t, m.fs.BadSectors(name, int64(at), int64(1+m.rng.IntN(512)), forEver))
		return
	}
	f, err := m.fs.OpenWrite(name)
	require.NoError(m.t, err)
	_, err = f.WriteAt([]byte{content[at] ^ byte(1+m.rng.IntN(255))}, int64(at))
	require.NoError(m.t, err)
	require.NoError(m.t, f.Close())
}

// damageTail spoils the unsealed segment, and takes the mark away now and then.
func (m *model) damageTail(files map[string][]byte, name string) {
	if len(files[name]) == 0 {
		return
	}
	m.spoil(name, files[name])
	if m.rng.IntN(3) == 0 {
		require.NoError(m.t, m.fs.Remove(simDir+"/"+markName))
	}
}

// damagedStep is a step in which nothing but a lookup may fail.
func (m *model) damagedStep() {
	switch k := m.rng.IntN(10); {
	case k < 2:
		m.src.write()
	case k < 5:
		for _, b := range m.src.frames() {
			f, err := wire.Parse(b)
			require.NoError(m.t, err)
			require.NoError(m.t, m.j.Append(f))
		}
		require.NoError(m.t, m.j.Sync())
		m.src.acked()
	case k < 6:
		require.NoError(m.t, m.j.Seal())
	case k < 9:
		_, err := m.j.Maintain(m.t.Context(), Limits{Urgent: true})
		require.NoError(m.t, err)
	default:
		_, err := m.j.Scrub(m.t.Context(), Limits{})
		require.NoError(m.t, err)
	}
}

// cell is a sector of a disk at a point.
type cell struct {
	point  Point
	disk   uint16
	sector int
}

// readable reads some states sector by sector, and returns what it cannot read.
func (m *model) readable(sample int) map[cell]bool {
	broken := map[cell]bool{}
	for range sample {
		h := m.src.history[m.rng.IntN(len(m.src.history))]
		p, err := m.j.Check(h.pos)
		if err != nil {
			require.Contains(m.t, []fault.Kind{fault.NotFound, fault.Corruption}, fault.KindOf(err), err)
			continue
		}
		v, err := m.j.View(m.t.Context(), p)
		if err != nil {
			require.True(m.t, fault.Is(err, fault.Corruption), err)
			continue
		}
		m.sectors(v, func(c cell) { broken[c] = true })
		require.NoError(m.t, v.Close())
	}
	return broken
}

// sectors compares what a view can read with the truth.
func (m *model) sectors(v *View, lost func(cell)) {
	var truth []instant
	for _, h := range m.src.history {
		if h.pos == v.Point().Position && slices.Equal(h.table, v.Disks()) {
			truth = append(truth, h)
		}
	}
	for _, d := range v.Disks() {
		for s := range int(d.Bytes / 512) {
			got := make([]byte, 512)
			if err := v.ReadAt(m.t.Context(), d.Index, got, int64(s)*512); err != nil {
				require.True(m.t, fault.Is(err, fault.Corruption), err)
				lost(cell{v.Point(), d.Index, s})
				continue
			}
			require.True(m.t, slices.ContainsFunc(truth, func(h instant) bool {
				return string(h.disks[d.Index][s*512:][:512]) == string(got)
			}), "disk %d, sector %d at %+v is wrong", d.Index, s, v.Point())
		}
	}
}

// mended: everything from a position on is whole.
func (m *model) mended(from uint64) {
	for _, h := range m.src.history {
		if h.pos < from {
			continue
		}
		p, err := m.j.Check(h.pos)
		if err != nil {
			require.True(m.t, fault.Is(err, fault.NotFound), err)
			continue
		}
		if p.Position >= from {
			m.compare(p, func(x instant) bool { return x.pos == p.Position })
		}
	}
}

func (m *model) whole(c cell) bool {
	v, err := m.j.View(m.t.Context(), c.point)
	if err != nil {
		return false
	}
	got := make([]byte, 512)
	err = v.ReadAt(m.t.Context(), c.disk, got, int64(c.sector)*512)
	require.NoError(m.t, v.Close())
	return err == nil
}
