package postgres

import (
	"context"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/understudy-dr/understudy/internal/fault"
	"github.com/understudy-dr/understudy/internal/state"
	"github.com/understudy-dr/understudy/internal/state/statetest"
)

func open(t *testing.T, url string) *Store {
	s, err := Open(t.Context(), url)
	require.NoError(t, err)
	return s
}

func TestConformance(t *testing.T) {
	server := statetest.StartPostgres(t)
	statetest.Run(t, func(t *testing.T, dir string) state.Store { return open(t, server.Database(dir)) })
}

var scope = state.Scope{Account: "111122223333", Service: state.DRS}

// TestProcessesShareADatabase opens one empty database many times at once, as control-plane processes do that start together,
// and has them all add to one record.
func TestProcessesShareADatabase(t *testing.T) {
	const processes, rounds = 6, 10
	url := statetest.StartPostgres(t).Database(t.Name())
	first := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	var wg sync.WaitGroup
	errs := make(chan error, processes)
	for range processes {
		wg.Go(func() { errs <- addUp(t.Context(), url, first, rounds) })
	}
	wg.Wait()
	for range processes {
		require.NoError(t, <-errs)
	}
	s := open(t, url)
	defer s.Close()
	at := initialised(t, s)
	require.Equal(t, first.Add(processes*rounds*time.Second), at)
}

// addUp moves the initialisation's time on by a second, rounds times.
func addUp(ctx context.Context, url string, first time.Time, rounds int) error {
	s, err := Open(ctx, url)
	if err != nil {
		return err
	}
	defer s.Close()
	for range rounds {
		err := s.Update(ctx, func(tx state.Tx) error {
			at, err := tx.Initialised(ctx, scope)
			if fault.Is(err, fault.NotFound) {
				at, err = first, nil
			}
			if err != nil {
				return err
			}
			return tx.PutInitialised(ctx, scope, at.Add(time.Second))
		})
		if err != nil {
			return err
		}
	}
	return nil
}

func initialised(t *testing.T, s state.Store) (at time.Time) {
	require.NoError(t, s.View(t.Context(), func(r state.Reader) (err error) {
		at, err = r.Initialised(t.Context(), scope)
		return err
	}))
	return at
}

// TestCrashOfTheServer kills PostgreSQL under an open store: what was acknowledged is there afterwards, and the store goes on
// with new connections.
func TestCrashOfTheServer(t *testing.T) {
	server := statetest.StartPostgres(t)
	s := open(t, server.Database(t.Name()))
	defer s.Close()
	for n := range 3 {
		at := time.Unix(int64(n+1), 0).UTC()
		require.NoError(t, s.Update(t.Context(), func(tx state.Tx) error { return tx.PutInitialised(t.Context(), scope, at) }))
		server.Stop("immediate")
		err := s.View(t.Context(), func(r state.Reader) error { return nil })
		require.True(t, fault.Is(err, fault.Transient), "%v", err)
		server.Start()
		require.Equal(t, at, initialised(t, s))
	}
}

// TestCrashWithinAnUpdate: the function is not run again, and nothing of it stays.
func TestCrashWithinAnUpdate(t *testing.T) {
	server := statetest.StartPostgres(t)
	s := open(t, server.Database(t.Name()))
	defer s.Close()
	runs := 0
	err := s.Update(t.Context(), func(tx state.Tx) error {
		runs++
		require.NoError(t, tx.PutInitialised(t.Context(), scope, time.Now()))
		server.Stop("immediate")
		server.Start()
		return nil
	})
	require.True(t, fault.Is(err, fault.Transient), "%v", err)
	require.Equal(t, 1, runs)
	err = s.View(t.Context(), func(r state.Reader) error { _, err := r.Initialised(t.Context(), scope); return err })
	require.True(t, fault.Is(err, fault.NotFound), "%v", err)
}

// TestSettings reads back what the durability of the store hangs on, on a server that is careless.
func TestSettings(t *testing.T) {
	url := statetest.StartPostgres(t).Database(t.Name())
	s := open(t, url+"&options="+"-c%20synchronous_commit%3Doff")
	defer s.Close()
	for _, db := range []*struct{ name, want string }{{"synchronous_commit", "on"}, {"idle_in_transaction_session_timeout", "1min"}} {
		var got string
		require.NoError(t, s.write.QueryRowContext(t.Context(), "SHOW "+db.name).Scan(&got))
		require.Equal(t, db.want, got, db.name)
	}
}

func TestErrorsHaveAKind(t *testing.T) {
	server := statetest.StartPostgres(t)
	_, err := Open(t.Context(), server.URL("nobody_made_it"))
	require.True(t, fault.Is(err, fault.Invalid), "%v", err)
	_, err = Open(t.Context(), "postgres://h:port/x")
	require.True(t, fault.Is(err, fault.Invalid), "%v", err)
	s := open(t, server.Database(t.Name()))
	defer s.Close()
	err = s.Update(t.Context(), func(tx state.Tx) error {
		return tx.PutAccessKey(t.Context(), state.AccessKey{ID: "a NUL \x00 in it"})
	})
	require.True(t, fault.Is(err, fault.Invalid), "%v", err)
	server.Stop("fast")
	_, err = Open(t.Context(), server.URL("postgres"))
	require.True(t, fault.Is(err, fault.Transient), "%v", fmt.Sprint(err))
}
