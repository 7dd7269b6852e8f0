package journal

import (
	"bytes"
	"errors"
	"log/slog"
	"maps"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/understudy-dr/understudy/internal/fault"
	"github.com/understudy-dr/understudy/internal/vfs/vfstest"
	"github.com/understudy-dr/understudy/internal/wire"
)

const simDir = "/j"

var quiet = slog.New(slog.DiscardHandler)

// model runs a source against a journal on a file system that crashes.
type model struct {
	t     *testing.T
	rng   *rand.Rand
	fs    *vfstest.MemFS
	o     Options
	j     *Journal
	src   *source
	acked State
	last  []Interval
	kept  []Point // by the last Retain
	views []*View // held open while the journal changes

	store *hooked    // object storage; nil: layers are in the directory
	safe  *catalogue // the newest that object storage is known to have
	twig  twig
}

func newModel(t *testing.T, seed uint64, remote bool) *model {
	rng := newRand(seed)
	m := &model{t: t, rng: rng, fs: vfstest.New(), src: newSource(rng)}
	m.o = Options{Keys: testKeys, LayerBytes: int64(500 + rng.IntN(20000)), SegmentBytes: int64(2000 + rng.IntN(20000)), CacheBytes: int64(1 + rng.IntN(30000)), Log: quiet, reread: 1}
	if remote {
		m.withStore()
	}
	var err error
	m.j, err = Create(m.t.Context(), m.fs, simDir, simDisks, m.o)
	require.NoError(t, err)
	return m
}

// step does something; false means that the machine lost power.
func (m *model) step() bool {
	switch k := m.rng.IntN(127); {
	case k < 35:
		m.src.write()
	case k < 80:
		for _, b := range m.src.frames() {
			f, err := wire.Parse(b)
			require.NoError(m.t, err)
			if err := m.j.Append(f); err != nil {
				require.ErrorIs(m.t, err, vfstest.ErrCrashed, "refused a good frame")
				return false
			}
		}
	case k < 96:
		return m.sync()
	case k < 98:
		err := m.j.Close()
		var j *Journal
		if err == nil {
			j, err = Open(m.t.Context(), m.fs, simDir, m.o)
		}
		if err != nil {
			require.ErrorIs(m.t, err, vfstest.ErrCrashed)
			return false
		}
		m.opened(j)
	case k < 99:
		if !m.sync() { // as the sink does before it welcomes an agent
			return false
		}
		m.src.boot(m.j.State())
	case k < 112:
		return m.maintain()
	case k < 114:
		return m.survives(m.j.Seal())
	case k < 117:
		return m.retain()
	case k < 122:
		return m.look()
	case k < 124:
		return m.sprout()
	case k < 127:
		return m.scrub()
	}
	return true
}

func (m *model) sync() bool {
	if err := m.j.Sync(); err != nil {
		require.ErrorIs(m.t, err, vfstest.ErrCrashed)
		return false
	}
	m.src.acked()
	m.acked, m.last = m.j.State(), m.j.Intervals()
	return true
}

// maintain does a step of what runs in the background, or several.
func (m *model) maintain() bool {
	for n := 1 + m.rng.IntN(3); n > 0; n-- {
		m.trouble(true)
		did, err := m.j.Maintain(m.t.Context(), Limits{Urgent: m.rng.IntN(2) == 0})
		m.trouble(false)
		if !m.survives(err) {
			return false
		}
		if m.noteSafe(); !did {
			break
		}
	}
	return true
}

func (m *model) scrub() bool {
	_, err := m.j.Scrub(m.t.Context(), Limits{})
	return m.survives(err)
}

// survives tells whether the machine still has power.
func (m *model) survives(err error) bool {
	if errors.Is(err, errStore) {
		return true
	}
	if err != nil {
		require.ErrorIs(m.t, err, vfstest.ErrCrashed)
	}
	return err == nil
}

