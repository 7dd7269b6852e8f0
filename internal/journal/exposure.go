package journal

import (
	"slices"
	"time"
)

// Exposure is what only this machine's disk has of a journal whose layers are in object storage: a lost disk would lose it, and its source
// would have to send it again.
type Exposure struct {
	Bytes  int64     // durable here, and not named by a catalogue in object storage
	Sealed int64     // of these: nothing but maintenance is waited for
	Since  time.Time // when the oldest of it came, or when the journal was opened if that was later; zero: there is none
}

// underway is a segment that became layers which no catalogue in object storage names yet.
type underway struct {
	generation uint64 // of the first catalogue that names them
	bytes      int64
	began      time.Time
}

// Exposure costs nothing. Where layers are not in object storage it is zero: everything is as safe as the disk.
func (j *Journal) Exposure() (x Exposure) {
	j.mu.RLock()
	defer j.mu.RUnlock()
	if !j.o.Remote {
		return x
	}
	add := func(bytes int64, began time.Time) {
		if x.Bytes += bytes; x.Since.IsZero() || began.Before(x.Since) {
			x.Since = began
		}
	}
	for _, u := range j.underway {
		add(u.bytes, u.began)
	}
	for _, s := range j.pub.sealed {
		add(s.bytes, s.began)
	}
	x.Sealed = x.Bytes
	if t := j.pub.tail; t != nil && t.frames > 0 {
		add(t.bytes, t.began)
	}
	return x
}

// uploading notes segments that left the list of sealed ones for a catalogue that object storage does not have yet; mu is held.
func (j *Journal) uploading(generation uint64, flushed []*segment) {
	for _, s := range flushed {
		j.underway = append(j.underway, underway{generation: generation, bytes: s.bytes, began: s.began})
	}
}

// uploaded notes that object storage has a catalogue.
func (j *Journal) uploaded(generation uint64) {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.underway = slices.DeleteFunc(j.underway, func(u underway) bool { return u.generation <= generation })
}
