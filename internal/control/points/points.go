// Package points keeps recovery points: records that name a position of a server's journal. It makes
// them by the point-in-time policy while replication is CONTINUOUS and drops them when no rule keeps
// them; Retention tells the journals what must stay readable. internal/app assembles it; the edges list
// points through control.Points, launches and exports pin what they use.
package points

import (
	"context"
	"errors"
	"log/slog"
	"time"

	"github.com/understudy-dr/understudy/internal/control"
	"github.com/understudy-dr/understudy/internal/fault"
	"github.com/understudy-dr/understudy/internal/state"
)

// Positions finds the latest recoverable position of a server at or before a time.
type Positions interface {
	RecoverablePosition(serverID string, at time.Time) (pos uint64, t time.Time, err error)
}

// Points is control.Points over a store.
type Points struct {
	store     state.Store
	positions Positions
	made      func(state.Point)
	log       *slog.Logger
}

var _ control.Points = (*Points)(nil)

// New returns the points in store. made is told of every new one.
func New(store state.Store, positions Positions, made func(state.Point), log *slog.Logger) *Points {
	return &Points{store: store, positions: positions, made: made, log: log}
}

// List shows one server's points by expected time; a server of another scope has none.
func (p *Points) List(ctx context.Context, s state.Scope, serverID string, f state.PointFilter, page state.Page) (items []state.Point, next string, err error) {
	err = p.store.View(ctx, func(r state.Reader) error {
		_, err := r.Server(ctx, s, serverID)
		if fault.Is(err, fault.NotFound) {
			return nil
		}
		if err == nil {
			items, next, err = r.Points(ctx, serverID, f, page)
		}
		return err
	})
	return items, next, fault.Wrap("points: list", err)
}

// Get returns one point.
func (p *Points) Get(ctx context.Context, s state.Scope, id string) (out state.Point, err error) {
	err = p.store.View(ctx, func(r state.Reader) error {
		out, err = r.Point(ctx, s, id)
		if fault.Is(err, fault.NotFound) {
			return control.Missing("points", control.Snapshot, id)
		}
		return err
	})
	return out, fault.Wrap("points: get", err)
}

// Take makes a point of the newest recoverable position now. fault.NotFound when there is none yet,
// fault.Conflict when the server has no staging area.
func (p *Points) Take(ctx context.Context, s state.Scope, serverID string) (state.Point, error) {
	out, err := p.take(ctx, s, serverID, time.Now().UTC(), nil)
	return out, fault.Wrap("points: take", err)
}

// take makes a point for an expected time. allowed narrows the replication states it may be made in.
func (p *Points) take(ctx context.Context, s state.Scope, serverID string, expected time.Time, allowed func(state.ReplicationState) bool) (state.Point, error) {
	pos, at, err := p.positions.RecoverablePosition(serverID, expected)
	if err != nil {
		return state.Point{}, err
	}
	out := state.Point{ID: control.NewID("pit-"), Scope: s, ServerID: serverID, Expected: expected, At: at.UTC(), Position: pos}
	if err := p.put(ctx, out, allowed); err != nil {
		return state.Point{}, err
	}
	return out, nil
}

// put stores a new point.
func (p *Points) put(ctx context.Context, out state.Point, allowed func(state.ReplicationState) bool) error {
	err := p.store.Update(ctx, func(tx state.Tx) error {
		// Looked at here and not before: StopReplication wipes the points, and none may come after.
		rec, err := tx.Replication(ctx, out.ServerID)
		switch {
		case fault.Is(err, fault.NotFound) || err == nil && rec.Scope != out.Scope:
			return control.Missing("points", control.SourceServer, out.ServerID)
		case err != nil:
			return err
		case !rec.Staged || rec.Teardown || allowed != nil && !allowed(rec.State):
			return control.Refuse("points", control.SourceServer, out.ServerID, "no recovery point can be made while data replication is %s", rec.State)
		}
		return tx.PutPoint(ctx, out)
	})
	if err == nil {
		p.made(out)
	}
	return err
}

// settle is how long after an instant its point is made, so that what was written up to it is durable.
const settle = 2 * time.Second

