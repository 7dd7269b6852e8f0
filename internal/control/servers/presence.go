package servers

import (
	"context"
	"slices"
	"sync"
	"time"

	"github.com/understudy-dr/understudy/internal/control/replication"
	"github.com/understudy-dr/understudy/internal/fault"
	"github.com/understudy-dr/understudy/internal/state"
)

// Presence is what an agent says of the machine it runs on. Machines cloned from one image have the same certificate,
// and may have the same identity; what they cannot have is one start of the kernel.
type Presence struct {
	Identity string
	Disks    []string      // digests; hardware without serial numbers has none
	Boot     string        // another one each time the kernel starts
	Up       time.Duration // since the kernel started
}

// quiet is how long the kernel that was seen last must have been silent before another start of the same machine is
// believed: more than two handshakes of its would have come by then. tolerance covers a handshake that was under way
// while the machine started again.
const (
	quiet     = 2*replication.HandshakeIdle + tolerance
	tolerance = 5 * time.Second
)

// sightings are when each server's machine was last heard of, in this process.
type sightings struct {
	mu      sync.Mutex
	started time.Time
	last    map[string]time.Time
}

func (s *sightings) note(id string, now time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.last[id] = now
}

// of is when a server may last have been heard of. What came before this process started is not known to it.
func (s *sightings) of(id string) (at time.Time, known bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if at, known = s.last[id]; known {
		return at, true
	}
	return s.started, false
}

func (s *sightings) forget(id string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.last, id)
}

// Present takes note of a report of a server's agent, and of what it says of its machine when that has changed (else
// nil), and returns the server. A machine that is not the registered one is refused with fault.Fenced; while that
// cannot be told yet, with fault.Transient.
func (v *Servers) Present(ctx context.Context, s state.Scope, id string, p Presence, facts *state.SourceProperties) (state.Server, error) {
	const op = "servers: present"
	if facts != nil && tooMany(*facts) {
		return state.Server{}, fault.New(fault.Invalid, op, "the source properties have too many entries")
	}
	now := time.Now()
	x, err := v.Get(ctx, s, id)
	if err == nil {
		err = v.recognise(x, p, now)
	}
	if err == nil && (facts != nil || !p.matches(x.Machine)) {
		x, err = v.change(ctx, s, id, func(_ state.Reader, x *state.Server) error {
			if err := v.recognise(*x, p, now); err != nil { // another may have been faster
				return err
			}
			x.Machine = p.machine()
			if facts != nil {
				x.Properties = v.properties(*facts, now.UTC())
			}
			return nil
		})
	}
	switch {
	case err == nil:
		v.seen.note(id, now)
	case fault.Is(err, fault.NotFound):
		v.seen.forget(id)
	}
	return x, fault.Wrap(op, err)
}

func (p Presence) machine() state.Machine { return state.Machine{Disks: p.Disks, Boot: p.Boot} }

func (p Presence) matches(m state.Machine) bool {
	return p.Boot == m.Boot && slices.Equal(p.Disks, m.Disks)
}

// properties completes what the agent said of its machine.
func (v *Servers) properties(p state.SourceProperties, now time.Time) state.SourceProperties {
	p.UpdatedAt = now
	if v.recommend != nil {
		p.RecommendedType = v.recommend(p)
	}
	return p
}

// recognise refuses a machine that is not the one that x stands for.
func (v *Servers) recognise(x state.Server, p Presence, now time.Time) error {
	if (Registration{Identity: p.Identity, UserProvidedID: x.UserProvidedID}).identity() != x.Identity {
		return copied(x.ID, "its machine id or its system UUID is another")
	}
	if strange(p.Disks, x.Machine.Disks) {
		return copied(x.ID, "none of its disks is one of that machine's")
	}
	if x.Machine.Boot == "" || p.Boot == x.Machine.Boot {
		return nil
	}
	seen, known := v.seen.of(x.ID)
	switch {
	case known && seen.After(now.Add(tolerance-p.Up)):
		return copied(x.ID, "another machine has reported as it since this one was started")
	case now.Sub(seen) < quiet:
		return fault.New(fault.Transient, "machine", "%s was heard of %s ago from before this machine was started", x.ID, now.Sub(seen).Round(time.Second)).
			WithHint("it goes on by itself in " + quiet.String() + ", unless another machine like this one is running")
	}
	return nil
}

// strange reports whether two sets of disks have nothing in common. Hardware that says nothing is no stranger.
func strange(a, b []string) bool {
	return len(a) > 0 && len(b) > 0 && !slices.ContainsFunc(a, func(d string) bool { return slices.Contains(b, d) })
}

func copied(id, why string) error {
	return fault.New(fault.Fenced, "machine", "this machine is not %s, it is a copy of it: %s", id, why).
		WithHint("on the copy: give it a machine id of its own (rm /etc/machine-id; systemd-machine-id-setup), " +
			"then 'understudy agent uninstall', then install the agent anew")
}
