package serve

import (
	"github.com/understudy-dr/understudy/internal/awsapi/mgnapi"
	"github.com/understudy-dr/understudy/internal/control/inventory"
	"github.com/understudy-dr/understudy/internal/control/inventory/networkmigration"
	"github.com/understudy-dr/understudy/internal/control/jobs"
	"github.com/understudy-dr/understudy/internal/control/launchconfig"
	"github.com/understudy-dr/understudy/internal/control/launches"
)

// mgn is what the MGN operations act on.
func (s *server) mgn() mgnapi.Domain {
	work := jobs.New(s.store, s.facilities.limits)
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
		Jobs:            work,
		Launches:        launches.NewMGN(s.store, work, s.engine, nil), // nothing launches yet
		Networks:        networkmigration.New(s.store),
		Transfers:       s.transfers, Imports: s.transfers.Imports, Exports: s.transfers.Exports,

		ManagementAccount: s.cfg.ManagementAccount,
	}
}
