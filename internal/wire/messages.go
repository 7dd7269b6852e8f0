package wire

import (
	"slices"

	"github.com/understudy-dr/understudy/internal/fault"
)

// ALPN is the protocol name both sides ask TLS for on the data port.
const ALPN = "understudy-wire"

// The protocol versions, newest first, a line of reason each; never renumbered.
const (
	V4 uint32 = 4 // disks come, go and grow: an epoch says its disks and which join, a welcome says the journal's
	V3 uint32 = 3 // the agent may ask for digests of what the journal holds
	V2 uint32 = 2 // frames of format 2; the server may ask for ranges to be read again
	V1 uint32 = 1 // hello, welcome, refuse, ack; frames of format 1
)

// Versions that this build speaks, best first.
var Versions = []uint32{V4, V3, V2, V1}

// Choose picks the best version that both sides speak.
func Choose(offered []uint32) (uint32, error) {
	for _, v := range Versions {
		if slices.Contains(offered, v) {
			return v, nil
		}
	}
	return 0, fault.New(fault.Unsupported, "wire: hello", "the peer speaks protocol versions %v, this side %v", offered, Versions).
		WithHint("upgrade the older side")
}

// Hello opens a connection. The agent's certificate, not this message, says who it is.
type Hello struct {
	Versions []uint32 `json:"versions"`
	Agent    string   `json:"agent"`     // build version, for the log
	Capture  string   `json:"captureId"` // hex
	Epoch    uint64   `json:"epoch"`     // the agent's current epoch, 0 before the first
	Acked    uint64   `json:"acked"`     // the highest position the agent saw acknowledged for this journal
	Journal  string   `json:"journalId"` // the journal that Acked and Epoch belong to; "" before the first
	Disks    []Disk   `json:"disks"`
}

// Disk of a source server as both sides know it.
type Disk struct {
	Index  uint16 `json:"index"`
	Device string `json:"device"`
	Bytes  uint64 `json:"bytes"`
}

// Welcome answers Hello with what the journal durably holds. The agent decides from it where to go on.
type Welcome struct {
	Version      uint32 `json:"version"`
	Session      uint64 `json:"session"` // fences earlier connections
	Journal      string `json:"journalId"`
	Capture      string `json:"captureId"` // of the newest epoch; "" when there is none
	Epoch        uint64 `json:"epoch"`     // newest epoch; 0 when there is none
	First        uint64 `json:"first"`     // its first position
	BaselineDone bool   `json:"baselineDone"`
	Durable      uint64 `json:"durable"` // highest durable position that ends a bio, over all epochs
	Highest      uint64 `json:"highest"` // highest position named by anything in the journal: a new base starts above it
	Frames       uint64 `json:"frames"`  // durable frames in the journal: baseline moves no position, but is counted
	// Of the newest epoch, or those that the journal was made for. From V4 on.
	Disks   []Disk `json:"disks,omitempty"`
	Joining []Disk `json:"joining,omitempty"`
}

// EpochOpen begins an epoch in the journal.
type EpochOpen struct {
	Capture string `json:"captureId"`
	Reason  string `json:"reason"` // initial, gap, tracking-lost, journal-changed, rolled-back, repair, verify
	Disks   []Disk `json:"disks"`
	// Joining disks, and disks at sizes to come, are copied in this epoch and are part of no point of it. From V4 on.
	Joining []Disk `json:"joining,omitempty"`
	// Repairs names every Repair whose ranges the baseline of this epoch reads again.
	Repairs []uint64 `json:"repairs,omitempty"`
	// Doubt is what a verify pass found, and the baseline of this epoch corrects.
	Doubt *Doubt `json:"doubt,omitempty"`
}

// Doubt says where the journal differed from the disks for no reason that the agent knows of.
type Doubt struct {
	Since  int64   `json:"since"`  // unix ns: they were last proven to be the same then; 0: never before
	Bytes  uint64  `json:"bytes"`  // that differed
	Absent uint64  `json:"absent"` // of these: that the journal had nothing of, written unseen or allocated and never written
	Ranges []Range `json:"ranges"` // of them, as many as MaxDoubt
}

// MaxDoubt is how many ranges a Doubt names.
const MaxDoubt = 64

// Bounded is the Doubt with no more ranges than it may name; nil stays nil.
func (d *Doubt) Bounded() *Doubt {
	if d == nil || len(d.Ranges) <= MaxDoubt {
		return d
	}
	b := *d
	b.Ranges = d.Ranges[:MaxDoubt:MaxDoubt]
	return &b
}

// With is one Doubt of two.
func (d *Doubt) With(o *Doubt) *Doubt {
	return (&Doubt{Since: min(d.Since, o.Since), Bytes: d.Bytes + o.Bytes, Absent: d.Absent + o.Absent, Ranges: slices.Concat(d.Ranges, o.Ranges)}).Bounded()
}

// Repair asks the agent to read ranges again, because what the journal holds of them is damaged. They become the
// baseline of another epoch, whose EpochOpen names the ID. It may be said more than once.
type Repair struct {
	ID     uint64  `json:"id"` // random
	Ranges []Range `json:"ranges"`
}

// Range is a run of sectors of one disk.
type Range struct {
	Disk    uint16 `json:"disk"`
	Sector  uint64 `json:"sector"`
	Sectors uint64 `json:"sectors"`
}

// MaxRepair is how many ranges one Repair may name; more are merged or said later.
const MaxRepair = 4096

// Refusal ends a connection with a reason that the other side can act upon.
type Refusal struct {
	Kind    string `json:"kind"` // fault.Kind by name
	Message string `json:"message"`
	Hint    string `json:"hint,omitempty"`
}

// Refuse makes a Refusal of err.
func Refuse(err error) Refusal {
	return Refusal{Kind: fault.KindOf(err).String(), Message: err.Error(), Hint: fault.HintOf(err)}
}

// Err is the refusal as an error of its kind.
func (r Refusal) Err() error {
	e := fault.New(fault.ParseKind(r.Kind), "refused by the peer", "%s", r.Message)
	if r.Hint != "" && e.Hint == "" {
		return e.WithHint(r.Hint)
	}
	return e
}
