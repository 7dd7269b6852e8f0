package cache

import (
	"time"

	"github.com/zeebo/xxh3"

	"github.com/understudy-dr/understudy/internal/fault"
	"github.com/understudy-dr/understudy/internal/vfs"
)

// cached fills dst from off of a page, if the page is there and whole. It takes no hold of the slot: if that was given
// to another page meanwhile, the sums say so.
func (s *Store) cached(o *object, page uint32, dst []byte, off int) bool {
	key := pageKey{o.id, page}
	s.mu.Lock()
	if o.dead {
		s.mu.Unlock()
		return false
	}
	i, ok := s.table.find(key)
	if !ok {
		s.mu.Unlock()
		return false
	}
	held := s.table.bySlot[i]
	s.mu.Unlock()
	good := s.readSlot(i, &held, dst, off)
	s.mu.Lock()
	defer s.mu.Unlock()
	if good {
		s.stats.Hits++
		return true
	}
	if now, ok := s.table.byKey[key]; ok && now == i && s.table.bySlot[i].sums == held.sums {
		s.stats.Damaged++
		s.table.drop(key)
		o.pages--
	}
	return false
}

// readSlot reads the chunks around dst and verifies them.
func (s *Store) readSlot(i uint32, held *slot, dst []byte, off int) bool {
	first, end := off/chunkSize, off+len(dst)
	if end > int(held.length) {
		return false
	}
	limit := min((end+chunkSize-1)/chunkSize*chunkSize, int(held.length))
	begin := first * chunkSize
	buf := make([]byte, limit-begin)
	if err := vfs.ReadFull(s.file, buf, int64(i)*pageSize+int64(begin)); err != nil {
		return false
	}
	for c := first; c*chunkSize < limit; c++ {
		if xxh3.Hash(buf[c*chunkSize-begin:min((c+1)*chunkSize, limit)-begin]) != held.sums[c] {
			return false
		}
	}
	copy(dst, buf[off-begin:])
	return true
}

// keep puts a page of an object into the file, if there is room. Who has the page does not depend on it.
func (s *Store) keep(o *object, page uint32, data []byte) {
	held := slot{key: pageKey{o.id, page}, length: uint32(len(data))}
	for c := 0; c*chunkSize < len(data); c++ {
		held.sums[c] = xxh3.Hash(data[c*chunkSize : min((c+1)*chunkSize, len(data))])
	}
	room := s.reserve()
	s.mu.Lock()
	i := s.take(o, held.key, room)
	s.mu.Unlock()
	var err error
	if i != none {
		_, err = s.file.WriteAt(data, int64(i)*pageSize)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.reserved--
	if i == none {
		return
	}
	_, there := s.table.byKey[held.key]
	switch {
	case err != nil:
		s.failed(vfs.Fault("cache: write", err))
		s.table.giveBack(i)
	case o.dead || there:
		s.table.bySlot[i].backed = true
		s.table.giveBack(i)
	default:
		s.worked()
		s.table.put(i, held)
		o.pages++
	}
}

// take finds a slot for a page that is to be kept. s.mu is held.
func (s *Store) take(o *object, key pageKey, mayGrow bool) uint32 {
	if _, there := s.table.byKey[key]; o.dead || there {
		return none
	}
	i, evicted, was := s.table.take(mayGrow)
	if was {
		loser := s.byID[evicted.object]
		loser.pages--
		if loser.pages == 0 && loser != o && loser.name != "" {
			s.forget(loser) // nothing is held of it, so nothing need be known
		}
	}
	if i == none {
		s.failed(fault.New(fault.OutOfSpace, "cache: write", "no room"))
	}
	return i
}

// reserve tells whether the file may grow by a page, and counts it until that is written or given up: others who ask
// meanwhile see that the room is spoken for.
func (s *Store) reserve() bool {
	s.mu.Lock()
	s.reserved++
	reserved := s.reserved
	grown := uint32(len(s.table.bySlot)) == s.table.max && len(s.table.holes) == 0
	waiting := s.trouble.noGrowth
	s.mu.Unlock()
	if grown || time.Now().Before(waiting) {
		return false
	}
	if s.cfg.KeepFree == 0 {
		return true
	}
	space, err := s.cfg.FS.Free(s.cfg.Dir)
	return err == nil && space.Free-reserved*pageSize >= s.cfg.KeepFree
}
