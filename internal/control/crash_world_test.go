package control_test

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"net/http"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/understudy-dr/understudy/internal/buckets"
	"github.com/understudy-dr/understudy/internal/control/access"
	"github.com/understudy-dr/understudy/internal/control/accounts"
	"github.com/understudy-dr/understudy/internal/control/events"
	"github.com/understudy-dr/understudy/internal/control/extended"
	"github.com/understudy-dr/understudy/internal/control/failback"
	"github.com/understudy-dr/understudy/internal/control/inventory"
	"github.com/understudy-dr/understudy/internal/control/inventory/transfer"
	"github.com/understudy-dr/understudy/internal/control/jobs"
	"github.com/understudy-dr/understudy/internal/control/launchconfig"
	"github.com/understudy-dr/understudy/internal/control/launches"
	"github.com/understudy-dr/understudy/internal/control/launchtemplates"
	"github.com/understudy-dr/understudy/internal/control/networks"
	"github.com/understudy-dr/understudy/internal/control/points"
	"github.com/understudy-dr/understudy/internal/control/quotas"
	"github.com/understudy-dr/understudy/internal/control/recovery"
	"github.com/understudy-dr/understudy/internal/control/replication"
	"github.com/understudy-dr/understudy/internal/control/servers"
	"github.com/understudy-dr/understudy/internal/control/sizes"
	"github.com/understudy-dr/understudy/internal/control/templates"
	"github.com/understudy-dr/understudy/internal/fault"
	"github.com/understudy-dr/understudy/internal/state"
)

const (
	account      = "111122223333"
	otherAccount = "444455556666"
	region       = "us-east-1"
	bucket       = "files"
)

var (
	drs = state.Scope{Account: account, Service: state.DRS}
	mgn = state.Scope{Account: account, Service: state.MGN}
)

// outside is what the control plane's process acts on and what does not end with it: staging areas, agents, machines,
// whoever hears of events, files.
type outside struct {
	dir string

	mu       sync.Mutex
	staging  map[string]bool
	copied   map[string]time.Time // when a staging area had its first byte
	agents   map[string]state.Scope
	machines map[string]string // instance id to source server
	heard    []string          // ids of events, in order, by whoever is told
	dropped  bool              // the next answer to an event gets lost
}

// process is a control plane as internal/app/serve assembles it.
type process struct {
	t       *testing.T
	out     *outside
	breaker *breaker
	store   *events.Recorder
	ctx     context.Context
	cancel  context.CancelFunc
	wg      sync.WaitGroup
	up      map[string]bool // agents' connections

	accounts   *accounts.Accounts
	keys       *access.Keys
	hooks      *events.Webhooks
	servers    *servers.Servers
	templates  *templates.Templates
	engine     *replication.Engine
	points     *points.Points
	jobs       *jobs.Jobs
	networks   *networks.Networks
	extensions *extended.Extensions
	recoveries *recovery.Recoveries
	failbacks  *failback.Failbacks
	launches   *launches.MGN
	apps       *inventory.Applications
	waves      *inventory.Waves
	connectors *inventory.Connectors
	inventory  *inventory.Servers
	transfers  *transfer.Transfers
	machines   *launchtemplates.Templates
	drsConfigs *launchconfig.DRSServers
	drsActions *launchconfig.DRSActions
	drsTemp    *launchconfig.DRSTemplates
	mgnConfigs *launchconfig.MGNServers
	mgnActions *launchconfig.MGNActions
	mgnTemp    *launchconfig.MGNTemplates
}