// look opens a view, which is held while its files are merged away and let go of.
func (m *model) look() bool {
	p, err := m.j.Check(m.src.history[m.rng.IntN(len(m.src.history))].pos)
	if err != nil || len(m.views) > 3 {
		return !errors.Is(err, vfstest.ErrCrashed)
	}
	v, err := m.j.View(m.t.Context(), p)
	if err == nil {
		m.views = append(m.views, v)
	}
	return m.survives(err)
}

// looked compares what was held. Some is held on.
func (m *model) looked() {
	m.views = slices.DeleteFunc(m.views, func(v *View) bool {
		m.compareView(v, func(x instant) bool { return x.pos == v.Point().Position })
		done := m.rng.IntN(2) == 0
		if done {
			require.NoError(m.t, v.Close())
		}
		return done
	})
}

// retain lets go of the past but for a few points.
func (m *model) retain() bool {
	r := Retention{Since: time.Unix(0, m.src.history[m.rng.IntN(len(m.src.history))].time)}
	for n := m.rng.IntN(6); n > 0; n-- {
		if p, err := m.j.Check(m.src.history[m.rng.IntN(len(m.src.history))].pos); err == nil {
			r.Points = append(r.Points, p)
		}
	}
	for _, p := range m.kept {
		if m.rng.IntN(3) > 0 {
			r.Points = append(r.Points, p)
		}
	}
	if err := m.j.Retain(r); err != nil {
		return m.survives(err)
	}
	m.kept, m.last = r.Points, m.j.Intervals()
	return true
}

func (m *model) open() {
	j, err := Open(m.t.Context(), m.fs, simDir, m.o)
	require.NoError(m.t, err)
	m.opened(j)
}

func (m *model) opened(j *Journal) {
	m.j, m.views = j, nil
	st := m.j.State()
	require.GreaterOrEqual(m.t, st.Durable, m.acked.Durable, "acknowledged writes are gone")
	require.GreaterOrEqual(m.t, st.Epoch, m.acked.Epoch)
	if st.Epoch == m.acked.Epoch {
		require.False(m.t, m.acked.BaselineDone && !st.BaselineDone, "an acknowledged baseline is gone")
	}
	now := m.j.Intervals()
	for _, old := range m.last { // what was retained may have grown: Retain is durable only after the next step
		i := slices.IndexFunc(now, func(iv Interval) bool { return iv.Epoch == old.Epoch })
		require.GreaterOrEqual(m.t, i, 0)
		require.LessOrEqual(m.t, old.To, now[i].To)
		require.GreaterOrEqual(m.t, old.From, now[i].From)
	}
	m.src.reconnect(st)
	// Known to the source now, so it will not be sent again.
	m.acked, m.last = st, now
}

func (m *model) crash() {
	_ = m.j.Close() // the process is gone; nothing it does reaches the disk
	m.fs = m.fs.Crash(m.rng)
	for m.rng.IntN(3) == 0 { // power fails again while recovering
		m.fs.CrashAt(1 + m.rng.IntN(12))
		if j, err := Open(m.t.Context(), m.fs, simDir, m.o); err == nil {
			_ = j.Close()
		} else {
			require.ErrorIs(m.t, err, vfstest.ErrCrashed)
		}
		m.fs = m.fs.Crash(m.rng)
	}
	m.open()
	m.regrow()
}

// check compares everything recoverable, or a sample of it, with the true history.
func (m *model) check(sample int) {
	m.looked()
	m.checkTwig()
	intervals := m.j.Intervals()
	for _, p := range m.kept {
		m.compare(p, func(x instant) bool { return x.pos == p.Position })
	}
	for n := sample; n > 0; n-- {
		h := m.src.history[m.rng.IntN(len(m.src.history))]
		p, err := m.j.Check(h.pos)
		if err != nil {
			require.True(m.t, fault.Is(err, fault.NotFound), err)
			for _, iv := range intervals {
				bad := h.epoch == iv.Epoch && h.pos >= iv.From && h.pos <= iv.To && h.pos > 0
				require.False(m.t, bad, "%d is in %+v: %v", h.pos, iv, err)
			}
			continue
		}
		m.compare(p, func(x instant) bool { return x.pos == p.Position })
		m.checkTime(intervals, h.time+int64(m.rng.IntN(3))-1)
	}
}

