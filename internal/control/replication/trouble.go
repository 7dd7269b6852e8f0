package replication

import (
	"fmt"
	"time"

	"github.com/understudy-dr/understudy/internal/state"
)

// trouble is what goes wrong again and again: each time is forgiven, many times are told. It is measured in this
// process only; whoever calls an operation begins anew.
type trouble struct {
	connectedAt time.Time   // of the data connection that was seen last
	cuts        []time.Time // when such a connection was lost
	// Copies that had to begin anew before they were complete, for writes outran the link until their order was lost.
	epoch   uint64
	whole   bool // the epoch's copy is complete
	restart []time.Time
	anew    int       // restarts since a copy was complete
	lostAt  time.Time // when the first epoch began that never was
	// The least lag since the server fell behind, and when that was.
	least   time.Duration
	leastAt time.Time
}

// note takes a measurement. The caller holds the actor's lock.
func (t *trouble) note(s ReplicaStatus, r state.Replication, ahead time.Duration, now time.Time) {
	if s.Connected && !s.ConnectedAt.Equal(t.connectedAt) {
		if !t.connectedAt.IsZero() {
			t.cuts = recent(append(t.cuts, now), now, unstableWindow)
		}
		t.connectedAt = s.ConnectedAt
	}
	if t.calm(s, now) {
		t.cuts = nil
	}
	if s.Epoch != t.epoch {
		if t.whole || t.epoch == 0 {
			t.lostAt = now
		}
		if t.epoch != 0 && !t.whole {
			t.restart = recent(append(t.restart, now), now, restartWindow)
			t.anew++
		}
		t.epoch = s.Epoch
	}
	if t.whole = s.BaselineComplete; t.whole {
		t.restart, t.anew = nil, 0
	}
	behind := r.State == state.Backlog || r.State == state.Stalled && r.Resume == state.Backlog
	lag := lagOf(s.Watermark, ahead, now)
	if !behind || t.leastAt.IsZero() || lag < t.least {
		t.least, t.leastAt = lag, now
	}
}

// recent drops what is older than the window.
func recent(list []time.Time, now time.Time, window time.Duration) []time.Time {
	for len(list) > 0 && now.Sub(list[0]) > window {
		list = list[1:]
	}
	return list
}

// unstable says how the network is; empty while it is well.
func (t *trouble) unstable(now time.Time) string {
	t.cuts = recent(t.cuts, now, unstableWindow)
	if len(t.cuts) < unstableCuts {
		return ""
	}
	return fmt.Sprintf("the data connection broke %d times within %s", len(t.cuts), unstableWindow)
}

// calm tells that the network has been well for a while.
func (*trouble) calm(s ReplicaStatus, now time.Time) bool {
	return s.Connected && now.Sub(s.ConnectedAt) >= unstableQuiet
}

func outran(times int, within time.Duration) string {
	return fmt.Sprintf("writes outran the link: the copy began anew %d times within %s and was never complete", times, within)
}

// diverging says why a server will not catch up; empty while it may.
func (t *trouble) diverging(s ReplicaStatus, r state.Replication, ahead time.Duration, now time.Time) string {
	t.restart = recent(t.restart, now, restartWindow)
	if len(t.restart) >= divergeRestarts {
		return outran(len(t.restart), restartWindow)
	}
	if lost := now.Sub(t.lostAt); t.anew >= divergeOften && lost >= divergeAfter {
		return outran(t.anew, lost.Truncate(time.Minute))
	}
	lag := lagOf(s.Watermark, ahead, now)
	behind := r.State == state.Backlog || r.State == state.Stalled && r.Resume == state.Backlog
	if behind && s.BaselineComplete && lag >= divergeLag && now.Sub(t.leastAt) >= divergeAfter {
		return fmt.Sprintf("the lag is %s and has not got less for %s; %d bytes are waiting", lag.Round(time.Second), divergeAfter, backlogOf(r))
	}
	return ""
}
