package control_test

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/understudy-dr/understudy/internal/fault"
	"github.com/understudy-dr/understudy/internal/state"
)

// breakage is how a store breaks.
type breakage string

const (
	crash   breakage = "crash"   // the process ends: nothing is answered any more, and a transaction that is open is rolled back
	failure breakage = "failure" // one write is refused, and the process lives
	doubt   breakage = "doubt"   // one commit is done and not answered, and the process lives
)

// breaker is a store that breaks at its n-th step, where a step is a write or a commit.
type breaker struct {
	state.Store
	how breakage

	mu    sync.Mutex
	left  int  // steps until it breaks; 0: never
	dead  bool // the process
	taken int  // steps
	broke bool
}

var errBroken = fault.New(fault.Transient, "store", "broken by the test")

// step counts one, and tells whether the store breaks here.
func (b *breaker) step() bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.taken++
	if b.left == 0 {
		return false
	}
	b.left--
	if b.left > 0 {
		return false
	}
	b.dead, b.broke = b.how == crash, true
	return true
}

func (b *breaker) ended() bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.dead
}

func (b *breaker) View(ctx context.Context, fn func(state.Reader) error) error {
	if b.ended() {
		return errBroken
	}
	return b.Store.View(ctx, fn)
}

// Update has a step before each write, one before the commit and, where it is not a failure that is wanted, one after it.
func (b *breaker) Update(ctx context.Context, fn func(state.Tx) error) error {
	if b.ended() {
		return errBroken
	}
	err := b.Store.Update(ctx, func(tx state.Tx) error {
		t := &brokenTx{Tx: tx, b: b}
		err := fn(t)
		if t.failed != nil {
			return t.failed // as the stores do: nothing is committed after a refused statement
		}
		if err == nil && t.wrote && b.how != doubt && b.step() {
			return errBroken
		}
		if err == nil && b.ended() {
			return errBroken // meanwhile
		}
		if err == nil && !t.wrote {
			return errReadOnly
		}
		return err
	})
	if errors.Is(err, errReadOnly) {
		return nil
	}
	if err == nil && b.how != failure && b.step() {
		return errBroken
	}
	return err
}

// errReadOnly rolls back what has written nothing: there is nothing to be in doubt about.
var errReadOnly = errors.New("nothing was written")

// brokenTx is a transaction of a breaker.
type brokenTx struct {
	state.Tx
	b      *breaker
	wrote  bool
	failed error
}

func (t *brokenTx) write(do func() error) error {
	t.wrote = true
	if t.b.how != doubt && t.b.step() || t.b.ended() {
		t.failed = errBroken
		return errBroken
	}
	return do()
}

func (t *brokenTx) AddEvent(ctx context.Context, e state.Event) (out state.Event, err error) {
	err = t.write(func() error { out, err = t.Tx.AddEvent(ctx, e); return err })
	return out, err
}

func (t *brokenTx) AddJobEvent(ctx context.Context, e state.JobEvent) error {
	return t.write(func() error { return t.Tx.AddJobEvent(ctx, e) })
}

func (t *brokenTx) AddTransferErrors(ctx context.Context, id string, list []state.TransferError) error {
	return t.write(func() error { return t.Tx.AddTransferErrors(ctx, id, list) })
}

func (t *brokenTx) DeleteAccessKey(ctx context.Context, id string) error {
	return t.write(func() error { return t.Tx.DeleteAccessKey(ctx, id) })
}

func (t *brokenTx) DeleteApplication(ctx context.Context, s state.Scope, id string) error {
	return t.write(func() error { return t.Tx.DeleteApplication(ctx, s, id) })
}

func (t *brokenTx) DeleteConnector(ctx context.Context, s state.Scope, id string) error {
	return t.write(func() error { return t.Tx.DeleteConnector(ctx, s, id) })
}

