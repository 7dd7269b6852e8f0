package metrics

import (
	"context"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/understudy-dr/understudy/internal/blob/cache"
	"github.com/understudy-dr/understudy/internal/replicate/sink"
	"github.com/understudy-dr/understudy/internal/state"
)

// scrapeTimeout bounds what one scrape may ask of the records.
const scrapeTimeout = 10 * time.Second

const (
	gauge = prometheus.GaugeValue
	count = prometheus.CounterValue
)

func desc(name, help string, labels ...string) *prometheus.Desc {
	return prometheus.NewDesc(name, help, labels, nil)
}

func ofServer(name, help string, more ...string) *prometheus.Desc {
	return desc("understudy_"+name, help, append([]string{"server"}, more...)...)
}

// Names with aws_ are those that exporters of CloudWatch give AWS's metrics, so that dashboards and alarms made for them
// go on working.
var (
	servers   = desc("understudy_source_servers", "Source servers by data replication state.", "service", "state")
	info      = ofServer("source_server_info", "Always 1.", "name", "account", "service")
	inState   = ofServer("replication_state", "1 for the data replication state that it is in.", "state")
	inError   = ofServer("replication_error", "1 for the data replication error that it has.", "error")
	lag       = ofServer("replication_lag_seconds", "How far behind a launch would be now; absent while it cannot be launched.")
	backlog   = ofServer("replication_backlog_bytes", "Written on the source server and not durable here.")
	received  = ofServer("replication_received_bytes_total", "Made durable since this process began.")
	lastSeen  = ofServer("agent_last_seen_timestamp_seconds", "When its agent was seen last.")
	open      = ofServer("journal_open", "1 while its journal is open here.")
	stored    = ofServer("journal_stored_bytes", "What its journal takes.")
	unflushed = ofServer("journal_unflushed_bytes", "Of what is stored: in segments, not in layers yet.")
	exposed   = ofServer("journal_unuploaded_bytes", "Of what is stored: acknowledged, and not in object storage yet; absent without one.")
	exposedAt = ofServer("journal_unuploaded_age_seconds", "How long the oldest of these have waited; absent without object storage.")
	reclaim   = ofServer("journal_reclaimable_bytes", "Of what is stored: not needed any more, about.")
	unique    = ofServer("journal_unique_bytes", "What is stored before compression, every kept version of every block once.")
	logical   = ofServer("journal_disk_bytes", "Sizes of its disks.")
	quota     = ofServer("journal_quota_bytes", "What its journal may take; absent without a quota.")
	layers    = ofServer("journal_layers", "Layer files.")
	runs      = ofServer("journal_runs", "Runs of layers that a read looks through.")
	segments  = ofServer("journal_segments", "Segments that are not in layers yet.")
	kept      = ofServer("journal_kept_points", "Recovery points older than the window.")
	oldest    = ofServer("journal_oldest_retained_timestamp_seconds", "Every second from then on is kept; absent while all there is is.")
	pressure  = ofServer("journal_pressure", "How far maintenance is behind: 0 not, 1 agents are slowed down, 2 they are refused.")
	worked    = ofServer("journal_maintenance_bytes_total", "Read and written by flushing, merging and reclaiming since the journal was opened.")
	failing   = ofServer("journal_maintenance_failing", "1 while maintenance fails and is tried again.")
	scrubbed  = ofServer("journal_scrub_bytes_total", "Read by the scrub since the journal was opened.")
	scrubDone = ofServer("journal_scrub_progress_ratio", "Of the pass that is under way.")
	scrubFull = ofServer("journal_scrub_last_full_timestamp_seconds", "When everything was read and verified last; absent: never yet.")
	damage    = ofServer("journal_damaged_stretches", "Stretches of disks whose stored content is lost.")
	doubtful  = ofServer("journal_doubtful_bytes", "Found by verify passes: what recovery points that are kept may have wrong.", "kind")

	free    = desc("understudy_staging_free_bytes", "Free on the file system of the journals.")
	total   = desc("understudy_staging_total_bytes", "Size of the file system of the journals.")
	reserve = desc("understudy_staging_reserve_bytes", "With less free than this agents are refused.")
	slow    = desc("understudy_staging_slow_bytes", "With less free than this agents are slowed down.")

	cacheHits   = desc("understudy_block_cache_hits_total", "Decoded blocks that were found in memory.")
	cacheMisses = desc("understudy_block_cache_misses_total", "Decoded blocks that were not.")
	cacheBytes  = desc("understudy_block_cache_bytes", "What they take.")

	objectHits    = desc("understudy_object_cache_hits_total", "Pages of objects that were found on the local disk.")
	objectMisses  = desc("understudy_object_cache_misses_total", "Pages of objects that were fetched because somebody waited for them.")
	objectAhead   = desc("understudy_object_cache_read_ahead_total", "Pages of objects that were fetched before anybody asked.")
	objectDamaged = desc("understudy_object_cache_damaged_total", "Pages on the local disk that were damaged, and fetched again.")
	objectBytes   = desc("understudy_object_cache_bytes", "What the local copies take.")

	awsLag = map[state.Service]*prometheus.Desc{
		state.DRS: desc("aws_drs_lag_duration_maximum", "CloudWatch's AWS/DRS LagDuration, in seconds.", "source_server_id"),
		state.MGN: desc("aws_mgn_lag_duration_maximum", "CloudWatch's AWS/MGN LagDuration, in seconds.", "source_server_id"),
	}
	awsBacklog = desc("aws_drs_backlog_maximum", "CloudWatch's AWS/DRS Backlog, in bytes.", "source_server_id")
	awsLaunch  = desc("aws_drs_duration_since_last_successful_recovery_launch_maximum",
		"CloudWatch's AWS/DRS DurationSinceLastSuccessfulRecoveryLaunch, in seconds.", "source_server_id")
	awsElapsed = desc("aws_mgn_elapsed_replication_duration_maximum", "CloudWatch's AWS/MGN ElapsedReplicationDuration, in seconds.", "source_server_id")
)

