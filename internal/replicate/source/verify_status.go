package source

import (
	"slices"
	"time"
)

// VerifyStatus is how verify passes stand.
type VerifyStatus struct {
	Every    time.Duration // 0: there are none
	Rate     int64         // bytes per second at most
	Compared uint64        // bytes, by this Source
	Busy     uint64        // of them, written each time they were looked at, so not proven
	Unused   uint64        // bytes passed over: no file system used them
	Found    Findings      // in all
	Waiting  uint64        // bytes found that no epoch owes yet
}

func (s *Source) verifyStatus() VerifyStatus {
	p := &s.plan
	return VerifyStatus{Every: p.v.Every, Rate: int64(p.rate), Compared: p.counted, Busy: p.hot, Unused: p.unused,
		Found: p.proofs.Found, Waiting: s.findings.doubt.Bytes}
}

// sum is how much was ever proven, and when what was proven longest ago.
func (d *DiskProofs) sum() (proven uint64, oldest time.Time) {
	least := int64(0)
	for i, t := range d.Proven {
		if i == 0 || t < least {
			least = t
		}
		if t != 0 {
			proven += min(d.Range, d.Bytes-uint64(i)*d.Range)
		}
	}
	if least != 0 {
		oldest = time.Unix(least, 0)
	}
	return proven, oldest
}

// Proofs are as they stand now. The caller may keep them.
func (s *Source) Proofs() Proofs {
	s.mu.Lock()
	defer s.mu.Unlock()
	p := s.plan.proofs
	p.Disks = slices.Clone(p.Disks)
	for i := range p.Disks {
		p.Disks[i].Proven = slices.Clone(p.Disks[i].Proven)
	}
	return p
}
