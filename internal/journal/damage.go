package journal

import (
	"slices"
	"time"
)

// Damage is a stretch of a disk whose content, as one version wrote it, is lost. Every state that shows that version cannot be
// read there; everything else can.
type Damage struct {
	File     string    `json:"file"`
	Disk     uint16    `json:"disk"`
	Sector   uint64    `json:"sector"`
	Sectors  uint64    `json:"sectors"`
	Epoch    uint64    `json:"epoch"`
	Position uint64    `json:"position"`         // of the write; 0 where not even that is known
	Written  time.Time `json:"written,omitzero"` // when, where that is known
	FoundAt  time.Time `json:"foundAt"`
	// Cut says that history ended there: every state from that write on is gone until its source had sent everything again. Nothing that is left
	// shows it, so there is nothing to repair.
	Cut bool `json:"cut,omitempty"`
}

// Stretch is what is lost, without when: two findings of the same are one.
func (d Damage) Stretch() Damage {
	d.Written, d.FoundAt = time.Time{}, time.Time{}
	return d
}

// forgetDamage drops what was found in files that are gone: what is still lost is marked in the files made from them, and
// was noted when they were written.
func (c *catalogue) forgetDamage() {
	if len(c.Damage) == 0 {
		return
	}
	there := map[string]bool{}
	for name := range c.names {
		there[name] = true
	}
	c.Damage = slices.DeleteFunc(c.Damage, func(d Damage) bool {
		if d.Cut {
			return !d.inWindow(&c.Retained)
		}
		number, segment := parseName(d.File, segSuffix)
		return !there[d.File] && !(segment && number > c.Flushed)
	})
}

// maxDamage bounds the list; what is behind it is found again by the next scrub.
const maxDamage = 10000

// mergeDamage adds what list does not have.
func mergeDamage(list, noted []Damage) []Damage {
	if len(noted) == 0 {
		return list
	}
	known := stretches(list)
	for _, d := range noted {
		if k := d.Stretch(); len(list) < maxDamage && !known[k] {
			known[k] = true
			list = append(list, d)
		}
	}
	return list
}

func stretches(list []Damage) map[Damage]bool {
	known := make(map[Damage]bool, len(list))
	for _, d := range list {
		known[d.Stretch()] = true
	}
	return known
}

// note wants mu held, and tells whether the damage was not known yet. What is known is kept at hand: a reader that meets much of it, or
// a merge that finds a whole layer lost, notes thousands, and everybody waits for this lock.
func (j *Journal) note(d Damage) bool {
	if j.known == nil {
		j.known = stretches(slices.Concat(j.pub.cat.Damage, j.noted))
	}
	k := d.Stretch()
	if j.known[k] || len(j.noted) >= maxDamage {
		return false
	}
	j.known[k] = true
	j.noted = append(j.noted, d)
	return true
}
