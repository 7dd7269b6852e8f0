package guests

import (
	"fmt"
	"hash/maphash"
	"slices"
)

// Versions is everything that each sector of a disk ever was, in the order of a log.
type Versions struct {
	unit    int64
	seed    maphash.Seed
	sectors [][]version
	oldest  []int          // of each sector's versions, the first that may still be seen
	marks   map[string]int // their places in the log
}

// version is what one write made of a sector.
type version struct {
	at  int // place in the log
	sum uint64
}

// Versions reads a log whose disk was all zeroes in the beginning.
func (l *Log) Versions(bytesOfDisk int64) (*Versions, error) {
	v := &Versions{unit: l.unit, seed: maphash.MakeSeed(), sectors: make([][]version, bytesOfDisk/l.unit), oldest: make([]int, bytesOfDisk/l.unit),
		marks: map[string]int{}}
	zeroes := maphash.Bytes(v.seed, make([]byte, l.unit))
	for i := range v.sectors {
		v.sectors[i] = []version{{-1, zeroes}}
	}
	at := 0
	err := l.Each(bytesOfDisk, func(s step) error {
		if s.mark {
			v.marks[s.name()] = at
		} else {
			v.add(at, s, zeroes)
		}
		at++
		return nil
	})
	return v, err
}

func (v *Versions) add(at int, s step, zeroes uint64) {
	for off := int64(0); off < s.length; off += v.unit {
		sum := zeroes
		if s.data != nil {
			sum = maphash.Bytes(v.seed, s.data[off:off+v.unit])
		}
		i := (s.from + off) / v.unit
		v.sectors[i] = append(v.sectors[i], version{at, sum})
	}
}

// Between says whether a disk can have been like this at a moment between two marks: all that was durable at the first is
// there, nothing that came after the second is, and no sector has gone back behind what an earlier call saw.
func (v *Versions) Between(first, second string, disk []byte) error {
	from, ok := v.marks[first]
	to, also := v.marks[second]
	if !ok || !also || int64(len(disk)) != int64(len(v.sectors))*v.unit {
		return fmt.Errorf("%s %t, %s %t, %d bytes", first, ok, second, also, len(disk))
	}
	for i, all := range v.sectors {
		start := v.oldest[i]
		for start+1 < len(all) && all[start+1].at < from {
			start++
		}
		end := start
		for end < len(all) && all[end].at < to {
			end++
		}
		sum := maphash.Bytes(v.seed, disk[int64(i)*v.unit:int64(i+1)*v.unit])
		seen := slices.IndexFunc(all[start:end], func(o version) bool { return o.sum == sum })
		if seen < 0 {
			return fmt.Errorf("sector %d is none of its %d versions between %s and %s", i, end-start, first, second)
		}
		v.oldest[i] = start + seen
	}
	return nil
}
