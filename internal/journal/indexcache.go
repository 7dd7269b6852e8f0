package journal

import (
	"container/list"
	"sync"

	"github.com/understudy-dr/understudy/internal/fault"
)

const cachedStretches = 8

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
	if err := j.writeSidecar(s, b.index, b.sums); err != nil {
		return nil, nil, err
	}
	j.log.Warn("journal: index made anew", "dir", j.dir, "segment", segName(n), "because", cause)
	return s, b.index, nil
}

// entries reads the index of a sealed segment.
func (j *Journal) entries(p *published, s *segment) ([]entry, error) {
	_, index, err := j.readSidecar(s.number, true)
	if err == nil {
		return index, nil
	}
	before := p.cat.Fold.fold(j.disks)
	for _, old := range p.sealed {
		if old.number < s.number {
			before.restore(&old.sum)
		}
	}
	j.reindexing.Lock()
	defer j.reindexing.Unlock()
	_, index, err = j.reindex(s.number, before, err)
	return index, err
}

// indexSums reads the sums that belong to the index of a sealed segment, which was read before and so is sound.
func (j *Journal) indexSums(s *segment, index []entry) ([]uint64, error) {
	sums, err := j.readSums(s.number)
	if fault.Is(err, fault.Corruption) || (err == nil && len(sums) != countSums(index)) {
		return make([]uint64, countSums(index)), nil // they are of use only where the segment is damaged as well
	}
	return sums, err
}

// endCache keeps the ends of bios of the stretches of the journal that were asked for last: lookups by instant or
// position tend to come in bunches.
type endCache struct {
	mu    sync.Mutex
	lru   *list.List // of *cachedEnds, newest first
	byKey map[endsKey]*list.Element
}

// endsKey is a timeline's number or a segment's.
type endsKey struct {
	timeline bool
	number   uint64
}

type cachedEnds struct {
	key  endsKey
	ends []end
}

func newEndCache() *endCache {
	return &endCache{lru: list.New(), byKey: map[endsKey]*list.Element{}}
}

// get may load the same stretch twice at once; one is kept.
func (c *endCache) get(k endsKey, load func() ([]end, error)) ([]end, error) {
	c.mu.Lock()
	if el := c.byKey[k]; el != nil {
		c.lru.MoveToFront(el)
		c.mu.Unlock()
		return el.Value.(*cachedEnds).ends, nil
	}
	c.mu.Unlock()
	ends, err := load()
	if err != nil {
		return nil, err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.byKey[k] == nil {
		c.byKey[k] = c.lru.PushFront(&cachedEnds{key: k, ends: ends})
	}
	for c.lru.Len() > cachedStretches {
		delete(c.byKey, c.lru.Remove(c.lru.Back()).(*cachedEnds).key)
	}
	return ends, nil
}

func (c *endCache) forget(segment uint64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	k := endsKey{number: segment}
	if el := c.byKey[k]; el != nil {
		c.lru.Remove(el)
		delete(c.byKey, k)
	}
}

// ends of a sealed segment.
func (j *Journal) ends(p *published, s *segment) ([]end, error) {
	return j.idx.get(endsKey{number: s.number}, func() ([]end, error) {
		index, err := j.entries(p, s)
		return endsOf(index, s.baseEpoch), err
	})
}
