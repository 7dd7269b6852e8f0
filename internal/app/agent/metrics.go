package agent

import (
	"fmt"
	"path/filepath"
	"slices"
	"strings"
)

// metricsFile is written beside the status, for whatever collects text files, as node_exporter's textfile collector does.
const metricsFile = "metrics.prom"

// Metrics shows a status as Prometheus reads it. docs/operations/agent.md lists the series.
func (s Status) Metrics() string {
	var b strings.Builder
	series := func(name, kind, help string, values ...string) {
		if len(values) == 0 {
			return
		}
		name = "understudy_agent_" + name
		fmt.Fprintf(&b, "# HELP %s %s\n# TYPE %s %s\n", name, help, name, kind)
		for _, v := range values {
			fmt.Fprintf(&b, "%s%s\n", name, v)
		}
	}
	series("capture_mode", "gauge", "1 for the mode in which writes are captured.", labels("mode", s.Capture)+" 1")
	series("connected", "gauge", "1 while a replication server is connected.", truth(s.Connected))
	series("updated_timestamp_seconds", "gauge", "When these figures were taken.", fmt.Sprintf(" %d", s.Updated.Unix()))
	series("ring_bytes", "gauge", "Capacity of the ring of captured writes.", fmt.Sprintf(" %d", s.RingBytes))
	series("ring_used_bytes", "gauge", "Of it, not acknowledged yet.", fmt.Sprintf(" %d", s.RingUsed))
	series("backlog_memory_bytes", "gauge", "Memory that writes may take which the ring has no room to keep.", fmt.Sprintf(" %d", s.Backlog))
	series("backlog_memory_used_bytes", "gauge", "Of it, taken: writes in order, older than those in the ring.", fmt.Sprintf(" %d", s.Waiting))
	drops := "Writes whose data did not fit the ring or could not be read, since the capture was made."
	if s.Points != nil {
		drops = "Events seen; in this mode each ends an epoch."
	}
	series("drops_total", "counter", drops, fmt.Sprintf(" %d", s.Drops))
	series("overflowing", "gauge", "1 while writes outrun the link and are sent without order.", truth(s.Overflow))
	series("overflow_rounds_total", "counter", "Rounds of reading what was written meanwhile, since the agent started.", fmt.Sprintf(" %d", s.Rounds))
	series("sent_bytes_total", "counter", "Sent to the replication server since the agent started.", fmt.Sprintf(" %d", s.WireBytes))
	var misses []string
	for program, n := range s.Doubts.RecursionMisses {
		misses = append(misses, fmt.Sprintf("%s %d", labels("program", program), n))
	}
	slices.Sort(misses)
	series("recursion_misses_total", "counter", "Runs of a BPF program that the kernel skipped, since the capture was made.", misses...)
	series("lost_completions_total", "counter", "Writes whose completion could not be placed, since the capture was made.",
		fmt.Sprintf(" %d", s.Doubts.Lost))
	var missed, proven, unaudited, backlog []string
	for _, d := range s.Disks {
		disk := labels("disk", d.Device)
		missed = append(missed, fmt.Sprintf("%s %d", disk, d.Missed))
		unaudited = append(unaudited, disk+truth(d.Unaudited != ""))
		backlog = append(backlog, fmt.Sprintf("%s %d", disk, d.Backlogged))
		if d.Proven != 0 {
			proven = append(proven, fmt.Sprintf("%s %d", disk, d.Proven))
		}
	}
	series("audit_missed_sectors_total", "counter", "Sectors that the kernel counts as written and capture never saw, since the agent started.", missed...)
	series("audit_proven_timestamp_seconds", "gauge", "When the two counts last agreed with nothing in flight; absent before.", proven...)
	series("audit_impossible", "gauge", "1 while the kernel's count cannot be read.", unaudited...)
	series("backlog_bytes", "gauge", "Blocks still to be read.", backlog...)
	s.verifySeries(series)
	if s.Points != nil && s.Points.Last != nil {
		series("last_point_timestamp_seconds", "gauge", "The newest moment that is a recovery point, in modes without payloads.",
			fmt.Sprintf(" %d", s.Points.Last.Unix()))
		series("held_seconds", "gauge", "How long file systems were frozen for it.", fmt.Sprintf(" %g", s.Points.Held/1000))
	}
	return b.String()
}

func labels(name, value string) string {
	return "{" + name + `="` + strings.NewReplacer(`\`, `\\`, `"`, `\"`, "\n", `\n`).Replace(value) + `"}`
}

func truth(b bool) string {
	if b {
		return " 1"
	}
	return " 0"
}

func (s Status) writeMetrics(stateDir string) error {
	return replaceStatus(filepath.Join(stateDir, metricsFile), []byte(s.Metrics()))
}
