package operatorapi

import (
	"cmp"
	"context"
	"encoding/json"
	"io"
	"net/http"
	"slices"
	"time"

	"github.com/understudy-dr/understudy/internal/control/points"
	"github.com/understudy-dr/understudy/internal/fault"
	"github.com/understudy-dr/understudy/internal/journal"
	"github.com/understudy-dr/understudy/internal/operatorapi/schema"
	"github.com/understudy-dr/understudy/internal/replicate/sink"
	"github.com/understudy-dr/understudy/internal/state"
)

// Retention decides what journals keep; points.Retention does.
type Retention interface {
	Settings(ctx context.Context, s state.Scope, serverID string) (points.Settings, error)
	SetWindow(ctx context.Context, s state.Scope, serverID string, window *time.Duration) error
	SetQuota(ctx context.Context, s state.Scope, serverID string, bytes int64) error
	Pins(ctx context.Context, s state.Scope, page state.Page) (items []state.Pin, next string, err error)
	Pin(ctx context.Context, s state.Scope, q points.PinRequest) (state.Pin, error)
	Release(ctx context.Context, owner string) error
}

// Upkeep knows how journals fare and holds their keys; sink.Server does.
type Upkeep interface {
	Attached() []string
	Care(serverID string) (sink.Care, error)
	Room() (sink.Room, error)
	StartScrub(serverID string) error
	Keys() ([]sink.KeyUse, error)
	RotateKey(ctx context.Context) (sink.Rotation, error)
	RetireKey(ctx context.Context, keyID string) error
}

func (h *Handler) routeJournals() {
	h.mux.HandleFunc("GET "+schema.PathUsage, h.answer(h.usage))
	h.mux.HandleFunc("GET "+schema.PathJournal, h.answer(h.journal))
	h.mux.HandleFunc("POST "+schema.PathJournal, h.answer(h.changeJournal))
	h.mux.HandleFunc("POST "+schema.PathScrub, h.answer(h.scrub))
	h.mux.HandleFunc("GET "+schema.PathKeys, h.answer(h.keys))
	h.mux.HandleFunc("POST "+schema.PathKeys, h.answer(h.rotateKey))
	h.mux.HandleFunc("DELETE "+schema.PathKey, h.answer(h.retireKey))
	h.routePins()
}

var services = []state.Service{state.DRS, state.MGN}

func (h *Handler) usage(r *http.Request) (any, error) {
	account, err := account(r)
	if err != nil {
		return nil, err
	}
	room, err := h.Upkeep.Room()
	if err != nil {
		return nil, err
	}
	out := schema.Usage{Servers: []schema.Journal{}, Room: schema.Room{
		Dir: room.Dir, FreeBytes: room.Free, TotalBytes: room.Total, SlowBytes: room.Slow, ReserveBytes: room.Reserve}}
	for ids := range slices.Chunk(h.Upkeep.Attached(), state.MaxLimit) {
		for _, service := range services {
			sc := state.Scope{Account: account, Service: service}
			found, _, err := h.Servers.List(r.Context(), sc, state.ServerFilter{IDs: ids}, state.Page{Limit: len(ids)})
			if err != nil {
				return nil, err
			}
			for _, s := range found {
				j, err := h.journalOf(r.Context(), s)
				if err != nil {
					return nil, err
				}
				out.Servers = append(out.Servers, j)
			}
		}
	}
	slices.SortFunc(out.Servers, func(a, b schema.Journal) int { return cmp.Compare(b.StoredBytes, a.StoredBytes) })
	return out, nil
}

func (h *Handler) journal(r *http.Request) (any, error) {
	s, err := h.server(r)
	if err != nil {
		return nil, err
	}
	return h.journalOf(r.Context(), s)
}

func (h *Handler) changeJournal(r *http.Request) (any, error) {
	s, err := h.server(r)
	if err != nil {
		return nil, err
	}
	var in schema.JournalChange
	dec := json.NewDecoder(io.LimitReader(r.Body, maxBody))
	dec.DisallowUnknownFields()
	if err := dec.Decode(&in); err != nil {
		return nil, fault.New(fault.Invalid, "", "the body is no change of a journal: %w", err)
	}
	if in.QuotaBytes != nil {
		if err := h.Retention.SetQuota(r.Context(), s.Scope, s.ID, *in.QuotaBytes); err != nil {
			return nil, err
		}
	}
	if in.WindowSeconds != nil {
		if err := h.Retention.SetWindow(r.Context(), s.Scope, s.ID, window(*in.WindowSeconds)); err != nil {
			return nil, err
		}
	}
	return h.journalOf(r.Context(), s)
}

