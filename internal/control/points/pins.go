package points

import (
	"context"
	"time"

	"github.com/understudy-dr/understudy/internal/control"
	"github.com/understudy-dr/understudy/internal/fault"
	"github.com/understudy-dr/understudy/internal/state"
)

// PinRequest says what to keep, for whom and why. A recovery point or else a position.
type PinRequest struct {
	ServerID string
	PointID  string
	Position uint64
	Owner    string
	Purpose  state.PinPurpose
}

func (q PinRequest) check() error {
	const op = "points: pin"
	if q.Owner == "" || q.Purpose == "" {
		return fault.New(fault.Bug, op, "nobody would let go of it")
	}
	if (q.PointID == "") == (q.Position == 0) {
		return fault.New(fault.Invalid, op, "either a recovery point or a position is needed")
	}
	return nil
}

// Pin keeps a state readable until its owner releases it. Asking again for what the owner has pinned already is answered
// with that pin. fault.NotFound when the state is not recoverable, fault.Conflict when the server's journal is going.
func (r *Retention) Pin(ctx context.Context, s state.Scope, q PinRequest) (state.Pin, error) {
	if err := q.check(); err != nil {
		return state.Pin{}, err
	}
	defer r.turn(q.ServerID)()
	pin := state.Pin{
		ID: control.NewID("pin-"), Scope: s, ServerID: q.ServerID, PointID: q.PointID, Position: q.Position,
		Owner: q.Owner, Purpose: q.Purpose, CreatedAt: time.Now().UTC(),
	}
	have := false
	err := r.store.View(ctx, func(tx state.Reader) (err error) {
		pin, have, err = look(ctx, tx, pin)
		return err
	})
	if err == nil && !have {
		err = r.put(ctx, &pin)
	}
	if err != nil {
		return state.Pin{}, fault.Wrap("points: pin", err)
	}
	return pin, nil
}

// look completes a wanted pin by its point, or finds the one that its owner has already.
func look(ctx context.Context, tx state.Reader, want state.Pin) (pin state.Pin, have bool, err error) {
	if want.PointID != "" {
		p, err := tx.Point(ctx, want.Scope, want.PointID)
		if fault.Is(err, fault.NotFound) || err == nil && p.ServerID != want.ServerID {
			return want, false, control.Missing("points", control.Snapshot, want.PointID)
		}
		if err != nil {
			return want, false, err
		}
		want.Position = p.Position
	}
	all, err := tx.OwnerPins(ctx, want.Owner)
	for _, p := range all {
		if p.ServerID == want.ServerID && p.Position == want.Position {
			return p, true, nil
		}
	}
	return want, false, err
}

// put stores a pin on what can be read now. The caller has the server's turn, so it is still there when the journal
// is told next.
func (r *Retention) put(ctx context.Context, pin *state.Pin) error {
	at, err := r.journals.Recoverable(pin.ServerID, pin.Position)
	if err != nil {
		return err
	}
	pin.At = at.UTC()
	return r.store.Update(ctx, func(tx state.Tx) error {
		// Looked at here and not before: stopping a server's replication deletes its journal, and what is pinned after
		// that would keep nothing.
		rec, err := tx.Replication(ctx, pin.ServerID)
		switch {
		case fault.Is(err, fault.NotFound) || err == nil && rec.Scope != pin.Scope:
			return control.Missing("points", control.SourceServer, pin.ServerID)
		case err != nil:
			return err
		case !rec.Staged || rec.Teardown:
			return control.Refuse("points", control.SourceServer, pin.ServerID, "nothing can be kept while data replication is %s", rec.State)
		}
		return tx.PutPin(ctx, *pin)
	})
}

// Release lets go of everything that an owner has pinned. There being nothing is no error.
func (r *Retention) Release(ctx context.Context, owner string) error {
	var had []state.Pin
	err := r.store.Update(ctx, func(tx state.Tx) (err error) {
		if had, err = tx.OwnerPins(ctx, owner); err != nil || len(had) == 0 {
			return err
		}
		return tx.DeletePins(ctx, owner)
	})
	for _, p := range had {
		r.Changed(p.ServerID)
	}
	return fault.Wrap("points: release", err)
}

// Pins lists a scope's pins, oldest first.
func (r *Retention) Pins(ctx context.Context, s state.Scope, page state.Page) (items []state.Pin, next string, err error) {
	err = r.store.View(ctx, func(tx state.Reader) error {
		items, next, err = tx.Pins(ctx, s, page)
		return err
	})
	return items, next, fault.Wrap("points: list pins", err)
}