func (t *brokenTx) DeleteDRSLaunchAction(ctx context.Context, resource, id string) error {
	return t.write(func() error { return t.Tx.DeleteDRSLaunchAction(ctx, resource, id) })
}

func (t *brokenTx) DeleteDRSLaunchTemplate(ctx context.Context, s state.Scope, id string) error {
	return t.write(func() error { return t.Tx.DeleteDRSLaunchTemplate(ctx, s, id) })
}

func (t *brokenTx) DeleteJob(ctx context.Context, s state.Scope, id string) error {
	return t.write(func() error { return t.Tx.DeleteJob(ctx, s, id) })
}

func (t *brokenTx) DeleteLane(ctx context.Context, webhook, subject string) error {
	return t.write(func() error { return t.Tx.DeleteLane(ctx, webhook, subject) })
}

func (t *brokenTx) DeleteLaunchTemplate(ctx context.Context, account, id string) error {
	return t.write(func() error { return t.Tx.DeleteLaunchTemplate(ctx, account, id) })
}

func (t *brokenTx) DeleteMGNLaunchTemplate(ctx context.Context, s state.Scope, id string) error {
	return t.write(func() error { return t.Tx.DeleteMGNLaunchTemplate(ctx, s, id) })
}

func (t *brokenTx) DeleteNetworkMigration(ctx context.Context, s state.Scope, id string) error {
	return t.write(func() error { return t.Tx.DeleteNetworkMigration(ctx, s, id) })
}

func (t *brokenTx) DeletePin(ctx context.Context, id string) error {
	return t.write(func() error { return t.Tx.DeletePin(ctx, id) })
}

func (t *brokenTx) DeletePins(ctx context.Context, owner string) error {
	return t.write(func() error { return t.Tx.DeletePins(ctx, owner) })
}

func (t *brokenTx) DeletePinsFor(ctx context.Context, purpose state.PinPurpose) error {
	return t.write(func() error { return t.Tx.DeletePinsFor(ctx, purpose) })
}

func (t *brokenTx) DeletePoint(ctx context.Context, id string) error {
	return t.write(func() error { return t.Tx.DeletePoint(ctx, id) })
}

func (t *brokenTx) DeletePolicy(ctx context.Context, account, name string) error {
	return t.write(func() error { return t.Tx.DeletePolicy(ctx, account, name) })
}

func (t *brokenTx) DeletePostLaunchAction(ctx context.Context, owner, id string) error {
	return t.write(func() error { return t.Tx.DeletePostLaunchAction(ctx, owner, id) })
}

func (t *brokenTx) DeleteRecoveryInstance(ctx context.Context, s state.Scope, id string) error {
	return t.write(func() error { return t.Tx.DeleteRecoveryInstance(ctx, s, id) })
}

func (t *brokenTx) DeleteRole(ctx context.Context, account, name string) error {
	return t.write(func() error { return t.Tx.DeleteRole(ctx, account, name) })
}

func (t *brokenTx) DeleteServer(ctx context.Context, id string) error {
	return t.write(func() error { return t.Tx.DeleteServer(ctx, id) })
}

func (t *brokenTx) DeleteSession(ctx context.Context, keyID string) error {
	return t.write(func() error { return t.Tx.DeleteSession(ctx, keyID) })
}

func (t *brokenTx) DeleteSessionsBefore(ctx context.Context, v time.Time) error {
	return t.write(func() error { return t.Tx.DeleteSessionsBefore(ctx, v) })
}

func (t *brokenTx) DeleteSourceNetwork(ctx context.Context, s state.Scope, id string) error {
	return t.write(func() error { return t.Tx.DeleteSourceNetwork(ctx, s, id) })
}

func (t *brokenTx) DeleteTemplate(ctx context.Context, s state.Scope, id string) error {
	return t.write(func() error { return t.Tx.DeleteTemplate(ctx, s, id) })
}

func (t *brokenTx) DeleteUser(ctx context.Context, account, name string) error {
	return t.write(func() error { return t.Tx.DeleteUser(ctx, account, name) })
}

