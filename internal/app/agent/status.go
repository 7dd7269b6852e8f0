package agent

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"text/tabwriter"
	"time"

	"github.com/understudy-dr/understudy/internal/agentapi/agentpb"
	"github.com/understudy-dr/understudy/internal/buildinfo"
	"github.com/understudy-dr/understudy/internal/fault"
	"github.com/understudy-dr/understudy/internal/replicate/source"
)

const statusFile = "status.json"

// Status is what the running agent writes every second for "agent status". All of it is measured.
type Status struct {
	ServerID   string        `json:"sourceServerId"`
	Service    string        `json:"service"`
	Endpoint   string        `json:"endpoint"`
	Version    string        `json:"version"`
	PID        int           `json:"pid"`
	Updated    time.Time     `json:"updated"`
	Capture    string        `json:"capture"`
	CaptureWhy string        `json:"captureWhy"`
	Points     *PointStatus  `json:"points,omitempty"` // of a capture without payloads
	Phase      string        `json:"phase"`
	Connected  bool          `json:"connected"`
	Epoch      uint64        `json:"epoch"`
	Reason     string        `json:"epochReason,omitempty"`
	RingBytes  uint64        `json:"ringBytes"`
	RingUsed   uint64        `json:"ringUsed"`
	Backlog    uint64        `json:"backlogBytes"` // memory that older writes may take
	Waiting    uint64        `json:"backlogUsed"`  // and take
	Drops      uint64        `json:"drops"`
	Overflow   bool          `json:"overflowing"`    // writes outrun the link
	Rounds     uint64        `json:"overflowRounds"` // of reading what was written meanwhile
	Gaps       uint64        `json:"gaps"`
	RawBytes   uint64        `json:"rawBytes"`
	WireBytes  uint64        `json:"wireBytes"`
	Rate       float64       `json:"bytesPerSecond"`
	ETA        float64       `json:"etaSeconds,omitempty"` // until nothing is left to read
	LagP50     float64       `json:"lagMillisecondsP50"`   // write submitted here until durable there, oldest write of each frame
	LagP99     float64       `json:"lagMillisecondsP99"`
	LagSamples int           `json:"lagSamples"`
	Limit      int64         `json:"bytesPerSecondAtMost,omitempty"`       // as configured centrally
	AppPoint   *AppPoint     `json:"applicationConsistentPoint,omitempty"` // the newest that was tried
	Verify     *VerifyStatus `json:"verify,omitempty"`                     // where it is not turned off
	Disks      []DiskStatus  `json:"disks"`
	Doubts     Doubts        `json:"doubts"`
	Error      string        `json:"error,omitempty"`
	Oldest     float64       `json:"oldestWaitingSeconds,omitempty"` // age of the oldest write that is not durable there
	Away       *Away         `json:"controlPlaneAway,omitempty"`
}

// Away is a control plane that does not answer. Replication goes on without it.
type Away struct {
	Since time.Time `json:"since"`
	Error string    `json:"error"`
}

// still is away for another reason, perhaps, since it was first.
func (a *Away) still(err error, now time.Time) *Away {
	next := Away{Since: now.UTC(), Error: err.Error()}
	if a != nil {
		next.Since = a.Since
	}
	return &next
}

// PointStatus is how a capture without payloads, which cannot promise any second, comes to points.
type PointStatus struct {
	Last   *time.Time `json:"last,omitempty"` // absent before the first since the agent started
	Held   float64    `json:"heldMilliseconds"`
	Failed string     `json:"failed,omitempty"` // why the last attempt came to nothing
}

// Doubts are what the capture found against itself.
type Doubts struct {
	RecursionMisses map[string]uint64 `json:"recursionMisses,omitempty"` // by program, since the capture was made
	Lost            uint64            `json:"lostCompletions"`
}

