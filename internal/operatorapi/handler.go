// Package operatorapi is the edge for Understudy's own operations: what can be recovered, and the disks of a source
// server at a chosen instant, spoken as NBD over an upgraded HTTPS connection. internal/app/serve mounts it behind signature
// verification, under the signing name schema.Service.
package operatorapi

import (
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"net"
	"net/http"
	"slices"
	"strconv"
	"sync"
	"time"

	"github.com/understudy-dr/understudy/internal/control"
	"github.com/understudy-dr/understudy/internal/control/events"
	"github.com/understudy-dr/understudy/internal/fault"
	"github.com/understudy-dr/understudy/internal/nbd"
	"github.com/understudy-dr/understudy/internal/operatorapi/schema"
	"github.com/understudy-dr/understudy/internal/sigv4"
	"github.com/understudy-dr/understudy/internal/state"
	"github.com/understudy-dr/understudy/internal/volume"
)

// Config is what the operations work on.
type Config struct {
	Servers  control.Servers
	Points   control.Points
	Volumes  *volume.Opener
	Journals volume.Journals
	Events   *events.Recorder
	Webhooks *events.Webhooks
	// DeletePoint drops a recovery point before its time.
	DeletePoint func(ctx context.Context, s state.Scope, id string) error
	Consistent  Consistent
	Retention   Retention
	Upkeep      Upkeep
	Access
	Log *slog.Logger
}

// Handler serves the operations. Upgraded connections outlive their request: they end with the context of New.
type Handler struct {
	Config
	ctx  context.Context
	mux  *http.ServeMux
	open sync.WaitGroup // volumes on upgraded connections
}

// New returns the handler; ctx ends the volumes that are open.
func New(ctx context.Context, c Config) *Handler {
	h := &Handler{Config: c, ctx: ctx, mux: http.NewServeMux()}
	h.mux.HandleFunc("GET "+schema.PathPoints, h.answer(h.points))
	h.mux.HandleFunc("GET "+schema.PathResolve, h.answer(h.resolve))
	h.mux.HandleFunc("GET "+schema.PathVolume, h.volume)
	h.mux.HandleFunc("POST "+schema.PathPoints, h.answer(h.requestPoint))
	h.mux.HandleFunc("GET "+schema.PathPointRequest, h.answer(h.requestedPoint))
	h.routeEvents()
	h.routeJournals()
	h.routeAccess()
	h.mux.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) {
		h.refuse(w, fault.New(fault.NotFound, "", "no operation %s %s", r.Method, r.URL.Path))
	})
	return h
}

// Wait returns when all volumes are closed, after the context of New has ended.
func (h *Handler) Wait() { h.open.Wait() }

func (h *Handler) ServeHTTP(w http.ResponseWriter, r *http.Request) { h.mux.ServeHTTP(w, r) }

func (h *Handler) answer(op func(*http.Request) (any, error)) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		err := h.admit(r)
		var out any
		if err == nil {
			out, err = op(r)
		}
		if err != nil {
			h.refuse(w, err)
			return
		}
		w.Header().Set("Content-Type", "application/json")
		_ = json.NewEncoder(w).Encode(out) // the peer may have gone
	}
}

var statusOf = map[fault.Kind]int{
	fault.Invalid:     http.StatusBadRequest,
	fault.NotFound:    http.StatusNotFound,
	fault.Conflict:    http.StatusConflict,
	fault.Denied:      http.StatusForbidden,
	fault.Unsupported: http.StatusNotImplemented,
	fault.Transient:   http.StatusServiceUnavailable,
	fault.OutOfSpace:  http.StatusInsufficientStorage,
}

func (h *Handler) refuse(w http.ResponseWriter, err error) {
	status, ok := statusOf[fault.KindOf(err)]
	if slow, is := errors.AsType[*control.ThrottleError](err); is {
		status = http.StatusTooManyRequests
		w.Header().Set("Retry-After", strconv.Itoa(int(slow.Wait.Round(time.Second)/time.Second)))
	}
	if !ok {
		status = http.StatusInternalServerError
		h.Log.Error("an operator's request failed", "error", err)
	}
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(schema.Error{ // the peer may have gone
		Kind: fault.KindOf(err).String(), Message: err.Error()})
}

