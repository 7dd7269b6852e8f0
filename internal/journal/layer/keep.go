package layer

import "sort"

// Keep says which versions a merge lets stay: of each span those newer than From, and those that are shown at From or at a
// point, being the greatest at or below it.
type Keep struct {
	From   Version
	Points []Version // sorted
	// Bottom says that nothing lies below, nor will ever come: zeroes at or below From with nothing older behind them are
	// dropped then. An older version that arrives later would be seen, so a baseline that is still arriving forbids it.
	Bottom bool
}

// apply filters the entries of one span in place.
func (k *Keep) apply(entries []Entry) []Entry {
	kept := entries[:0]
	var newer Version
	for i := range entries {
		v := entries[i].Version
		if i == 0 || k.shows(v, newer) {
			kept = append(kept, entries[i])
		}
		newer = v
	}
	for n := len(kept); k.Bottom && n > 0 && kept[n-1].Kind == Zero && !k.From.Less(kept[n-1].Version); n-- {
		kept = kept[:n-1]
	}
	return kept
}

// shows reports whether v is wanted, newer being the next version above it. The newest of all is always shown: at From, or it is
// newer.
func (k *Keep) shows(v, newer Version) bool {
	if k.From.Less(newer) {
		return true
	}
	i := sort.Search(len(k.Points), func(i int) bool { return !k.Points[i].Less(v) })
	return i < len(k.Points) && k.Points[i].Less(newer)
}