// DiskStatus is one disk's share, in bytes.
type DiskStatus struct {
	Device     string `json:"device"`
	Total      uint64 `json:"total"`
	Replicated uint64 `json:"replicated"`
	Rescanned  uint64 `json:"rescanned"`
	Same       uint64 `json:"same"`   // of it, not sent: the journal has it already
	Unused     uint64 `json:"unused"` // not read: no file system uses it
	Backlogged uint64 `json:"backlogged"`
	Joining    bool   `json:"joining,omitempty"` // it, or the end that it grew by, is in no point yet
	Missed     uint64 `json:"missedSectors"`     // by the kernel's count written, and never seen
	Proven     int64  `json:"provenAt"`          // when the counts last agreed: Unix time, 0 not yet
	Unaudited  string `json:"unaudited,omitempty"`
	Verified   uint64 `json:"verified"`      // bytes that were ever found the same by comparing
	VerifiedAt int64  `json:"verifiedSince"` // all of the disk was, since then: Unix time, 0 not yet
	Error      string `json:"error,omitempty"`
}

func (a *session) writeStatus() error {
	s := Status{ServerID: a.id.ServerID, Service: a.id.Service, Endpoint: a.cfg.Endpoint, Version: buildinfo.Version, PID: os.Getpid(),
		Updated: time.Now().UTC(), Phase: "idle"}
	mode := a.rep.mode.get()
	s.Capture, s.CaptureWhy = string(mode.Mode), mode.Why
	a.rep.describe(&s)
	s.Away = a.away
	if a.points != nil {
		s.AppPoint = a.points.newest()
	}
	b, err := json.MarshalIndent(s, "", "  ")
	if err != nil {
		return fault.New(fault.Bug, "agent: status", "%w", err)
	}
	if err := replaceStatus(filepath.Join(a.cfg.StateDir, statusFile), append(b, '\n')); err != nil {
		return err
	}
	return s.writeMetrics(a.cfg.StateDir)
}

// showStatus writes the status. Not being able to, as on a full disk, is no reason to stop replicating.
func (a *session) showStatus() {
	err := a.writeStatus()
	if err != nil && !a.unseen {
		a.cfg.Log.Warn("cannot write the status; replication goes on", "error", err)
	}
	a.unseen = err != nil
}

// replaceStatus need not survive a power cut, so it is not synced.
func replaceStatus(path string, content []byte) error {
	tmp := path + ".new"
	if err := os.WriteFile(tmp, content, 0o600); err != nil {
		return fault.New(fault.Unknown, "agent: status", "%w", err)
	}
	if err := os.Rename(tmp, path); err != nil {
		return fault.New(fault.Unknown, "agent: status", "%w", err)
	}
	return nil
}

func (r *replicator) describe(s *Status) {
	if err := r.trouble(); err != nil {
		s.Error = err.Error()
	}
	if r.source == nil {
		return
	}
	st := r.source.Status()
	s.Phase, s.Connected, s.Epoch, s.Reason = string(st.Phase), st.Connected, st.Epoch, st.Reason
	s.RingBytes, s.RingUsed, s.Drops, s.Gaps = st.RingBytes, st.RingUsed, st.Drops, st.Gaps
	s.Backlog, s.Waiting = st.Backlog, st.Waiting
	s.Overflow, s.Rounds = st.Overflow, st.Rounds
	s.RawBytes, s.WireBytes, s.Rate, s.ETA, s.Limit = st.RawBytes, st.WireBytes, st.Rate, st.ETA.Seconds(), st.Limit
	s.Oldest = st.Lag.Seconds()
	s.LagP50, s.LagP99, s.LagSamples = milliseconds(st.Latency.OldestP50), milliseconds(st.Latency.OldestP99), st.Latency.Frames
	if st.Err != nil && s.Error == "" {
		s.Error = st.Err.Error()
	}
	s.Verify = describeVerify(st.Verify)
	doubts := r.capture.Doubts()
	s.Doubts = Doubts{doubts.RecursionMisses, doubts.Lost}
	if r.cutter != nil {
		s.RingBytes, s.RingUsed, s.Backlog = 0, 0, 0
		p := r.cutter.Status()
		s.Points = &PointStatus{Held: milliseconds(p.Held), Failed: p.Failed}
		if !p.LastPoint.IsZero() {
			last := p.LastPoint.UTC()
			s.Points.Last = &last
		}
	}
	for _, d := range st.Disks {
		ds := DiskStatus{Device: d.Device, Total: d.Total, Replicated: d.Replicated, Rescanned: d.Rescanned, Same: d.Same, Unused: d.Unused, Backlogged: d.Backlogged, Joining: d.Joining}
		ds.Missed, ds.Unaudited = doubts.MissedSectors[d.Index], doubts.Unaudited[d.Index]
		if at := doubts.Proven[d.Index]; !at.IsZero() {
			ds.Proven = at.Unix()
		}
		ds.Verified = d.Proven
		if !d.Oldest.IsZero() {
			ds.VerifiedAt = d.Oldest.Unix()
		}
		if d.Err != nil {
			ds.Error = d.Err.Error()
		}
		s.Disks = append(s.Disks, ds)
	}
}

