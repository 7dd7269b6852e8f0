package sink

import (
	"bytes"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/understudy-dr/understudy/internal/fault"
	"github.com/understudy-dr/understudy/internal/journal"
	"github.com/understudy-dr/understudy/internal/wire"
)

var testKey = bytes.Repeat([]byte{5}, wire.KeySize)

func message(t *testing.T, typ wire.Type, epoch uint64, v any) []byte {
	m, err := wire.Message(typ, epoch, 0, 0, 0, v)
	require.NoError(t, err)
	return m
}

// digests reads until an answer; acknowledgements and repairs before it are skipped.
func (p *peer) digests() wire.Digests {
	for {
		f := p.receive()
		if f.Type == wire.TypeAck || f.Type == wire.TypeRepair {
			continue
		}
		require.Equal(p.t, wire.TypeDigests, f.Type)
		var d wire.Digests
		require.NoError(p.t, f.Unmarshal(&d))
		return d
	}
}

// ask asks and returns the answer, digest by digest.
func (p *peer) ask(epoch uint64, a wire.Ask) (out [][]byte) {
	p.send(message(p.t, wire.TypeAsk, epoch, a))
	d := p.digests()
	require.Equal(p.t, a.ID, d.ID)
	require.Len(p.t, d.Digests, a.Pieces()*wire.DigestSize)
	for b := d.Digests; len(b) > 0; b = b[wire.DigestSize:] {
		out = append(out, b[:wire.DigestSize])
	}
	return out
}

func digest(t *testing.T, sector uint64, content []byte) []byte {
	d, err := wire.NewDigester(testKey)
	require.NoError(t, err)
	return d.Append(nil, 0, sector, wire.MaxPiece/wire.SectorSize, content)
}

func block(fill byte) []byte {
	b := make([]byte, 4096)
	for i := range b {
		b[i] = fill ^ byte(i*i>>3)
	}
	return b
}

var (
	zero      = wire.AppendZero(nil, 1)
	notKnown  = wire.AppendUnknown(nil)
	firstFour = wire.Ask{ID: 9, Piece: 8, Ranges: []Range{{Sectors: 20}, {Sector: 64, Sectors: 8}}}
)

func TestDigestsOfTheBase(t *testing.T) {
	h := newHouse(t)
	p := h.dial(server)
	p.hello(nil)
	require.Equal(t, wire.V4, p.welcomed().Version)
	p.send(openEpoch(t, 1, 100), data(1, 101, 8, 1), baselineDone(1, 101), openEpoch(t, 2, 200), data(2, 201, 0, 2))
	p.acked(5)
	p.send(message(t, wire.TypeBase, 2, wire.Base{Key: testKey}))
	got := p.ask(2, firstFour)
	require.Equal(t, [][]byte{zero, digest(t, 8, block(1)), zero, zero}, got, "the captured write of epoch 2 is above its base")

	whole := p.ask(2, wire.Ask{ID: 10, Piece: 2048, Ranges: []Range{{Sectors: 2048}}})
	disk := make([]byte, 1<<20)
	copy(disk[4096:], block(1))
	require.Equal(t, [][]byte{digest(t, 0, disk)}, whole)

	// Damaged content waits for its repair: the cache may hold what the file does not.
	require.NoError(t, h.s.Repair(server, []Range{{Sector: 10, Sectors: 1}}))
	got = p.ask(2, firstFour)
	require.Equal(t, [][]byte{zero, notKnown, zero, zero}, got)

	// What cannot be read, because it is not on the disk, is unknown too.
	got = p.ask(2, wire.Ask{ID: 11, Piece: 8, Ranges: []Range{{Sector: 2040, Sectors: 16}, {Disk: 7, Sectors: 8}}})
	require.Equal(t, [][]byte{zero, notKnown, notKnown}, got)

	// A base shows the baseline that came before it, not the one that comes after.
	p.send(baselineBlock(2, 200, 0, 4))
	p.acked(6)
	require.Equal(t, zero, p.ask(2, firstFour)[0])
	p.send(message(t, wire.TypeBase, 2, wire.Base{Key: testKey}))
	require.Equal(t, digest(t, 0, block(4)), p.ask(2, firstFour)[0])
}

func baselineBlock(epoch, first, sector uint64, fill byte) []byte {
	var b wire.Builder
	b.Reset(wire.TypeBaseline, epoch)
	b.Add(wire.Extent{Kind: wire.KindData, Position: first, Sector: sector, Bytes: 4096, Time: 1}, block(fill))
	return b.Finish(nil)
}

