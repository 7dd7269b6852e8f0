package points

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"time"

	"github.com/understudy-dr/understudy/internal/control"
	"github.com/understudy-dr/understudy/internal/fault"
	"github.com/understudy-dr/understudy/internal/state"
)

// Below finds the last recoverable state of an epoch at or below a place in the stream. fault.Transient while not all of
// that has come; fault.NotFound when it never will.
type Below interface {
	AtOrBelow(serverID string, epoch, position uint64) (pos uint64, t time.Time, err error)
}

// Consistent keeps application-consistent points: agents make them, because somebody asked or by their own schedule, and
// report them until they are settled.
type Consistent struct {
	points *Points
	below  Below
}

// NewConsistent returns the application-consistent points among points.
func NewConsistent(points *Points, below Below) *Consistent { return &Consistent{points, below} }

// RequestFor is how long somebody waits for a requested point.
const RequestFor = 2 * time.Minute

// maxTold bounds what is kept of an agent's words.
const maxTold = 1024

// Request asks a server's agent for a point at its next handshake. One request is open at a time: asking again joins it.
// fault.Conflict when the server is not replicated now.
func (c *Consistent) Request(ctx context.Context, s state.Scope, serverID string) (q state.PointRequest, err error) {
	now := time.Now().UTC()
	err = c.points.store.Update(ctx, func(tx state.Tx) error {
		rec, err := tx.Replication(ctx, serverID)
		switch {
		case fault.Is(err, fault.NotFound) || err == nil && rec.Scope != s:
			return control.Missing("points", control.SourceServer, serverID)
		case err != nil:
			return err
		case !rec.Staged || rec.Teardown || rec.Intent != state.IntentRun:
			return control.Refuse("points", control.SourceServer, serverID, "no recovery point can be made while data replication is %s", rec.State)
		}
		q, err = tx.PointRequest(ctx, serverID)
		if err == nil && q.Open(now) {
			return nil
		}
		if err != nil && !fault.Is(err, fault.NotFound) {
			return err
		}
		q = state.PointRequest{ID: control.NewID("ask-"), Scope: s, ServerID: serverID, AskedAt: now, Until: now.Add(RequestFor)}
		return tx.PutPointRequest(ctx, q)
	})
	return q, fault.Wrap("points: request", err)
}

// Requested tells what became of a server's newest request.
func (c *Consistent) Requested(ctx context.Context, s state.Scope, serverID, id string) (q state.PointRequest, err error) {
	err = c.points.store.View(ctx, func(r state.Reader) error {
		q, err = r.PointRequest(ctx, serverID)
		return err
	})
	switch {
	case err != nil && !fault.Is(err, fault.NotFound):
		return q, fault.Wrap("points: request", err)
	case err != nil || q.Scope != s || q.ID != id:
		return q, fault.New(fault.NotFound, "points: request", "there is no request %s, or a newer one", id)
	case q.PointID == "" && q.Error == "" && !q.Open(time.Now()):
		q.Error = "the agent did not answer in time"
	}
	return q, nil
}

// Wanted is the open request that a server's agent is to answer; "" when there is none.
func (c *Consistent) Wanted(ctx context.Context, serverID string) (id string, err error) {
	err = c.points.store.View(ctx, func(r state.Reader) error {
		q, err := r.PointRequest(ctx, serverID)
		if err == nil && q.Open(time.Now()) {
			id = q.ID
		}
		if fault.Is(err, fault.NotFound) {
			return nil
		}
		return err
	})
	return id, fault.Wrap("points: wanted", err)
}

// Reported is a point as an agent reports it.
type Reported struct {
	ID        string
	RequestID string
	Epoch     uint64
	Position  uint64
	Age       time.Duration // since it was taken, by the agent's clock
	Error     string
}

// Settle records a reported point, or notes why there is none. It may be told again: the same report is the same point.
// settled says that it need not be.
func (c *Consistent) Settle(ctx context.Context, s state.Scope, serverID string, m Reported) (settled bool, err error) {
	const op = "points: settle"
	if m.Error != "" {
		return true, fault.Wrap(op, c.answer(ctx, serverID, m, "", m.Error))
	}
	position, _, err := c.below.AtOrBelow(serverID, m.Epoch, m.Position)
	switch fault.KindOf(err) {
	case fault.NotFound, fault.Conflict: // and will not be there later
		c.points.log.Warn("an application-consistent point cannot be recovered", "server", serverID, "error", err)
		return true, fault.Wrap(op, c.answer(ctx, serverID, m, "", err.Error()))
	case fault.Transient:
		return false, nil
	}
	if err != nil {
		return false, fault.Wrap(op, err)
	}
	taken := time.Now().UTC().Add(-max(m.Age, 0))
	p := state.Point{ID: idOf(serverID, m.ID), Scope: s, ServerID: serverID, Expected: taken, At: taken, Position: position,
		Consistency: state.ApplicationConsistent}
	err = c.record(ctx, p)
	if k := fault.KindOf(err); k == fault.Conflict || k == fault.NotFound {
		return true, fault.Wrap(op, c.answer(ctx, serverID, m, "", err.Error()))
	}
	if err != nil {
		return false, fault.Wrap(op, err)
	}
	return true, fault.Wrap(op, c.answer(ctx, serverID, m, p.ID, ""))
}

// record stores a point unless it is there already.
func (c *Consistent) record(ctx context.Context, p state.Point) error {
	err := c.points.store.View(ctx, func(r state.Reader) error {
		_, err := r.Point(ctx, p.Scope, p.ID)
		return err
	})
	if !fault.Is(err, fault.NotFound) {
		return err
	}
	return c.points.put(ctx, p, nil)
}

// idOf makes the point's id of the agent's, so that a report told twice is one point, and none is another server's.
func idOf(serverID, id string) string {
	sum := sha256.Sum256([]byte(serverID + "/" + id))
	return "pit-" + hex.EncodeToString(sum[:])[:17]
}

// answer closes the request that a report answers, if that is still open.
func (c *Consistent) answer(ctx context.Context, serverID string, m Reported, pointID, why string) error {
	if m.RequestID == "" {
		return nil
	}
	return c.points.store.Update(ctx, func(tx state.Tx) error {
		q, err := tx.PointRequest(ctx, serverID)
		if fault.Is(err, fault.NotFound) || err == nil && (q.ID != m.RequestID || q.PointID != "" || q.Error != "") {
			return nil
		}
		if err != nil {
			return err
		}
		q.PointID, q.Error = pointID, why[:min(len(why), maxTold)]
		return tx.PutPointRequest(ctx, q)
	})
}