// collector asks the world when Prometheus asks it.
type collector struct{ m *Metrics }

// Describe sends nothing: which series there are depends on the world.
func (collector) Describe(chan<- *prometheus.Desc) {}

// Collect implements prometheus.Collector.
func (c collector) Collect(out chan<- prometheus.Metric) {
	w := c.m.now()
	ctx, cancel := context.WithTimeout(context.Background(), scrapeTimeout)
	defer cancel()
	s := sender{out}
	if room, err := w.Room(); err == nil {
		s.room(room)
	} else {
		w.Log.Warn("metrics: no figures of the staging area", "error", err)
	}
	blocks := w.Cache()
	s.send(cacheHits, count, float64(blocks.Hits))
	s.send(cacheMisses, count, float64(blocks.Misses))
	s.send(cacheBytes, gauge, float64(blocks.Bytes))
	if w.Objects != nil {
		s.objects(w.Objects())
	}
	all, err := w.Sources(ctx)
	if err != nil { // better no series than old or half ones
		w.Log.Warn("metrics: no figures of source servers", "error", err)
		out <- prometheus.NewInvalidMetric(servers, err)
		return
	}
	type group struct{ service, state string }
	counts := map[group]int{}
	for i := range all {
		counts[group{string(all[i].Service), string(all[i].State)}]++
		s.source(&all[i])
	}
	for g, n := range counts {
		s.send(servers, gauge, float64(n), g.service, g.state)
	}
}

// sender sends series.
type sender struct{ out chan<- prometheus.Metric }

func (s sender) send(d *prometheus.Desc, kind prometheus.ValueType, v float64, labels ...string) {
	m, err := prometheus.NewConstMetric(d, kind, v, labels...)
	if err != nil {
		m = prometheus.NewInvalidMetric(d, err)
	}
	s.out <- m
}

