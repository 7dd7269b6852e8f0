package agent

import (
	"context"
	"errors"
	"net/http"
	"time"

	"github.com/understudy-dr/understudy/internal/agentapi/agentpb"
	"github.com/understudy-dr/understudy/internal/agentapi/agentpb/agentpbconnect"
	"github.com/understudy-dr/understudy/internal/fault"
	"github.com/understudy-dr/understudy/internal/pki"
)

const (
	handshakeTimeout = 20 * time.Second
	lastWordTimeout  = 3 * time.Second
	handshakeRetry   = 3 * time.Second
	statusEvery      = time.Second
)

// session is a registered agent at work: it asks what to do and does it. One goroutine owns it.
type session struct {
	cfg     Config
	id      *identity
	disks   diskSet
	client  agentpbconnect.AgentServiceClient
	attempt uint64
	rep     *replicator
	trouble string // of the last handshake, logged when it changes
}

func newSession(c Config, id *identity, disks diskSet) (*session, error) {
	tlsConfig, err := pki.ClientTLS(id.ca, id.certificate, id.key)
	if err != nil {
		return nil, err
	}
	transport := &http.Transport{TLSClientConfig: tlsConfig, Proxy: http.ProxyFromEnvironment, ForceAttemptHTTP2: true}
	return &session{cfg: c, id: id, disks: disks, rep: &replicator{cfg: c, id: id, disks: disks, log: c.Log},
		client: agentpbconnect.NewAgentServiceClient(&http.Client{Transport: transport}, c.Endpoint)}, nil
}

// run handshakes until ctx ends or the service says to disconnect.
func (a *session) run(ctx context.Context) error {
	defer a.rep.stop()
	status := time.NewTicker(statusEvery)
	defer status.Stop()
	next := time.NewTimer(0)
	defer next.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-status.C:
			if err := a.writeStatus(); err != nil {
				return err
			}
		case err := <-a.rep.ended():
			a.rep.stop()
			a.rep.failure = err
			if fault.Is(err, fault.Fenced) {
				return errors.Join(err, a.writeStatus()) // trying again would fence the other one, and so for ever
			}
			a.cfg.Log.Error("replication stopped; trying again at the next handshake", "error", err)
		case <-next.C:
			wait, done, err := a.handshake(ctx)
			if done || err != nil {
				return err
			}
			next.Reset(wait)
		}
	}
}

// handshake reports, asks, and acts upon the answer.
func (a *session) handshake(ctx context.Context) (wait time.Duration, done bool, err error) {
	call, cancel := context.WithTimeout(ctx, handshakeTimeout)
	defer cancel()
	m, err := a.client.Handshake(call, a.report())
	if err != nil {
		// Replication goes on: the data path does not need the control plane.
		a.note(called("handshake with "+a.cfg.Endpoint, err))
		return handshakeRetry, false, nil
	}
	a.note(nil)
	a.attempt = m.AttemptId
	wait = max(time.Duration(m.NextHandshakeSeconds)*time.Second, time.Second)
	switch m.Desired {
	case agentpb.Desired_DESIRED_RUN:
		if m.ReplicationAddress == "" {
			return wait, false, nil
		}
		if err := a.rep.start(ctx, m.ReplicationAddress, m.Disks); err != nil {
			return wait, false, a.cannotStart(ctx, err)
		}
		a.rep.throttle(m.BandwidthMbps)
	case agentpb.Desired_DESIRED_PAUSE:
		a.rep.stop()
	case agentpb.Desired_DESIRED_STOP:
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
		return errors.Join(err, a.writeStatus())
	}
	a.cfg.Log.Error("replication cannot start; trying again at the next handshake", "error", err)
	return nil
}

// lastWord tells the service why the agent ends.
func (a *session) lastWord(ctx context.Context) {
	call, cancel := context.WithTimeout(ctx, lastWordTimeout)
	defer cancel()
	if _, err := a.client.Handshake(call, a.report()); err != nil {
		a.note(called("handshake with "+a.cfg.Endpoint, err))
	}
}

func (a *session) report() *agentpb.HandshakeRequest {
	return &agentpb.HandshakeRequest{SourceServerId: a.id.ServerID, Progress: a.rep.progress(), AttemptId: a.attempt, AgentTimeNs: time.Now().UnixNano()}
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
