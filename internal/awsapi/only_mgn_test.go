package awsapi_test

import (
	"github.com/understudy-dr/understudy/internal/awsapi/mgnapi"
	"github.com/understudy-dr/understudy/internal/control/inventory"
	"github.com/understudy-dr/understudy/internal/control/launchconfig"
	"github.com/understudy-dr/understudy/internal/state"
)

// onlyMGN adds to a domain what only MGN has, over a store.
func onlyMGN(store state.Store, d mgnapi.Domain) mgnapi.Domain {
	d.Applications, d.Waves = inventory.NewApplications(store, nil), inventory.NewWaves(store, nil)
	d.Connectors, d.VcenterClients, d.Inventory = inventory.NewConnectors(store), inventory.NewVcenterClients(store), inventory.NewServers(store)
	d.LaunchTemplates, d.LaunchConfigs, d.Actions = launchconfig.NewMGNTemplates(store), launchconfig.NewMGNServers(store), launchconfig.NewMGNActions(store)
	return d
}
