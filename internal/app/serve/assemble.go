package serve

import (
	"context"
	"crypto/tls"
	"errors"
	"net/http"
	"path/filepath"
	"strings"

	"github.com/understudy-dr/understudy/api/drs"
	"github.com/understudy-dr/understudy/api/mgn"
	"github.com/understudy-dr/understudy/internal/agentapi"
	"github.com/understudy-dr/understudy/internal/agentapi/agentpb/agentpbconnect"
	"github.com/understudy-dr/understudy/internal/awsapi/drsapi"
	"github.com/understudy-dr/understudy/internal/awsapi/mgnapi"
	objectcache "github.com/understudy-dr/understudy/internal/blob/cache"
	"github.com/understudy-dr/understudy/internal/buildinfo"
	"github.com/understudy-dr/understudy/internal/control/access"
	"github.com/understudy-dr/understudy/internal/control/accounts"
	"github.com/understudy-dr/understudy/internal/control/audit"
	"github.com/understudy-dr/understudy/internal/control/events"
	"github.com/understudy-dr/understudy/internal/control/inventory/transfer"
	"github.com/understudy-dr/understudy/internal/control/launchconfig"
	"github.com/understudy-dr/understudy/internal/control/points"
	"github.com/understudy-dr/understudy/internal/control/replication"
	"github.com/understudy-dr/understudy/internal/control/servers"
	"github.com/understudy-dr/understudy/internal/control/templates"
	"github.com/understudy-dr/understudy/internal/encryption"
	"github.com/understudy-dr/understudy/internal/journal"
	"github.com/understudy-dr/understudy/internal/journal/layer"
	"github.com/understudy-dr/understudy/internal/metrics"
	"github.com/understudy-dr/understudy/internal/operatorapi"
	"github.com/understudy-dr/understudy/internal/operatorapi/schema"
	"github.com/understudy-dr/understudy/internal/pki"
	"github.com/understudy-dr/understudy/internal/replicate/sink"
	"github.com/understudy-dr/understudy/internal/sigv4"
	"github.com/understudy-dr/understudy/internal/state"
	"github.com/understudy-dr/understudy/internal/state/location"
	"github.com/understudy-dr/understudy/internal/volume"
	"github.com/understudy-dr/understudy/internal/wire"
)

// server is everything, assembled.
type server struct {
	cfg         Config
	credentials string // the administrator's credentials file
	tls         *tls.Config
	authority   *pki.Authority
	tickets     *pki.Tickets
	store       *events.Recorder
	webhooks    *events.Webhooks
	audit       *audit.Log
	keys        *access.Keys
	accounts    *accounts.Accounts
	servers     *servers.Servers
	transfers   *transfer.Transfers
	files       transfer.Buckets // the users' own
	templates   *templates.Templates
	engine      *replication.Engine
	points      *points.Points
	consistent  *points.Consistent
	retention   *points.Retention
	metrics     *metrics.Metrics
	objects     *objectcache.Store // nil when layers stay in the data directory
	sink        *sink.Server
	volumes     *volume.Opener
	operator    *operatorapi.Handler
	facilities  facilities
}

// blockCache is what decoded blocks of all journals may take in memory.
const blockCache = 64 << 20

