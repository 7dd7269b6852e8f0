package replication_test

import (
	"context"
	"log/slog"
	"path/filepath"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/understudy-dr/understudy/internal/control"
	"github.com/understudy-dr/understudy/internal/control/accounts"
	"github.com/understudy-dr/understudy/internal/control/points"
	"github.com/understudy-dr/understudy/internal/control/replication"
	"github.com/understudy-dr/understudy/internal/control/servers"
	"github.com/understudy-dr/understudy/internal/control/templates"
	"github.com/understudy-dr/understudy/internal/fault"
	"github.com/understudy-dr/understudy/internal/state"
	"github.com/understudy-dr/understudy/internal/state/sqlite"
)

// replicationServer is a scripted replication server whose time is the test's.
type replicationServer struct {
	mu       sync.Mutex
	launched bool
	replicas map[string]*replica
	disks    map[string]bool // staging areas: what a restart leaves
	fail     map[state.StepName]error
	takes    map[state.StepName]time.Duration
	hang     state.StepName // blocks until its context ends
	hung     chan struct{}
	calls    []string
	copyTime time.Duration
	ahead    time.Duration // the agents' clock; watermarks are in its time
}

type replica struct {
	admitted, attached, connected  bool
	connectedAt, firstByte, copied time.Time
	frozen                         time.Time // watermark while not connected
	err                            error
	silent                         bool // connected, but no data
	epoch                          uint64
	finding                        *state.Finding
}

func newReplicationServer(disks map[string]bool) *replicationServer {
	return &replicationServer{replicas: map[string]*replica{}, disks: disks, fail: map[state.StepName]error{},
		takes: map[state.StepName]time.Duration{}, hung: make(chan struct{}, 100), copyTime: 20 * time.Second}
}

func (s *replicationServer) of(id string) *replica {
	if s.replicas[id] == nil {
		s.replicas[id] = &replica{}
	}
	return s.replicas[id]
}

