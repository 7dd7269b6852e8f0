package agent

import (
	"context"
	"log/slog"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/understudy-dr/understudy/internal/agentapi/agentpb"
	"github.com/understudy-dr/understudy/internal/consistency"
	"github.com/understudy-dr/understudy/internal/fault"
)

// still is a place in no stream.
type still struct{}

func (still) Position(context.Context) (epoch, position uint64, err error) { return 3, 77, nil }

// aPointmaker runs until the test ends. Its only script is what the test writes.
func aPointmaker(t *testing.T) (p *pointmaker, script string) {
	t.Helper()
	dir := t.TempDir()
	script = filepath.Join(dir, "hooks.d", "pre-freeze", "script")
	require.NoError(t, os.MkdirAll(filepath.Dir(script), 0o755))
	require.NoError(t, os.WriteFile(script, []byte("#!/bin/sh\n"), 0o700))
	c := Config{StateDir: dir, HooksDir: filepath.Join(dir, "hooks.d"), Freeze: consistency.None, Log: slog.New(slog.DiscardHandler)}
	p, err := newPointmaker(c, &replicator{cfg: c, disks: &inventory{}})
	require.NoError(t, err)
	none, err := consistency.ParseSelection(consistency.None)
	require.NoError(t, err)
	p.maker, err = consistency.New(consistency.Config{Dir: c.HooksDir, Freeze: none, Disks: p.rep.disks.numbers, Ready: func() error { return nil },
		Guard: guardCommand, Note: runFile(dir, "point"), Log: c.Log, Cut: func(context.Context) (consistency.Cut, error) { return still{}, nil }})
	require.NoError(t, err)
	ctx, cancel := context.WithCancel(context.Background())
	var group sync.WaitGroup
	group.Go(func() { p.run(ctx) })
	group.Go(func() { p.serve(ctx) })
	t.Cleanup(func() { cancel(); group.Wait() })
	return p, script
}

// A request is answered once, however often it is told, and the answer is told until it is settled.
func TestARequestIsAnsweredOnce(t *testing.T) {
	p, script := aPointmaker(t)
	told := func(m *agentpb.HandshakeResponse, n int) []*agentpb.ConsistentPoint {
		t.Helper()
		p.told(m)
		require.Eventually(t, func() bool { return len(p.unsettled()) == n }, 10*time.Second, time.Millisecond)
		return p.unsettled()
	}
	first := told(&agentpb.HandshakeResponse{PointWanted: "ask-1"}, 1)[0]
	require.Equal(t, "ask-1", first.RequestId)
	require.EqualValues(t, 3, first.Epoch)
	require.EqualValues(t, 77, first.Position)
	require.Empty(t, first.Error)
	told(&agentpb.HandshakeResponse{PointWanted: "ask-1"}, 1)
	require.NoError(t, os.WriteFile(script, []byte("#!/bin/sh\nexit 1\n"), 0o700))
	second := told(&agentpb.HandshakeResponse{PointWanted: "ask-2"}, 2)[1]
	require.Equal(t, "ask-2", second.RequestId)
	require.Contains(t, second.Error, "exit status 1")
	require.NotEqual(t, first.Id, second.Id)
	require.Equal(t, second.Error, p.newest().Error)
	require.Equal(t, []*agentpb.ConsistentPoint{second}, told(&agentpb.HandshakeResponse{PointsSettled: []string{first.Id}}, 1))
	p.forget()
	require.Empty(t, p.unsettled())
}

func TestPointsAreAskedForOnTheMachine(t *testing.T) {
	p, script := aPointmaker(t)
	info, err := os.Stat(runFile(p.cfg.StateDir, "agent"))
	for end := time.Now().Add(10 * time.Second); err != nil && time.Now().Before(end); {
		<-time.After(time.Millisecond)
		info, err = os.Stat(runFile(p.cfg.StateDir, "agent"))
	}
	require.NoError(t, err)
	require.EqualValues(t, 0, info.Mode().Perm()&0o077, "root's alone")
	got, err := TakePoint(t.Context(), p.cfg.StateDir)
	require.NoError(t, err)
	require.EqualValues(t, 77, got.Position)
	require.Len(t, p.unsettled(), 1, "the service is told")
	require.NoError(t, os.WriteFile(script, []byte("#!/bin/sh\nexit 1\n"), 0o700))
	_, err = TakePoint(t.Context(), p.cfg.StateDir)
	require.True(t, fault.Is(err, fault.Conflict), "%v", err)
	require.Len(t, p.unsettled(), 1, "nobody asked the service")
	_, err = TakePoint(t.Context(), t.TempDir())
	require.True(t, fault.Is(err, fault.NotFound), "%v", err)
}

func TestNothingIsFrozenForNothing(t *testing.T) {
	c := Config{StateDir: t.TempDir(), Log: slog.New(slog.DiscardHandler)}
	p, err := newPointmaker(c, &replicator{cfg: c, disks: &inventory{}})
	require.NoError(t, err)
	st := p.make(t.Context(), "")
	require.Contains(t, st.Error, "replication does not run")
	c.Freeze = "relative"
	_, err = newPointmaker(c, &replicator{cfg: c, disks: &inventory{}})
	require.True(t, fault.Is(err, fault.Invalid))
}