// assemble opens and makes everything under the data directory. Nothing runs yet.
func assemble(ctx context.Context, c Config) (_ *server, err error) {
	s := &server{cfg: c, credentials: filepath.Join(c.DataDir, "credentials"), audit: audit.New(filepath.Join(c.DataDir, "audit"), c.Log)}
	defer func() {
		if err != nil {
			err = errors.Join(err, s.close())
		}
	}()
	if s.authority, err = pki.Open(filepath.Join(c.DataDir, "pki")); err != nil {
		return nil, err
	}
	certificate, err := s.authority.Server(c.hosts()...)
	if err != nil {
		return nil, err
	}
	s.tls = s.authority.ServerTLS(certificate)
	if s.store, err = openState(ctx, c); err != nil {
		return nil, err
	}
	if s.webhooks, err = events.OpenWebhooks(s.store, filepath.Join(c.DataDir, "keys")); err != nil {
		return nil, err
	}
	if s.keys, err = access.Open(s.store, filepath.Join(c.DataDir, "keys")); err != nil {
		return nil, err
	}
	if err := s.keys.EnsureAdministrator(ctx, c.AccountID, s.credentials); err != nil {
		return nil, err
	}
	wrapping, err := encryption.OpenKeyFile(filepath.Join(c.DataDir, "wrapping-keys.json"))
	if err != nil {
		return nil, err
	}
	s.metrics = metrics.New(buildinfo.Version)
	cache := layer.NewCache(blockCache)
	objects, err := s.openObjects(ctx)
	if err != nil {
		return nil, err
	}
	agents := s.authority.AgentsTLS(certificate)
	agents.NextProtos = []string{wire.ALPN}
	if s.tickets, err = pki.OpenTickets(filepath.Join(c.DataDir, "session-tickets.json"), s.keys, c.Log); err != nil {
		return nil, err
	}
	s.tickets.Serve("control", s.tls)
	s.tickets.Serve("data", agents)
	s.sink, err = sink.New(sink.Config{Dir: filepath.Join(c.DataDir, "journals"), Listen: c.DataListen, Advertise: c.Advertise, TLS: agents, Roots: s.authority.Pool(),
		Identify: identify, Journal: journal.Options{Keys: wrapping, Cache: cache}, Blobs: objects, ReserveBytes: c.Reserve, SlowBytes: c.SlowBelow,
		Maintenance: sink.Maintenance{BytesPerSecond: c.MaintenanceRate, ScrubPeriod: c.ScrubPeriod, SealAfter: c.flushAfter()}, Synced: s.metrics.Synced, Log: c.Log})
	if err != nil {
		return nil, err
	}
	s.volumes = volume.NewOpener(s.sink.Journal)
	s.accounts, s.servers, s.templates = accounts.New(s.store), servers.New(s.store), templates.New(s.store)
	s.engine = replication.New(s.store, replica{s.sink}, c.Log)
	if s.retention, err = points.NewRetention(s.store, s.sink, c.Window, c.Log); err != nil {
		return nil, err
	}
	s.points = points.New(s.store, s.engine, s.pointMade, c.Log)
	s.consistent = points.NewConsistent(s.points, s.sink)
	s.watch(cache)
	if err := s.openFacilities(); err != nil {
		return nil, err
	}
	s.servers.Recommend(func(p state.SourceProperties) string { return s.facilities.templates.Recommended(p).Name })
	s.servers.OnAdd(s.facilities.limits.Added)
	s.engine.OnBegin(s.facilities.limits.Room)
	s.servers.OnAdd(s.facilities.templates.Added)
	s.servers.OnAdd(launchconfig.NewDRSServers(s.store).Added)
	s.servers.OnAdd(launchconfig.NewMGNServers(s.store).Added)
	if err := s.openTransfers(ctx); err != nil {
		return nil, err
	}
	return s, s.resumeNetworks(ctx)
}

// openState opens the records where this installation keeps them. Their changes leave events behind.
func openState(ctx context.Context, c Config) (*events.Recorder, error) {
	where, err := location.Find(c.DataDir, c.StateURL)
	if err != nil {
		return nil, err
	}
	c.Log.Info("records", "state", where.String())
	store, err := where.Open(ctx)
	if err != nil {
		return nil, err
	}
	return events.NewRecorder(store, c.Region), nil
}

// pointMade tells those who care of a new recovery point.
func (s *server) pointMade(p state.Point) {
	s.engine.PointMade(p)
	s.retention.Changed(p.ServerID)
}

// identify says which source server an agent's certificate belongs to.
func identify(c *tls.ConnectionState) (string, error) {
	id, err := pki.PeerSourceServer(c)
	return id.Server, err
}

// handler is the control port: agents' handshakes by path, everything that is signed by its signature's scope.
func (s *server) handler(ctx context.Context) http.Handler {
	log := s.cfg.Log
	signed := s.endpoint()
	s.operator = operatorapi.New(ctx, operatorapi.Config{Servers: s.servers, Points: s.points, Volumes: s.volumes, Journals: s.sink.Journal,
		Events: s.store, Webhooks: s.webhooks, DeletePoint: s.points.Delete, Consistent: s.consistent, Retention: s.retention, Upkeep: s.sink,
		Access: s.access(signed), Log: log})
	agentPath, agents := agentapi.New(agentapi.Config{Account: callerAccount, Region: s.cfg.Region, Servers: s.servers, Replication: s.engine,
		Points: s.consistent, Authority: s.authority, Log: log})

	own := http.NewServeMux()
	own.Handle("/", s.operator)
	own.Handle(agentPath, s.mayRegister(signed.Authorize, agents))
	signed.Serve(drs.New(drsapi.New(s.drs())))
	signed.Serve(mgn.New(mgnapi.New(s.mgn())))
	signed.Mount(schema.Service, own)

	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if strings.HasPrefix(r.URL.Path, agentpbconnect.AgentServiceHandshakeProcedure) {
			agents.ServeHTTP(w, r) // proves itself by its client certificate
			return
		}
		signed.ServeHTTP(w, r)
	})
}

func callerAccount(ctx context.Context) (string, bool) {
	caller, ok := sigv4.CallerFrom(ctx)
	return caller.AccountID, ok
}

// close lets go of what assemble opened, last first.
func (s *server) close() error {
	var err error
	if s.volumes != nil {
		err = errors.Join(err, s.volumes.Close())
	}
	if s.sink != nil {
		err = errors.Join(err, s.sink.Close())
	}
	if s.objects != nil {
		err = errors.Join(err, s.objects.Close())
	}
	if s.store != nil {
		err = errors.Join(err, s.store.Close())
	}
	return err
}
