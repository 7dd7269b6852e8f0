package serve

import (
	"context"

	"github.com/understudy-dr/understudy/internal/awsapi/drsapi"
	"github.com/understudy-dr/understudy/internal/control/extended"
	"github.com/understudy-dr/understudy/internal/control/failback"
	"github.com/understudy-dr/understudy/internal/control/jobs"
	"github.com/understudy-dr/understudy/internal/control/launchconfig"
	"github.com/understudy-dr/understudy/internal/control/networks"
	"github.com/understudy-dr/understudy/internal/control/recovery"
)

// sourceNetworks are the networks of source servers.
func (s *server) sourceNetworks() *networks.Networks {
	return networks.New(s.store, jobs.New(s.store, s.facilities.limits), s.files)
}

// resumeNetworks carries on with what an earlier process left half done.
func (s *server) resumeNetworks(ctx context.Context) error { return s.sourceNetworks().Resume(ctx) }

// drs is what the DRS operations act on. What is staged in another account is seen through the wrappers of extended.
func (s *server) drs() drsapi.Domain {
	all, elsewhere := jobs.New(s.store, s.facilities.limits), extended.New(s.store, s.servers)
	return drsapi.Domain{
		Servers: elsewhere.Servers(s.servers), Replication: elsewhere.Replication(s.engine), Points: elsewhere.Points(s.points),
		Templates: s.templates, Accounts: s.accounts, Region: s.cfg.Region,
		Jobs:            all,
		LaunchTemplates: launchconfig.NewDRSTemplates(s.store),
		LaunchConfigs:   launchconfig.NewDRSServers(s.store),
		LaunchActions:   launchconfig.NewDRSActions(s.store),
		Networks:        s.sourceNetworks(),
		Extensions:      elsewhere,
		Recoveries:      recovery.New(s.store, all, elsewhere, nil),
		Failbacks:       failback.New(recovery.Keeper(s.store), all, nil),
	}
}
