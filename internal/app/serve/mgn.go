package serve

import (
	"github.com/understudy-dr/understudy/internal/awsapi/mgnapi"
	"github.com/understudy-dr/understudy/internal/control/inventory"
	"github.com/understudy-dr/understudy/internal/control/launchconfig"
)

// mgn is what the MGN operations act on.
func (s *server) mgn() mgnapi.Domain {
	return mgnapi.Domain{
		Servers: s.servers, Replication: s.engine, Templates: s.templates, Accounts: s.accounts, Region: s.cfg.Region,
		Applications:    inventory.NewApplications(s.store, s.facilities.limits),
		Waves:           inventory.NewWaves(s.store, s.facilities.limits),
		Connectors:      inventory.NewConnectors(s.store),
		VcenterClients:  inventory.NewVcenterClients(s.store),
		Inventory:       inventory.NewServers(s.store),
		LaunchTemplates: launchconfig.NewMGNTemplates(s.store),
		LaunchConfigs:   launchconfig.NewMGNServers(s.store),
		Actions:         launchconfig.NewMGNActions(s.store),
	}
}
