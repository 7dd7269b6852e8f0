package awsapi_test

import (
	"context"
	"log/slog"

	"github.com/understudy-dr/understudy/internal/awsapi/mgnapi"
	"github.com/understudy-dr/understudy/internal/buckets"
	"github.com/understudy-dr/understudy/internal/control"
	"github.com/understudy-dr/understudy/internal/control/inventory"
	"github.com/understudy-dr/understudy/internal/control/inventory/networkmigration"
	"github.com/understudy-dr/understudy/internal/control/inventory/transfer"
	"github.com/understudy-dr/understudy/internal/control/jobs"
	"github.com/understudy-dr/understudy/internal/control/launchconfig"
	"github.com/understudy-dr/understudy/internal/control/launches"
	"github.com/understudy-dr/understudy/internal/control/launchtemplates"
	"github.com/understudy-dr/understudy/internal/control/sizes"
	"github.com/understudy-dr/understudy/internal/state"
)

// onlyMGN adds to a domain what only MGN has, over a store.
func onlyMGN(store state.Store, d mgnapi.Domain) mgnapi.Domain {
	d.Applications, d.Waves = inventory.NewApplications(store, nil), inventory.NewWaves(store, nil)
	d.Connectors, d.VcenterClients, d.Inventory = inventory.NewConnectors(store), inventory.NewVcenterClients(store), inventory.NewServers(store)
	d.LaunchTemplates, d.LaunchConfigs, d.Actions = launchconfig.NewMGNTemplates(store), launchconfig.NewMGNServers(store), launchconfig.NewMGNActions(store)
	d.Jobs, d.Networks = jobs.New(store, nil), networkmigration.New(store)
	d.Launches = launches.NewMGN(store, jobs.New(store, nil), d.Replication.(launches.Finalizer), nil)
	x := transfers(store, nil, "")
	d.Transfers, d.Imports, d.Exports = x, x.Imports, x.Exports
	return d
}

// FinalizeCutover disconnects a server of the fleet that is being cut over.
func (f *fleet) FinalizeCutover(_ context.Context, s state.Scope, id string, _ func(context.Context, state.Tx, state.Server) error) error {
	_, err := f.change(s, id, func(v *state.Server) error {
		if v.LifeCycle.State != state.CuttingOver {
			return control.Refuse("fleet: finalize", control.SourceServer, id, "is %s", v.LifeCycle.State)
		}
		v.LifeCycle.State = state.Cutover
		return nil
	})
	return err
}

// transfers makes the imports and exports of a store, with buckets in a directory.
func transfers(store state.Store, s transfer.Servers, dir string) *transfer.Transfers {
	catalogue, err := sizes.Default()
	if err != nil {
		panic(err) // it is part of the program
	}
	return transfer.New(transfer.Config{Store: store, Buckets: buckets.NewDir(dir), Region: region, Applications: inventory.NewApplications(store, nil),
		Waves: inventory.NewWaves(store, nil), Servers: s, LaunchTemplates: launchtemplates.New(store, catalogue),
		LaunchConfigs: launchconfig.NewMGNServers(store), Log: slog.New(slog.DiscardHandler)})
}
