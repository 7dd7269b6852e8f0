package operator

import (
	"context"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/understudy-dr/understudy/internal/fault"
	"github.com/understudy-dr/understudy/internal/operatorapi/schema"
)

// place fills the parameters of a path, given as name, value, name, value.
func place(path string, params ...string) string {
	for i := 0; i+1 < len(params); i += 2 {
		path = strings.Replace(path, "{"+params[i]+"}", url.PathEscape(params[i+1]), 1)
	}
	return path
}

// Usage tells what the journals of all source servers take.
func (c *Client) Usage(ctx context.Context) (out schema.Usage, err error) {
	err = c.call(ctx, http.MethodGet, schema.PathUsage, nil, nil, &out)
	return out, err
}

// Journal tells how the journal of one source server fares.
func (c *Client) Journal(ctx context.Context, server string) (out schema.Journal, err error) {
	err = c.call(ctx, http.MethodGet, place(schema.PathJournal, "server", server), nil, nil, &out)
	return out, err
}

// ChangeJournal changes its window or quota.
func (c *Client) ChangeJournal(ctx context.Context, server string, change schema.JournalChange) (out schema.Journal, err error) {
	err = c.call(ctx, http.MethodPost, place(schema.PathJournal, "server", server), nil, change, &out)
	return out, err
}

// StartScrub has everything it stores read again now.
func (c *Client) StartScrub(ctx context.Context, server string) (out schema.Journal, err error) {
	err = c.call(ctx, http.MethodPost, place(schema.PathScrub, "server", server), nil, nil, &out)
	return out, err
}

// Pins lists the states that are in use.
func (c *Client) Pins(ctx context.Context) (out schema.Pins, err error) {
	err = c.call(ctx, http.MethodGet, schema.PathPins, nil, nil, &out)
	return out, err
}

// Hold keeps a state until it is released; note is the beginning of its owner's name.
func (c *Client) Hold(ctx context.Context, server string, choice Choice, note string) (out schema.Pin, err error) {
	q, err := choice.query()
	if err != nil {
		return out, err
	}
	if note != "" {
		q.Set(schema.ParamNote, note)
	}
	err = c.call(ctx, http.MethodPost, place(schema.PathHold, "server", server), q, nil, &out)
	return out, err
}

// Release lets go of a held state.
func (c *Client) Release(ctx context.Context, pin string) error {
	return c.call(ctx, http.MethodDelete, place(schema.PathPin, "pin", pin), nil, nil, &struct{}{})
}

// RequestPoint asks the agent of a source server for an application-consistent point, and waits for it.
func (c *Client) RequestPoint(ctx context.Context, server string) (out schema.PointRequest, err error) {
	if err := c.call(ctx, http.MethodPost, place(schema.PathPoints, "server", server), nil, nil, &out); err != nil {
		return out, err
	}
	look := time.NewTicker(pointPoll)
	defer look.Stop()
	for out.Point == "" && out.Error == "" {
		select {
		case <-ctx.Done():
			return out, ctx.Err()
		case <-look.C:
		}
		id := out.ID
		if err := c.call(ctx, http.MethodGet, place(schema.PathPointRequest, "server", server, "request", id), nil, nil, &out); err != nil {
			return out, err
		}
	}
	if out.Error != "" {
		return out, fault.New(fault.Conflict, "application-consistent point of "+server, "%s", out.Error)
	}
	return out, nil
}

const pointPoll = 500 * time.Millisecond

// DeletePoint drops a recovery point before its time.
func (c *Client) DeletePoint(ctx context.Context, server, point string) error {
	return c.call(ctx, http.MethodDelete, place(schema.PathPointOne, "server", server, "point", point), nil, nil, &struct{}{})
}

// Keys lists the wrapping keys.
func (c *Client) Keys(ctx context.Context) (out schema.Keys, err error) {
	err = c.call(ctx, http.MethodGet, schema.PathKeys, nil, nil, &out)
	return out, err
}

// RotateKey makes a new wrapping key and wraps the data keys of open journals with it.
func (c *Client) RotateKey(ctx context.Context) (out schema.Rotation, err error) {
	err = c.call(ctx, http.MethodPost, schema.PathKeys, nil, nil, &out)
	return out, err
}

// RetireKey removes a wrapping key that no journal needs.
func (c *Client) RetireKey(ctx context.Context, id string) error {
	return c.call(ctx, http.MethodDelete, place(schema.PathKey, "key", id), nil, nil, &struct{}{})
}
