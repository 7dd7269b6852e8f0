package postgres

import (
	"bytes"
	"net"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/understudy-dr/understudy/internal/fault"
	"github.com/understudy-dr/understudy/internal/state"
	"github.com/understudy-dr/understudy/internal/state/statetest"
)

// wire is a connection's way to the database, which breaks around a commit.
type wire struct {
	t      *testing.T
	to     string // the server's socket
	before atomic.Bool
	after  atomic.Bool
	broke  atomic.Int32
	wg     sync.WaitGroup
}

func (w *wire) listen() net.Addr {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(w.t, err)
	w.wg.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			w.wg.Go(func() { w.pass(c) })
		}
	})
	w.t.Cleanup(func() { l.Close(); w.wg.Wait() })
	return l.Addr()
}

func (w *wire) pass(client net.Conn) {
	var back sync.WaitGroup
	defer back.Wait()
	defer client.Close()
	server, err := net.Dial("unix", w.to)
	if err != nil {
		return
	}
	defer server.Close()
	var deaf atomic.Bool // what the server says from here on is lost
	back.Go(func() {
		defer client.Close()
		buf := make([]byte, 64<<10)
		for {
			n, err := server.Read(buf)
			if deaf.Load() {
				return // the server has answered the commit, so it has done it
			}
			if _, e := client.Write(buf[:n]); err != nil || e != nil {
				return
			}
		}
	})
	buf := make([]byte, 64<<10)
	for {
		n, err := client.Read(buf)
		if bytes.Contains(buf[:n], []byte("commit\x00")) {
			if w.before.CompareAndSwap(true, false) {
				w.broke.Add(1)
				return
			}
			if w.after.CompareAndSwap(true, false) {
				w.broke.Add(1)
				deaf.Store(true)
			}
		}
		if _, e := server.Write(buf[:n]); err != nil || e != nil {
			return
		}
	}
}

// A connection that breaks while a commit is under way leaves nobody in doubt: what the server did is what Update says.
func TestConnectionBreaksAtCommit(t *testing.T) {
	server := statetest.StartPostgres(t)
	direct := open(t, server.Database(t.Name()))
	defer direct.Close()
	sockets, err := filepath.Glob(filepath.Join(server.Dir(), ".s.PGSQL.*[0-9]"))
	require.NoError(t, err)
	require.Len(t, sockets, 1)
	w := &wire{t: t, to: sockets[0]}
	s := open(t, "postgres://postgres@"+w.listen().String()+"/"+server.Name(t.Name())+"?sslmode=disable")
	defer s.Close()
	put := func(at time.Time) error {
		return s.Update(t.Context(), func(tx state.Tx) error { return tx.PutInitialised(t.Context(), scope, at) })
	}
	first, second := time.Unix(1, 0).UTC(), time.Unix(2, 0).UTC()
	require.NoError(t, put(first))

	w.before.Store(true)
	err = put(second)
	require.True(t, fault.Is(err, fault.Transient), "%v", err)
	require.Equal(t, first, initialised(t, direct))

	w.after.Store(true)
	require.NoError(t, put(second))
	require.Equal(t, second, initialised(t, direct))
	require.EqualValues(t, 2, w.broke.Load())
}