// boot assembles a process and starts it. It fails where the real one would not start.
func boot(t *testing.T, out *outside, b *breaker) (*process, error) {
	p := &process{t: t, out: out, breaker: b, store: events.NewRecorder(b, region), up: map[string]bool{}}
	log := slog.New(slog.DiscardHandler)
	var err error
	if p.hooks, err = events.OpenWebhooks(p.store, filepath.Join(out.dir, "keys")); err != nil {
		return nil, err
	}
	if p.keys, err = access.Open(p.store, filepath.Join(out.dir, "keys")); err != nil {
		return nil, err
	}
	if err := p.keys.EnsureAdministrator(t.Context(), account, filepath.Join(out.dir, "credentials")); err != nil {
		return nil, err
	}
	limits, err := quotas.New(nil)
	require.NoError(t, err)
	catalogue, err := sizes.Default()
	require.NoError(t, err)
	p.accounts, p.servers, p.templates = accounts.New(p.store), servers.New(p.store), templates.New(p.store)
	p.engine = replication.New(p.store, replica{p}, log)
	p.points = points.New(p.store, p.engine, p.engine.PointMade, log)
	p.machines = launchtemplates.New(p.store, catalogue)
	p.drsConfigs, p.drsActions, p.drsTemp = launchconfig.NewDRSServers(p.store), launchconfig.NewDRSActions(p.store), launchconfig.NewDRSTemplates(p.store)
	p.mgnConfigs, p.mgnActions, p.mgnTemp = launchconfig.NewMGNServers(p.store), launchconfig.NewMGNActions(p.store), launchconfig.NewMGNTemplates(p.store)
	for _, added := range []servers.Added{limits.Added, p.machines.Added, p.drsConfigs.Added, p.mgnConfigs.Added} {
		p.servers.OnAdd(added)
	}
	p.engine.OnBegin(limits.Room)
	files := buckets.NewDir(filepath.Join(out.dir, "buckets"))
	p.jobs = jobs.New(p.store, limits)
	p.networks = networks.New(p.store, p.jobs, files)
	p.extensions = extended.New(p.store, p.servers)
	hands := &hands{p}
	p.recoveries = recovery.New(p.store, p.jobs, p.extensions, hands)
	p.failbacks = failback.New(recovery.Keeper(p.store), p.jobs, hands)
	p.launches = launches.NewMGN(p.store, p.jobs, p.engine, hands)
	p.apps, p.waves = inventory.NewApplications(p.store, limits), inventory.NewWaves(p.store, limits)
	p.connectors, p.inventory = inventory.NewConnectors(p.store), inventory.NewServers(p.store)
	p.transfers = transfer.New(transfer.Config{Store: p.store, Buckets: files, Region: region, Applications: p.apps, Waves: p.waves, Servers: p.servers,
		LaunchTemplates: p.machines, LaunchConfigs: p.mgnConfigs, Limits: limits, Log: log})
	if err := p.networks.Resume(t.Context()); err != nil {
		return nil, err
	}
	p.ctx, p.cancel = context.WithCancel(t.Context())
	for _, run := range []func(context.Context) error{
		func(ctx context.Context) error { return p.engine.Run(ctx, p.points) }, p.points.Run, p.transfers.Run,
		events.NewDispatcher(p.hooks, &http.Client{Transport: out}, log).Run, p.agents, hands.run,
	} {
		p.wg.Go(func() {
			if err := run(p.ctx); err != nil && !b.ended() {
				t.Errorf("a part of the process ended: %v", err)
			}
		})
	}
	return p, nil
}

func (p *process) stop() {
	p.cancel()
	p.wg.Wait()
}

// every calls fn each second until the process ends.
func (p *process) every(ctx context.Context, fn func()) error {
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
			fn()
		}
	}
}

// agents are those of all source servers: they do as they are told, and uninstall themselves when they are dismissed.
func (p *process) agents(ctx context.Context) error {
	return p.every(ctx, func() {
		p.out.mu.Lock()
		ids := make(map[string]state.Scope, len(p.out.agents))
		for id, s := range p.out.agents {
			ids[id] = s
		}
		p.out.mu.Unlock()
		for id, s := range ids {
			r := replication.Report{Phase: replication.PhaseStreaming, AttemptID: p.attempt(id), AgentTime: time.Now()}
			c, err := p.engine.Handshake(ctx, s, id, r)
			if err != nil {
				continue
			}
			p.told(id, c)
		}
	})
}

func (p *process) attempt(id string) uint64 {
	list, err := p.engine.Describe(p.ctx, []state.Server{{ID: id}})
	if err != nil {
		return 0
	}
	return list[0].Attempt.ID
}

func (p *process) told(id string, c replication.Command) {
	p.out.mu.Lock()
	defer p.out.mu.Unlock()
	p.up[id] = c.Desired == state.IntentRun && c.Address != ""
	if c.Desired == state.IntentDisconnect {
		delete(p.out.agents, id)
	}
	if _, begun := p.out.copied[id]; p.up[id] && !begun {
		p.out.copied[id] = time.Now()
	}
}

// replica is a replication server on which everything works: its process is the control plane's, its staging areas outlive it.
type replica struct{ p *process }

var _ replication.ReplicationServer = replica{}