func (m *model) checkTime(intervals []Interval, ns int64) {
	at := time.Unix(0, ns)
	p, err := m.j.At(at)
	inside := false
	for _, iv := range intervals {
		inside = inside || (!at.Before(iv.FromTime) && !at.After(iv.ToTime))
	}
	for _, k := range m.j.Kept() {
		inside = inside || k.Time.Equal(at)
	}
	require.Equal(m.t, inside, err == nil, "at %d: %v in %+v", ns, err, intervals)
	if err != nil {
		require.Contains(m.t, []fault.Kind{fault.NotFound, fault.Transient}, fault.KindOf(err))
		return
	}
	// Writes with exactly this stamp may be in or out.
	m.compare(p, func(x instant) bool {
		next := int64(1<<63 - 1) // what came after x; positions that a lost disk took along were given again
		for _, y := range slices.Backward(m.src.history) {
			if y.epoch == x.epoch && y.pos == x.pos && y.time == x.time {
				break
			}
			if y.pos > x.pos {
				next = y.time
			}
		}
		return x.time <= ns && next >= ns
	})
	before, err := m.j.Before(at)
	require.NoError(m.t, err)
	require.Equal(m.t, p, before)
}

// compare reads the whole view in odd pieces and looks for a true state that allowed admits.
func (m *model) compare(p Point, allowed func(instant) bool) {
	v, err := m.j.View(m.t.Context(), p)
	require.NoError(m.t, err)
	defer func() { require.NoError(m.t, v.Close()) }()
	m.compareView(v, allowed)
}

func (m *model) compareView(v *View, allowed func(instant) bool) {
	got := map[uint16][]byte{}
	for _, d := range v.Disks() {
		got[d.Index] = m.read(v, d)
	}
	for _, h := range m.src.history {
		if h.epoch == v.Point().Epoch && allowed(h) && slices.Equal(h.table, v.Disks()) && maps.EqualFunc(h.disks, got, bytes.Equal) {
			return
		}
	}
	require.Fail(m.t, "the view is no true state", "%+v", v.Point())
}

// quiesce does everything there is to do in the background.
func (m *model) quiesce() {
	require.NoError(m.t, m.j.Seal())
	for n := 0; ; n++ {
		require.Less(m.t, n, 2000)
		did, err := m.j.Maintain(m.t.Context(), Limits{Urgent: true})
		require.NoError(m.t, err)
		if !did {
			return
		}
	}
}

func (m *model) read(v *View, d wire.Disk) []byte {
	buf := make([]byte, d.Bytes)
	for off := 0; off < len(buf); {
		n := min(1+m.rng.IntN(5000), len(buf)-off)
		if part := buf[off : off+n]; m.rng.IntN(2) == 0 {
			require.NoError(m.t, v.ReadAt(m.t.Context(), d.Index, part, int64(off)))
		} else {
			require.NoError(m.t, v.ReadSparse(m.t.Context(), d.Index, part, int64(off), func(at, length int64) {
				clear(part[at-int64(off):][:length])
			}))
		}
		off += n
	}
	off := int64(0)
	extents, err := v.Extents(m.t.Context(), d.Index, 0, int64(d.Bytes))
	require.NoError(m.t, err)
	for i, e := range extents {
		require.Equal(m.t, off, e.Offset)
		require.True(m.t, i == 0 || extents[i-1].Hole != e.Hole)
		if off += e.Length; e.Hole {
			require.Equal(m.t, make([]byte, e.Length), buf[e.Offset:off])
		}
	}
	require.Equal(m.t, int64(d.Bytes), off)
	return buf
}