// at sends an instant unless it never was.
func (s sender) at(d *prometheus.Desc, t time.Time, labels ...string) {
	if !t.IsZero() {
		s.send(d, gauge, float64(t.UnixNano())/1e9, labels...)
	}
}

func (s sender) objects(c cache.Stats) {
	s.send(objectHits, count, float64(c.Hits))
	s.send(objectMisses, count, float64(c.Misses))
	s.send(objectAhead, count, float64(c.Ahead))
	s.send(objectDamaged, count, float64(c.Damaged))
	s.send(objectBytes, gauge, float64(c.Bytes))
}

func (s sender) room(r sink.Room) {
	s.send(free, gauge, float64(r.Free))
	s.send(total, gauge, float64(r.Total))
	s.send(reserve, gauge, float64(r.Reserve))
	s.send(slow, gauge, float64(r.Slow))
}

func (s sender) source(v *Source) {
	now := time.Now()
	s.send(info, gauge, 1, v.ID, v.Name, v.Account, string(v.Service))
	s.send(inState, gauge, 1, v.ID, string(v.State))
	if v.Error != "" {
		s.send(inError, gauge, 1, v.ID, v.Error)
	}
	if v.Lag != nil {
		s.send(lag, gauge, v.Lag.Seconds(), v.ID)
		s.send(awsLag[v.Service], gauge, v.Lag.Seconds(), v.ID)
	}
	s.send(backlog, gauge, float64(v.Backlog), v.ID)
	s.at(lastSeen, v.LastSeen, v.ID)
	switch v.Service {
	case state.DRS:
		s.send(awsBacklog, gauge, float64(v.Backlog), v.ID)
		if !v.LastLaunch.IsZero() {
			s.send(awsLaunch, gauge, now.Sub(v.LastLaunch).Seconds(), v.ID)
		}
	case state.MGN:
		s.send(awsElapsed, gauge, now.Sub(v.Added).Seconds(), v.ID)
	}
	s.send(open, gauge, truth(v.Journal != nil), v.ID)
	if v.Journal != nil {
		s.send(received, count, float64(v.Received), v.ID)
		s.journal(v.ID, v.Journal)
	}
}

func (s sender) journal(id string, c *sink.Care) {
	u := &c.Usage
	for d, v := range map[*prometheus.Desc]int64{
		stored: u.Stored, unflushed: u.Unflushed, reclaim: u.Reclaimable, unique: u.Raw, logical: u.Logical, layers: int64(u.LayerFiles),
		runs: int64(u.Runs), segments: int64(u.Segments), kept: int64(u.KeptPoints), pressure: int64(c.Pressure), damage: int64(len(c.Damage)),
	} {
		s.send(d, gauge, float64(v), id)
	}
	if c.Quota > 0 {
		s.send(quota, gauge, float64(c.Quota), id)
	}
	var found, absent uint64
	for i := range c.Doubts {
		found, absent = found+c.Doubts[i].Bytes, absent+c.Doubts[i].Absent
	}
	s.send(doubtful, gauge, float64(found-absent), id, "differed")
	s.send(doubtful, gauge, float64(absent), id, "absent")
	s.at(oldest, u.OldestRetained, id)
	if c.Remote {
		s.send(exposed, gauge, float64(c.Exposure.Bytes), id)
		age := 0.0
		if !c.Exposure.Since.IsZero() {
			age = time.Since(c.Exposure.Since).Seconds()
		}
		s.send(exposedAt, gauge, age, id)
	}
	s.send(worked, count, float64(c.Maintained), id)
	s.send(failing, gauge, truth(c.Err != nil), id)
	s.send(scrubbed, count, float64(c.Scrubbed), id)
	if !c.Scrub.Began.IsZero() && c.Scrub.Total > 0 {
		s.send(scrubDone, gauge, float64(c.Scrub.Done)/float64(c.Scrub.Total), id)
	}
	s.at(scrubFull, c.Scrub.LastFull, id)
}

func truth(b bool) float64 {
	if b {
		return 1
	}
	return 0
}