func (replica) Launch(context.Context) (bool, error)          { return false, nil }
func (replica) Boot(context.Context) error                    { return nil }
func (replica) Authenticate(context.Context) error            { return nil }
func (replica) CheckSoftware(context.Context, []uint32) error { return nil }
func (replica) Admit(context.Context, string) error           { return nil }
func (replica) Address() string                               { return "127.0.0.1:1500" }

func (r replica) with(fn func(*outside)) {
	r.p.out.mu.Lock()
	defer r.p.out.mu.Unlock()
	fn(r.p.out)
}

func (r replica) Revoke(_ context.Context, id string) error {
	r.with(func(*outside) { r.p.up[id] = false })
	return nil
}

func (r replica) CreateStaging(_ context.Context, id string, _ []replication.StagingDisk) (was bool, err error) {
	r.with(func(o *outside) { was = o.staging[id]; o.staging[id] = true })
	return was, nil
}

func (r replica) AttachStaging(_ context.Context, id string) (_ bool, err error) {
	r.with(func(o *outside) {
		if !o.staging[id] {
			err = fault.New(fault.NotFound, "attach", "no staging area")
		}
	})
	return false, err
}

func (r replica) DetachStaging(context.Context, string) error { return nil }

func (r replica) DestroyStaging(_ context.Context, id string) error {
	r.with(func(o *outside) { delete(o.staging, id); delete(o.copied, id) })
	return nil
}

func (r replica) Status(id string) (s replication.ReplicaStatus) {
	r.with(func(o *outside) {
		s.Attached, s.Connected = o.staging[id], r.p.up[id]
		first := o.copied[id]
		if !s.Attached || first.IsZero() {
			return
		}
		now := time.Now()
		s.FirstByteAt, s.LastFrameAt, s.Watermark, s.ConnectedAt, s.Epoch = first, now, now, first, 1
		s.BaselineComplete, s.Recoverable = true, true
	})
	return s
}

func (r replica) RecoverablePosition(id string, at time.Time) (uint64, time.Time, error) {
	if !r.Status(id).Recoverable {
		return 0, time.Time{}, fault.New(fault.NotFound, "position", "none")
	}
	return uint64(at.UnixNano()), at, nil
}

