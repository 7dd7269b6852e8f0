package wire_test

import (
	"encoding/binary"
	"io"
	"net"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/understudy-dr/understudy/internal/fault"
	"github.com/understudy-dr/understudy/internal/wire"
)

func TestChoose(t *testing.T) {
	for want, offered := range map[uint32][]uint32{wire.V1: {9, wire.V1}, wire.V2: {wire.V1, wire.V2, 9}, wire.V3: {wire.V1, wire.V2, wire.V3, 9}, wire.V4: {wire.V3, wire.V4, 9}} {
		v, err := wire.Choose(offered)
		require.NoError(t, err)
		require.Equal(t, want, v)
	}
	for _, offered := range [][]uint32{nil, {0}, {7, 8}} {
		_, err := wire.Choose(offered)
		require.True(t, fault.Is(err, fault.Unsupported), "%v", offered)
		require.NotEmpty(t, fault.HintOf(err))
	}
}

func TestMessage(t *testing.T) {
	hello := wire.Hello{Versions: wire.Versions, Agent: "1.0", Capture: "ab", Epoch: 3, Acked: 9, Journal: "j",
		Disks: []wire.Disk{{Index: 1, Device: "/dev/vda", Bytes: 512}}}
	b, err := wire.Message(wire.TypeHello, 0, 0, 0, 0, hello)
	require.NoError(t, err)
	f, err := wire.Parse(b)
	require.NoError(t, err)
	var got wire.Hello
	require.NoError(t, f.Unmarshal(&got))
	require.Equal(t, hello, got)
	require.True(t, fault.Is(f.Unmarshal(new([]int)), fault.Corruption))

	_, err = wire.Message(wire.TypeHello, 0, 0, 0, 0, strings.Repeat("x", wire.MaxRaw))
	require.True(t, fault.Is(err, fault.Invalid), "%v", err)
	_, err = wire.Message(wire.TypeHello, 0, 0, 0, 0, func() {})
	require.True(t, fault.Is(err, fault.Bug), "%v", err)
}

// TestRawLengthIsChecked: the header's raw length bounds what decompressing may take.
func TestRawLengthIsChecked(t *testing.T) {
	b, err := wire.Message(wire.TypeRefuse, 0, 0, 0, 0, strings.Repeat("x", 1<<20))
	require.NoError(t, err)
	require.Less(t, len(b), 1<<19)
	binary.LittleEndian.PutUint32(b[16:], 100)
	f, err := wire.Parse(reseal(b))
	require.NoError(t, err)
	_, err = f.Payload(nil)
	require.True(t, fault.Is(err, fault.Corruption), "%v", err)
}

func TestRefusalKeepsKindAndHint(t *testing.T) {
	cause := fault.New(fault.OutOfSpace, "journal: append", "no room").WithHint("add room")
	err := wire.Refuse(cause).Err()
	require.True(t, fault.Is(err, fault.OutOfSpace))
	require.Equal(t, "add room", fault.HintOf(err))
	require.Contains(t, err.Error(), "no room")
	require.True(t, fault.Is(wire.Refusal{Kind: "of tomorrow"}.Err(), fault.Unknown))
}

func TestDurableTypes(t *testing.T) {
	for _, durable := range []wire.Type{wire.TypeData, wire.TypeBaseline, wire.TypeEpochOpen, wire.TypeBaselineDone, wire.TypeMark} {
		require.True(t, durable.Durable(), "%d", durable)
	}
	for _, passing := range []wire.Type{0, wire.TypeHello, wire.TypeWelcome, wire.TypeRefuse, wire.TypeAck, wire.TypeRepair, wire.TypeMark + 1} {
		require.False(t, passing.Durable(), "%d", passing)
	}
}

// talk lets write fill a connection and read take frames from its other end until there is an error.
func talk(t *testing.T, write func(c net.Conn)) ([]wire.Type, error) {
	near, far := net.Pipe()
	done := make(chan struct{})
	go func() {
		defer close(done)
		write(near)
		near.Close()
	}()
	defer func() { far.Close(); <-done }()
	conn := wire.NewConn(far)
	var types []wire.Type
	var buf []byte
	for {
		f, b, err := conn.Receive(buf)
		if err != nil {
			return types, err
		}
		buf = b
		types = append(types, f.Type)
	}
}

func TestConn(t *testing.T) {
	frame, _, _ := sample(true)
	mark := wire.Control(wire.TypeMark, 1, 2, 3, 4)

	types, err := talk(t, func(c net.Conn) {
		conn := wire.NewConn(c)
		_ = conn.Send(mark)
		_ = conn.Send(frame)
		_ = conn.Send(mark)
		conn.SendRefusal(fault.New(fault.Fenced, "test", "a later session"))
	})
	require.Equal(t, io.EOF, err, "a clean end")
	require.Equal(t, []wire.Type{wire.TypeMark, wire.TypeData, wire.TypeMark, wire.TypeRefuse}, types)

	for _, cut := range []int{1, wire.HeaderSize - 1, wire.HeaderSize, len(frame) - 1} {
		types, err = talk(t, func(c net.Conn) { _, _ = c.Write(mark); _, _ = c.Write(frame[:cut]) })
		require.True(t, fault.Is(err, fault.Transient), "cut at %d: %v", cut, err)
		require.Len(t, types, 1)
	}

	bad := append([]byte(nil), frame...)
	bad[len(bad)-1]++
	_, err = talk(t, func(c net.Conn) { _, _ = c.Write(bad) })
	require.True(t, fault.Is(err, fault.Corruption), "%v", err)
	_, err = talk(t, func(c net.Conn) { _, _ = c.Write([]byte(strings.Repeat("GET / HTTP/1.1\r\n", 4))) })
	require.True(t, fault.Is(err, fault.Corruption), "%v", err)
}

func TestSendToNobody(t *testing.T) {
	near, far := net.Pipe()
	far.Close()
	require.True(t, fault.Is(wire.NewConn(near).Send(wire.Control(wire.TypeMark, 0, 0, 0, 0)), fault.Transient))
}
