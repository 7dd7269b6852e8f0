package serve

import (
	"errors"
	"net"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/understudy-dr/understudy/internal/fault"
)

// scarce is a listener that runs out of descriptors now and then.
type scarce struct {
	net.Listener
	calls atomic.Int32
}

func (s *scarce) Accept() (net.Conn, error) {
	if s.calls.Add(1)%2 == 1 {
		return nil, errors.New("accept: too many open files")
	}
	return s.Listener.Accept()
}

func TestMixedListenerOutlivesAFailedAccept(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	m := listenMixed(t.Context(), &scarce{Listener: l}, nil)
	for range 2 {
		c, err := net.DialTimeout("tcp", l.Addr().String(), 10*time.Second)
		require.NoError(t, err)
		_, err = c.Write([]byte("G"))
		require.NoError(t, err)
		got, err := m.Accept()
		require.NoError(t, err)
		require.NoError(t, errors.Join(got.Close(), c.Close()))
	}
	require.NoError(t, m.Close())
	_, err = m.Accept()
	require.ErrorIs(t, err, net.ErrClosed)
}

func TestAgentsNeedAnAddressToDial(t *testing.T) {
	for _, c := range []struct {
		listen, advertise string
		ok                bool
	}{
		{"127.0.0.1:1500", "", true},
		{"standby.example:1500", "", true},
		{"0.0.0.0:1500", "", false},
		{"[::]:1500", "", false},
		{":1500", "", false},
		{"0.0.0.0:1500", "standby.example:1500", true},
		{"127.0.0.1:1500", "standby.example", false},
		{"127.0.0.1:1500", ":1500", false},
		{"127.0.0.1", "", false},
	} {
		err := Config{DataListen: c.listen, Advertise: c.advertise}.checkData()
		require.Equal(t, c.ok, err == nil, "%+v: %v", c, err)
		require.True(t, err == nil || fault.Is(err, fault.Invalid))
	}
}
