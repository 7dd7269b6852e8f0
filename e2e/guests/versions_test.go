package guests

import (
	"bytes"
	"encoding/binary"
	"math/rand/v2"
	"os"
	"slices"
	"strconv"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func TestVersionsBetweenMarks(t *testing.T) {
	sector := func(b byte) []byte { return bytes.Repeat([]byte{b}, 512) }
	write := func(at uint64) logEntry { return logEntry{Sector: at, Sectors: 1} }
	mark := func() logEntry { return logEntry{Flags: logMark, Data: 1} }
	log := logOf(t, write(1), sector(1), mark(), "a", write(1), sector(2), write(2), sector(3), mark(), "b", write(1), sector(4), mark(), "c",
		logEntry{Sector: 1, Sectors: 1, Flags: logDiscard}, mark(), "d")
	disk := func(one, two byte) []byte { return slices.Concat(sector(0), sector(one), sector(two)) }
	for _, c := range []struct {
		name, first, second string
		disk, before        []byte
		wrong               string
	}{
		{name: "nothing yet", first: "a", second: "b", disk: disk(1, 0)},
		{name: "some of it", first: "a", second: "b", disk: disk(2, 0)},
		{name: "the other part", first: "a", second: "b", disk: disk(1, 3)},
		{name: "all of it", first: "a", second: "b", disk: disk(2, 3)},
		{name: "discarded", first: "c", second: "d", disk: disk(0, 3)},
		{name: "durable and lost", first: "a", second: "b", disk: disk(0, 0), wrong: "sector 1"},
		{name: "too old", first: "b", second: "c", disk: disk(1, 3), wrong: "sector 1"},
		{name: "from the future", first: "a", second: "b", disk: disk(4, 3), wrong: "sector 1"},
		{name: "never written", first: "a", second: "b", disk: disk(2, 9), wrong: "sector 2"},
		{name: "back in time", first: "a", second: "c", disk: disk(1, 3), before: disk(2, 0), wrong: "sector 1"},
		{name: "no mark", first: "a", second: "x", disk: disk(1, 0), wrong: "x false"},
		{name: "another size", first: "a", second: "b", disk: sector(0), wrong: "512 bytes"},
	} {
		t.Run(c.name, func(t *testing.T) {
			v, err := log.Versions(3 * 512)
			require.NoError(t, err)
			if c.before != nil {
				require.NoError(t, v.Between("a", "b", c.before))
			}
			err = v.Between(c.first, c.second, c.disk)
			if c.wrong == "" {
				require.NoError(t, err)
			} else {
				require.ErrorContains(t, err, c.wrong)
			}
		})
	}
}

// machine is a disk behind dm-log-writes and a capture, with the kernel's rules: the capture sees a write when it is
// submitted, the log when a flush that was submitted after its completion has completed.
type machine struct {
	random    *rand.Rand
	captured  []byte
	writes    uint64
	inFlight  []logged
	unflushed []logged
	flushing  [][]logged
	log       []any
}

type logged struct {
	logEntry
	data []byte
}

const machineSectors = 12

func (m *machine) submit() {
	at := m.random.Uint64N(machineSectors)
	if slices.ContainsFunc(m.inFlight, func(w logged) bool { return w.Sector == at }) {
		return // nobody writes what is being written
	}
	m.writes++
	w := logged{logEntry{Sector: at, Sectors: 1}, bytes.Repeat(binary.LittleEndian.AppendUint64(nil, m.writes), 64)}
	if m.random.IntN(5) == 0 {
		w.Flags, w.data = logDiscard, nil
	}
	clear(m.captured[at*512 : (at+1)*512])
	copy(m.captured[at*512:], w.data)
	m.inFlight = append(m.inFlight, w)
}

func (m *machine) complete() {
	if len(m.inFlight) > 0 {
		i := m.random.IntN(len(m.inFlight))
		m.unflushed = append(m.unflushed, m.inFlight[i])
		m.inFlight = slices.Delete(m.inFlight, i, i+1)
	}
}

func (m *machine) flush() {
	m.flushing, m.unflushed = append(m.flushing, m.unflushed), nil
}

func (m *machine) flushed() {
	if len(m.flushing) == 0 {
		return
	}
	for _, w := range m.flushing[0] {
		m.log = append(m.log, w.logEntry)
		if w.data != nil {
			m.log = append(m.log, w.data)
		}
	}
	m.flushing = m.flushing[1:]
}

func (m *machine) work() {
	for range m.random.IntN(60) {
		[]func(){m.submit, m.submit, m.complete, m.complete, m.flush, m.flushed}[m.random.IntN(6)]()
	}
}

func (m *machine) mark(name string) {
	m.log = append(m.log, logEntry{Flags: logMark, Data: uint64(len(name))}, name)
}

// hold lets everything end and be flushed, as freezing does.
func (m *machine) hold() {
	for len(m.inFlight) > 0 {
		m.complete()
	}
	for m.flush(); len(m.flushing) > 0; {
		m.flushed()
	}
}

// Whatever a capture can have seen between two marks is taken for possible, and nothing else is.
func TestVersionsAgreeWithAMachine(t *testing.T) {
	seed := uint64(time.Now().UnixNano())
	if s := os.Getenv("UNDERSTUDY_SEED"); s != "" {
		var err error
		seed, err = strconv.ParseUint(s, 10, 64)
		require.NoError(t, err)
	}
	t.Logf("UNDERSTUDY_SEED=%d", seed)
	for run := range uint64(200) {
		m := &machine{random: rand.New(rand.NewPCG(seed, run)), captured: make([]byte, machineSectors*512)}
		busy, held := map[string][]byte{}, map[string][]byte{}
		for i := range 6 {
			m.work()
			m.mark("busy" + strconv.Itoa(i))
			m.work()
			busy[strconv.Itoa(i)] = bytes.Clone(m.captured)
			m.work()
			m.hold()
			m.mark("held" + strconv.Itoa(i))
			held["held"+strconv.Itoa(i)] = bytes.Clone(m.captured)
		}
		log := logOf(t, m.log...)
		require.NoError(t, log.Replay(machineSectors*512, func(name string, disk []byte) error {
			if want, ok := held[name]; ok {
				require.Empty(t, Different(want, disk), "%s of run %d", name, run)
			}
			return nil
		}))
		v, err := log.Versions(machineSectors * 512)
		require.NoError(t, err)
		for i := range 6 {
			n := strconv.Itoa(i)
			wrong := bytes.Clone(busy[n])
			wrong[m.random.IntN(len(wrong))] ^= 0xff
			require.Error(t, v.Between("busy"+n, "held"+n, wrong), "run %d", run)
			require.NoError(t, v.Between("busy"+n, "held"+n, busy[n]), "run %d", run)
		}
	}
}
