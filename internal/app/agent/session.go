package agent

import (
	"context"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"github.com/understudy-dr/understudy/internal/agentapi/agentclient"
	"github.com/understudy-dr/understudy/internal/agentapi/agentpb"
	"github.com/understudy-dr/understudy/internal/agentapi/agentpb/agentpbconnect"
	"github.com/understudy-dr/understudy/internal/fault"
	"github.com/understudy-dr/understudy/internal/pki"
)

const (
	handshakeTimeout = 20 * time.Second
	lastWordTimeout  = 3 * time.Second
	statusEvery      = time.Second
	lookEvery        = 15 * time.Second // for disks that came, went or grew
)

// session is a registered agent at work: it asks what to do and does it. One goroutine owns it.
type session struct {
	cfg      Config
	id       *identity
	disks    *inventory
	auto     atomic.Bool // the policy for disks that are added
	client   agentpbconnect.AgentServiceClient
	facts    bulletin // used by one handshake at a time
	attempt  uint64
	backoff  agentclient.Backoff // between handshakes that fail
	rep      *replicator
	points   *pointmaker // nil where there is nothing to make points of
	trouble  string      // of the last handshake, logged when it changes
	away     *Away       // the control plane does not answer
	unlooked bool        // the disks could not be looked at; logged when it changes
	unseen   bool        // the status could not be written; logged when it changes
}

func newSession(c Config, id *identity, disks *inventory, mode *choice) (*session, error) {
	tlsConfig, err := pki.ClientTLS(id.ca, id.certificate, id.key)
	if err != nil {
		return nil, err
	}
	proxy, err := proxyOf(c.ProxyAddress)
	if err != nil {
		return nil, err
	}
	transport := agentclient.Transport(tlsConfig, proxy)
	facts := bulletin{read: func(ctx context.Context) *agentpb.SourceProperties { return sourceProperties(ctx, disks.now(), mode) }}
	rep := &replicator{cfg: c, id: id, disks: disks, log: c.Log, mode: mode}
	points, err := newPointmaker(c, rep)
	if err != nil {
		return nil, err
	}
	return &session{cfg: c, id: id, disks: disks, facts: facts, rep: rep, points: points,
		client: agentpbconnect.NewAgentServiceClient(&http.Client{Transport: transport}, c.Endpoint)}, nil
}

// answer is what a handshake came to.
type answer struct {
	told *agentpb.HandshakeResponse
	err  error
}

// run handshakes until ctx ends or the service says to disconnect. A service that does not answer keeps nothing else
// waiting.
func (a *session) run(ctx context.Context) error {
	defer a.rep.stop()
	var calls sync.WaitGroup
	defer calls.Wait()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	if a.points != nil {
		calls.Go(func() { a.points.run(ctx) })
		calls.Go(func() { a.points.serve(ctx) })
	}
	answers := make(chan answer, 1)
	status := time.NewTicker(statusEvery)
	defer status.Stop()
	next := time.NewTimer(0)
	defer next.Stop()
	look := time.NewTicker(lookEvery)
	defer look.Stop()
	seen := make(chan sight, 1)
	looking, asking := false, false
	for {
		select {
		case <-ctx.Done():
			return nil
		case now := <-status.C:
			a.showStatus()
			a.rep.keepProofs(now, false)
		case err := <-a.rep.ended():
			a.rep.stop()
			if ctx.Err() != nil {
				return nil // that is why
			}
			a.rep.failure = err
			if fault.Is(err, fault.Fenced) {
				a.showStatus()
				return err // trying again would fence the other one, and so for ever
			}
			a.cfg.Log.Error("replication stopped; trying again at the next handshake", "error", err)
		case <-look.C:
			if !looking { // one that hangs holds up nothing else
				looking = true
				calls.Go(func() {
					wanted, err := a.disks.look(a.auto.Load())
					seen <- sight{wanted, err}
				})
			}
		case s := <-seen:
			looking = false
			if a.changed(s) && !asking {
				next.Reset(0)
			}
		case <-next.C:
			asking = true
			report := a.report()
			calls.Go(func() { answers <- a.ask(ctx, report) })
		case got := <-answers:
			asking = false
			wait, done, err := a.act(ctx, got)
			if done || err != nil {
				return err
			}
			next.Reset(wait)
		}
	}
}

// sight is a look at the machine's disks.
type sight struct {
	wanted []found
	err    error
}

// changed takes over other disks than before. What is replicated stops for the moment that the service takes to give numbers to
// what is new; the capture goes on.
func (a *session) changed(s sight) bool {
	if a.unlooked = a.onceMore(a.unlooked, s.err); s.err != nil || !a.disks.differs(s.wanted) {
		return false
	}
	if len(s.wanted) == 0 {
		return false // what is not there cannot be read; the capture keeps what is known
	}
	a.rep.stop()
	if err := a.disks.change(s.wanted); err != nil {
		a.cfg.Log.Warn("a disk could not be closed", "error", err)
	}
	for _, d := range a.disks.now() {
		a.cfg.Log.Info("the disks have changed", "disk", d.path, "bytes", d.bytes)
	}
	return true
}