// server finds a source server of the caller's account in either service.
func (h *Handler) server(r *http.Request) (state.Server, error) {
	caller, ok := sigv4.CallerFrom(r.Context())
	if !ok {
		return state.Server{}, fault.New(fault.Denied, "", "the request is not signed")
	}
	id := r.PathValue("server")
	for _, service := range []state.Service{state.DRS, state.MGN} {
		s, err := h.Servers.Get(r.Context(), state.Scope{Account: caller.AccountID, Service: service}, id)
		if !fault.Is(err, fault.NotFound) {
			return s, err
		}
	}
	return state.Server{}, fault.New(fault.NotFound, "", "no source server %s in account %s", id, caller.AccountID).
		WithHint("aws drs describe-source-servers lists them")
}

func disks(s state.Server) []schema.Disk {
	var out []schema.Disk
	for _, d := range s.Replicated() {
		out = append(out, schema.Disk{Device: d.DeviceName, Bytes: d.Bytes})
	}
	return out
}

func (h *Handler) points(r *http.Request) (any, error) {
	s, err := h.server(r)
	if err != nil {
		return nil, err
	}
	out := schema.Points{Server: s.ID, Service: string(s.Scope.Service), Disks: disks(s),
		Windows: []schema.Window{}, Points: []schema.Point{}}
	j, err := h.Journals(s.ID)
	if err != nil && !fault.Is(err, fault.NotFound) {
		return nil, err
	}
	if err == nil {
		out.Open = true
		for _, i := range j.Intervals() {
			out.Windows = append(out.Windows, schema.Window{Epoch: i.Epoch, From: i.FromTime, To: i.ToTime, FromPosition: i.From, ToPosition: i.To})
		}
		if p, err := j.Latest(); err == nil {
			out.Latest = &schema.Resolved{Position: p.Position, Time: p.Time}
		}
	}
	page := state.Page{Limit: state.MaxLimit}
	for {
		items, next, err := h.Points.List(r.Context(), s.Scope, s.ID, state.PointFilter{}, page)
		if err != nil {
			return nil, err
		}
		for _, p := range items {
			out.Points = append(out.Points, schema.Point{ID: p.ID, Time: p.At, Position: p.Position, Consistency: consistency(p)})
		}
		if next == "" {
			break
		}
		page.After = next
	}
	if out.Open {
		mark(j, s, &out)
	}
	return out, nil
}

func (h *Handler) resolve(r *http.Request) (any, error) {
	s, err := h.server(r)
	if err != nil {
		return nil, err
	}
	choice, err := h.choice(r, s)
	if err != nil {
		return nil, err
	}
	p, err := h.Volumes.Resolve(s.ID, choice)
	if err != nil {
		return nil, notCopied(err)
	}
	out := schema.Resolved{Position: p.Position, Time: p.Time, Disks: disks(s)}
	if j, err := h.Journals(s.ID); err == nil { // else it has just been closed, and the next step says so
		out.Doubts = doubtsOf(s, covering(j.Doubts(), p))
	}
	return out, nil
}

// notCopied explains the refusal that comes first in a server's life.
func notCopied(err error) error {
	if fault.Is(err, fault.NotFound) && fault.HintOf(err) == "" {
		return fault.New(fault.NotFound, "", "%w", err).WithHint("'understudy points' shows what can be recovered")
	}
	return err
}

// choice reads which instant is meant.
func (h *Handler) choice(r *http.Request, s state.Server) (volume.Choice, error) {
	q := r.URL.Query()
	at, point, position := q.Get(schema.ParamAt), q.Get(schema.ParamPoint), q.Get(schema.ParamPosition)
	given := 0
	for _, v := range []string{at, point, position, q.Get(schema.ParamLatest)} {
		if v != "" {
			given++
		}
	}
	if given != 1 {
		return volume.Choice{}, fault.New(fault.Invalid, "", "exactly one of %s, %s, %s and %s is needed",
			schema.ParamAt, schema.ParamPoint, schema.ParamPosition, schema.ParamLatest)
	}
	switch {
	case at != "":
		t, err := time.Parse(time.RFC3339Nano, at)
		if err != nil {
			return volume.Choice{}, fault.New(fault.Invalid, "", "%s: %w", schema.ParamAt, err)
		}
		return volume.Choice{At: t}, nil
	case point != "":
		p, err := h.Points.Get(r.Context(), s.Scope, point)
		if err == nil && p.ServerID != s.ID {
			err = fault.New(fault.NotFound, "", "recovery point %s is not one of %s", point, s.ID)
		}
		return volume.Choice{Position: p.Position}, err
	case position != "":
		n, err := strconv.ParseUint(position, 10, 64)
		if err != nil || n == 0 {
			return volume.Choice{}, fault.New(fault.Invalid, "", "%q is no position", position)
		}
		return volume.Choice{Position: n}, nil
	}
	return volume.Choice{}, nil
}

