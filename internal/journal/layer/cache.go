package layer

import (
	"sync"
	"sync/atomic"
)

// Cache keeps decoded blocks of any number of layers. Index blocks are kept in preference to data: one of them saves as much as
// hundreds of data blocks do. Nobody waits for I/O or decoding here.
type Cache struct {
	mu     sync.Mutex
	limit  int64
	used   int64
	data   cacheList
	index  cacheList
	lookup map[cacheKey]*cacheItem
	stats  CacheStats
}

// CacheStats counts since NewCache, but for Bytes, which is what is held now.
type CacheStats struct {
	Hits, Misses int64 // blocks that were asked for
	Bytes        int64
}

// Stats returns the counters.
func (c *Cache) Stats() CacheStats {
	c.mu.Lock()
	defer c.mu.Unlock()
	s := c.stats
	s.Bytes = c.used
	return s
}

type cacheKey struct {
	journal [16]byte
	number  uint64
	off     int64
}

type cacheItem struct {
	key        cacheKey
	prev, next *cacheItem
	size       int64
	ix         *indexBlock
	buf        *buffer
}

// cacheList is a ring through root, the most recently used behind it.
type cacheList struct {
	root  cacheItem
	bytes int64
}

func (l *cacheList) push(e *cacheItem) {
	e.prev, e.next = &l.root, l.root.next
	e.prev.next, e.next.prev = e, e
	l.bytes += e.size
}

func (l *cacheList) remove(e *cacheItem) {
	e.prev.next, e.next.prev = e.next, e.prev
	l.bytes -= e.size
}

// itemOverhead is what an item costs besides its block.
const itemOverhead = 256

// NewCache makes a cache of about so many bytes.
func NewCache(bytes int64) *Cache {
	c := &Cache{limit: bytes, lookup: map[cacheKey]*cacheItem{}}
	for _, l := range []*cacheList{&c.data, &c.index} {
		l.root.prev, l.root.next = &l.root, &l.root
	}
	return c
}

func (c *Cache) list(e *cacheItem) *cacheList {
	if e.ix != nil {
		return &c.index
	}
	return &c.data
}

func (c *Cache) get(k *cacheKey) *cacheItem {
	e := c.lookup[*k]
	if e == nil {
		c.stats.Misses++
		return nil
	}
	c.stats.Hits++
	l := c.list(e)
	l.remove(e)
	l.push(e)
	return e
}

func (c *Cache) getIndex(k *cacheKey) *indexBlock {
	c.mu.Lock()
	defer c.mu.Unlock()
	if e := c.get(k); e != nil {
		return e.ix
	}
	return nil
}

// getData is a block that the caller releases.
func (c *Cache) getData(k *cacheKey) *buffer {
	c.mu.Lock()
	defer c.mu.Unlock()
	if e := c.get(k); e != nil && e.buf != nil {
		e.buf.refs.Add(1)
		return e.buf
	}
	return nil
}

func (c *Cache) putIndex(k *cacheKey, ix *indexBlock) {
	c.put(&cacheItem{key: *k, ix: ix, size: ix.memory() + itemOverhead})
}

func (c *Cache) putData(k *cacheKey, b *buffer) {
	c.put(&cacheItem{key: *k, buf: b, size: int64(cap(b.data)) + itemOverhead})
}

func (c *Cache) put(e *cacheItem) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if e.size > c.limit/2 || c.lookup[e.key] != nil { // somebody else was faster
		return
	}
	if e.buf != nil {
		e.buf.refs.Add(1)
	}
	c.lookup[e.key] = e
	c.list(e).push(e)
	c.used += e.size
	for c.used > c.limit {
		c.drop(c.victim())
	}
}

// victim is the oldest data block, as long as data have more than a quarter of the room.
func (c *Cache) victim() *cacheItem {
	if c.data.bytes > c.limit/4 || c.index.bytes == 0 {
		return c.data.root.prev
	}
	return c.index.root.prev
}

func (c *Cache) drop(e *cacheItem) {
	c.list(e).remove(e)
	delete(c.lookup, e.key)
	c.used -= e.size
	if e.buf != nil {
		e.buf.release()
	}
}

// Drop forgets what is kept of a layer, because its file is gone.
func (c *Cache) Drop(journal [16]byte, number uint64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for k, e := range c.lookup {
		if k.journal == journal && k.number == number {
			c.drop(e)
		}
	}
}

// Bytes is how much is kept.
func (c *Cache) Bytes() int64 {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.used
}

// buffer is a decoded data block, used again when the last who holds it lets go.
type buffer struct {
	refs  atomic.Int32
	class int // of its size
	data  []byte
}

// bufferSizes are what blocks take: one that does not compress, one of format 1, any other.
var (
	bufferSizes = [...]int{pieceBlock, 16 << 10, maxBlock}
	bufferPools [len(bufferSizes)]sync.Pool
)

func newBuffer(n int) *buffer {
	class := 0
	for class < len(bufferSizes)-1 && n > bufferSizes[class] {
		class++
	}
	b, ok := bufferPools[class].Get().(*buffer)
	if !ok {
		b = &buffer{class: class, data: make([]byte, bufferSizes[class])}
	}
	b.data = b.data[:n]
	b.refs.Store(1)
	return b
}

func (b *buffer) release() {
	if b.refs.Add(-1) == 0 {
		bufferPools[b.class].Put(b)
	}
}
