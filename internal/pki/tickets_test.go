package pki

import (
	"bytes"
	"context"
	"crypto/aes"
	"crypto/cipher"
	"crypto/tls"
	"log/slog"
	"os"
	"path/filepath"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/understudy-dr/understudy/internal/fault"
)

// sealer seals as an installation does.
type sealer struct{ cipher.AEAD }

func newSealer(t *testing.T, key byte) sealer {
	t.Helper()
	block, err := aes.NewCipher(bytes.Repeat([]byte{key}, 32))
	require.NoError(t, err)
	aead, err := cipher.NewGCMWithRandomNonce(block)
	require.NoError(t, err)
	return sealer{aead}
}

func (s sealer) Seal(what string, secret []byte) []byte {
	return s.AEAD.Seal(nil, nil, secret, []byte(what))
}

func (s sealer) Unseal(what string, sealed []byte) ([]byte, error) {
	return s.Open(nil, nil, sealed, []byte(what))
}

func openTickets(t *testing.T, path string, s Sealer) *Tickets {
	t.Helper()
	tickets, err := OpenTickets(path, s, slog.New(slog.DiscardHandler))
	require.NoError(t, err)
	return tickets
}

// process is a server from its start to its end: its configuration is made anew, as the keys are read anew.
func process(t *testing.T, a *Authority, path string, s Sealer, port string) *tls.Config {
	t.Helper()
	pair, err := a.Server()
	require.NoError(t, err)
	c := a.ServerTLS(pair)
	openTickets(t, path, s).Serve(port, c)
	return c.Clone() // as net/http and the data port do
}

// TestSessionsOutliveTheProcess: an agent resumes its session with the server's next process, as who it was; and with nobody who
// has other keys, nor at another port.
func TestSessionsOutliveTheProcess(t *testing.T) {
	a, path, seal := authority(t), filepath.Join(t.TempDir(), "tickets"), newSealer(t, 1)
	p, agent := openPort(t, process(t, a, path, seal, "control")), agentOf(t, a)
	connect := func(resumed bool, why string) {
		t.Helper()
		seen, server, client := p.connect(t, agent)
		require.NoError(t, server)
		require.NoError(t, client)
		require.Equal(t, resumed, seen.DidResume, why)
		id, err := PeerSourceServer(&seen)
		require.NoError(t, err)
		require.Equal(t, someone, id)
	}
	connect(false, "the first time")
	p.config = process(t, a, path, seal, "control")
	connect(true, "after a restart")
	p.config = process(t, a, path, seal, "data")
	connect(false, "at another port")
	p.config = process(t, a, path, newSealer(t, 2), "data")
	connect(false, "the file was sealed by another installation")
	p.config = process(t, a, path, newSealer(t, 2), "data")
	connect(true, "which has its own keys now")
	require.NoError(t, os.WriteFile(path, []byte(`{"format": 1`), 0o600))
	p.config = process(t, a, path, newSealer(t, 2), "data")
	connect(false, "the file was damaged")
}

// TestSessionsAfterARestartAreJudgedAnew: keys that are kept do not keep an agent in that is not trusted any more.
func TestSessionsAfterARestartAreJudgedAnew(t *testing.T) {
	a, path, seal := authority(t), filepath.Join(t.TempDir(), "tickets"), newSealer(t, 1)
	p, agent := openPort(t, process(t, a, path, seal, "control")), agentOf(t, a)
	_, server, client := p.connect(t, agent)
	require.NoError(t, server)
	require.NoError(t, client)
	p.config = process(t, a, path, seal, "control")
	p.config.Time = func() time.Time { return time.Now().Add(AgentValidity + time.Hour) }
	seen, server, _ := p.connect(t, agent)
	require.Error(t, server)
	require.False(t, seen.DidResume)
}

func TestTicketKeysAreSealedAndPrivate(t *testing.T) {
	path, seal := filepath.Join(t.TempDir(), "tickets"), newSealer(t, 1)
	keys := openTickets(t, path, seal).ring
	body, err := os.ReadFile(path)
	require.NoError(t, err)
	require.NotContains(t, string(body), "created")
	info, err := os.Stat(path)
	require.NoError(t, err)
	require.Equal(t, os.FileMode(0o600), info.Mode().Perm())
	require.Equal(t, keys, openTickets(t, path, seal).ring)

	// What version 1 wrote opens for ever: this file is one of its, sealed by a key of bytes 7.
	ring, err := (&Tickets{path: filepath.Join("testdata", "tickets-1.json"), seal: newSealer(t, 7)}).load()
	require.NoError(t, err)
	require.Equal(t, []ticketKey{{Created: time.Date(2026, 11, 23, 8, 0, 0, 0, time.UTC), Key: bytes.Repeat([]byte{9}, ticketKeyBytes)}}, ring)
}