// volume opens a disk and hands the connection over to NBD.
func (h *Handler) volume(w http.ResponseWriter, r *http.Request) {
	h.open.Add(1)
	defer h.open.Done()
	source, v, device, err := h.find(r)
	if err != nil {
		h.refuse(w, err)
		return
	}
	conn, err := upgrade(w)
	if err != nil {
		h.Log.Warn("a volume's connection could not be upgraded", "error", errors.Join(err, v.Close()))
		return
	}
	// The request's own context ends with this method on an upgraded connection; the server's is what counts.
	ctx, cancel := context.WithCancel(h.ctx)
	defer cancel()
	done := h.using(ctx, source, v.Point().Position)
	s := &nbd.Server{Log: h.Log, Exports: nbd.Static(nbd.Export{Description: device, Backend: backend{v}, ReadOnly: true})}
	if err := errors.Join(s.ServeConn(ctx, conn), v.Close(), done()); err != nil && ctx.Err() == nil {
		h.Log.Info("a volume's connection ended", "device", device, "error", err)
	}
}

func (h *Handler) find(r *http.Request) (state.Server, *volume.Volume, string, error) {
	s, err := h.server(r)
	if err != nil {
		return state.Server{}, nil, "", err
	}
	if r.Header.Get("Upgrade") != schema.UpgradeNBD {
		return state.Server{}, nil, "", fault.New(fault.Invalid, "", "a volume is read over an upgraded connection: send 'Upgrade: %s'", schema.UpgradeNBD)
	}
	device := r.URL.Query().Get(schema.ParamDevice)
	called, err := disksCalled(s, device)
	if err != nil {
		return state.Server{}, nil, "", err
	}
	choice, err := h.choice(r, s)
	if err != nil {
		return state.Server{}, nil, "", err
	}
	v, err := h.Volumes.Open(r.Context(), s.ID, called[0], choice)
	for _, index := range called[1:] {
		if !fault.Is(err, fault.NotFound) {
			break
		}
		v, err = h.Volumes.Open(r.Context(), s.ID, index, choice)
	}
	return s, v, device, err
}

// disksCalled are the disks that have or had a device name, at least one: the one that is there first, then those that are gone, the
// latest first. Which of them is meant depends on the point.
func disksCalled(s state.Server, device string) (indexes []uint16, err error) {
	var names []string
	for _, gone := range []bool{false, true} {
		for _, d := range slices.Backward(s.Disks) {
			if d.DeviceName == device && d.Gone == gone {
				indexes = append(indexes, uint16(d.Index))
			}
			names = append(names, d.DeviceName)
		}
	}
	if len(indexes) > 0 {
		return indexes, nil
	}
	slices.Sort(names)
	return nil, fault.New(fault.NotFound, "", "%s has no disk %q, it has %q", s.ID, device, slices.Compact(names))
}

func upgrade(w http.ResponseWriter) (net.Conn, error) {
	conn, buffered, err := http.NewResponseController(w).Hijack()
	if err != nil {
		return nil, fault.New(fault.Unsupported, "operatorapi: upgrade", "%w", err).WithHint("use HTTP/1.1")
	}
	if buffered.Reader.Buffered() > 0 {
		conn.Close()
		return nil, fault.New(fault.Invalid, "operatorapi: upgrade", "the client spoke before the upgrade")
	}
	if err := errors.Join(conn.SetDeadline(time.Time{}), writeSwitch(conn)); err != nil {
		conn.Close()
		return nil, fault.New(fault.Transient, "operatorapi: upgrade", "%w", err)
	}
	return conn, nil
}

func writeSwitch(conn net.Conn) error {
	_, err := conn.Write([]byte("HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: " + schema.UpgradeNBD + "\r\n\r\n"))
	return err
}

// backend is a volume as the NBD engine wants it.
type backend struct{ *volume.Volume }

func (b backend) Extents(ctx context.Context, off, length int64) ([]nbd.Extent, error) {
	extents, err := b.Volume.Extents(ctx, off, length)
	if err != nil {
		return nil, err
	}
	out := make([]nbd.Extent, len(extents))
	for i, e := range extents {
		out[i] = nbd.Extent{Length: e.Length, Hole: e.Hole}
	}
	return out, nil
}