func (t *brokenTx) DeleteVcenterClient(ctx context.Context, s state.Scope, id string) error {
	return t.write(func() error { return t.Tx.DeleteVcenterClient(ctx, s, id) })
}

func (t *brokenTx) DeleteWave(ctx context.Context, s state.Scope, id string) error {
	return t.write(func() error { return t.Tx.DeleteWave(ctx, s, id) })
}

func (t *brokenTx) DeleteWebhook(ctx context.Context, account, id string) error {
	return t.write(func() error { return t.Tx.DeleteWebhook(ctx, account, id) })
}

func (t *brokenTx) ExpireEvents(ctx context.Context, before time.Time) error {
	return t.write(func() error { return t.Tx.ExpireEvents(ctx, before) })
}

func (t *brokenTx) FirstTime(ctx context.Context, serverID, what string) (out bool, err error) {
	err = t.write(func() error { out, err = t.Tx.FirstTime(ctx, serverID, what); return err })
	return out, err
}

func (t *brokenTx) Forget(ctx context.Context, serverID, what string) (out bool, err error) {
	err = t.write(func() error { out, err = t.Tx.Forget(ctx, serverID, what); return err })
	return out, err
}

func (t *brokenTx) PutAccessKey(ctx context.Context, k state.AccessKey) error {
	return t.write(func() error { return t.Tx.PutAccessKey(ctx, k) })
}

func (t *brokenTx) PutAccount(ctx context.Context, a state.Account) error {
	return t.write(func() error { return t.Tx.PutAccount(ctx, a) })
}

func (t *brokenTx) PutApplication(ctx context.Context, v state.Application) error {
	return t.write(func() error { return t.Tx.PutApplication(ctx, v) })
}

func (t *brokenTx) PutConnector(ctx context.Context, v state.Connector) error {
	return t.write(func() error { return t.Tx.PutConnector(ctx, v) })
}

func (t *brokenTx) PutDRSLaunchAction(ctx context.Context, a state.DRSLaunchAction) error {
	return t.write(func() error { return t.Tx.PutDRSLaunchAction(ctx, a) })
}

func (t *brokenTx) PutDRSLaunchConfig(ctx context.Context, c state.DRSLaunchConfig) error {
	return t.write(func() error { return t.Tx.PutDRSLaunchConfig(ctx, c) })
}

func (t *brokenTx) PutDRSLaunchTemplate(ctx context.Context, v state.DRSLaunchTemplate) error {
	return t.write(func() error { return t.Tx.PutDRSLaunchTemplate(ctx, v) })
}

func (t *brokenTx) PutExtension(ctx context.Context, e state.Extension) error {
	return t.write(func() error { return t.Tx.PutExtension(ctx, e) })
}

func (t *brokenTx) PutInitialised(ctx context.Context, s state.Scope, at time.Time) error {
	return t.write(func() error { return t.Tx.PutInitialised(ctx, s, at) })
}

func (t *brokenTx) PutJob(ctx context.Context, j state.Job) error {
	return t.write(func() error { return t.Tx.PutJob(ctx, j) })
}

func (t *brokenTx) PutJournalSettings(ctx context.Context, v state.JournalSettings) error {
	return t.write(func() error { return t.Tx.PutJournalSettings(ctx, v) })
}

func (t *brokenTx) PutLane(ctx context.Context, l state.Lane) error {
	return t.write(func() error { return t.Tx.PutLane(ctx, l) })
}

func (t *brokenTx) PutLaunchTemplate(ctx context.Context, v state.LaunchTemplate) error {
	return t.write(func() error { return t.Tx.PutLaunchTemplate(ctx, v) })
}

func (t *brokenTx) PutLaunchTemplateVersion(ctx context.Context, v state.LaunchTemplateVersion) error {
	return t.write(func() error { return t.Tx.PutLaunchTemplateVersion(ctx, v) })
}