// RoundTrip is whoever is told of events. Now and then it hears and its answer gets lost.
func (o *outside) RoundTrip(r *http.Request) (*http.Response, error) {
	if err := r.Context().Err(); err != nil {
		return nil, err
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	o.heard = append(o.heard, r.Header.Get("webhook-id"))
	o.dropped = !o.dropped
	if o.dropped {
		return nil, io.ErrUnexpectedEOF
	}
	return &http.Response{StatusCode: http.StatusOK, Status: "200 OK", Header: http.Header{}, Body: io.NopCloser(strings.NewReader("")), Request: r}, nil
}

// hands carry out jobs as a launcher has to: from what is stored alone, in steps that may be repeated.
type hands struct{ p *process }

func (*hands) Take(state.Job) {} // run finds it

func (h *hands) run(ctx context.Context) error {
	return h.p.every(ctx, func() {
		list, err := h.p.jobs.Unfinished(ctx)
		for _, j := range list {
			if err == nil {
				err = h.carry(ctx, j)
			}
		}
	})
}

func (h *hands) carry(ctx context.Context, j state.Job) error {
	if j.Status == state.JobPending {
		if err := h.p.jobs.Begin(ctx, j.Scope, j.ID); err != nil {
			return err
		}
	}
	for _, x := range j.Participants {
		if x.Status == state.LaunchPending {
			if err := h.p.jobs.Move(ctx, j.Scope, j.ID, x.Subject(), jobs.Proceed, nil, nil, state.JobEvent{Event: state.LaunchStart, ServerID: x.ServerID}); err != nil {
				return err
			}
			x.Status = state.LaunchInProgress
		}
		if x.Status != state.LaunchInProgress {
			continue
		}
		work := h.launch
		if j.Type == state.JobTerminate {
			work = h.terminate
		} else if j.InitiatedBy == state.ByFailback {
			work = h.failBack
		}
		if err := work(ctx, j, x); err != nil {
			return err
		}
	}
	return h.p.jobs.Finish(ctx, j.Scope, j.ID)
}

// launch starts the one machine of a job and a server, however often it is tried.
func (h *hands) launch(ctx context.Context, j state.Job, x state.Participant) error {
	id := "i-" + strings.TrimPrefix(strings.TrimPrefix(j.ID, "drsjob-"), "mgnjob-")
	h.p.out.mu.Lock()
	h.p.out.machines[id] = x.ServerID
	h.p.out.mu.Unlock()
	return h.p.jobs.Move(ctx, j.Scope, j.ID, x.Subject(), jobs.Succeed, func(v *state.Participant) { v.InstanceID = id },
		func(ctx context.Context, tx state.Tx, v state.Participant) error {
			s, err := tx.Server(ctx, j.Scope, x.ServerID)
			if err != nil {
				return err
			}
			if j.Scope.Service == state.MGN {
				s.Migration.Launched = state.LaunchedInstance{InstanceID: id, JobID: j.ID, FirstBoot: "SUCCEEDED"}
				return tx.PutServer(ctx, s)
			}
			s.LifeCycle.LastLaunch.Status = string(v.Status)
			if err := tx.PutServer(ctx, s); err != nil {
				return err
			}
			return tx.PutRecoveryInstance(ctx, state.RecoveryInstance{ID: id, Scope: j.Scope, ServerID: s.ID, JobID: j.ID, CreatedAt: time.Now().UTC(),
				State: state.RIRunning, Drill: j.InitiatedBy == state.ByStartDrill, PointAt: j.CreatedAt, Failback: failback.Fresh(false)})
		}, state.JobEvent{Event: state.LaunchEnd, ServerID: x.ServerID, TargetInstanceID: id})
}

func (h *hands) terminate(ctx context.Context, j state.Job, x state.Participant) error {
	h.p.out.mu.Lock()
	delete(h.p.out.machines, x.InstanceID)
	h.p.out.mu.Unlock()
	return h.p.jobs.Move(ctx, j.Scope, j.ID, x.Subject(), jobs.Terminate, nil, func(ctx context.Context, tx state.Tx, _ state.Participant) error {
		if j.Scope.Service == state.DRS {
			return tx.DeleteRecoveryInstance(ctx, j.Scope, x.RecoveryInstanceID)
		}
		s, err := tx.Server(ctx, j.Scope, x.ServerID)
		if err != nil {
			return err
		}
		s.Migration.Launched = state.LaunchedInstance{}
		return tx.PutServer(ctx, s)
	}, state.JobEvent{Event: state.CleanupEnd, ServerID: x.ServerID, TargetInstanceID: x.InstanceID})
}

func (h *hands) failBack(ctx context.Context, j state.Job, x state.Participant) error {
	return h.p.jobs.Move(ctx, j.Scope, j.ID, x.Subject(), jobs.Succeed, nil, func(ctx context.Context, tx state.Tx, _ state.Participant) error {
		v, err := tx.RecoveryInstance(ctx, j.Scope, x.RecoveryInstanceID)
		if err != nil {
			return err
		}
		if err := failback.Move(&v, failback.LaunchDone); err != nil {
			return err
		}
		return tx.PutRecoveryInstance(ctx, v)
	}, state.JobEvent{Event: state.LaunchEnd, ServerID: x.ServerID})
}

// check holds the records against what must be true of them at every moment, whatever broke before.
func (o *outside) check(t *testing.T, store state.Store) {
	t.Helper()
	ctx := t.Context()
	before := o.areas()
	require.NoError(t, store.View(ctx, func(r state.Reader) error {
		known := map[string]bool{}
		for _, s := range []state.Scope{drs, mgn, {Account: otherAccount, Service: state.DRS}} {
			list, _, err := r.Servers(ctx, s, state.ServerFilter{}, state.Page{Limit: state.MaxLimit})
			require.NoError(t, err)
			for _, v := range list {
				known[v.ID] = true
				checkServer(t, r, v)
			}
			o.checkJobs(t, r, s)
		}
		instances, _, err := r.RecoveryInstances(ctx, drs, state.RecoveryInstanceFilter{}, state.Page{Limit: state.MaxLimit})
		require.NoError(t, err)
		for _, v := range instances {
			require.True(t, known[v.ServerID], "recovery instance %s of no server", v.ID)
		}
		all, _, err := r.Replications(ctx, state.ReplicationFilter{}, state.Page{Limit: state.MaxLimit})
		require.NoError(t, err)
		staged := map[string]bool{}
		for _, v := range all {
			require.True(t, known[v.ServerID] || v.Deleting, "replication of no server %s", v.ServerID)
			staged[v.ServerID] = v.Staged
		}
		after := o.areas() // a process that lives goes on meanwhile
		for id := range before {
			require.True(t, staged[id] || !after[id], "a staging area of %s that nobody knows of", id)
		}
		return nil
	}))
}

func (o *outside) areas() map[string]bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	return maps.Clone(o.staging)
}