// TestTicketKeysTurn: a key seals for a day and opens for a week, in one process or in many.
func TestTicketKeysTurn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		path, seal := filepath.Join(t.TempDir(), "tickets"), newSealer(t, 1)
		began := time.Now()
		tickets := openTickets(t, path, seal)
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error, 1)
		go func() { done <- tickets.Run(ctx) }()
		at := func(after time.Duration) []ticketKey {
			<-time.After(after - time.Since(began))
			synctest.Wait()
			tickets.mu.Lock()
			defer tickets.mu.Unlock()
			require.Equal(t, tickets.ring, openTickets(t, path, seal).ring, "what is used is stored")
			return tickets.ring
		}
		first := at(23 * time.Hour)
		require.Len(t, first, 1)
		second := at(25 * time.Hour)
		require.Len(t, second, 2)
		require.Equal(t, first[0], second[1], "the one of before still opens")
		require.Len(t, at(7*24*time.Hour-30*time.Minute), 7)
		week := at(7*24*time.Hour + 2*time.Hour)
		require.NotContains(t, week, first[0])
		require.Len(t, week, 7)
		cancel()
		require.NoError(t, <-done)

		<-time.After(30 * 24 * time.Hour)
		require.Len(t, openTickets(t, path, seal).ring, 1, "nothing of before a month that it was off")
	})
}

// TestTicketKeysThatCannotBeStored: a disk that is full does not end sessions; they are kept as soon as there is room.
func TestTicketKeysThatCannotBeStored(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "gone")
	require.NoError(t, os.Mkdir(dir, 0o700))
	tickets := openTickets(t, filepath.Join(dir, "tickets"), newSealer(t, 1))
	require.NoError(t, os.RemoveAll(dir))
	tomorrow := time.Now().Add(25 * time.Hour)
	require.Error(t, tickets.turn(tomorrow))
	require.Len(t, tickets.ring, 2)
	require.NoError(t, os.Mkdir(dir, 0o700))
	require.NoError(t, tickets.turn(tomorrow.Add(time.Minute)))
	ring, err := tickets.load()
	require.NoError(t, err)
	require.Len(t, ring, 2)
	_, err = OpenTickets(filepath.Join(dir, "no", "tickets"), newSealer(t, 1), slog.New(slog.DiscardHandler))
	require.NotEqual(t, fault.Bug, fault.KindOf(err))
	require.Error(t, err)
}

// TestTicketKeysTurnWhileServing: a port seals with the newest key from the moment that there is one.
func TestTicketKeysTurnWhileServing(t *testing.T) {
	a, path, seal := authority(t), filepath.Join(t.TempDir(), "tickets"), newSealer(t, 1)
	pair, err := a.Server()
	require.NoError(t, err)
	tickets, config := openTickets(t, path, seal), a.ServerTLS(pair)
	tickets.Serve("control", config)
	p, agent := openPort(t, config.Clone()), agentOf(t, a)
	connect := func() bool {
		t.Helper()
		seen, server, client := p.connect(t, agent)
		require.NoError(t, server)
		require.NoError(t, client)
		return seen.DidResume
	}
	require.False(t, connect())
	require.NoError(t, tickets.turn(time.Now().Add(25*time.Hour)))
	require.True(t, connect(), "the key of before opens")
	tickets.ring = tickets.ring[:1]
	tickets.ring[0].Created = time.Now().Add(-time.Minute)
	require.NoError(t, tickets.store())
	p.config = process(t, a, path, seal, "control")
	require.True(t, connect(), "it was sealed with the new one")
}

// TestTicketKeysThatAreDropped: what is too old, or of a time that has not come, is gone from the file, too.
func TestTicketKeysThatAreDropped(t *testing.T) {
	now := time.Now().UTC().Truncate(time.Second)
	key := func(age time.Duration) ticketKey {
		return ticketKey{Created: now.Add(-age), Key: bytes.Repeat([]byte{byte(age.Hours())}, ticketKeyBytes)}
	}
	tickets := openTickets(t, filepath.Join(t.TempDir(), "tickets"), newSealer(t, 1))
	for name, ring := range map[string][]ticketKey{
		"too old": {key(time.Hour), key(ticketLifetime)}, "of the future": {key(-48 * time.Hour), key(time.Hour)},
	} {
		tickets.ring = ring
		require.NoError(t, tickets.store(), name)
		tickets.stored = true
		require.NoError(t, tickets.turn(now), name)
		require.Equal(t, []ticketKey{key(time.Hour)}, tickets.ring, name)
		stored, err := tickets.load()
		require.NoError(t, err, name)
		require.Equal(t, tickets.ring, stored, name)
	}
}
