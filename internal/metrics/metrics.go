// Package metrics shows to Prometheus how an installation fares: replication, journals, room, and AWS's own figures under
// the names that people's dashboards know. docs/operations/metrics.md lists them. Only internal/app/serve imports it.
package metrics

import (
	"context"
	"log/slog"
	"net/http"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"github.com/understudy-dr/understudy/internal/blob/cache"
	"github.com/understudy-dr/understudy/internal/journal/layer"
	"github.com/understudy-dr/understudy/internal/replicate/sink"
	"github.com/understudy-dr/understudy/internal/state"
)

// Source is one source server as it fares now. Nil and zero members are not shown.
type Source struct {
	ID, Name, Account string
	Service           state.Service
	State             state.ReplicationState
	Error             string
	Lag               *time.Duration // nil: it cannot be launched
	Backlog           uint64         // bytes
	Added             time.Time      // to the service
	LastSeen          time.Time
	LastLaunch        time.Time // of the last launch that succeeded
	Received          uint64    // bytes made durable since this process began
	Journal           *sink.Care
}

// World is what is looked at with each scrape.
type World struct {
	Sources func(context.Context) ([]Source, error)
	Room    func() (sink.Room, error)
	Cache   func() layer.CacheStats // of decoded blocks
	Objects func() cache.Stats      // what is kept here of object storage; nil when layers stay here
	Healthy func(context.Context) error
	Log     *slog.Logger
}

// Metrics collects. What happens is told to it at once; what is so is asked when somebody scrapes.
type Metrics struct {
	registry *prometheus.Registry
	syncs    prometheus.Histogram

	mu    sync.Mutex
	world World
}

// New returns metrics that show the process only, until Watch.
func New(version string) *Metrics {
	m := &Metrics{registry: prometheus.NewRegistry(), syncs: prometheus.NewHistogram(prometheus.HistogramOpts{
		Name: "understudy_ingest_sync_seconds", Help: "What each sync of what agents sent took; an acknowledgement waits for one.",
		Buckets: prometheus.ExponentialBuckets(0.0005, 2, 15),
	})}
	build := prometheus.NewGauge(prometheus.GaugeOpts{
		Name: "understudy_build_info", Help: "Always 1.", ConstLabels: prometheus.Labels{"version": version},
	})
	build.Set(1)
	m.registry.MustRegister(build, m.syncs, collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	return m
}

// Synced is told what a sync of ingest took.
func (m *Metrics) Synced(d time.Duration) { m.syncs.Observe(d.Seconds()) }

// Watch shows a world from now on.
func (m *Metrics) Watch(w World) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.world.Sources == nil {
		m.registry.MustRegister(collector{m})
	}
	m.world = w
}

func (m *Metrics) now() World {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.world
}

// healthTimeout is how long a healthy process may take to say so.
const healthTimeout = 5 * time.Second

// Handler serves /metrics and /healthz.
func (m *Metrics) Handler() http.Handler {
	mux := http.NewServeMux()
	mux.Handle("GET /metrics", promhttp.HandlerFor(m.registry, promhttp.HandlerOpts{ErrorHandling: promhttp.ContinueOnError}))
	mux.HandleFunc("GET /healthz", m.health)
	return mux
}

func (m *Metrics) health(w http.ResponseWriter, r *http.Request) {
	ctx, cancel := context.WithTimeout(r.Context(), healthTimeout)
	defer cancel()
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	if world := m.now(); world.Healthy != nil {
		if err := world.Healthy(ctx); err != nil {
			w.WriteHeader(http.StatusServiceUnavailable)
			_, _ = w.Write([]byte(err.Error() + "\n"))
			return
		}
	}
	_, _ = w.Write([]byte("ok\n"))
}
