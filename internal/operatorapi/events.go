package operatorapi

import (
	"context"
	"encoding/json"
	"io"
	"net/http"
	"strconv"
	"time"

	"github.com/understudy-dr/understudy/internal/control/events"
	"github.com/understudy-dr/understudy/internal/fault"
	"github.com/understudy-dr/understudy/internal/operatorapi/schema"
	"github.com/understudy-dr/understudy/internal/sigv4"
	"github.com/understudy-dr/understudy/internal/state"
)

// recheck is how often a waiting request looks for events that other processes recorded.
const recheck = 2 * time.Second

// maxBody bounds the body of a request of ours.
const maxBody = 64 << 10

func (h *Handler) routeEvents() {
	h.mux.HandleFunc("GET "+schema.PathEvents, h.answer(h.events))
	h.mux.HandleFunc("GET "+schema.PathWebhooks, h.answer(h.webhooks))
	h.mux.HandleFunc("POST "+schema.PathWebhooks, h.answer(h.createWebhook))
	h.mux.HandleFunc("DELETE "+schema.PathWebhook, h.answer(h.deleteWebhook))
}

// account is the caller's.
func account(r *http.Request) (string, error) {
	caller, ok := sigv4.CallerFrom(r.Context())
	if !ok {
		return "", fault.New(fault.Denied, "", "the request is not signed")
	}
	return caller.AccountID, nil
}

func (h *Handler) events(r *http.Request) (any, error) {
	account, err := h.account(r)
	if err != nil {
		return nil, err
	}
	q := r.URL.Query()
	filter := state.EventFilter{Subject: q.Get(schema.ParamServer)}
	wait, err := waitOf(q.Get(schema.ParamWait))
	if err != nil {
		return nil, err
	}
	switch after := q.Get(schema.ParamAfter); after {
	case "":
	case "now":
		last, err := h.Events.Last(r.Context())
		return schema.Events{Events: []schema.Event{}, Next: last}, err
	default:
		if filter.After, err = strconv.ParseInt(after, 10, 64); err != nil {
			return nil, fault.New(fault.Invalid, "", "%s: %q is no place", schema.ParamAfter, after)
		}
	}
	all, err := h.await(r.Context(), account, filter, wait)
	if err != nil {
		return nil, err
	}
	out := schema.Events{Events: []schema.Event{}, Next: filter.After}
	for _, e := range all {
		body, err := json.Marshal(events.EnvelopeOf(e))
		if err != nil {
			return nil, fault.New(fault.Bug, "operatorapi: encode event", "%w", err)
		}
		out.Events = append(out.Events, schema.Event{Seq: e.Seq, Event: body})
		out.Next = e.Seq
	}
	return out, nil
}

func waitOf(text string) (time.Duration, error) {
	if text == "" {
		return 0, nil
	}
	seconds, err := strconv.ParseUint(text, 10, 16)
	if err != nil {
		return 0, fault.New(fault.Invalid, "", "%s: %q is no number of seconds", schema.ParamWait, text)
	}
	return min(time.Duration(seconds)*time.Second, schema.MaxWait), nil
}

// await lists events, and waits for one when there is none. It ends early with the server.
func (h *Handler) await(ctx context.Context, account string, f state.EventFilter, wait time.Duration) ([]state.Event, error) {
	over := time.NewTimer(wait)
	defer over.Stop()
	again := time.NewTicker(recheck)
	defer again.Stop()
	for {
		changed := h.Events.Changed()
		all, err := h.Events.List(ctx, account, f)
		if err != nil || len(all) > 0 || wait == 0 {
			return all, err
		}
		select {
		case <-changed:
		case <-again.C:
		case <-over.C:
			return nil, nil
		case <-h.ctx.Done():
			return nil, nil
		case <-ctx.Done():
			return nil, fault.New(fault.Transient, "operatorapi: wait for events", "%w", ctx.Err())
		}
	}
}

func (h *Handler) webhooks(r *http.Request) (any, error) {
	account, err := h.account(r)
	if err != nil {
		return nil, err
	}
	all, err := h.Webhooks.List(r.Context(), account)
	if err != nil {
		return nil, err
	}
	out := schema.Webhooks{Webhooks: []schema.Webhook{}}
	for _, v := range all {
		w := webhookOf(v)
		if w.Pending, w.Failures, err = h.Webhooks.Pending(r.Context(), v.ID); err != nil {
			return nil, err
		}
		out.Webhooks = append(out.Webhooks, w)
	}
	return out, nil
}

func webhookOf(v state.Webhook) schema.Webhook {
	return schema.Webhook{ID: v.ID, URL: v.URL, Binary: v.Binary, CreatedAt: v.CreatedAt}
}

func (h *Handler) createWebhook(r *http.Request) (any, error) {
	account, err := h.account(r)
	if err != nil {
		return nil, err
	}
	var in schema.NewWebhook
	if err := json.NewDecoder(io.LimitReader(r.Body, maxBody)).Decode(&in); err != nil {
		return nil, fault.New(fault.Invalid, "", "the body is no webhook: %w", err)
	}
	v, err := h.Webhooks.Create(r.Context(), account, in.URL, in.Binary)
	if err != nil {
		return nil, err
	}
	out := webhookOf(v)
	out.Secret = h.Webhooks.Secret(v.ID)
	return out, nil
}

func (h *Handler) deleteWebhook(r *http.Request) (any, error) {
	account, err := h.account(r)
	if err != nil {
		return nil, err
	}
	return struct{}{}, h.Webhooks.Delete(r.Context(), account, r.PathValue("webhook"))
}
