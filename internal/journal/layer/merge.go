package layer

import (
	"context"
	"slices"
)

// Merge makes one history of several, oldest first: of equal versions the later input's wins. Spans are cut at each
// other's borders; the writer joins them again. What Keep does not show is dropped. Lost content for which any input has bytes with
// the same sums is whole again. Closing it closes the inputs.
func Merge(inputs []Iterator, k Keep) Iterator {
	m := &merger{keep: k, inputs: make([]mergeInput, len(inputs))}
	for i, it := range inputs {
		m.inputs[i].it = it
	}
	return m
}

type merger struct {
	keep    Keep
	inputs  []mergeInput
	active  []*mergeInput // those that cover the place, latest input first
	entries []Entry
	heal    healer
	err     error
}

type mergeInput struct {
	it   Iterator
	span Span
	at   uint64 // up to where the span was taken
	ok   bool
	done bool
	next int // of the span's entries, while they are merged
}

func (in *mergeInput) end() uint64 { return in.span.Sector + in.span.Sectors }

func (m *merger) Close() error {
	var first error
	for i := range m.inputs {
		if err := m.inputs[i].it.Close(); err != nil && first == nil {
			first = err
		}
	}
	return first
}

func (m *merger) Next(ctx context.Context) (Span, bool, error) {
	for m.err == nil {
		if m.err = m.refill(ctx); m.err != nil {
			break
		}
		s, ok := m.fragment()
		if !ok {
			return Span{}, false, nil
		}
		m.list(&s)
		m.heal.apply(&s, m.entries)
		for _, in := range m.active {
			in.at = s.Sector + s.Sectors
		}
		for i := range m.entries {
			m.entries[i].sector, m.entries[i].length = s.Sector, s.Sectors
		}
		if s.Entries = m.keep.apply(m.entries); len(s.Entries) > 0 {
			return s, true, nil
		}
	}
	return Span{}, false, m.err
}

func (m *merger) refill(ctx context.Context) error {
	for i := range m.inputs {
		in := &m.inputs[i]
		if in.done || in.ok && in.at < in.end() {
			continue
		}
		s, ok, err := in.it.Next(ctx)
		if err != nil {
			return err
		}
		in.span, in.ok, in.done, in.at = s, ok, !ok, s.Sector
	}
	return nil
}

// fragment is the next run of sectors that the same spans cover.
func (m *merger) fragment() (s Span, ok bool) {
	m.active = m.active[:0]
	for i := range m.inputs {
		in := &m.inputs[i]
		if in.ok && (!ok || Key{in.span.Disk, in.at}.Compare(Key{s.Disk, s.Sector}) < 0) {
			s.Disk, s.Sector, ok = in.span.Disk, in.at, true
		}
	}
	end := uint64(maxSector)
	for i := range slices.Backward(m.inputs) {
		switch in := &m.inputs[i]; {
		case !in.ok || in.span.Disk != s.Disk:
		case in.at == s.Sector:
			m.active = append(m.active, in)
			end = min(end, in.end())
		default:
			end = min(end, in.at)
		}
	}
	s.Sectors = end - s.Sector
	return s, ok
}

// list merges the entries of the active spans, cut to the fragment.
func (m *merger) list(s *Span) {
	m.entries = m.entries[:0]
	for _, in := range m.active {
		in.next = 0
	}
	for {
		var best *Entry
		for _, in := range m.active {
			if in.next < len(in.span.Entries) {
				if e := &in.span.Entries[in.next]; best == nil || best.Version.Less(e.Version) {
					best = e
				}
			}
		}
		if best == nil {
			return
		}
		e := best.cut(s.Sector, s.Sectors)
		for _, in := range m.active {
			if in.next == len(in.span.Entries) {
				continue
			}
			o := &in.span.Entries[in.next]
			if o.open { // this input lost everything up to its next newer entry, so perhaps something above e
				e = lostEntry(e.disk, e.sector, e.length, e.Version, true)
			}
			if o.Version == e.Version {
				in.next++
			}
		}
		if n := len(m.entries); e.open && n > 0 && m.entries[n-1].open {
			m.entries[n-1] = e // an open one includes those above it
			continue
		}
		m.entries = append(m.entries, e)
	}
}