// settle sends everything and expects the newest state to be recoverable.
func (m *model) settle() {
	m.fs.OnOp(nil)
	for n := 0; ; n++ {
		require.Less(m.t, n, 10000)
		for _, b := range m.src.frames() {
			f, err := wire.Parse(b)
			require.NoError(m.t, err)
			require.NoError(m.t, m.j.Append(f))
		}
		if m.src.done && m.src.sent == len(m.src.ring) && n%50 == 49 {
			break
		}
	}
	f, err := wire.Parse(wire.Control(wire.TypeMark, m.src.epoch, m.src.pos, m.src.pos, m.src.time))
	require.NoError(m.t, err)
	require.NoError(m.t, m.j.Append(f))
	require.NoError(m.t, m.j.Sync())
	m.src.acked()
	p, err := m.j.Latest()
	require.NoError(m.t, err)
	require.Equal(m.t, m.src.epoch, p.Epoch)
	newest := m.src.history[len(m.src.history)-1]
	m.compare(p, func(x instant) bool { return x.pos == newest.pos && x.time == newest.time })
}

// A source replicates, gaps, reboots, gets disks and loses some; the journal's machine crashes at any operation of its file system. Whatever
// the journal calls recoverable is a true state, whatever was synced stays, and in the end the newest state is there.
func TestModel(t *testing.T) {
	sharded(t, 1000, func(t *testing.T, seed uint64) {
		m := newModel(t, seed, seed%3 == 0)
		for round := 0; round < 4; round++ {
			m.fs.CrashAt(1 + m.rng.IntN(150))
			alive := true
			for n := 0; n < 150 && alive; n++ {
				alive = m.step()
			}
			if !alive || m.rng.IntN(2) == 0 {
				m.fs.OnOp(func(vfstest.Op) error { return vfstest.ErrCrashed })
				if m.store != nil && m.rng.IntN(3) == 0 {
					m.lose()
				} else {
					m.crash()
				}
			}
			m.fs.OnOp(nil)
			m.check(4)
		}
		m.settle()
		m.check(30)
		m.quiesce()
		m.check(30)
		m.prune()
		require.NoError(t, m.j.Close())
		r, err := Verify(t.Context(), m.fs, simDir, VerifyOptions{Keys: testKeys, Blobs: m.o.Blobs})
		require.NoError(t, err)
		require.Empty(t, r.Problems)
		require.Zero(t, r.TornBytes)
	})
}

// A failed fsync: what was not synced is lost, and nobody may be told otherwise.
func TestModelSyncFails(t *testing.T) {
	errIO := errors.New("i/o error")
	sharded(t, 200, func(t *testing.T, seed uint64) {
		m := newModel(t, seed, seed%3 == 0)
		m.fs.OnOp(func(op vfstest.Op) error {
			if (op.Kind == "sync" || op.Kind == "write" || op.Kind == "truncate") && m.rng.IntN(12) == 0 {
				return errIO
			}
			return nil
		})
		for n := 0; n < 400; n++ {
			m.faultyStep(errIO)
		}
		m.fs.OnOp(func(vfstest.Op) error { return vfstest.ErrCrashed })
		m.crash()
		m.fs.OnOp(nil)
		m.check(10)
		m.settle()
		m.check(10)
		require.NoError(t, m.j.Close())
	})
}

// faultyStep does as the sink does: an error ends the connection, and the next one begins with Sync.
func (m *model) faultyStep(errIO error) {
	failed := func(err error) bool {
		if err == nil {
			return false
		}
		require.ErrorIs(m.t, err, errIO)
		for m.j.Sync() != nil {
		}
		m.src.reconnect(m.j.State())
		return true
	}
	switch m.rng.IntN(10) {
	case 0, 1, 2:
		m.src.write()
		return
	case 3:
		if _, err := m.j.Maintain(m.t.Context(), Limits{Urgent: true}); err != nil {
			require.ErrorIs(m.t, err, errIO)
		}
		return
	case 4:
		failed(m.j.Seal())
		return
	}
	for _, b := range m.src.frames() {
		f, err := wire.Parse(b)
		require.NoError(m.t, err)
		if failed(m.j.Append(f)) {
			return
		}
	}
	if m.rng.IntN(3) == 0 && !failed(m.j.Sync()) {
		m.src.acked()
		m.acked, m.last = m.j.State(), m.j.Intervals()
	}
}
