package journal

import (
	"container/list"
	"sync"

	"github.com/understudy-dr/understudy/internal/fault"
)

const cachedIndexes = 4 // of sealed segments; lookups by instant or position tend to come in bunches

// reindex makes a sealed segment's sidecar again, because reading it gave cause.
func (j *Journal) reindex(n uint64, before fold, cause error) (*segment, []entry, error) {
	if !fault.Is(cause, fault.Corruption) && !fault.Is(cause, fault.NotFound) {
		return nil, nil, cause
	}
	b, err := j.scanSealed(n, before)
	if err != nil {
		return nil, nil, err
	}
	s := b.segment()
	if err := j.writeSidecar(s, b.index); err != nil {
		return nil, nil, err
	}
	j.log.Warn("journal: index made anew", "dir", j.dir, "segment", segName(n), "because", cause)
	return s, b.index, nil
}

// entries reads the index of a sealed segment.
func (j *Journal) entries(sealed []*segment, s *segment) ([]entry, error) {
	_, index, err := j.readSidecar(s.number, true)
	if err == nil {
		return index, nil
	}
	var before fold
	for _, old := range sealed {
		if old.number < s.number {
			before.restore(&old.sum)
		}
	}
	j.reindexing.Lock()
	defer j.reindexing.Unlock()
	_, index, err = j.reindex(s.number, before, err)
	return index, err
}

// indexCache keeps the entries of the sealed segments that were asked for last.
type indexCache struct {
	mu   sync.Mutex
	lru  *list.List // of *cachedIndex, newest first
	byNo map[uint64]*list.Element
}

type cachedIndex struct {
	number uint64
	index  []entry
}

func newIndexCache() *indexCache {
	return &indexCache{lru: list.New(), byNo: map[uint64]*list.Element{}}
}

// cachedEntries is entries for small questions.
func (j *Journal) cachedEntries(sealed []*segment, s *segment) ([]entry, error) {
	c := j.idx
	c.mu.Lock()
	defer c.mu.Unlock()
	if el := c.byNo[s.number]; el != nil {
		c.lru.MoveToFront(el)
		return el.Value.(*cachedIndex).index, nil
	}
	index, err := j.entries(sealed, s)
	if err != nil {
		return nil, err
	}
	c.byNo[s.number] = c.lru.PushFront(&cachedIndex{number: s.number, index: index})
	if c.lru.Len() > cachedIndexes {
		delete(c.byNo, c.lru.Remove(c.lru.Back()).(*cachedIndex).number)
	}
	return index, nil
}
