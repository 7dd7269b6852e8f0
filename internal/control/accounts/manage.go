package accounts

import (
	"context"
	"maps"
	"regexp"
	"time"
	"unicode/utf8"

	"github.com/understudy-dr/understudy/internal/control/quotas"
	"github.com/understudy-dr/understudy/internal/fault"
	"github.com/understudy-dr/understudy/internal/state"
)

var idPattern = regexp.MustCompile(`^[0-9]{12}$`)

const maxName = 64

// Create adds an account. Nobody can use it before it has a user.
func (a *Accounts) Create(ctx context.Context, id, name string) (state.Account, error) {
	const op = "accounts: create"
	out := state.Account{ID: id, Name: name, CreatedAt: time.Now().UTC()}
	if !idPattern.MatchString(id) {
		return out, fault.New(fault.Invalid, op, "account id %q is not twelve digits", id)
	}
	if utf8.RuneCountInString(name) > maxName {
		return out, fault.New(fault.Invalid, op, "an account's name has at most %d characters", maxName)
	}
	err := a.store.Update(ctx, func(tx state.Tx) error {
		_, err := tx.Account(ctx, id)
		if err == nil {
			return fault.New(fault.Conflict, op, "there is an account %s already", id)
		}
		if !fault.Is(err, fault.NotFound) {
			return err
		}
		return tx.PutAccount(ctx, out)
	})
	return out, fault.Wrap(op, err)
}

// Get returns one account.
func (a *Accounts) Get(ctx context.Context, id string) (out state.Account, err error) {
	err = a.store.View(ctx, func(r state.Reader) error {
		out, err = find(ctx, r, id)
		return err
	})
	return out, fault.Wrap("accounts: get", err)
}

// List returns the accounts by id.
func (a *Accounts) List(ctx context.Context, p state.Page) (items []state.Account, next string, err error) {
	err = a.store.View(ctx, func(r state.Reader) error {
		items, next, err = r.Accounts(ctx, p)
		return err
	})
	return items, next, fault.Wrap("accounts: list", err)
}

func find(ctx context.Context, r state.Reader, id string) (state.Account, error) {
	out, err := r.Account(ctx, id)
	if fault.Is(err, fault.NotFound) {
		return out, fault.New(fault.NotFound, "accounts", "there is no account %s", id)
	}
	return out, err
}

// Change is what of an account is to change; nil members keep their value.
type Change struct {
	Name      *string
	Suspended *bool
	// Quotas are by code; a nil value goes back to the installation's.
	Quotas map[string]*int64
}

// Change changes an account, from the next request on. A suspended account's keys are refused; its agents
// go on replicating, so that nothing is lost by it.
func (a *Accounts) Change(ctx context.Context, id string, c Change) (out state.Account, err error) {
	const op = "accounts: change"
	for code, value := range c.Quotas {
		if value == nil {
			continue
		}
		if err := quotas.Check(quotas.Code(code), *value); err != nil {
			return out, fault.Wrap(op, err)
		}
	}
	if c.Name != nil && utf8.RuneCountInString(*c.Name) > maxName {
		return out, fault.New(fault.Invalid, op, "an account's name has at most %d characters", maxName)
	}
	err = a.store.Update(ctx, func(tx state.Tx) error {
		if out, err = find(ctx, tx, id); err != nil {
			return err
		}
		c.apply(&out)
		return tx.PutAccount(ctx, out)
	})
	return out, fault.Wrap(op, err)
}

func (c Change) apply(a *state.Account) {
	if c.Name != nil {
		a.Name = *c.Name
	}
	if c.Suspended != nil {
		a.Suspended = *c.Suspended
	}
	a.Quotas = maps.Clone(a.Quotas)
	for code, value := range c.Quotas {
		if value == nil {
			delete(a.Quotas, code)
			continue
		}
		if a.Quotas == nil {
			a.Quotas = map[string]int64{}
		}
		a.Quotas[code] = *value
	}
}
