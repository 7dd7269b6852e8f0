package serve

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"net/http"
	"time"

	"github.com/understudy-dr/understudy/internal/control"
	"github.com/understudy-dr/understudy/internal/fault"
	"github.com/understudy-dr/understudy/internal/journal/layer"
	"github.com/understudy-dr/understudy/internal/metrics"
	"github.com/understudy-dr/understudy/internal/state"
)

// watch shows the assembled server to whoever scrapes.
func (s *server) watch(cache *layer.Cache) {
	w := metrics.World{
		Sources: s.sources, Room: s.sink.Room, Cache: cache.Stats, Log: s.cfg.Log,
		Healthy: func(ctx context.Context) error { // the records can be read
			return s.store.View(ctx, func(r state.Reader) error {
				_, _, err := r.Replications(ctx, state.ReplicationFilter{}, state.Page{Limit: 1})
				return err
			})
		},
	}
	if s.objects != nil {
		w.Objects = s.objects.Stats
	}
	s.metrics.Watch(w)
}

// sources are all source servers of all accounts, as they fare now.
func (s *server) sources(ctx context.Context) (all []metrics.Source, err error) {
	for page := (state.Page{Limit: state.MaxLimit}); ; {
		var servers []state.Server
		var next string
		err := s.store.View(ctx, func(r state.Reader) (err error) {
			servers, next, err = replicated(ctx, r, page)
			return err
		})
		if err != nil {
			return nil, err
		}
		infos, err := s.engine.Describe(ctx, servers)
		if err != nil {
			return nil, err
		}
		for i := range servers {
			all = append(all, s.source(&servers[i], &infos[i]))
		}
		if next == "" {
			return all, nil
		}
		page.After = next
	}
}

// replicated is one page of the servers that have a replication record, whatever their scope.
func replicated(ctx context.Context, r state.Reader, page state.Page) (servers []state.Server, next string, err error) {
	records, next, err := r.Replications(ctx, state.ReplicationFilter{}, page)
	if err != nil {
		return nil, "", err
	}
	ids := map[state.Scope][]string{}
	for i := range records {
		ids[records[i].Scope] = append(ids[records[i].Scope], records[i].ServerID)
	}
	for scope, of := range ids {
		found, _, err := r.Servers(ctx, scope, state.ServerFilter{IDs: of}, state.Page{Limit: len(of)})
		if err != nil {
			return nil, "", err
		}
		servers = append(servers, found...)
	}
	return servers, next, nil
}

func (s *server) source(v *state.Server, i *control.ReplicationInfo) metrics.Source {
	out := metrics.Source{
		ID: v.ID, Name: v.Properties.Hints.Hostname, Account: v.Scope.Account, Service: v.Scope.Service, State: i.State, Lag: i.Lag,
		Added: v.CreatedAt, LastSeen: i.LastSeenAt, Received: s.sink.Status(v.ID).BytesReceived,
	}
	if i.Error != nil {
		out.Error = string(i.Error.Code)
	}
	for _, d := range i.Disks {
		out.Backlog += d.Backlogged
	}
	if l := v.LifeCycle.LastLaunch; l.Status == string(state.Launched) {
		out.LastLaunch = l.InitiatedAt
	}
	if care, err := s.sink.Care(v.ID); err == nil {
		out.Journal = &care
	}
	return out
}

const scrapeDeadline = 30 * time.Second

// serveMetrics serves the metrics until ctx ends; without an address there is nothing to do.
func (s *server) serveMetrics(ctx context.Context, l net.Listener) error {
	if l == nil {
		<-ctx.Done()
		return nil
	}
	h := &http.Server{Handler: s.metrics.Handler(), ReadHeaderTimeout: readHeaderTimeout, ReadTimeout: readTimeout, WriteTimeout: scrapeDeadline,
		IdleTimeout: idleTimeout, ErrorLog: slog.NewLogLogger(s.cfg.Log.Handler(), slog.LevelDebug)}
	done := make(chan error, 1)
	go func() {
		<-ctx.Done()
		done <- h.Close()
	}()
	if err := h.Serve(l); !errors.Is(err, http.ErrServerClosed) {
		return fault.New(fault.Unknown, "serve the metrics", "%w", err)
	}
	return <-done
}
