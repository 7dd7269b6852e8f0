package operatorapi

import (
	"context"
	"net/http"

	"github.com/understudy-dr/understudy/internal/operatorapi/schema"
	"github.com/understudy-dr/understudy/internal/state"
)

// Consistent is what the operations ask of application-consistent points.
type Consistent interface {
	Request(ctx context.Context, s state.Scope, serverID string) (state.PointRequest, error)
	Requested(ctx context.Context, s state.Scope, serverID, id string) (state.PointRequest, error)
}

func requestOf(q state.PointRequest) schema.PointRequest {
	return schema.PointRequest{ID: q.ID, Server: q.ServerID, AskedAt: q.AskedAt.UTC(), Until: q.Until.UTC(), Point: q.PointID, Error: q.Error}
}

func (h *Handler) requestPoint(r *http.Request) (any, error) {
	s, err := h.server(r)
	if err != nil {
		return nil, err
	}
	q, err := h.Consistent.Request(r.Context(), s.Scope, s.ID)
	return requestOf(q), err
}

func (h *Handler) requestedPoint(r *http.Request) (any, error) {
	s, err := h.server(r)
	if err != nil {
		return nil, err
	}
	q, err := h.Consistent.Requested(r.Context(), s.Scope, s.ID, r.PathValue("request"))
	return requestOf(q), err
}

func consistency(p state.Point) string {
	if p.Consistency == state.CrashConsistent {
		return "crash"
	}
	return string(p.Consistency)
}
