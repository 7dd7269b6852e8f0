package schema

import "time"

// Doubt is that a verify pass of the agent found journal and disks to differ: states later than Since may be wrong in Ranges, until
// Epoch, which read them again. Which of the states are nobody can say.
type Doubt struct {
	Epoch       uint64       `json:"epoch"`           // it names the doubt
	Since       *time.Time   `json:"since,omitempty"` // when they were last proven to be the same; absent: never before
	Until       *time.Time   `json:"until,omitempty"` // the first instant that is right again; absent: there is none yet
	Bytes       uint64       `json:"bytes"`           // that differed
	AbsentBytes uint64       `json:"absentBytes"`     // of these: that the journal had nothing of, most often never written
	Ranges      []DoubtRange `json:"ranges"`
	More        bool         `json:"more,omitempty"` // there were more ranges than are named
}

// DoubtRange is a part of a disk.
type DoubtRange struct {
	Device string `json:"device"`
	Offset uint64 `json:"offset"`
	Bytes  uint64 `json:"bytes"`
}