// onceMore logs that the disks cannot be looked at, once.
func (a *session) onceMore(before bool, err error) bool {
	if err != nil && !before {
		a.cfg.Log.Warn("cannot look for changed disks; those at hand are replicated on", "error", err)
	}
	return err != nil
}

func (a *session) ask(ctx context.Context, report *agentpb.HandshakeRequest) answer {
	ctx, cancel := context.WithTimeout(ctx, handshakeTimeout)
	defer cancel()
	var err error
	if report.Presence, err = presence(); err != nil {
		return answer{nil, err}
	}
	report.Properties = a.facts.news(ctx, time.Now())
	m, err := a.client.Handshake(ctx, report)
	if err == nil {
		a.facts.accepted(report.Properties, time.Now())
	}
	return answer{m, err}
}

// act does what the service wants, and says when to ask again.
func (a *session) act(ctx context.Context, got answer) (wait time.Duration, done bool, err error) {
	if ctx.Err() != nil {
		return 0, true, nil
	}
	if err := called("handshake with "+a.cfg.Endpoint, got.err); fault.Is(err, fault.Fenced) {
		a.rep.failure = err
		a.showStatus()
		return 0, true, err // this machine is a copy of the one that is replicated
	}
	if got.err != nil {
		// Replication goes on: the data path does not need the control plane.
		a.note(called("handshake with "+a.cfg.Endpoint, got.err))
		return a.backoff.Next(), false, nil
	}
	a.note(nil)
	a.backoff.Reset()
	m := got.told
	if a.points != nil {
		a.points.told(m)
	}
	a.auto.Store(m.AutoReplicateNewDisks)
	wait = agentclient.Interval(max(time.Duration(m.NextHandshakeSeconds)*time.Second, time.Second))
	switch m.Desired {
	case agentpb.Desired_DESIRED_RUN:
		if m.ReplicationAddress == "" {
			return wait, false, nil
		}
		a.attempt = m.AttemptId // confirmed with the next report: its address is known here
		if err := a.rep.start(ctx, m.ReplicationAddress, m.Disks); err != nil {
			return wait, false, a.cannotStart(ctx, err)
		}
		a.rep.throttle(m.BandwidthMbps)
	case agentpb.Desired_DESIRED_PAUSE:
		a.rep.stop()
	case agentpb.Desired_DESIRED_STOP:
		if a.points != nil {
			a.points.forget()
		}
		return wait, false, a.rep.remove()
	case agentpb.Desired_DESIRED_DISCONNECT:
		return 0, true, a.disconnect()
	}
	return wait, false, nil
}

// cannotStart returns what only the operator can change: whoever waits for that must not hold the disks meanwhile.
func (a *session) cannotStart(ctx context.Context, err error) error {
	a.rep.failure = err
	switch fault.KindOf(err) {
	case fault.Conflict, fault.Unsupported, fault.Denied, fault.Invalid:
		a.lastWord(ctx)
		a.showStatus()
		return err
	}
	a.cfg.Log.Error("replication cannot start; trying again at the next handshake", "error", err)
	return nil
}

// lastWord tells the service why the agent ends.
func (a *session) lastWord(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, lastWordTimeout)
	defer cancel()
	if got := a.ask(ctx, a.report()); got.err != nil {
		a.note(called("handshake with "+a.cfg.Endpoint, got.err))
	}
}

func (a *session) report() *agentpb.HandshakeRequest {
	r := &agentpb.HandshakeRequest{SourceServerId: a.id.ServerID, Progress: a.rep.progress(), AttemptId: a.attempt, AgentTimeNs: time.Now().UnixNano(), Devices: a.disks.now().devices()}
	if a.points != nil {
		r.Points = a.points.unsettled()
	}
	return r
}

// note logs a handshake's failure once, and its recovery.
func (a *session) note(err error) {
	trouble := ""
	if err != nil {
		trouble = fault.KindOf(err).String()
		a.away = a.away.still(err, time.Now())
	} else {
		a.away = nil
	}
	if trouble == a.trouble {
		return
	}
	a.trouble = trouble
	if err != nil {
		a.cfg.Log.Warn("the control plane does not answer; replication goes on", "error", err)
		return
	}
	a.cfg.Log.Info("the control plane answers again")
}

// disconnect is the end: the service has dismissed this source server.
func (a *session) disconnect() error {
	if err := a.rep.remove(); err != nil {
		return err
	}
	a.cfg.Log.Info("disconnected from the service; capture ended, identity forgotten", "source-server", a.id.ServerID)
	return forgetIdentity(a.cfg.StateDir)
}
