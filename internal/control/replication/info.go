package replication

import (
	"context"
	"slices"
	"time"

	"github.com/understudy-dr/understudy/internal/control"
	"github.com/understudy-dr/understudy/internal/fault"
	"github.com/understudy-dr/understudy/internal/state"
)

// Describe tells the replication of each of the given servers, in order.
func (e *Engine) Describe(ctx context.Context, servers []state.Server) ([]control.ReplicationInfo, error) {
	out := make([]control.ReplicationInfo, len(servers))
	var cold []string // servers that nothing happens to have no actor, and need none to be looked at
	for i, v := range servers {
		e.mu.Lock()
		a := e.actors[v.ID]
		e.mu.Unlock()
		if a == nil {
			cold = append(cold, v.ID)
			continue
		}
		out[i] = e.info(a)
	}
	records, err := e.records(ctx, cold)
	if err != nil {
		return nil, fault.Wrap("replication: describe", err)
	}
	for i, v := range servers {
		if r, ok := records[v.ID]; ok {
			out[i] = describe(r, time.Now().UTC(), 0, rate{})
		} else if out[i].State == "" { // no agent has ever registered
			out[i].State = state.Stopped
			if v.LifeCycle.State == state.LifeDisconnected {
				out[i].State = state.Disconnected
			}
		}
	}
	return out, nil
}

func (e *Engine) records(ctx context.Context, ids []string) (map[string]state.Replication, error) {
	out := map[string]state.Replication{}
	for part := range slices.Chunk(ids, state.MaxLimit) {
		err := e.store.View(ctx, func(r state.Reader) error {
			items, _, err := r.Replications(ctx, state.ReplicationFilter{ServerIDs: part}, state.Page{Limit: len(part)})
			for _, rec := range items {
				out[rec.ServerID] = rec
			}
			return err
		})
		if err != nil {
			return nil, err
		}
	}
	return out, nil
}

func (e *Engine) info(a *actor) control.ReplicationInfo {
	status := e.server.Status(a.id)
	a.mu.Lock()
	defer a.mu.Unlock()
	now := time.Now().UTC()
	a.measure(status, now)
	i := describe(a.current(), now, a.agent.ahead, a.rate)
	i.StoredAt = a.savedAt
	if status.Attached {
		i.ReplicatorID = e.server.Address()
	}
	return i
}

func describe(r state.Replication, now time.Time, ahead time.Duration, measured rate) control.ReplicationInfo {
	i := control.ReplicationInfo{
		State: r.State, Error: r.Error, Attempt: r.Attempt, Disks: r.Disks,
		LastPointAt: r.LastPointAt, FirstByteAt: r.FirstByteAt, LastSeenAt: r.LastSeenAt,
	}
	if now.After(i.Attempt.NextAttemptAt) {
		i.Attempt.NextAttemptAt = ceilMinute(now)
	}
	if !r.RecoverableAt.IsZero() {
		lag := lagOf(r.RecoverableAt, ahead, now)
		if r.State == state.Continuous && lag < HealthyLag {
			lag = 0
		}
		i.Lag = &lag
	}
	switch r.State {
	case state.InitialSync, state.Rescan, state.Backlog:
		i.ETA = measured.eta(now)
	}
	if r.Complete && r.State != state.InitialSync {
		for n := range i.Disks { // what was copied once stays copied; only a rescan looks at it again
			i.Disks[n].Replicated = i.Disks[n].Total
			if r.State != state.Rescan {
				i.Disks[n].Rescanned = i.Disks[n].Total
			}
		}
	}
	return i
}

// remaining is how many bytes are to go in the present phase.
func remaining(r state.Replication) (n uint64) {
	for _, d := range r.Disks {
		switch r.State {
		case state.InitialSync:
			n += d.Total - min(d.Total, d.Replicated)
		case state.Rescan:
			n += d.Total - min(d.Total, d.Rescanned)
		case state.Backlog:
			n += d.Backlogged
		}
	}
	return n
}

// rate measures how fast what remains gets less, over the last one to two windows.
type rate struct {
	old, mid, last measure
}

type measure struct {
	at   time.Time
	left uint64
}

func (r *rate) sample(now time.Time, left uint64) {
	r.last = measure{now, left}
	if r.old.at.IsZero() {
		r.old, r.mid = r.last, r.last
	}
	if now.Sub(r.mid.at) >= rateWindow {
		r.old, r.mid = r.mid, r.last
	}
}

// eta is when nothing will be left; zero when it is not getting less.
func (r *rate) eta(now time.Time) time.Time {
	took := r.last.at.Sub(r.old.at)
	if took <= 0 || r.last.left >= r.old.left {
		return time.Time{}
	}
	perByte := float64(took) / float64(r.old.left-r.last.left)
	left := perByte * float64(r.last.left)
	const farthest = float64(10 * 365 * 24 * time.Hour) // what is slower is not moving
	if left > farthest {
		return time.Time{}
	}
	return now.Add(time.Duration(left))
}
