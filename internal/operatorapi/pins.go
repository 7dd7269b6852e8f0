package operatorapi

import (
	"context"
	"net/http"

	"github.com/understudy-dr/understudy/internal/control"
	"github.com/understudy-dr/understudy/internal/control/points"
	"github.com/understudy-dr/understudy/internal/fault"
	"github.com/understudy-dr/understudy/internal/operatorapi/schema"
	"github.com/understudy-dr/understudy/internal/state"
)

func (h *Handler) routePins() {
	h.mux.HandleFunc("GET "+schema.PathPins, h.answer(h.pins))
	h.mux.HandleFunc("POST "+schema.PathHold, h.answer(h.hold))
	h.mux.HandleFunc("DELETE "+schema.PathPin, h.answer(h.release))
	h.mux.HandleFunc("DELETE "+schema.PathPointOne, h.answer(h.deletePoint))
}

func pinOf(p state.Pin) schema.Pin {
	return schema.Pin{ID: p.ID, Server: p.ServerID, Point: p.PointID, Time: p.At.UTC(), Position: p.Position, Owner: p.Owner,
		Purpose: string(p.Purpose), CreatedAt: p.CreatedAt.UTC()}
}

// eachPin calls fn for the caller's pins in both services until it says false.
func (h *Handler) eachPin(r *http.Request, fn func(state.Pin) bool) error {
	account, err := account(r)
	if err != nil {
		return err
	}
	for _, service := range services {
		for page := (state.Page{Limit: state.MaxLimit}); ; {
			items, next, err := h.Retention.Pins(r.Context(), state.Scope{Account: account, Service: service}, page)
			if err != nil {
				return err
			}
			for _, p := range items {
				if !fn(p) {
					return nil
				}
			}
			if next == "" {
				break
			}
			page.After = next
		}
	}
	return nil
}

func (h *Handler) pins(r *http.Request) (any, error) {
	out := schema.Pins{Pins: []schema.Pin{}}
	return &out, h.eachPin(r, func(p state.Pin) bool {
		out.Pins = append(out.Pins, pinOf(p))
		return true
	})
}

// hold pins a state because somebody asks for it. Each is its own owner.
func (h *Handler) hold(r *http.Request) (any, error) {
	s, err := h.server(r)
	if err != nil {
		return nil, err
	}
	owner := r.URL.Query().Get(schema.ParamNote)
	if owner == "" {
		owner = "held"
	}
	q := points.PinRequest{ServerID: s.ID, Owner: control.NewID(owner + "-"), Purpose: state.PinHold}
	if q.PointID = r.URL.Query().Get(schema.ParamPoint); q.PointID == "" {
		choice, err := h.choice(r, s)
		if err != nil {
			return nil, err
		}
		p, err := h.Volumes.Resolve(s.ID, choice)
		if err != nil {
			return nil, notCopied(err)
		}
		q.Position = p.Position
	}
	p, err := h.Retention.Pin(r.Context(), s.Scope, q)
	return pinOf(p), err
}

// release lets go of a held state. What a launch or a connection uses ends with that.
func (h *Handler) release(r *http.Request) (any, error) {
	var found state.Pin
	err := h.eachPin(r, func(p state.Pin) bool {
		if p.ID == r.PathValue("pin") {
			found = p
		}
		return found.ID == ""
	})
	switch {
	case err != nil:
		return nil, err
	case found.ID == "":
		return nil, fault.New(fault.NotFound, "", "there is no pin %s", r.PathValue("pin")).WithHint("'understudy pins' lists them")
	case found.Purpose != state.PinHold:
		return nil, fault.New(fault.Conflict, "", "%s is used by %s", found.ID, found.Owner).WithHint("it goes when that ends")
	}
	return struct{}{}, h.Retention.Release(r.Context(), found.Owner)
}

func (h *Handler) deletePoint(r *http.Request) (any, error) {
	s, err := h.server(r)
	if err != nil {
		return nil, err
	}
	p, err := h.Points.Get(r.Context(), s.Scope, r.PathValue("point"))
	if err == nil && p.ServerID != s.ID {
		err = fault.New(fault.NotFound, "", "recovery point %s is not one of %s", p.ID, s.ID)
	}
	if err != nil {
		return nil, err
	}
	return struct{}{}, h.DeletePoint(r.Context(), s.Scope, p.ID)
}

// using pins what is read through a connection while it is, so that whoever would take it away is told. A state that
// cannot be pinned just now, as while replication is being stopped, can still be read for as long as it is there.
func (h *Handler) using(ctx context.Context, s state.Server, position uint64) (done func() error) {
	owner := control.NewID("nbd-")
	_, err := h.Retention.Pin(ctx, s.Scope, points.PinRequest{ServerID: s.ID, Position: position, Owner: owner, Purpose: state.PinExport})
	if err != nil {
		h.Log.Warn("what a connection reads is not pinned", "server", s.ID, "position", position, "error", err)
		return func() error { return nil }
	}
	return func() error { return h.Retention.Release(context.WithoutCancel(ctx), owner) }
}
