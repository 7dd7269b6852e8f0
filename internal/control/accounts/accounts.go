// Package accounts keeps the accounts of an installation, and initialises a service for one as InitializeService of
// both APIs does. internal/app assembles it for the edges.
package accounts

import (
	"context"
	"time"

	"github.com/understudy-dr/understudy/internal/control"
	"github.com/understudy-dr/understudy/internal/control/launchconfig"
	"github.com/understudy-dr/understudy/internal/control/templates"
	"github.com/understudy-dr/understudy/internal/fault"
	"github.com/understudy-dr/understudy/internal/state"
)

// Accounts is control.Accounts over a store.
type Accounts struct {
	store state.Store
}

var _ control.Accounts = (*Accounts)(nil)

// New returns the accounts in store.
func New(store state.Store) *Accounts { return &Accounts{store} }

// Initialize may be repeated: what exists is kept. MGN gets its default templates, DRS does not; its users
// make their own.
func (a *Accounts) Initialize(ctx context.Context, s state.Scope) error {
	err := a.store.Update(ctx, func(tx state.Tx) error {
		_, err := tx.Initialised(ctx, s)
		if !fault.Is(err, fault.NotFound) {
			return err
		}
		now := time.Now().UTC()
		if err := tx.PutInitialised(ctx, s, now); err != nil || s.Service != state.MGN {
			return err
		}
		if err := tx.PutMGNLaunchTemplate(ctx, launchconfig.DefaultMGNTemplate(s, now)); err != nil {
			return err
		}
		return tx.PutTemplate(ctx, state.Template{
			ID: control.NewID("rct-"), Scope: s, Config: templates.Defaults(s.Service), Tags: map[string]string{}, CreatedAt: now,
		})
	})
	return fault.Wrap("accounts: initialize", err)
}

// Check refuses with control.ErrUninitialized until Initialize has run.
func (a *Accounts) Check(ctx context.Context, s state.Scope) error {
	return fault.Wrap("accounts: check", a.store.View(ctx, func(r state.Reader) error { return Check(ctx, r, s) }))
}

// Check is the same inside a transaction.
func Check(ctx context.Context, r state.Reader, s state.Scope) error {
	_, err := r.Initialised(ctx, s)
	if fault.Is(err, fault.NotFound) {
		return fault.New(fault.Invalid, "accounts", "%w", control.ErrUninitialized).
			WithHint("run: aws " + string(s.Service) + " initialize-service")
	}
	return err
}