func milliseconds(d time.Duration) float64 { return float64(d.Microseconds()) / 1000 }

var phases = map[source.Phase]agentpb.Phase{
	source.PhaseInitialSync: agentpb.Phase_PHASE_INITIAL_SYNC,
	source.PhaseRescan:      agentpb.Phase_PHASE_RESCAN,
	source.PhaseBacklog:     agentpb.Phase_PHASE_STREAMING,
	source.PhaseContinuous:  agentpb.Phase_PHASE_STREAMING,
}

// progress is what the control plane is told.
func (r *replicator) progress() *agentpb.Progress {
	p := &agentpb.Progress{}
	if err := r.trouble(); err != nil {
		p.LastError = err.Error()
	}
	if r.source == nil {
		return p
	}
	st := r.source.Status()
	id := r.capture.ID()
	p.Phase, p.CaptureId, p.Epoch = phases[st.Phase], id[:], st.Epoch
	p.BytesPerSecond, p.LagNs = uint64(st.Rate), int64(st.Lag)
	if st.ETA > 0 {
		p.EtaNs = time.Now().Add(st.ETA).UnixNano()
	}
	if st.Err != nil && p.LastError == "" {
		p.LastError = st.Err.Error()
	}
	for _, d := range st.Disks {
		p.Disks = append(p.Disks, &agentpb.DiskProgress{DeviceName: d.Device, TotalBytes: d.Total, ReplicatedBytes: d.Replicated,
			RescannedBytes: d.Rescanned, BackloggedBytes: d.Backlogged})
	}
	return p
}

// ReadStatus reads what the agent with this state directory last wrote.
func ReadStatus(stateDir string) (Status, error) {
	var s Status
	b, err := os.ReadFile(filepath.Join(stateDir, statusFile))
	if errors.Is(err, os.ErrNotExist) {
		return s, fault.New(fault.NotFound, "agent: status", "no agent has run with %s", stateDir).WithHint("give --state-dir, or start the agent")
	}
	if err != nil {
		return s, fault.New(fault.Invalid, "agent: status", "%w", err)
	}
	if err := json.Unmarshal(b, &s); err != nil {
		return s, fault.New(fault.Corruption, "agent: status", "%w", err)
	}
	return s, nil
}

// LagLine is the lag in one line.
func (s Status) LagLine() string {
	if s.LagSamples == 0 {
		return "no write was acknowledged yet"
	}
	return fmt.Sprintf("p50 %.1f ms, p99 %.1f ms over %d frames", s.LagP50, s.LagP99, s.LagSamples)
}

