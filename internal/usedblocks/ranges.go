package usedblocks

import (
	"cmp"
	"slices"
)

// tidy sorts ranges, joins those that touch, cuts them at size and leaves out the short ones.
func tidy(list []Range, size, least int64) []Range {
	slices.SortFunc(list, func(a, b Range) int { return cmp.Compare(a.Offset, b.Offset) })
	out := list[:0]
	for _, r := range list {
		if r.Offset < 0 || r.Length <= 0 || r.Offset >= size {
			continue
		}
		r.Length = min(r.Length, size-r.Offset)
		if n := len(out); n > 0 && r.Offset <= out[n-1].end() {
			out[n-1].Length = max(out[n-1].end(), r.end()) - out[n-1].Offset
			continue
		}
		out = append(out, r)
	}
	return slices.DeleteFunc(out, func(r Range) bool { return r.Length < least })
}

func (r Range) end() int64 { return r.Offset + r.Length }

func total(list []Range) (n int64) {
	for _, r := range list {
		n += r.Length
	}
	return n
}

// without takes used ranges out of free ones. Neither need be sorted; both are.
func without(free, used []Range) []Range {
	const whole = int64(1) << 62
	free, used = tidy(free, whole, 1), tidy(used, whole, 1)
	var out []Range
	for _, f := range free {
		for len(used) > 0 && used[0].end() <= f.Offset {
			used = used[1:]
		}
		for i := 0; i < len(used) && used[i].Offset < f.end(); i++ {
			if u := used[i]; u.Offset > f.Offset {
				out = append(out, Range{f.Offset, u.Offset - f.Offset})
			}
			at := min(max(used[i].end(), f.Offset), f.end())
			f = Range{at, f.end() - at}
		}
		if f.Length > 0 {
			out = append(out, f)
		}
	}
	return out
}
