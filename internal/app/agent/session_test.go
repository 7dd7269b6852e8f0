package agent

import (
	"context"
	"log/slog"
	"path/filepath"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/understudy-dr/understudy/internal/agentapi/agentpb"
	"github.com/understudy-dr/understudy/internal/agentapi/agentpb/agentpbconnect"
	"github.com/understudy-dr/understudy/internal/blockdev"
	"github.com/understudy-dr/understudy/internal/capture"
)

// service answers handshakes as answer says.
type service struct {
	agentpbconnect.AgentServiceClient
	answer func(context.Context, *agentpb.HandshakeRequest) (*agentpb.HandshakeResponse, error)
}

func (s service) Handshake(ctx context.Context, r *agentpb.HandshakeRequest) (*agentpb.HandshakeResponse, error) {
	return s.answer(ctx, r)
}

// during runs a session that replicates nothing while fn looks on, in fake time.
func during(t *testing.T, stateDir string, s service, fn func(t *testing.T, ended func() bool)) {
	t.Helper()
	duringOf(t, sessionWith(stateDir, s), fn)
}

func duringOf(t *testing.T, a *session, fn func(t *testing.T, ended func() bool)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error, 1)
		go func() { done <- a.run(ctx) }()
		fn(t, func() bool { synctest.Wait(); return len(done) > 0 })
		cancel()
		require.NoError(t, <-done)
	})
}

// sessionWith is a session of a machine without disks.
func sessionWith(stateDir string, s service) *session {
	c := Config{StateDir: stateDir, Log: slog.New(slog.DiscardHandler)}
	id := &identity{Service: "drs", ServerID: "s-1"}
	facts := bulletin{read: func(context.Context) *agentpb.SourceProperties { return &agentpb.SourceProperties{} }}
	disks := &inventory{dir: c.StateDir, list: func() ([]blockdev.Info, error) { return nil, nil }}
	return &session{cfg: c, id: id, disks: disks, rep: &replicator{cfg: c, id: id, disks: disks, log: c.Log, mode: chosen(capture.ModePayload, "")}, client: s, facts: facts}
}

func after(d time.Duration) { <-time.After(d) }

func TestStatusWhileTheServiceDoesNotAnswer(t *testing.T) {
	dir := t.TempDir()
	hangs := func(ctx context.Context, _ *agentpb.HandshakeRequest) (*agentpb.HandshakeResponse, error) {
		<-ctx.Done()
		return nil, ctx.Err()
	}
	during(t, dir, service{answer: hangs}, func(t *testing.T, _ func() bool) {
		after(handshakeTimeout - time.Second)
		s, err := ReadStatus(dir)
		require.NoError(t, err)
		require.LessOrEqual(t, time.Since(s.Updated), 2*statusEvery)
		require.Nil(t, s.Away, "it may answer yet")
		after(10 * time.Second)
		s, err = ReadStatus(dir)
		require.NoError(t, err)
		require.NotNil(t, s.Away)
		require.NotEmpty(t, s.Away.Error)
	})
}

func TestAStatusThatCannotBeWrittenStopsNothing(t *testing.T) {
	var mu sync.Mutex
	handshakes := 0
	idles := func(context.Context, *agentpb.HandshakeRequest) (*agentpb.HandshakeResponse, error) {
		mu.Lock()
		defer mu.Unlock()
		handshakes++
		return &agentpb.HandshakeResponse{Desired: agentpb.Desired_DESIRED_PAUSE, NextHandshakeSeconds: 1}, nil
	}
	during(t, filepath.Join(t.TempDir(), "gone"), service{answer: idles}, func(t *testing.T, ended func() bool) {
		after(10 * time.Second)
		require.False(t, ended())
		mu.Lock()
		defer mu.Unlock()
		require.Greater(t, handshakes, 5)
	})
}

func TestAnAttemptIsConfirmedWithItsAddressOnly(t *testing.T) {
	var mu sync.Mutex
	var confirmed []uint64
	noAddress := func(_ context.Context, r *agentpb.HandshakeRequest) (*agentpb.HandshakeResponse, error) {
		mu.Lock()
		defer mu.Unlock()
		confirmed = append(confirmed, r.GetAttemptId())
		return &agentpb.HandshakeResponse{Desired: agentpb.Desired_DESIRED_RUN, AttemptId: 7, NextHandshakeSeconds: 1}, nil
	}
	during(t, t.TempDir(), service{answer: noAddress}, func(t *testing.T, _ func() bool) {
		after(5 * time.Second)
		mu.Lock()
		defer mu.Unlock()
		require.Greater(t, len(confirmed), 2)
		require.NotContains(t, confirmed, uint64(7))
	})
}
