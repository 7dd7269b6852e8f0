package guests

import (
	"bytes"
	"encoding/binary"
	"testing"

	"github.com/stretchr/testify/require"
)

// logOf writes a log as the kernel does.
func logOf(t *testing.T, entries ...any) *Log {
	t.Helper()
	const unit = 512
	var out bytes.Buffer
	pad := func() { out.Write(make([]byte, (unit-out.Len()%unit)%unit)) }
	n := uint64(0)
	for _, e := range entries {
		if _, ok := e.(logEntry); ok {
			n++
		}
	}
	require.NoError(t, binary.Write(&out, binary.LittleEndian, logSuper{logMagic, logVersion, n, unit}))
	pad()
	for _, e := range entries {
		switch e := e.(type) {
		case logEntry:
			pad()
			require.NoError(t, binary.Write(&out, binary.LittleEndian, e))
			if e.Flags&logMark == 0 {
				pad()
			}
		case string:
			out.WriteString(e)
		case []byte:
			out.Write(e)
		}
	}
	pad()
	log, err := OpenLog(bytes.NewReader(out.Bytes()))
	require.NoError(t, err)
	return log
}

func TestReplayOfALog(t *testing.T) {
	one, two := bytes.Repeat([]byte{1}, 1024), bytes.Repeat([]byte{2}, 512)
	log := logOf(t, logEntry{Sector: 4, Sectors: 2}, one, logEntry{Flags: logMark, Data: 5}, "first",
		logEntry{Sector: 5, Sectors: 1}, two, logEntry{}, logEntry{Sector: 4, Sectors: 1, Flags: logDiscard}, logEntry{Flags: logMark, Data: 6}, "second")
	states := map[string][]byte{}
	require.NoError(t, log.Replay(8*512, func(name string, disk []byte) error {
		states[name] = bytes.Clone(disk)
		return nil
	}))
	want := make([]byte, 8*512)
	copy(want[4*512:], one)
	require.Empty(t, Different(want, states["first"]))
	require.Equal(t, "byte 2048: 01010101010101010101010101010101, 00000000000000000000000000000000", Different(want, states["second"]))
	clear(want[4*512 : 5*512])
	copy(want[5*512:], two)
	require.Empty(t, Different(want, states["second"]))
	require.Len(t, states, 2)
}

func TestReplayRefusesWhatIsNoLog(t *testing.T) {
	_, err := OpenLog(bytes.NewReader(make([]byte, 4096)))
	require.ErrorContains(t, err, "no log of dm-log-writes")
	none := func(string, []byte) error { return nil }
	require.ErrorContains(t, logOf(t, logEntry{Sector: 7, Sectors: 2}, make([]byte, 1024)).Replay(8*512, none), "beyond the disk")
	require.ErrorContains(t, logOf(t, logEntry{Sector: 0, Sectors: 2}).Replay(8*512, none), "EOF")
}