// do plays the script of a step.
func (s *replicationServer) do(ctx context.Context, step state.StepName, id string, fn func() (bool, error)) (bool, error) {
	s.mu.Lock()
	s.calls = append(s.calls, string(step)+" "+id)
	hang, takes, err := s.hang == step, s.takes[step], s.fail[step]
	s.mu.Unlock()
	if hang {
		select {
		case s.hung <- struct{}{}:
		default: // nobody counts
		}
		<-ctx.Done()
		return false, ctx.Err()
	}
	if takes > 0 {
		timer := time.NewTimer(takes)
		defer timer.Stop()
		select {
		case <-ctx.Done():
			return false, ctx.Err()
		case <-timer.C:
		}
	}
	if err != nil {
		return false, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	return fn()
}

const (
	revoke  state.StepName = "revoke"
	detach  state.StepName = "detach"
	destroy state.StepName = "destroy"
)

func (s *replicationServer) Launch(ctx context.Context) (bool, error) {
	return s.do(ctx, state.StepLaunch, "", func() (bool, error) { was := s.launched; s.launched = true; return was, nil })
}

func (s *replicationServer) Boot(ctx context.Context) error {
	_, err := s.do(ctx, state.StepBoot, "", func() (bool, error) { return false, nil })
	return err
}

func (s *replicationServer) Authenticate(ctx context.Context) error {
	_, err := s.do(ctx, state.StepAuthenticate, "", func() (bool, error) { return false, nil })
	return err
}

func (s *replicationServer) CheckSoftware(ctx context.Context, v []uint32) error {
	_, err := s.do(ctx, state.StepSoftware, "", func() (bool, error) {
		if len(v) != 1 || v[0] != 1 {
			return false, fault.New(fault.Unsupported, "check", "wire versions %v", v)
		}
		return false, nil
	})
	return err
}

func (s *replicationServer) Admit(ctx context.Context, id string) error {
	_, err := s.do(ctx, state.StepAccess, id, func() (bool, error) { s.of(id).admitted = true; return false, nil })
	return err
}

func (s *replicationServer) Revoke(ctx context.Context, id string) error {
	_, err := s.do(ctx, revoke, id, func() (bool, error) { s.of(id).admitted = false; s.cut(id); return false, nil })
	return err
}

func (s *replicationServer) CreateStaging(ctx context.Context, id string, d []replication.StagingDisk) (bool, error) {
	return s.do(ctx, state.StepCreateDisks, id, func() (bool, error) {
		if len(d) == 0 {
			return false, fault.New(fault.Invalid, "create", "no disks")
		}
		was := s.disks[id]
		s.disks[id] = true
		return was, nil
	})
}

func (s *replicationServer) AttachStaging(ctx context.Context, id string) (bool, error) {
	return s.do(ctx, state.StepAttachDisks, id, func() (bool, error) {
		if !s.disks[id] {
			return false, fault.New(fault.NotFound, "attach", "no staging area")
		}
		was := s.of(id).attached
		s.of(id).attached = true
		return was, nil
	})
}

func (s *replicationServer) DetachStaging(ctx context.Context, id string) error {
	_, err := s.do(ctx, detach, id, func() (bool, error) { s.of(id).attached = false; return false, nil })
	return err
}

func (s *replicationServer) DestroyStaging(ctx context.Context, id string) error {
	_, err := s.do(ctx, destroy, id, func() (bool, error) {
		delete(s.disks, id)
		s.replicas[id] = &replica{}
		return false, nil
	})
	return err
}

func (s *replicationServer) Address() string { return "replication.test:1500" }

func (s *replicationServer) Status(id string) replication.ReplicaStatus {
	s.mu.Lock()
	defer s.mu.Unlock()
	r, now := s.of(id), time.Now()
	out := replication.ReplicaStatus{Attached: r.attached, Connected: r.connected, ConnectedAt: r.connectedAt, Err: r.err, Epoch: r.epoch, Finding: r.finding}
	if r.firstByte.IsZero() || !r.attached {
		return out
	}
	out.FirstByteAt, out.LastFrameAt, out.Watermark = r.firstByte, r.frozen, r.frozen
	if r.connected && !r.silent {
		out.LastFrameAt, out.Watermark = now, now
	}
	out.Watermark = out.Watermark.Add(s.ahead)
	out.BaselineComplete = !now.Before(r.copied)
	out.Recoverable = out.BaselineComplete
	return out
}

func (s *replicationServer) RecoverablePosition(id string, at time.Time) (uint64, time.Time, error) {
	st := s.Status(id)
	if !st.Recoverable {
		return 0, time.Time{}, fault.New(fault.NotFound, "position", "none")
	}
	if st.Watermark.Before(at) {
		at = st.Watermark
	}
	return uint64(at.UnixNano()), at, nil
}

// connect is what an agent's data connection does; it is refused where the real one would be.
func (s *replicationServer) connect(id string, silent bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	r := s.of(id)
	if r.connected || !s.launched || !r.admitted || !r.attached {
		return
	}
	now := time.Now()
	r.connected, r.connectedAt, r.silent = true, now, silent
	if !silent && r.firstByte.IsZero() {
		r.firstByte, r.copied, r.epoch = now, now.Add(s.copyTime), 1
	}
}

func (s *replicationServer) disconnect(id string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.cut(id)
}

func (s *replicationServer) cut(id string) {
	if r := s.of(id); r.connected {
		r.connected, r.frozen = false, time.Now()
	}
}

func (s *replicationServer) set(fn func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	fn()
}

// world is a control plane with one source server and its agent.
type world struct {
	t      *testing.T
	scope  state.Scope
	store  *sqlite.Store
	server *replicationServer
	engine *replication.Engine
	points *points.Points
	v      state.Server
	moves  *moves
	stop   func() // ends serve
	agent  *agent
}

func build(t *testing.T, service state.Service) *world {
	w := &world{t: t, scope: state.Scope{Account: "111122223333", Service: service}, moves: &moves{}}
	var err error
	w.store, err = sqlite.Open(t.Context(), filepath.Join(t.TempDir(), "state.db"))
	require.NoError(t, err)
	ctx := t.Context()
	require.NoError(t, accounts.New(w.store).Initialize(ctx, w.scope))
	if service == state.DRS {
		policy, subnet := templates.DefaultPITPolicy(), templates.NoSubnet
		_, err = templates.New(w.store).Create(ctx, w.scope, control.ConfigPatch{PITPolicy: &policy, StagingAreaSubnetID: &subnet}, nil)
		require.NoError(t, err)
	}
	w.v = w.register("machine", false)
	w.server = newReplicationServer(map[string]bool{})
	return w
}

func (w *world) register(identity string, stopped bool) state.Server {
	done, err := servers.New(w.store).Register(w.t.Context(), w.scope, servers.Registration{
		Identity: identity, Agent: state.Agent{WireVersions: []uint32{1}}, NoReplication: stopped,
		Devices: []servers.Device{{Name: "/dev/vda", Bytes: 1 << 30, Boot: true}},
	})
	require.NoError(w.t, err)
	return done
}

// serve starts a control plane process over what the last one left.
func (w *world) serve() {
	log := slog.New(w.moves)
	w.engine = replication.New(w.store, w.server, log)
	w.points = points.New(w.store, w.engine, w.engine.PointMade, log)
	ctx, cancel := context.WithCancel(w.t.Context())
	var wg sync.WaitGroup
	engine, pts := w.engine, w.points
	wg.Go(func() {
		wait(settled) // ctx may end meanwhile
		require.NoError(w.t, engine.Run(ctx, pts))
	})
	wg.Go(func() { require.NoError(w.t, pts.Run(ctx)) })
	w.stop = func() { cancel(); wg.Wait() }
}

// restart ends the process as a crash would, its replication server with it, and starts another.
func (w *world) restart() {
	w.agent.mu.Lock() // nobody to talk to meanwhile
	defer w.agent.mu.Unlock()
	w.stop()
	old := w.server
	w.server = newReplicationServer(old.disks)
	w.server.copyTime = old.copyTime
	for id, r := range old.replicas { // journals survive, connections do not
		fresh := &replica{firstByte: r.firstByte, copied: r.copied, frozen: r.frozen}
		if r.connected {
			fresh.frozen = time.Now()
		}
		w.server.replicas[id] = fresh
	}
	w.serve()
}

// in runs a scenario inside a bubble of fake time, with serve and the agent running.
func in(t *testing.T, service state.Service, scenario func(*testing.T, *world)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		w := build(t, service)
		w.serve()
		w.agent = startAgent(w, w.v.ID)
		defer func() {
			w.agent.halt()
			w.stop()
			require.NoError(t, w.store.Close())
		}()
		scenario(t, w)
	})
}

