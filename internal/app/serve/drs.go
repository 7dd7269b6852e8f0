package serve

import (
	"github.com/understudy-dr/understudy/internal/awsapi/drsapi"
	"github.com/understudy-dr/understudy/internal/control/jobs"
	"github.com/understudy-dr/understudy/internal/control/launchconfig"
)

// drs is what the DRS operations act on.
func (s *server) drs() drsapi.Domain {
	return drsapi.Domain{
		Servers: s.servers, Replication: s.engine, Templates: s.templates, Points: s.points, Accounts: s.accounts, Region: s.cfg.Region,
		Jobs:            jobs.New(s.store, s.facilities.limits),
		LaunchTemplates: launchconfig.NewDRSTemplates(s.store),
		LaunchConfigs:   launchconfig.NewDRSServers(s.store),
		LaunchActions:   launchconfig.NewDRSActions(s.store),
	}
}
