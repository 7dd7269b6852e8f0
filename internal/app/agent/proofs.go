package agent

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"github.com/understudy-dr/understudy/internal/fault"
	"github.com/understudy-dr/understudy/internal/replicate/source"
)

/*
proofsFile keeps when each range of each disk was last found to be the same on both sides, so that a pass goes on where the
last agent was. docs/formats/proofs.md describes it. Losing it costs nothing but comparing again.
*/
const (
	proofsFile    = "proofs.json"
	proofsVersion = 1
	proofsEvery   = time.Minute
)

type proofsDocument struct {
	Version int `json:"version"`
	source.Proofs
}

// loadProofs is nil where there are none that this build can read.
func loadProofs(dir string) (*source.Proofs, error) {
	b, err := os.ReadFile(filepath.Join(dir, proofsFile))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fault.New(fault.Unknown, "agent: "+proofsFile, "%w", err)
	}
	var d proofsDocument
	if err := json.Unmarshal(b, &d); err != nil {
		return nil, fault.New(fault.Corruption, "agent: "+proofsFile, "%w", err)
	}
	if d.Version != proofsVersion {
		return nil, fault.New(fault.Unsupported, "agent: "+proofsFile, "version %d", d.Version)
	}
	return &d.Proofs, nil
}

func saveProofs(dir string, p source.Proofs) error {
	b, err := json.Marshal(proofsDocument{proofsVersion, p})
	if err != nil {
		return fault.New(fault.Bug, "agent: "+proofsFile, "%w", err)
	}
	return replaceStatus(filepath.Join(dir, proofsFile), append(b, '\n'))
}

// verify is what the source is to compare, and what earlier agents have proven.
func (r *replicator) verify() source.Verify {
	v := source.Verify{Every: r.cfg.VerifyEvery}
	if v.Every == 0 {
		return v
	}
	known, err := loadProofs(r.cfg.StateDir)
	if err != nil {
		r.log.Warn("what was proven is not known any more; everything is compared again", "error", err)
	}
	v.Known = known
	return v
}

// keepProofs writes them down when it is time, or at the end.
func (r *replicator) keepProofs(now time.Time, end bool) {
	if r.source == nil || r.cfg.VerifyEvery == 0 || !end && now.Sub(r.kept) < proofsEvery {
		return
	}
	r.kept = now
	err := saveProofs(r.cfg.StateDir, r.source.Proofs())
	if err != nil && r.unkept == nil {
		r.log.Warn("what was proven cannot be written down; replication goes on", "error", err)
	}
	r.unkept = err
}

// VerifyStatus is how comparing the journal with the disks stands.
type VerifyStatus struct {
	Every    float64    `json:"everySeconds"` // 0: never
	Rate     int64      `json:"bytesPerSecondAtMost"`
	Compared uint64     `json:"comparedBytes"` // since the agent started
	Busy     uint64     `json:"busyBytes"`     // of it, written whenever they were looked at
	Unused   uint64     `json:"unusedBytes"`   // passed over: no file system uses them
	Differed uint64     `json:"differedBytes"` // found in all, and sent again
	Absent   uint64     `json:"absentBytes"`   // in use, and the journal had nothing there; sent
	Last     *time.Time `json:"lastFinding,omitempty"`
	Waiting  uint64     `json:"waitingBytes"` // found, not sent again yet
}

func describeVerify(v source.VerifyStatus) *VerifyStatus {
	if v.Every == 0 {
		return nil
	}
	s := &VerifyStatus{Every: v.Every.Seconds(), Rate: v.Rate, Compared: v.Compared, Busy: v.Busy, Unused: v.Unused,
		Differed: v.Found.Differed, Absent: v.Found.Absent, Waiting: v.Waiting}
	if !v.Found.Last.IsZero() {
		last := v.Found.Last.UTC()
		s.Last = &last
	}
	return s
}

func (v *VerifyStatus) print(w io.Writer) {
	fmt.Fprintf(w, "verify\tevery %s at %.1f MiB/s or less; %d MiB compared, %d KiB of them were being written each time\n",
		time.Duration(v.Every*float64(time.Second)), float64(v.Rate)/(1<<20), v.Compared>>20, v.Busy>>10)
	if v.Last != nil {
		fmt.Fprintf(w, "\tFOUND %d KiB that differed and %d KiB that the journal lacked, last at %s; %d KiB wait to be sent again\n",
			v.Differed>>10, v.Absent>>10, v.Last.Format(time.RFC3339), v.Waiting>>10)
	}
}

// proof says since when a disk is proven.
func (d *DiskStatus) proof() string {
	if d.VerifiedAt == 0 {
		return fmt.Sprintf("%d of %d MiB were compared with the journal and the same", d.Verified>>20, d.Total>>20)
	}
	return "all of it was compared with the journal since " + time.Unix(d.VerifiedAt, 0).UTC().Format(time.RFC3339)
}

// series are the metrics of comparing.
func (s Status) verifySeries(series func(name, kind, help string, values ...string)) {
	v := s.Verify
	if v == nil {
		return
	}
	var verified, since []string
	for _, d := range s.Disks {
		disk := labels("disk", d.Device)
		verified = append(verified, fmt.Sprintf("%s %d", disk, d.Verified))
		if d.VerifiedAt != 0 {
			since = append(since, fmt.Sprintf("%s %d", disk, d.VerifiedAt))
		}
	}
	series("verify_compared_bytes_total", "counter", "Compared with the journal since the agent started.", fmt.Sprintf(" %d", v.Compared))
	series("verify_busy_bytes_total", "counter", "Of them, written each time they were looked at.", fmt.Sprintf(" %d", v.Busy))
	series("verify_found_bytes_total", "counter", "Found to differ, and sent again.", fmt.Sprintf("%s %d", labels("kind", "differed"), v.Differed),
		fmt.Sprintf("%s %d", labels("kind", "absent"), v.Absent))
	series("verify_proven_bytes", "gauge", "Ever found the same on both sides.", verified...)
	series("verify_oldest_proof_timestamp_seconds", "gauge", "Everything was found the same since; absent while something was not yet.", since...)
}
