// Package transfer imports MGN's inventory from a CSV file in a bucket, and exports it to one. An import is one
// transaction: a file with an error changes nothing. internal/app runs it, internal/awsapi starts and lists.
package transfer

import (
	"context"
	"errors"
	"log/slog"
	"slices"
	"time"

	"github.com/understudy-dr/understudy/internal/buckets"
	"github.com/understudy-dr/understudy/internal/control"
	"github.com/understudy-dr/understudy/internal/control/inventory"
	"github.com/understudy-dr/understudy/internal/control/launchconfig"
	"github.com/understudy-dr/understudy/internal/control/quotas"
	"github.com/understudy-dr/understudy/internal/control/resource"
	"github.com/understudy-dr/understudy/internal/control/servers"
	"github.com/understudy-dr/understudy/internal/fault"
	"github.com/understudy-dr/understudy/internal/state"
)

// Kinds of resources as errors name them.
const (
	KindImport = "Import"
	KindExport = "Export"
)

// Buckets are where files come from and go to.
type Buckets interface {
	Get(ctx context.Context, o buckets.Object, limit int64) ([]byte, error)
	Put(ctx context.Context, o buckets.Object, content []byte) error
}

// Servers adds servers that have no agent yet.
type Servers interface {
	Import(ctx context.Context, tx state.Tx, s state.Scope, p servers.Planned) (state.Server, error)
}

// LaunchTemplates keeps what machines are launched as.
type LaunchTemplates interface {
	Current(ctx context.Context, r state.Reader, v state.Server) (state.LaunchTemplateData, error)
	Amend(ctx context.Context, tx state.Tx, v state.Server, why string, change func(*state.LaunchTemplateData)) (bool, error)
}

// Config is what transfers work on.
type Config struct {
	Store           state.Store
	Buckets         Buckets
	Region          string
	Applications    *inventory.Applications
	Waves           *inventory.Waves
	Servers         Servers
	LaunchTemplates LaunchTemplates
	LaunchConfigs   *launchconfig.MGNServers
	Limits          *quotas.Limits // nil: the default ones
	Log             *slog.Logger
}

// Transfers are the imports and exports of all accounts.
type Transfers struct {
	cfg     Config
	wake    chan struct{} // one wish to look again
	Imports *resource.Keeper[state.Transfer]
	Exports *resource.Keeper[state.Transfer]
}

// New returns the transfers in a store. They are accepted at once; Run does them.
func New(cfg Config) *Transfers {
	return &Transfers{cfg: cfg, wake: make(chan struct{}, 1), Imports: keeper(cfg.Store, KindImport, state.Import), Exports: keeper(cfg.Store, KindExport, state.Export)}
}

func keeper(store state.Store, kind string, k state.TransferKind) *resource.Keeper[state.Transfer] {
	return &resource.Keeper[state.Transfer]{Store: store, Kind: kind, Write: state.Tx.PutTransfer,
		Read: func(r state.Reader, ctx context.Context, s state.Scope, id string) (state.Transfer, error) {
			return r.Transfer(ctx, s, k, id)
		},
		Tagged: func(v *state.Transfer) *map[string]string { return &v.Tags }}
}

// Trigger is what moves a transfer.
type Trigger string

// The triggers.
const (
	Begin   Trigger = "begin"
	Succeed Trigger = "succeed"
	Fail    Trigger = "fail"
)

// Triggers lists all of them.
var Triggers = []Trigger{Begin, Succeed, Fail}

// Row is one line of the table. A status without a row for a trigger refuses it.
type Row struct {
	On   Trigger
	From []state.TransferStatus
	To   state.TransferStatus
}

// Table is the life of a transfer. Beginning again is what a restart does.
var Table = []Row{
	{Begin, []state.TransferStatus{state.TransferPending, state.TransferStarted}, state.TransferStarted},
	{Succeed, []state.TransferStatus{state.TransferStarted}, state.TransferSucceeded},
	{Fail, []state.TransferStatus{state.TransferStarted}, state.TransferFailed},
}

