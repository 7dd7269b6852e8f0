package events

import (
	"context"
	"crypto/rand"
	"encoding/base64"
	"errors"
	"io/fs"
	"net/url"
	"os"
	"path/filepath"
	"time"

	"github.com/understudy-dr/understudy/internal/control"
	"github.com/understudy-dr/understudy/internal/fault"
	"github.com/understudy-dr/understudy/internal/state"
)

// MaxWebhooks is how many webhooks an account may have: every event is sent to each.
const MaxWebhooks = 20

// SecretPrefix begins a webhook's secret as people see it; the rest is base64. It is the Standard Webhooks specification's.
const SecretPrefix = "whsec_"

// Webhooks keeps where events are sent.
type Webhooks struct {
	store *Recorder
	key   []byte // every webhook's secret is derived from it, so the database holds none
}

// OpenWebhooks opens the webhooks, with their key under dir; the key is made the first time.
func OpenWebhooks(store *Recorder, dir string) (*Webhooks, error) {
	key, err := loadKey(filepath.Join(dir, "webhooks.key"))
	if err != nil {
		return nil, err
	}
	return &Webhooks{store, key}, nil
}

const keyBytes = 32

func loadKey(path string) ([]byte, error) {
	const op = "events: key"
	key, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		if err := makeKey(path); err != nil {
			return nil, fault.New(fault.Unknown, op, "%w", err)
		}
		key, err = os.ReadFile(path)
	}
	if err != nil {
		return nil, fault.New(fault.Unknown, op, "%w", err)
	}
	if len(key) != keyBytes {
		return nil, fault.New(fault.Corruption, op, "%s has %d bytes, not %d", path, len(key), keyBytes)
	}
	return key, nil
}

// makeKey writes a key aside and links it, which never replaces one.
func makeKey(path string) error {
	dir := filepath.Dir(path)
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	f, err := os.CreateTemp(dir, ".webhooks.*") // mode 0600
	if err != nil {
		return err
	}
	defer func() { _ = os.Remove(f.Name()) }() // the key has another name by then
	key := make([]byte, keyBytes)
	_, _ = rand.Read(key) // never fails, says its documentation
	_, err = f.Write(key)
	if err := errors.Join(err, f.Sync(), f.Close()); err != nil {
		return err
	}
	if err := os.Link(f.Name(), path); err != nil && !errors.Is(err, fs.ErrExist) {
		return err
	}
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

// secret is what a webhook's deliveries are signed with.
func (w *Webhooks) secret(id string) []byte { return mac(w.key, []byte("webhook "), []byte(id)) }

// Secret is a webhook's secret as its receiver needs it.
func (w *Webhooks) Secret(id string) string {
	return SecretPrefix + base64.StdEncoding.EncodeToString(w.secret(id))
}

// Create adds a webhook. It is told of what happens from now on.
func (w *Webhooks) Create(ctx context.Context, account, raw string, binary bool) (state.Webhook, error) {
	const op = "events: create webhook"
	u, err := url.Parse(raw)
	if err != nil || u.Host == "" || u.Scheme != "https" && u.Scheme != "http" || u.Fragment != "" {
		return state.Webhook{}, fault.New(fault.Invalid, op, "%q is no URL to post to", raw).WithHint("it looks like https://host/path")
	}
	hook := state.Webhook{ID: control.NewID("wh-"), Account: account, URL: u.String(), Binary: binary, CreatedAt: time.Now().UTC()}
	err = w.store.Update(ctx, func(tx state.Tx) error {
		all, err := tx.Webhooks(ctx, account)
		if err != nil {
			return err
		}
		if len(all) >= MaxWebhooks {
			return fault.New(fault.Conflict, op, "account %s has %d webhooks", account, len(all)).WithHint("delete one first")
		}
		return tx.PutWebhook(ctx, hook)
	})
	if err != nil {
		return state.Webhook{}, err
	}
	w.store.changed.wake()
	return hook, nil
}

// List shows an account's webhooks, oldest first.
func (w *Webhooks) List(ctx context.Context, account string) (out []state.Webhook, err error) {
	err = w.store.View(ctx, func(r state.Reader) error {
		out, err = r.Webhooks(ctx, account)
		return err
	})
	return out, fault.Wrap("events: list webhooks", err)
}

// Pending is how many source servers a webhook has yet to be told of, up to state.MaxLimit, and the worst number of failures.
func (w *Webhooks) Pending(ctx context.Context, id string) (servers int, attempts int64, err error) {
	var lanes []state.Lane
	err = w.store.View(ctx, func(r state.Reader) error {
		lanes, err = r.Lanes(ctx, id, state.MaxLimit)
		return err
	})
	for _, l := range lanes {
		attempts = max(attempts, l.Attempts)
	}
	return len(lanes), attempts, fault.Wrap("events: pending", err)
}

// Delete removes a webhook of an account, and what it has not been told.
func (w *Webhooks) Delete(ctx context.Context, account, id string) error {
	err := w.store.Update(ctx, func(tx state.Tx) error {
		if _, err := tx.Webhook(ctx, account, id); err != nil {
			return err
		}
		return tx.DeleteWebhook(ctx, account, id)
	})
	w.store.changed.wake()
	return fault.Wrap("events: delete webhook", err)
}
