package operatorapi

import (
	"slices"

	"github.com/understudy-dr/understudy/internal/journal"
	"github.com/understudy-dr/understudy/internal/operatorapi/schema"
	"github.com/understudy-dr/understudy/internal/state"
)

// mark says of each point which doubts it may suffer from. What a point shows is asked of the journal, whose clock is the agent's; one
// that cannot be read any more shows nothing.
func mark(j *journal.Journal, s state.Server, out *schema.Points) {
	all := j.Doubts()
	if len(all) == 0 {
		return
	}
	out.Doubts = doubtsOf(s, all)
	for i := range out.Points {
		p := &out.Points[i]
		if at, err := j.Check(p.Position); err == nil {
			for _, d := range covering(all, at) {
				p.Doubts = append(p.Doubts, d.Epoch)
			}
		}
	}
}

// covering keeps the doubts that a state may suffer from.
func covering(all []journal.Doubt, p journal.Point) []journal.Doubt {
	return slices.DeleteFunc(slices.Clone(all), func(d journal.Doubt) bool { return !d.Covers(p) })
}

func doubtsOf(s state.Server, all []journal.Doubt) (out []schema.Doubt) {
	for _, d := range all {
		v := schema.Doubt{Epoch: d.Epoch, Since: moment(d.Since), Until: moment(d.Until), Bytes: d.Bytes, AbsentBytes: d.Absent, Ranges: []schema.DoubtRange{}}
		named := uint64(0)
		for _, g := range d.Ranges {
			n := g.Sectors * sectorBytes
			v.Ranges = append(v.Ranges, schema.DoubtRange{Device: deviceOf(s, g.Disk), Offset: g.Sector * sectorBytes, Bytes: n})
			named += n
		}
		v.More = named < d.Bytes
		out = append(out, v)
	}
	return out
}

// deviceOf is the name that a disk was last known by; empty when it is no disk of the server.
func deviceOf(s state.Server, index uint16) (name string) {
	for _, disk := range s.Disks {
		if disk.Index == uint32(index) {
			name = disk.DeviceName
		}
	}
	return name
}
