package metrics

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"net/http/httptest"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil/promlint"
	"github.com/stretchr/testify/require"

	"github.com/understudy-dr/understudy/internal/blob/cache"
	"github.com/understudy-dr/understudy/internal/journal"
	"github.com/understudy-dr/understudy/internal/journal/layer"
	"github.com/understudy-dr/understudy/internal/replicate/sink"
	"github.com/understudy-dr/understudy/internal/state"
)

func world() World {
	lag := 1500 * time.Millisecond
	now := time.Now()
	return World{
		Sources: func(context.Context) ([]Source, error) {
			return []Source{
				{
					ID: "s-1", Name: "db", Account: "111122223333", Service: state.DRS, State: state.Continuous, Lag: &lag, Backlog: 7, Received: 99,
					LastSeen: time.Unix(1000, 5e8), LastLaunch: now.Add(-time.Hour),
					Journal: &sink.Care{
						Usage:    journal.Usage{Stored: 10, Unflushed: 2, Reclaimable: 3, Raw: 40, Logical: 50, LayerFiles: 6, Runs: 4, Segments: 1, KeptPoints: 8, OldestRetained: time.Unix(2000, 0)},
						Pressure: journal.Slow, Quota: 1000, Maintained: 11, Scrubbed: 12, Err: errors.New("x"),
						Scrub:  journal.ScrubProgress{Done: 1, Total: 4, Began: now, LastFull: time.Unix(3000, 0)},
						Damage: make([]journal.Damage, 5), Doubts: []journal.Doubt{{Epoch: 2, Bytes: 4096}, {Epoch: 5, Bytes: 12288, Absent: 8192}}, Remote: true, Exposure: journal.Exposure{Bytes: 2, Since: now.Add(-90 * time.Second)},
					},
				},
				{ID: "s-2", Account: "111122223333", Service: state.MGN, State: state.Stalled, Error: "AGENT_NOT_SEEN", Added: now.Add(-time.Minute)},
				{ID: "s-3", Account: "111122223333", Service: state.MGN, State: state.Stalled, Lag: &lag},
			}, nil
		},
		Room:    func() (sink.Room, error) { return sink.Room{Free: 1, Total: 2, Reserve: 3, Slow: 4}, nil },
		Cache:   func() layer.CacheStats { return layer.CacheStats{Hits: 5, Misses: 6, Bytes: 7} },
		Objects: func() cache.Stats { return cache.Stats{Hits: 8, Misses: 9, Ahead: 10, Damaged: 11, Bytes: 12} },
		Healthy: func(context.Context) error { return nil },
		Log:     slog.New(slog.DiscardHandler),
	}
}

func scrape(t *testing.T, m *Metrics, path string) (int, string) {
	w := httptest.NewRecorder()
	m.Handler().ServeHTTP(w, httptest.NewRequestWithContext(t.Context(), "GET", path, nil))
	b, err := io.ReadAll(w.Body)
	require.NoError(t, err)
	return w.Code, string(b)
}

