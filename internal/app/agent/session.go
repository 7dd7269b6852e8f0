package agent

import (
	"context"
	"net/http"
	"sync"
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
)

// session is a registered agent at work: it asks what to do and does it. One goroutine owns it.
type session struct {
	cfg     Config
	id      *identity
	disks   diskSet
	client  agentpbconnect.AgentServiceClient
	facts   bulletin // used by one handshake at a time
	attempt uint64
	backoff agentclient.Backoff // between handshakes that fail
	rep     *replicator
	points  *pointmaker // nil where there is nothing to make points of
	trouble string      // of the last handshake, logged when it changes
	unseen  bool        // the status could not be written; logged when it changes
}

func newSession(c Config, id *identity, disks diskSet, mode *choice) (*session, error) {
	tlsConfig, err := pki.ClientTLS(id.ca, id.certificate, id.key)
	if err != nil {
		return nil, err
	}
	proxy, err := proxyOf(c.ProxyAddress)
	if err != nil {
		return nil, err
	}
	transport := agentclient.Transport(tlsConfig, proxy)
	facts := bulletin{read: func(ctx context.Context) *agentpb.SourceProperties { return sourceProperties(ctx, disks, mode) }}
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
	for {
		select {
		case <-ctx.Done():
			return nil
		case now := <-status.C:
			a.showStatus()
			a.rep.keepProofs(now, false)
		case err := <-a.rep.ended():
			a.rep.stop()
			a.rep.failure = err
			if fault.Is(err, fault.Fenced) {
				a.showStatus()
				return err // trying again would fence the other one, and so for ever
			}
			a.cfg.Log.Error("replication stopped; trying again at the next handshake", "error", err)
		case <-next.C:
			report := a.report()
			calls.Go(func() { answers <- a.ask(ctx, report) })
		case got := <-answers:
			wait, done, err := a.act(ctx, got)
			if done || err != nil {
				return err
			}
			next.Reset(wait)
		}
	}
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
	wait = max(time.Duration(m.NextHandshakeSeconds)*time.Second, time.Second)
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
	r := &agentpb.HandshakeRequest{SourceServerId: a.id.ServerID, Progress: a.rep.progress(), AttemptId: a.attempt, AgentTimeNs: time.Now().UnixNano()}
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