// Print shows the status to a person.
func (s Status) Print(out io.Writer) {
	w := tabwriter.NewWriter(out, 0, 8, 2, ' ', 0)
	defer w.Flush()
	if age := time.Since(s.Updated); age > 5*time.Second {
		fmt.Fprintf(w, "NOT RUNNING\tall below was true %s ago\n", age.Round(time.Second))
	}
	fmt.Fprintf(w, "source server\t%s (%s) at %s\n", s.ServerID, s.Service, s.Endpoint)
	fmt.Fprintf(w, "agent\t%s, pid %d\n", s.Version, s.PID)
	fmt.Fprintf(w, "capture\t%s: %s\n", s.Capture, s.CaptureWhy)
	fmt.Fprintf(w, "phase\t%s, connected %t, epoch %d %s\n", s.Phase, s.Connected, s.Epoch, s.Reason)
	if s.Points != nil {
		s.Points.print(w)
	} else {
		fmt.Fprintf(w, "lag\t%s\n", s.LagLine())
		if s.Oldest > 1 {
			fmt.Fprintf(w, "\tthe oldest write that is not durable on the server is %s old\n", time.Duration(s.Oldest)*time.Second)
		}
		fmt.Fprintf(w, "ring\t%d of %d KiB waiting for acknowledgement; %d writes dropped, %d gaps\n", s.RingUsed>>10, s.RingBytes>>10, s.Drops, s.Gaps)
		if s.Waiting > 0 {
			fmt.Fprintf(w, "backlog\t%d of %d MiB of memory, in order; a restart of the agent now ends in a rescan of what was written\n", (s.Waiting+1<<20-1)>>20, s.Backlog>>20)
		}
	}
	if s.Overflow {
		fmt.Fprintf(w, "OVERFLOW\twrites outrun the link: what is written is sent without order, and no points are made, until they do not\n")
	}
	fmt.Fprintf(w, "sent\t%s as %s on the wire, now %.1f MiB/s\n", size(s.RawBytes), size(s.WireBytes), s.Rate/(1<<20))
	if s.Limit > 0 {
		fmt.Fprintf(w, "\tat most %.1f MiB/s, as configured\n", float64(s.Limit)/(1<<20))
	}
	if s.AppPoint != nil {
		s.AppPoint.print(w)
	}
	if s.Verify != nil {
		s.Verify.print(w)
	}
	for _, d := range s.Disks {
		fmt.Fprintf(w, "%s\t%d of %d MiB replicated %s\n", d.Device, d.Replicated>>20, d.Total>>20, d.Error)
		if d.Backlogged > 0 {
			fmt.Fprintf(w, "\t%d MiB to read; %d MiB are not in use, %d MiB were there already\n", d.Backlogged>>20, d.Unused>>20, d.Same>>20)
		}
		if s.Verify != nil {
			fmt.Fprintf(w, "\t%s\n", d.proof())
		}
		if d.Missed > 0 {
			fmt.Fprintf(w, "\t%d sectors were written that capture did not see\n", d.Missed)
		}
	}
	if s.Error != "" {
		fmt.Fprintf(w, "error\t%s\n", s.Error)
	}
	if s.Away != nil {
		fmt.Fprintf(w, "control plane\tdoes not answer since %s, replication goes on: %s\n", s.Away.Since.Format(time.RFC3339), s.Away.Error)
	}
}

// size is in KiB while that says more.
func size(bytes uint64) string {
	if bytes < 10<<20 {
		return fmt.Sprintf("%d KiB", bytes>>10)
	}
	return fmt.Sprintf("%d MiB", bytes>>20)
}

func (p *AppPoint) print(w io.Writer) {
	if p.Error != "" {
		fmt.Fprintf(w, "application-consistent\tnone at %s: %s\n", p.Tried.Format(time.RFC3339), p.Error)
		return
	}
	fmt.Fprintf(w, "application-consistent\tposition %d at %s, %d file systems frozen for %s\n", p.Position, p.At.Format(time.RFC3339),
		len(p.FileSystems), p.Held.Round(time.Millisecond))
}

func (p *PointStatus) print(w io.Writer) {
	last := "none yet"
	if p.Last != nil {
		last = fmt.Sprintf("%s ago", time.Since(*p.Last).Round(time.Second))
	}
	fmt.Fprintf(w, "points\tthe newest is of %s; only moments without writes are points in this mode\n", last)
	if p.Held > 0 {
		fmt.Fprintf(w, "\tfile systems were held still for %.0f ms\n", p.Held)
	}
	if p.Failed != "" {
		fmt.Fprintf(w, "\tno point at the last attempt: %s\n", p.Failed)
	}
}
