package layer

import "context"

// Unreadable stands for layers of which nothing can be read: of each range everything from Since to Version is lost. The
// ranges are in order and do not overlap.
func Unreadable(ranges []Range) Iterator { return &unreadable{ranges: ranges} }

type unreadable struct{ ranges []Range }

// Next implements Iterator.
func (u *unreadable) Next(context.Context) (Span, bool, error) {
	if len(u.ranges) == 0 {
		return Span{}, false, nil
	}
	r := u.ranges[0]
	u.ranges = u.ranges[1:]
	s := Span{Disk: r.Disk, Sector: r.Sector, Sectors: r.Sectors}
	s.Entries = append(s.Entries, lostEntry(r.Disk, r.Sector, r.Sectors, r.Version, false)) // what is newer was never in there
	if r.Since.Less(r.Version) {
		s.Entries = append(s.Entries, lostEntry(r.Disk, r.Sector, r.Sectors, r.Since, true))
	}
	return s, true, nil
}

// Close implements Iterator.
func (u *unreadable) Close() error { return nil }