func move(x *state.Transfer, on Trigger) error {
	for _, row := range Table {
		if row.On == on && slices.Contains(row.From, x.Status) {
			x.Status = row.To
			if x.Status == state.TransferSucceeded || x.Status == state.TransferFailed {
				x.EndedAt = time.Now().UTC()
			}
			return nil
		}
	}
	return fault.New(fault.Conflict, "transfers: move", "%s is %s and cannot %s", x.ID, x.Status, on)
}

// maxUnfinished bounds what one account may have under way.
const maxUnfinished = 10

// Request names a file, and what the transfer is called.
type Request struct {
	Bucket, Key, Owner string
	ClientToken        string // of an import
	Tags               map[string]string
}

// StartImport takes an import on. The same client token is the same import.
func (t *Transfers) StartImport(ctx context.Context, s state.Scope, r Request) (state.Transfer, error) {
	return t.start(ctx, s, state.Import, control.NewID("import-"), r)
}

// StartExport takes an export on.
func (t *Transfers) StartExport(ctx context.Context, s state.Scope, r Request) (state.Transfer, error) {
	return t.start(ctx, s, state.Export, control.NewID("export-"), r)
}

func (t *Transfers) start(ctx context.Context, s state.Scope, k state.TransferKind, id string, r Request) (x state.Transfer, err error) {
	const op = "transfers: start"
	err = t.cfg.Store.Update(ctx, func(tx state.Tx) error {
		if r.ClientToken != "" {
			have, err := tx.TransferByToken(ctx, s, r.ClientToken)
			if !fault.Is(err, fault.NotFound) {
				x = have
				return same(have, r, err)
			}
		}
		if err := t.room(ctx, tx, s); err != nil {
			return err
		}
		x = state.Transfer{ID: id, Scope: s, Kind: k, ClientToken: r.ClientToken, Bucket: r.Bucket, Key: r.Key, BucketOwner: r.Owner,
			Status: state.TransferPending, CreatedAt: time.Now().UTC()}
		var err error
		if x.Tags, err = control.AddTags(nil, r.Tags); err != nil {
			return err
		}
		return tx.PutTransfer(ctx, x)
	})
	t.again() // even after an error: the store may have kept it though it could not say so
	return x, fault.Wrap(op, err)
}

// same refuses a client token that was used for something else.
func same(have state.Transfer, r Request, err error) error {
	if err == nil && (have.Bucket != r.Bucket || have.Key != r.Key || have.BucketOwner != r.Owner) {
		return control.Refuse("transfers", KindImport, have.ID, "was started with this client token for another file")
	}
	return err
}

func (t *Transfers) room(ctx context.Context, r state.Reader, s state.Scope) error {
	all, _, err := r.UnfinishedTransfers(ctx, state.Page{Limit: state.MaxLimit})
	if err != nil {
		return err
	}
	all = slices.DeleteFunc(all, func(x state.Transfer) bool { return x.Scope != s })
	if len(all) >= maxUnfinished {
		return control.Full("transfers", KindImport, "", maxUnfinished, "unfinished imports and exports")
	}
	return nil
}

// List returns a scope's imports or exports, or those of ids that exist, newest first.
func (t *Transfers) List(ctx context.Context, s state.Scope, k state.TransferKind, ids []string, p state.Page) (items []state.Transfer, next string, err error) {
	err = t.cfg.Store.View(ctx, func(r state.Reader) error {
		items, next, err = r.Transfers(ctx, s, k, ids, p)
		return err
	})
	return items, next, fault.Wrap("transfers: list", err)
}

// Errors returns what went wrong in one.
func (t *Transfers) Errors(ctx context.Context, s state.Scope, k state.TransferKind, id string, p state.Page) (items []state.TransferError, next string, err error) {
	err = t.cfg.Store.View(ctx, func(r state.Reader) error {
		_, err := r.Transfer(ctx, s, k, id)
		if fault.Is(err, fault.NotFound) {
			return control.Missing("transfers", map[state.TransferKind]string{state.Import: KindImport, state.Export: KindExport}[k], id)
		}
		if err != nil {
			return err
		}
		items, next, err = r.TransferErrors(ctx, id, p)
		return err
	})
	return items, next, fault.Wrap("transfers: errors", err)
}