func TestSeries(t *testing.T) {
	m := New("1.2.3")
	m.Synced(3 * time.Millisecond)
	_, text := scrape(t, m, "/metrics")
	require.Contains(t, text, `understudy_build_info{version="1.2.3"} 1`)
	require.NotContains(t, text, "staging")
	m.Watch(world())
	m.Watch(world()) // again, after a change
	code, text := scrape(t, m, "/metrics")
	require.Equal(t, 200, code)
	for _, line := range []string{
		`understudy_source_servers{service="drs",state="CONTINUOUS"} 1`,
		`understudy_source_servers{service="mgn",state="STALLED"} 2`,
		`understudy_source_server_info{account="111122223333",name="db",server="s-1",service="drs"} 1`,
		`understudy_replication_state{server="s-1",state="CONTINUOUS"} 1`,
		`understudy_replication_error{error="AGENT_NOT_SEEN",server="s-2"} 1`,
		`understudy_replication_lag_seconds{server="s-1"} 1.5`,
		`understudy_replication_backlog_bytes{server="s-1"} 7`,
		`understudy_replication_received_bytes_total{server="s-1"} 99`,
		`understudy_agent_last_seen_timestamp_seconds{server="s-1"} 1000.5`,
		`understudy_journal_open{server="s-2"} 0`,
		`understudy_journal_stored_bytes{server="s-1"} 10`,
		`understudy_journal_quota_bytes{server="s-1"} 1000`,
		`understudy_journal_pressure{server="s-1"} 1`,
		`understudy_journal_maintenance_bytes_total{server="s-1"} 11`,
		`understudy_journal_maintenance_failing{server="s-1"} 1`,
		`understudy_journal_scrub_progress_ratio{server="s-1"} 0.25`,
		`understudy_journal_scrub_last_full_timestamp_seconds{server="s-1"} 3000`,
		`understudy_journal_damaged_stretches{server="s-1"} 5`,
		`understudy_journal_doubtful_bytes{kind="differed",server="s-1"} 8192`,
		`understudy_journal_doubtful_bytes{kind="absent",server="s-1"} 8192`,
		`understudy_journal_unuploaded_bytes{server="s-1"} 2`,
		`understudy_staging_free_bytes 1`,
		`understudy_block_cache_hits_total 5`,
		`understudy_object_cache_hits_total 8`,
		`understudy_object_cache_misses_total 9`,
		`understudy_object_cache_read_ahead_total 10`,
		`understudy_object_cache_damaged_total 11`,
		`understudy_object_cache_bytes 12`,
		`understudy_ingest_sync_seconds_bucket{le="0.004"} 1`,
		`aws_drs_lag_duration_maximum{source_server_id="s-1"} 1.5`,
		`aws_mgn_lag_duration_maximum{source_server_id="s-3"} 1.5`,
		`aws_drs_backlog_maximum{source_server_id="s-1"} 7`,
	} {
		require.Contains(t, text, line+"\n")
	}
	require.Regexp(t, `aws_drs_duration_since_last_successful_recovery_launch_maximum\{source_server_id="s-1"\} 3600\.`, text)
	require.Regexp(t, `understudy_journal_unuploaded_age_seconds\{server="s-1"\} 90\.`, text)
	require.Regexp(t, `aws_mgn_elapsed_replication_duration_maximum\{source_server_id="s-2"\} 60\.`, text)
	for _, absent := range []string{`replication_lag_seconds{server="s-2"}`, `journal_stored_bytes{server="s-2"}`, `agent_last_seen_timestamp_seconds{server="s-2"}`} {
		require.NotContains(t, text, absent)
	}
	require.Contains(t, text, "process_resident_memory_bytes")
	require.Contains(t, text, "go_goroutines")
	families, err := m.registry.Gather()
	require.NoError(t, err)
	problems, err := promlint.NewWithMetricFamilies(families).Lint()
	require.NoError(t, err)
	for _, p := range problems {
		require.Contains(t, p.Metric, "aws_", "%s", p.Text) // those have AWS's names
	}
}

func TestTroubleIsNotShownAsZero(t *testing.T) {
	m := New("x")
	w := world()
	sick := errors.New("the database is away")
	w.Sources = func(context.Context) ([]Source, error) { return nil, sick }
	w.Healthy = func(context.Context) error { return sick }
	m.Watch(w)
	code, text := scrape(t, m, "/metrics")
	require.Equal(t, 200, code, "what is known is shown")
	require.Contains(t, text, "understudy_staging_free_bytes 1")
	require.NotContains(t, text, "understudy_source_servers{")
	code, text = scrape(t, m, "/healthz")
	require.Equal(t, 503, code)
	require.Contains(t, text, "the database is away")
	m.Watch(world())
	code, text = scrape(t, m, "/healthz")
	require.Equal(t, 200, code)
	require.Equal(t, "ok\n", text)
}

// TestDashboardsAskForWhatThereIs: every series that a dashboard or an alarm names is one of ours, and the page lists all.
func TestDashboardsAskForWhatThereIs(t *testing.T) {
	m := New("x")
	m.Watch(world())
	_, text := scrape(t, m, "/metrics")
	ours := map[string]bool{}
	for _, f := range regexp.MustCompile(`(?m)^# TYPE (\S+)`).FindAllStringSubmatch(text, -1) {
		ours[f[1]] = true
	}
	page, err := os.ReadFile("../../docs/operations/metrics.md")
	require.NoError(t, err)
	for name := range ours {
		if strings.HasPrefix(name, "understudy_") || strings.HasPrefix(name, "aws_") {
			require.Contains(t, string(page), "`"+name+"`", "the page does not tell of it")
		}
	}
	files, err := filepath.Glob("../../docs/operations/[gp]*/*")
	require.NoError(t, err)
	require.NotEmpty(t, files)
	names := regexp.MustCompile(`\b(understudy|aws)_[a-z_]+`)
	for _, file := range files {
		b, err := os.ReadFile(file)
		require.NoError(t, err)
		if strings.HasSuffix(file, ".json") {
			require.True(t, json.Valid(b), file)
		}
		asked := names.FindAllString(string(b), -1)
		require.NotEmpty(t, asked, file)
		for _, name := range asked {
			name = strings.TrimSuffix(strings.TrimSuffix(name, "_bucket"), "_count")
			require.True(t, ours[name], "%s asks for %s", file, name)
		}
	}
}