func (t *brokenTx) PutMGNLaunchConfig(ctx context.Context, serverID string, c state.MGNLaunchConfig) error {
	return t.write(func() error { return t.Tx.PutMGNLaunchConfig(ctx, serverID, c) })
}

func (t *brokenTx) PutMGNLaunchTemplate(ctx context.Context, v state.MGNLaunchTemplate) error {
	return t.write(func() error { return t.Tx.PutMGNLaunchTemplate(ctx, v) })
}

func (t *brokenTx) PutNetworkExecution(ctx context.Context, v state.NetworkExecution) error {
	return t.write(func() error { return t.Tx.PutNetworkExecution(ctx, v) })
}

func (t *brokenTx) PutNetworkMigration(ctx context.Context, v state.NetworkMigration) error {
	return t.write(func() error { return t.Tx.PutNetworkMigration(ctx, v) })
}

func (t *brokenTx) PutPin(ctx context.Context, p state.Pin) error {
	return t.write(func() error { return t.Tx.PutPin(ctx, p) })
}

func (t *brokenTx) PutPoint(ctx context.Context, p state.Point) error {
	return t.write(func() error { return t.Tx.PutPoint(ctx, p) })
}

func (t *brokenTx) PutPolicy(ctx context.Context, p state.Policy) error {
	return t.write(func() error { return t.Tx.PutPolicy(ctx, p) })
}

func (t *brokenTx) PutPostLaunchAction(ctx context.Context, v state.PostLaunchAction) error {
	return t.write(func() error { return t.Tx.PutPostLaunchAction(ctx, v) })
}

func (t *brokenTx) PutRecoveryInstance(ctx context.Context, i state.RecoveryInstance) error {
	return t.write(func() error { return t.Tx.PutRecoveryInstance(ctx, i) })
}

func (t *brokenTx) PutReplication(ctx context.Context, r state.Replication) error {
	return t.write(func() error { return t.Tx.PutReplication(ctx, r) })
}

func (t *brokenTx) PutRole(ctx context.Context, r state.Role) error {
	return t.write(func() error { return t.Tx.PutRole(ctx, r) })
}

func (t *brokenTx) PutServer(ctx context.Context, s state.Server) error {
	return t.write(func() error { return t.Tx.PutServer(ctx, s) })
}

func (t *brokenTx) PutSession(ctx context.Context, s state.Session) error {
	return t.write(func() error { return t.Tx.PutSession(ctx, s) })
}

func (t *brokenTx) PutSourceNetwork(ctx context.Context, n state.SourceNetwork) error {
	return t.write(func() error { return t.Tx.PutSourceNetwork(ctx, n) })
}

func (t *brokenTx) PutTemplate(ctx context.Context, v state.Template) error {
	return t.write(func() error { return t.Tx.PutTemplate(ctx, v) })
}

func (t *brokenTx) PutTransfer(ctx context.Context, v state.Transfer) error {
	return t.write(func() error { return t.Tx.PutTransfer(ctx, v) })
}

func (t *brokenTx) PutUser(ctx context.Context, u state.User) error {
	return t.write(func() error { return t.Tx.PutUser(ctx, u) })
}

func (t *brokenTx) PutVcenterClient(ctx context.Context, v state.VcenterClient) error {
	return t.write(func() error { return t.Tx.PutVcenterClient(ctx, v) })
}

func (t *brokenTx) PutWave(ctx context.Context, v state.Wave) error {
	return t.write(func() error { return t.Tx.PutWave(ctx, v) })
}

func (t *brokenTx) PutWebhook(ctx context.Context, w state.Webhook) error {
	return t.write(func() error { return t.Tx.PutWebhook(ctx, w) })
}

func (t *brokenTx) WipePoints(ctx context.Context, serverID string) error {
	return t.write(func() error { return t.Tx.WipePoints(ctx, serverID) })
}