func (t *Transfers) again() {
	select {
	case t.wake <- struct{}{}:
	default: // somebody has wished it already
	}
}

// lookAgain is how soon after trouble with the store transfers are tried again.
const lookAgain = 15 * time.Second

// Run does transfers, one after the other, until ctx ends. What it leaves half done is done again by the next Run.
func (t *Transfers) Run(ctx context.Context) error {
	for ctx.Err() == nil {
		done, err := t.next(ctx)
		if done {
			continue
		}
		var later <-chan time.Time
		if err != nil && ctx.Err() == nil {
			t.cfg.Log.Error("transfers wait", "after", lookAgain, "error", err)
			later = time.After(lookAgain)
		}
		select {
		case <-ctx.Done():
		case <-t.wake:
		case <-later:
		}
	}
	return nil
}

// next does the oldest unfinished transfer. It reports false when there is none, or when it could not be done now.
func (t *Transfers) next(ctx context.Context) (bool, error) {
	var oldest []state.Transfer
	err := t.cfg.Store.View(ctx, func(r state.Reader) (err error) {
		oldest, _, err = r.UnfinishedTransfers(ctx, state.Page{Limit: 1})
		return err
	})
	if err != nil || len(oldest) == 0 {
		return false, err
	}
	x := oldest[0]
	if err := t.change(ctx, x, func(_ state.Tx, x *state.Transfer) error { return move(x, Begin) }); err != nil {
		return false, err
	}
	if x.Kind == state.Import {
		err = t.importFile(ctx, x)
	} else {
		err = t.exportFile(ctx, x)
	}
	if err == nil {
		t.cfg.Log.Info("transfer done", "id", x.ID, "account", x.Scope.Account)
		return true, nil
	}
	if ctx.Err() != nil {
		return false, err
	}
	return t.fail(ctx, x, err)
}

// faulty is what is wrong with a file, row by row.
type faulty struct{ list []state.TransferError }

func (f *faulty) Error() string { return "the file has errors" }

// maxErrors bounds what is kept of a file's errors: a person mends the first and tries again.
const maxErrors = 1000

// fail ends a transfer with what went wrong. Trouble with the store itself is not the transfer's: it waits.
func (t *Transfers) fail(ctx context.Context, x state.Transfer, cause error) (bool, error) {
	list := []state.TransferError{{At: time.Now().UTC(), RawError: control.Message(cause), AccountID: x.Scope.Account}}
	if f, ok := errors.AsType[*faulty](cause); ok {
		list = f.list[:min(len(f.list), maxErrors)]
	} else if stored, ok := errors.AsType[*storeError](cause); ok && fault.Is(stored.err, fault.Transient) {
		return false, cause
	}
	err := t.change(ctx, x, func(tx state.Tx, x *state.Transfer) error {
		if err := move(x, Fail); err != nil {
			return err
		}
		return tx.AddTransferErrors(ctx, x.ID, list)
	})
	if err == nil {
		t.cfg.Log.Warn("transfer failed", "id", x.ID, "account", x.Scope.Account, "errors", len(list), "first", list[0].RawError)
	}
	return err == nil, err
}

// storeError tells the store's own trouble from a bucket's.
type storeError struct{ err error }

func (e *storeError) Error() string { return e.err.Error() }
func (e *storeError) Unwrap() error { return e.err }

func (t *Transfers) change(ctx context.Context, x state.Transfer, fn func(state.Tx, *state.Transfer) error) error {
	return t.cfg.Store.Update(ctx, func(tx state.Tx) error {
		now, err := tx.Transfer(ctx, x.Scope, x.Kind, x.ID)
		if err != nil {
			return err
		}
		if err := fn(tx, &now); err != nil {
			return err
		}
		return tx.PutTransfer(ctx, now)
	})
}

func object(x state.Transfer) buckets.Object {
	return buckets.Object{Account: x.Scope.Account, Owner: x.BucketOwner, Bucket: x.Bucket, Key: x.Key}
}
