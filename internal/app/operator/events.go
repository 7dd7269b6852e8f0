package operator

import (
	"bytes"
	"context"
	"encoding/json"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/understudy-dr/understudy/internal/fault"
	"github.com/understudy-dr/understudy/internal/operatorapi/schema"
)

// EventsFrom says which events: after a place (0 is the beginning of what is kept), of one source server or of all.
type EventsFrom struct {
	After  int64
	Server string
}

// Events lists one page of events; wait is how long the server waits for one when there is none.
func (c *Client) Events(ctx context.Context, f EventsFrom, wait time.Duration) (out schema.Events, err error) {
	q := url.Values{schema.ParamAfter: {strconv.FormatInt(f.After, 10)}}
	if f.Server != "" {
		q.Set(schema.ParamServer, f.Server)
	}
	if wait > 0 {
		q.Set(schema.ParamWait, strconv.Itoa(int(wait/time.Second)))
	}
	err = c.call(ctx, http.MethodGet, schema.PathEvents, q, nil, &out)
	return out, err
}

// LastEvent is the place after all events of now.
func (c *Client) LastEvent(ctx context.Context) (int64, error) {
	var out schema.Events
	err := c.call(ctx, http.MethodGet, schema.PathEvents, url.Values{schema.ParamAfter: {"now"}}, nil, &out)
	return out.Next, err
}

// Follow hands every event on until ctx ends, those that come while the server is away included. lost is told of each failure
// to reach it.
func (c *Client) Follow(ctx context.Context, f EventsFrom, each func(schema.Event) error, lost func(error)) error {
	const longest = 30 * time.Second
	rest := time.Second
	for {
		page, err := c.Events(ctx, f, schema.MaxWait)
		switch {
		case ctx.Err() != nil:
			return fault.New(fault.Transient, "follow events", "%w", ctx.Err())
		case fault.Is(err, fault.Transient):
			lost(err)
			if err := sleep(ctx, rest); err != nil {
				return err
			}
			rest = min(2*rest, longest)
			continue
		case err != nil:
			return err
		}
		rest = time.Second
		for _, e := range page.Events {
			if err := each(e); err != nil {
				return err
			}
		}
		f.After = page.Next
	}
}

func sleep(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return fault.New(fault.Transient, "follow events", "%w", ctx.Err())
	case <-timer.C:
		return nil
	}
}

// Webhooks lists where the account's events are sent.
func (c *Client) Webhooks(ctx context.Context) ([]schema.Webhook, error) {
	var out schema.Webhooks
	err := c.call(ctx, http.MethodGet, schema.PathWebhooks, nil, nil, &out)
	return out.Webhooks, err
}

// CreateWebhook adds a webhook; only this answer has its secret.
func (c *Client) CreateWebhook(ctx context.Context, w schema.NewWebhook) (out schema.Webhook, err error) {
	err = c.call(ctx, http.MethodPost, schema.PathWebhooks, nil, w, &out)
	return out, err
}

// DeleteWebhook removes a webhook and what it has not been told.
func (c *Client) DeleteWebhook(ctx context.Context, id string) error {
	path := strings.Replace(schema.PathWebhook, "{webhook}", url.PathEscape(id), 1)
	return c.call(ctx, http.MethodDelete, path, nil, nil, &struct{}{})
}

// call sends in, when there is one, and reads the answer into out.
func (c *Client) call(ctx context.Context, method, path string, q url.Values, in, out any) error {
	var body bytes.Buffer
	if in != nil {
		if err := json.NewEncoder(&body).Encode(in); err != nil {
			return fault.New(fault.Bug, "request", "%w", err)
		}
	}
	u := c.base.JoinPath(path)
	u.RawQuery = q.Encode()
	req, err := http.NewRequestWithContext(ctx, method, u.String(), &body)
	if err != nil {
		return fault.New(fault.Invalid, "request", "%w", err)
	}
	req.Header.Set("Content-Type", "application/json")
	resp, err := c.do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if err := json.NewDecoder(resp.Body).Decode(out); err != nil {
		return fault.New(fault.Transient, "read the answer of "+c.base.Host, "%w", err)
	}
	return nil
}
