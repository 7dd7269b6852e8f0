package replication

import (
	"context"
	"time"

	"github.com/understudy-dr/understudy/internal/fault"
	"github.com/understudy-dr/understudy/internal/state"
)

// Phase is what an agent is doing.
type Phase uint8

// The phases. An agent that is idle captures or sends nothing.
const (
	PhaseIdle Phase = iota
	PhaseInitialSync
	PhaseRescan
	PhaseStreaming
)

// Report is what an agent tells at a handshake.
type Report struct {
	Phase     Phase
	AttemptID uint64 // of the command it acts on
	Disks     []state.DiskProgress
	LastError string
	AgentTime time.Time // the agent's clock; zero is unknown
}

// Command is what an agent is told.
type Command struct {
	Desired   state.Intent
	AttemptID uint64
	// Address is what to dial; empty until the replication server is ready.
	Address string
	// Next is when to ask again.
	Next time.Duration
}

// sighting is an agent's last handshake.
type sighting struct {
	at     time.Time
	report Report
	// ahead is how far the agent's clock is ahead of ours; zero when that may be the network's doing.
	ahead time.Duration
	// retry: the handshake came after a retry was asked for.
	retry bool
}

// Handshake notes an agent's report and answers what to do. A server that is not known any more was
// deleted, so its agent is dismissed.
func (e *Engine) Handshake(ctx context.Context, s state.Scope, id string, r Report) (Command, error) {
	a, err := e.in(ctx, s, id)
	if fault.Is(err, fault.NotFound) {
		return Command{Desired: state.IntentDisconnect, Next: HandshakeIdle}, nil
	}
	if err != nil {
		return Command{}, fault.Wrap("replication: handshake", err)
	}
	status := e.server.Status(id)
	a.mu.Lock()
	defer a.mu.Unlock()
	now := time.Now().UTC()
	a.agent = sighting{at: now, report: r, ahead: clockDifference(r.AgentTime, now), retry: a.rec.Retry}
	a.rec.LastSeenAt = now
	a.progress(r.Disks)
	a.measure(status, now)
	e.queue.add(id)
	c := Command{Desired: a.rec.Intent, AttemptID: a.rec.Attempt.ID, Next: interval(a.rec.State)}
	if a.rec.Intent == state.IntentRun && !a.rec.Teardown && status.Attached {
		c.Address = e.server.Address()
	}
	return c, nil
}

func interval(s state.ReplicationState) time.Duration {
	switch s {
	case state.Continuous, state.Stopped, state.Paused, state.Disconnected:
		return HandshakeIdle
	}
	return HandshakeBusy
}

func clockDifference(agent, now time.Time) time.Duration {
	if agent.IsZero() {
		return 0
	}
	if d := agent.Sub(now); d.Abs() > clockSlack {
		return d
	}
	return 0
}

// progress takes over what the agent measured of the disks that are replicated. A server whose
// replication is off has nothing to report.
func (a *actor) progress(disks []state.DiskProgress) {
	if a.rec.Intent == state.IntentStop || a.rec.Intent == state.IntentDisconnect {
		return
	}
	byName := make(map[string]state.DiskProgress, len(disks))
	for _, d := range disks {
		byName[d.DeviceName] = d
	}
	fresh := make([]state.DiskProgress, len(a.rec.Disks)) // readers may hold the old slice
	for i, d := range a.rec.Disks {
		if told, ok := byName[d.DeviceName]; ok {
			told.Total = d.Total
			told.Replicated = min(told.Replicated, d.Total)
			told.Rescanned = min(told.Rescanned, d.Total)
			d = told
		}
		fresh[i] = d
	}
	a.rec.Disks = fresh
}

// measure notes what the replication server has. The caller holds a.mu.
func (a *actor) measure(s ReplicaStatus, now time.Time) {
	if !s.FirstByteAt.IsZero() && a.rec.FirstByteAt.IsZero() && a.rec.Intent == state.IntentRun {
		a.rec.FirstByteAt = s.FirstByteAt.UTC()
	}
	if s.Attached && s.Recoverable && a.rec.Staged && !a.rec.Teardown {
		a.rec.RecoverableAt = s.Watermark.UTC()
	}
	switch {
	case s.Connected:
		a.cutAt = time.Time{}
	case a.cutAt.IsZero():
		a.cutAt = now
	}
	a.rate.sample(now, remaining(a.rec))
	if a.rec.Intent == state.IntentRun {
		a.trouble.note(s, a.rec, a.agent.ahead, now)
	}
}

// current is a copy of the record to change. The caller holds a.mu.
func (a *actor) current() state.Replication { return clone(a.rec) }
