package inventory

import (
	"context"
	"strings"

	"github.com/understudy-dr/understudy/internal/control"
	"github.com/understudy-dr/understudy/internal/control/resource"
	"github.com/understudy-dr/understudy/internal/fault"
	"github.com/understudy-dr/understudy/internal/state"
)

// Servers changes what people say of a source server; its replication is not touched.
type Servers struct {
	resource.Keeper[state.Server]
}

// NewServers returns the servers in store.
func NewServers(store state.Store) *Servers {
	return &Servers{resource.Keeper[state.Server]{Store: store, Kind: control.SourceServer,
		Read: state.Reader.Server, Write: state.Tx.PutServer, Tagged: func(v *state.Server) *map[string]string { return &v.Tags }}}
}

// SetConnectorAction says which connector acts on a server; nil changes nothing, and an empty one takes it away.
func (v *Servers) SetConnectorAction(ctx context.Context, s state.Scope, id string, a *state.ConnectorAction) error {
	_, err := v.Change(ctx, s, id, func(tx state.Tx, x *state.Server) error {
		if x.Archived {
			return control.Refuse("sourceserver: update", control.SourceServer, id, "is archived")
		}
		if a == nil {
			return nil
		}
		if err := connectorExists(ctx, tx, s, a.ConnectorARN); err != nil {
			return err
		}
		x.Migration.Connector = *a
		return nil
	})
	return err
}

// connectorExists checks the last element of an ARN: the rest of it is the API's matter. An empty one names nobody.
func connectorExists(ctx context.Context, r state.Reader, s state.Scope, arn string) error {
	if arn == "" {
		return nil
	}
	id := arn[strings.LastIndexByte(arn, '/')+1:]
	if owner := strings.Split(arn, ":"); len(owner) < 5 || owner[4] != "" && owner[4] != s.Account {
		return control.Missing("sourceserver: update", KindConnector, id)
	}
	_, err := r.Connector(ctx, s, id)
	if fault.Is(err, fault.NotFound) {
		return control.Missing("sourceserver: update", KindConnector, id)
	}
	return err
}

// SetReplicationType changes how a server is replicated, which must not be going on.
func (v *Servers) SetReplicationType(ctx context.Context, s state.Scope, id, to string) error {
	const op = "sourceserver: update replication type"
	_, err := v.Change(ctx, s, id, func(tx state.Tx, x *state.Server) error {
		if x.ReplicationType == to {
			return nil
		}
		if to == state.SnapshotShipping && x.Migration.VcenterClientID == "" {
			return control.Misfit(op, "replicationType", "the server was not found by a vCenter client, so nobody can ship its snapshots")
		}
		rec, err := tx.Replication(ctx, id)
		switch {
		case fault.Is(err, fault.NotFound):
		case err != nil:
			return err
		case rec.State != state.Stopped && rec.State != state.Disconnected:
			return control.Refuse(op, control.SourceServer, id, "the replication type cannot change while data replication is %s", rec.State)
		}
		x.ReplicationType = to
		return nil
	})
	return err
}

// Accounts lists the accounts in which MGN was initialised.
func (v *Servers) Accounts(ctx context.Context, p state.Page) (items []string, next string, err error) {
	err = v.Store.View(ctx, func(r state.Reader) error {
		items, next, err = r.InitialisedAccounts(ctx, state.MGN, p)
		return err
	})
	return items, next, fault.Wrap("inventory: accounts", err)
}