// window is nil for the default. What a duration cannot hold is too long in any case.
func window(seconds int64) *time.Duration {
	if seconds < 0 {
		return nil
	}
	d := time.Duration(min(seconds, int64(2*points.MaxWindow/time.Second))) * time.Second
	return &d
}

func (h *Handler) scrub(r *http.Request) (any, error) {
	s, err := h.server(r)
	if err != nil {
		return nil, err
	}
	if err := h.Upkeep.StartScrub(s.ID); err != nil {
		return nil, err
	}
	return h.journalOf(r.Context(), s)
}

func (h *Handler) journalOf(ctx context.Context, s state.Server) (schema.Journal, error) {
	settings, err := h.Retention.Settings(ctx, s.Scope, s.ID)
	if err != nil {
		return schema.Journal{}, err
	}
	out := schema.Journal{
		Server: s.ID, Name: s.Properties.Hints.Hostname, Service: string(s.Scope.Service), WindowSeconds: int64(settings.Window / time.Second),
		OwnWindow: settings.Own, QuotaBytes: settings.QuotaBytes, Damage: []schema.Damage{}, Pressure: pressures[journal.Relaxed],
	}
	care, err := h.Upkeep.Care(s.ID)
	if fault.Is(err, fault.NotFound) {
		return out, nil
	}
	if err != nil {
		return out, err
	}
	u := care.Usage
	out.Open, out.StoredBytes, out.UnflushedBytes, out.ReclaimableBytes = true, u.Stored, u.Unflushed, u.Reclaimable
	out.UniqueBytes, out.DiskBytes, out.Segments, out.Layers, out.Runs = u.Raw, u.Logical, u.Segments, u.LayerFiles, u.Runs
	out.KeptPoints, out.OldestRetained, out.Pressure = u.KeptPoints, moment(u.OldestRetained), pressures[care.Pressure]
	if care.Err != nil {
		out.Trouble, out.TroubleSince = care.Err.Error(), moment(care.ErrAt)
	}
	out.Scrub = schema.Scrub{DoneBytes: care.Scrub.Done, TotalBytes: care.Scrub.Total, Began: moment(care.Scrub.Began),
		LastFull: moment(care.Scrub.LastFull), AskedAt: moment(care.ScrubAsked)}
	for _, d := range care.Damage {
		out.Damage = append(out.Damage, damageOf(s, d))
	}
	return out, nil
}

var pressures = map[journal.Pressure]string{journal.Relaxed: "relaxed", journal.Slow: "slow", journal.Full: "full"}

const sectorBytes = 512

func damageOf(s state.Server, d journal.Damage) schema.Damage {
	out := schema.Damage{Offset: int64(d.Sector) * sectorBytes, Bytes: int64(d.Sectors) * sectorBytes, Position: d.Position,
		Written: moment(d.Written), File: d.File, FoundAt: d.FoundAt.UTC(), HistoryEnds: d.Cut, Device: deviceOf(s, d.Disk)}
	return out
}

// moment is nil for never.
func moment(t time.Time) *time.Time {
	if t.IsZero() {
		return nil
	}
	t = t.UTC()
	return &t
}

// Keys are the whole installation's: only its own account gets here.
func (h *Handler) keys(*http.Request) (any, error) {
	all, err := h.Upkeep.Keys()
	if err != nil {
		return nil, err
	}
	out := schema.Keys{Keys: []schema.Key{}}
	for _, k := range all {
		out.Keys = append(out.Keys, schema.Key{ID: k.ID, Created: k.Created.UTC(), Current: k.Current, Journals: len(k.Journals)})
	}
	return out, nil
}

func (h *Handler) rotateKey(r *http.Request) (any, error) {
	done, err := h.Upkeep.RotateKey(r.Context())
	return schema.Rotation(done), err
}

func (h *Handler) retireKey(r *http.Request) (any, error) {
	return struct{}{}, h.Upkeep.RetireKey(r.Context(), r.PathValue("key"))
}
