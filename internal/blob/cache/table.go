package cache

// pageKey names a page of an object. It has no pointer, so that the collector does not walk the table.
type pageKey struct{ object, page uint32 }

// none is no slot.
const none = ^uint32(0)

// slot is a piece of the file and what it holds.
type slot struct {
	key        pageKey
	prev, next uint32 // in order of use
	length     uint32
	backed     bool                         // it was written once, so writing it again takes no room
	sums       [pageSize / chunkSize]uint64 // XXH3-64 of each chunk
}

// table knows which slot holds which page, and which was used longest ago.
type table struct {
	max            uint32
	bySlot         []slot
	byKey          map[pageKey]uint32
	free, holes    []uint32 // slots that hold nothing; holes were never written
	newest, oldest uint32
}

func (t *table) init(pages uint32) {
	t.max, t.byKey, t.newest, t.oldest = pages, map[pageKey]uint32{}, none, none
}

// find returns the slot of a page, which counts as used now.
func (t *table) find(key pageKey) (uint32, bool) {
	i, ok := t.byKey[key]
	if ok && t.newest != i {
		t.unlink(i)
		t.pushNewest(i)
	}
	return i, ok
}

func (t *table) unlink(i uint32) {
	s := &t.bySlot[i]
	if s.prev != none {
		t.bySlot[s.prev].next = s.next
	} else {
		t.newest = s.next
	}
	if s.next != none {
		t.bySlot[s.next].prev = s.prev
	} else {
		t.oldest = s.prev
	}
}

func (t *table) pushNewest(i uint32) {
	s := &t.bySlot[i]
	s.prev, s.next = none, t.newest
	if t.newest != none {
		t.bySlot[t.newest].prev = i
	} else {
		t.oldest = i
	}
	t.newest = i
}

// take returns a slot for a new page: a free one, a new one if the file may grow, or the one that was used longest ago,
// with the page that it held. There may be none.
func (t *table) take(mayGrow bool) (i uint32, evicted pageKey, was bool) {
	switch {
	case len(t.free) > 0:
		return pop(&t.free), pageKey{}, false
	case mayGrow && len(t.holes) > 0:
		return pop(&t.holes), pageKey{}, false
	case mayGrow && uint32(len(t.bySlot)) < t.max:
		t.bySlot = append(t.bySlot, slot{})
		return uint32(len(t.bySlot) - 1), pageKey{}, false
	case t.oldest == none:
		return none, pageKey{}, false
	}
	i = t.oldest
	evicted = t.bySlot[i].key
	t.unlink(i)
	delete(t.byKey, evicted)
	return i, evicted, true
}

// put makes a slot that was taken hold a page.
func (t *table) put(i uint32, s slot) {
	s.backed = true
	t.bySlot[i] = s
	t.byKey[s.key] = i
	t.pushNewest(i)
}

// giveBack frees a slot.
func (t *table) giveBack(i uint32) {
	if t.bySlot[i].backed {
		t.free = append(t.free, i)
	} else {
		t.holes = append(t.holes, i)
	}
}

func pop(list *[]uint32) uint32 {
	i := (*list)[len(*list)-1]
	*list = (*list)[:len(*list)-1]
	return i
}

// drop frees the slot of a page and reports whether there was one.
func (t *table) drop(key pageKey) bool {
	i, ok := t.byKey[key]
	if !ok {
		return false
	}
	t.unlink(i)
	delete(t.byKey, key)
	t.giveBack(i)
	return true
}