// horizon is the time that expiry goes by when the clock says now. A clock that was set ahead makes every point look old, and what has expired
// does not come back when the clock is set right; so it gains on the clock by no more than an interval in each.
func horizon(last, now time.Time) time.Time {
	if most := last.Add(2 * interval); !last.IsZero() && now.After(most) {
		return most
	}
	return now
}

// Run makes and expires points until ctx ends. Instants that pass while nothing runs are not made up for.
func (p *Points) Run(ctx context.Context) error {
	var old time.Time
	for {
		expected := time.Now().UTC().Add(-settle).Truncate(interval).Add(interval)
		timer := time.NewTimer(time.Until(expected.Add(settle)))
		select {
		case <-ctx.Done():
			timer.Stop()
			return nil
		case <-timer.C:
		}
		old = horizon(old, expected)
		if err := p.tick(ctx, expected, old); err != nil && ctx.Err() == nil {
			p.log.Error("cannot keep recovery points", "at", expected, "error", err)
		}
	}
}

// tick does what an instant asks for, server by server; one server's trouble is not another's. What expires goes by old.
func (p *Points) tick(ctx context.Context, expected, old time.Time) error {
	for page := (state.Page{Limit: state.MaxLimit}); ; {
		var items []state.Replication
		var next string
		err := p.store.View(ctx, func(r state.Reader) (err error) {
			items, next, err = r.Replications(ctx, state.ReplicationFilter{}, page)
			return err
		})
		if err != nil {
			return err
		}
		for _, rec := range items {
			if err := p.keep(ctx, rec, expected, old); err != nil {
				if ctx.Err() != nil {
					return ctx.Err()
				}
				p.log.Warn("cannot keep recovery points", "server", rec.ServerID, "at", expected, "error", err)
			}
		}
		if next == "" {
			return nil
		}
		page.After = next
	}
}

func continuous(s state.ReplicationState) bool { return s == state.Continuous }

// keep makes one server's point if one is due, and drops those that nothing keeps.
func (p *Points) keep(ctx context.Context, rec state.Replication, expected, old time.Time) error {
	if !rec.Staged || rec.Teardown {
		return nil
	}
	var v state.Server
	err := p.store.View(ctx, func(r state.Reader) (err error) {
		v, err = r.Server(ctx, rec.Scope, rec.ServerID)
		return err
	})
	if err != nil {
		return err
	}
	rules := policyOf(v)
	if continuous(rec.State) && rules.due(expected) {
		_, err = p.take(ctx, rec.Scope, rec.ServerID, expected, continuous)
		switch fault.KindOf(err) {
		case fault.Conflict, fault.NotFound: // made already, or the server left CONTINUOUS just now
			err = nil
		}
	}
	return errors.Join(err, p.expire(ctx, rec.ServerID, rules, old))
}

// expire drops what no rule keeps. What is pinned stays until nobody uses it, whatever the rules say.
func (p *Points) expire(ctx context.Context, serverID string, rules policy, now time.Time) error {
	var old []state.Point
	err := p.store.View(ctx, func(r state.Reader) error {
		all, err := allPoints(ctx, r, serverID)
		old = rules.expired(all, now)
		return err
	})
	if err != nil || len(old) == 0 {
		return err
	}
	return p.store.Update(ctx, func(tx state.Tx) error {
		pins, err := tx.ServerPins(ctx, serverID)
		if err != nil {
			return err
		}
		used := map[string]bool{}
		for _, pin := range pins {
			used[pin.PointID] = true
		}
		for _, pt := range old {
			if used[pt.ID] {
				continue
			}
			if err := tx.DeletePoint(ctx, pt.ID); err != nil {
				return err
			}
		}
		return nil
	})
}

// Delete drops one point before its time. fault.Conflict while it is in use.
func (p *Points) Delete(ctx context.Context, s state.Scope, id string) error {
	err := p.store.Update(ctx, func(tx state.Tx) error {
		_, err := tx.Point(ctx, s, id)
		if fault.Is(err, fault.NotFound) {
			return control.Missing("points", control.Snapshot, id)
		}
		if err != nil {
			return err
		}
		return tx.DeletePoint(ctx, id)
	})
	return fault.Wrap("points: delete", err)
}
