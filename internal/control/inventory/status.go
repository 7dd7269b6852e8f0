package inventory

import (
	"time"

	"github.com/understudy-dr/understudy/internal/state"
)

// Health and Progress are the aggregated states of an application or wave, as the API spells them.
type (
	Health   string
	Progress string
)

// The aggregated states.
const (
	Healthy Health = "HEALTHY"
	Lagging Health = "LAGGING"
	Error   Health = "ERROR"

	NotStarted Progress = "NOT_STARTED"
	InProgress Progress = "IN_PROGRESS"
	Completed  Progress = "COMPLETED"
)

// Status sums up the servers of an application or wave.
type Status struct {
	Health       Health // empty when it is archived: nobody looks any more
	Progress     Progress
	Servers      int
	Applications int       // of a wave
	StartedAt    time.Time // when the first server began to replicate; zero: none has
	UpdatedAt    time.Time
}

// sum makes one status per id of what the store counted.
func sum(counted []state.Members, now time.Time) map[string]*Status {
	type tally struct {
		all, cutOver, begun int
		health              Health
		first               time.Time
	}
	tallies := map[string]*tally{}
	for _, m := range counted {
		t := tallies[m.Of]
		if t == nil {
			t = &tally{health: Healthy}
			tallies[m.Of] = t
		}
		t.all += m.Count
		if m.LifeCycle == state.Cutover {
			t.cutOver += m.Count
		}
		if begun(m) {
			t.begun += m.Count
		}
		t.health = worse(t.health, m.Replication)
		if f := m.FirstByteAt; !f.IsZero() && (t.first.IsZero() || f.Before(t.first)) {
			t.first = f
		}
	}
	out := map[string]*Status{}
	for id, t := range tallies {
		s := &Status{Health: t.health, Progress: NotStarted, Servers: t.all, StartedAt: t.first, UpdatedAt: now}
		switch {
		case t.cutOver == t.all:
			s.Progress = Completed
		case t.begun > 0:
			s.Progress = InProgress
		}
		out[id] = s
	}
	return out
}

// begun tells whether servers have ever begun to replicate.
func begun(m state.Members) bool {
	switch m.Replication {
	case "", state.Stopped, state.Disconnected:
		return !m.FirstByteAt.IsZero() || m.LifeCycle == state.Cutover
	}
	return true
}

// worse is the health of a group after servers in one replication state joined it.
func worse(h Health, r state.ReplicationState) Health {
	switch {
	case h == Error || r == state.Stalled:
		return Error
	case r == state.Backlog || r == state.Rescan:
		return Lagging
	}
	return h
}

// over tells whether servers need nothing more, so that what groups them may be archived.
func over(counted []state.Members) (unfinished int) {
	for _, m := range counted {
		if m.LifeCycle != state.Cutover && m.LifeCycle != state.LifeDisconnected {
			unfinished += m.Count
		}
	}
	return unfinished
}