// Without a base, or with one of an epoch that is not the journal's, nothing is known.
func TestDigestsWithoutBase(t *testing.T) {
	h := newHouse(t)
	p := h.dial(server)
	p.hello(nil)
	p.welcomed()
	p.send(openEpoch(t, 1, 100))
	p.acked(1)
	want := [][]byte{notKnown, notKnown, notKnown, notKnown}
	require.Equal(t, want, p.ask(1, firstFour))
	p.send(message(t, wire.TypeBase, 9, wire.Base{Key: testKey}))
	require.Equal(t, want, p.ask(9, firstFour))
	p.send(message(t, wire.TypeBase, 1, wire.Base{Key: testKey}))
	require.Equal(t, [][]byte{zero, zero, zero, zero}, p.ask(1, firstFour))
}

func TestBadQuestions(t *testing.T) {
	many := func(p *peer) {
		for range 4 * questions { // answers are not read: the server cannot get rid of them for ever
			p.send(message(p.t, wire.TypeAsk, 1, wire.Ask{ID: 1, Piece: 1, Ranges: []Range{{Sectors: 4096}}}))
		}
	}
	for name, c := range map[string]struct {
		version uint32
		do      func(*peer)
	}{
		"old protocol": {wire.V2, func(p *peer) { p.send(message(p.t, wire.TypeBase, 1, wire.Base{Key: testKey})) }},
		"short key":    {wire.V3, func(p *peer) { p.send(message(p.t, wire.TypeBase, 1, wire.Base{Key: testKey[1:]})) }},
		"no piece":     {wire.V3, func(p *peer) { p.send(message(p.t, wire.TypeAsk, 1, wire.Ask{Ranges: []Range{{Sectors: 8}}})) }},
		"too many":     {wire.V3, many},
	} {
		t.Run(name, func(t *testing.T) {
			h := newHouse(t)
			p := h.dial(server)
			p.hello(func(m *wire.Hello) { m.Versions = []uint32{c.version} })
			p.welcomed()
			p.send(openEpoch(t, 1, 100))
			p.acked(1)
			if name == "too many" {
				held := digestingFull()
				defer held()
			}
			c.do(p)
			err := p.refused()
			require.True(t, fault.Is(err, fault.Invalid), "%v", err)
		})
	}
}

// digestingFull keeps every worker from starting, until the returned function.
func digestingFull() func() {
	for range cap(digesting) {
		digesting <- struct{}{}
	}
	return func() {
		for range cap(digesting) {
			<-digesting
		}
	}
}

// The latest state has the captured writes, and says where it is. Nobody asks for a while: its files are let go of, and
// it is opened anew when somebody does.
func TestDigestsOfTheLatest(t *testing.T) {
	h := newHouse(t)
	h.s.waits.rest = 20 * time.Millisecond
	p := h.dial(server)
	p.hello(nil)
	p.welcomed()
	p.send(openEpoch(t, 1, 100), baselineDone(1, 100), data(1, 101, 8, 1))
	p.acked(3)
	latest := wire.Base{Key: testKey, Latest: true}
	ask := func(id uint64) wire.Digests {
		p.send(message(t, wire.TypeAsk, 1, wire.Ask{ID: id, Piece: 8, Ranges: []Range{{Sector: 8, Sectors: 8}}}))
		return p.digests()
	}
	p.send(message(t, wire.TypeBase, 1, latest))
	require.Equal(t, wire.Digests{ID: 1, Digests: digest(t, 8, block(1)), Position: 101}, ask(1))
	p.send(data(1, 102, 8, 2))
	p.acked(4)
	want := wire.Digests{Digests: digest(t, 8, block(2)), Position: 102}
	require.Eventually(t, func() bool {
		want.ID++
		got := ask(want.ID)
		return got.Position == want.Position && bytes.Equal(got.Digests, want.Digests)
	}, 10*time.Second, 50*time.Millisecond)

	// Of an epoch that cannot be recovered from there is no latest state.
	p.send(openEpoch(t, 2, 200))
	p.acked(5)
	p.send(message(t, wire.TypeBase, 2, latest))
	require.Equal(t, wire.Digests{ID: 3, Digests: notKnown}, ask(3))
}

func TestDoubtIsKept(t *testing.T) {
	h := newHouse(t)
	p := h.dial(server)
	p.hello(nil)
	p.welcomed()
	doubt := wire.Doubt{Since: 5, Bytes: 4096, Ranges: []Range{{Sector: 8, Sectors: 8}}}
	m, err := wire.Message(wire.TypeEpochOpen, 1, 100, 100, 1, wire.EpochOpen{Capture: "cafe", Reason: "verify", Disks: disks, Doubt: &doubt})
	require.NoError(t, err)
	p.send(m)
	p.acked(1)
	st := h.s.Status(server)
	require.Equal(t, journal.Doubt{Epoch: 1, Since: time.Unix(0, 5).UTC(), Bytes: 4096, Ranges: doubt.Ranges}, st.Doubt)
	care, err := h.s.Care(server)
	require.NoError(t, err)
	require.Equal(t, []journal.Doubt{st.Doubt}, care.Doubts)
}