func (w *world) info() control.ReplicationInfo { return w.infoOf(w.v) }

func (w *world) infoOf(v state.Server) control.ReplicationInfo {
	out, err := w.engine.Describe(w.t.Context(), []state.Server{v})
	require.NoError(w.t, err)
	return out[0]
}

// until waits for a replication state and fails after the given (fake) time.
func (w *world) until(s state.ReplicationState, limit time.Duration) control.ReplicationInfo {
	w.t.Helper()
	return w.when(func(i control.ReplicationInfo) bool { return i.State == s }, limit)
}

func (w *world) when(cond func(control.ReplicationInfo) bool, limit time.Duration) control.ReplicationInfo {
	w.t.Helper()
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	for end := time.Now().Add(limit); ; {
		i := w.info()
		if cond(i) {
			return i
		}
		require.True(w.t, time.Now().Before(end), "still %s %+v %+v after %s", i.State, i.Error, i.Attempt.Steps, limit)
		<-tick.C
	}
}

func (w *world) lifecycle() state.LifeCycleState {
	v, err := servers.New(w.store).Get(w.t.Context(), w.scope, w.v.ID)
	require.NoError(w.t, err)
	return v.LifeCycle.State
}

func (w *world) pointCount() int {
	items, _, err := w.points.List(w.t.Context(), w.scope, w.v.ID, state.PointFilter{}, state.Page{Limit: 1000})
	require.NoError(w.t, err)
	return len(items)
}

// settled is how long everything that is started waits: fake time stands still until the scenario waits itself, so what it
// sets up first is there before anything happens, however the goroutines are scheduled.
const settled = time.Millisecond

// wait lets fake time pass.
func wait(d time.Duration) { <-time.After(d) }

// agent shakes hands as it is told to and keeps a data connection while it may.
type agent struct {
	mu      sync.Mutex
	report  replication.Report
	told    replication.Command
	offline bool // no handshakes
	deaf    bool // does not confirm addresses
	cut     bool // does not connect
	silent  bool // connects and sends nothing
	ahead   time.Duration
	halt    func()
}

func startAgent(w *world, id string) *agent {
	a := &agent{report: replication.Report{Phase: replication.PhaseInitialSync}}
	ctx, cancel := context.WithCancel(w.t.Context())
	var wg sync.WaitGroup
	wg.Go(func() {
		wait(settled)
		for {
			next := a.beat(w, id)
			timer := time.NewTimer(next)
			select {
			case <-ctx.Done():
				timer.Stop()
				return
			case <-timer.C:
			}
		}
	})
	a.halt = func() { cancel(); wg.Wait() }
	return a
}

func (a *agent) beat(w *world, id string) time.Duration {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.offline {
		w.server.disconnect(id)
		return time.Second
	}
	a.report.AgentTime = time.Now().Add(a.ahead)
	c, err := w.engine.Handshake(w.t.Context(), w.scope, id, a.report)
	if err != nil {
		return time.Second
	}
	a.told = c
	if !a.deaf && c.Address != "" {
		a.report.AttemptID = c.AttemptID
	}
	if c.Desired == state.IntentRun && c.Address != "" && !a.cut {
		w.server.connect(id, a.silent)
	} else {
		w.server.disconnect(id)
	}
	return c.Next
}

func (a *agent) set(fn func(*agent)) {
	a.mu.Lock()
	defer a.mu.Unlock()
	fn(a)
}

func (a *agent) command() replication.Command {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.told
}

// moves notes the transitions that the engine logs.
type moves struct {
	mu  sync.Mutex
	all []state.ReplicationState
	bad []string
}

func (m *moves) Enabled(context.Context, slog.Level) bool { return true }
func (m *moves) WithAttrs([]slog.Attr) slog.Handler       { return m }
func (m *moves) WithGroup(string) slog.Handler            { return m }
func (m *moves) Handle(_ context.Context, r slog.Record) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	r.Attrs(func(a slog.Attr) bool {
		if a.Key == "to" {
			m.all = append(m.all, state.ReplicationState(a.Value.String()))
		}
		return true
	})
	if r.Level >= slog.LevelError {
		line := r.Message
		r.Attrs(func(a slog.Attr) bool { line += " " + a.String(); return true })
		m.bad = append(m.bad, line)
	}
	return nil
}

// take returns the transitions since it was last called.
func (m *moves) take() []state.ReplicationState {
	m.mu.Lock()
	defer m.mu.Unlock()
	out := m.all
	m.all = nil
	return out
}