// checkServer: what belongs to a server came with it, once.
func checkServer(t *testing.T, r state.Reader, v state.Server) {
	ctx := t.Context()
	rec, err := r.Replication(ctx, v.ID)
	extension, unextended := r.Extension(ctx, v.ID)
	switch {
	case unextended == nil:
		require.Equal(t, v.ID, extension.ServerID)
		require.True(t, fault.Is(err, fault.NotFound), "an extended server replicates nothing")
	case v.LifeCycle.State == state.PendingInstallation:
		require.True(t, fault.Is(err, fault.NotFound))
	default:
		require.NoError(t, err, v.ID)
		require.Equal(t, v.Scope, rec.Scope)
	}
	if v.Scope.Service == state.DRS {
		_, err = r.DRSLaunchConfig(ctx, v.ID)
	} else {
		_, err = r.MGNLaunchConfig(ctx, v.ID)
	}
	require.NoError(t, err, "launch configuration of %s", v.ID)
	for _, record := range []string{v.LifeCycle.LastLaunch.JobID, v.LifeCycle.LastTest.JobID, v.LifeCycle.LastCutover.JobID} {
		if record != "" {
			_, err := r.Job(ctx, v.Scope, record)
			require.NoError(t, err, "the job of %s", v.ID)
		}
	}
}

// checkJobs: a log begins once and ends once, and a COMPLETED job has nobody left to work for.
func (o *outside) checkJobs(t *testing.T, r state.Reader, s state.Scope) {
	list, _, err := r.Jobs(t.Context(), s, state.JobFilter{}, state.Page{Limit: state.MaxLimit})
	require.NoError(t, err)
	for _, j := range list {
		log, _, err := r.JobLog(t.Context(), j.ID, state.Page{Limit: state.MaxLimit})
		require.NoError(t, err)
		count := map[state.JobEventName]int{}
		for i, e := range log {
			require.EqualValues(t, i+1, e.Seq)
			count[e.Event]++
		}
		want := map[state.JobStatus][2]int{state.JobPending: {0, 0}, state.JobStarted: {1, 0}, state.JobCompleted: {1, 1}}[j.Status]
		require.Equal(t, want, [2]int{count[state.JobStart], count[state.JobEnd]}, "%s %+v", j.ID, log)
		for event, n := range count {
			require.LessOrEqual(t, n, len(j.Participants), "%s of %s", event, j.ID)
		}
		for _, p := range j.Participants {
			if j.Status == state.JobCompleted {
				require.NotContains(t, []state.LaunchStatus{state.LaunchPending, state.LaunchInProgress}, p.Status)
			}
		}
	}
}

// settled holds the records against what must be true once everything has ended: each event was heard, those of a server in
// order for the first time, no job is under way, and every machine is known.
func (o *outside) settled(t *testing.T, store state.Store) error {
	ctx := t.Context()
	return store.View(ctx, func(r state.Reader) error {
		unfinished, _, err := r.UnfinishedJobs(ctx, state.Page{})
		if err != nil || len(unfinished) > 0 {
			return fmt.Errorf("unfinished jobs %v, %w", unfinished, err)
		}
		transfers, _, err := r.UnfinishedTransfers(ctx, state.Page{})
		if err != nil || len(transfers) > 0 {
			return fmt.Errorf("unfinished transfers %v, %w", transfers, err)
		}
		all, err := r.Events(ctx, account, state.EventFilter{Limit: state.MaxLimit})
		if err != nil {
			return err
		}
		hooks, err := r.Webhooks(ctx, account)
		if err != nil {
			return err
		}
		o.mu.Lock()
		defer o.mu.Unlock()
		last := map[string]int{}
		for _, e := range all {
			at := slices.Index(o.heard, e.ID)
			if len(hooks) > 0 && at < 0 {
				return fmt.Errorf("event %+v was not heard", e)
			}
			if before, ok := last[e.Subject]; ok && len(hooks) > 0 {
				require.Less(t, before, at, "the order of events of %s", e.Subject)
			}
			last[e.Subject] = at
		}
		return nil
	})
}
