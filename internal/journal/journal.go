// Package journal stores everything one source server ever said: the durable wire frames, byte for byte as they
// came, in append-only segment files, with an index that finds the state of its disks at every recoverable position.
//
// The replication server's sink appends to it, volume reads from it, and the offline verifier checks it. It has
// no policy: what to keep, who may write and where it lives is decided by its callers. The format is written down in
// docs/formats/journal.md.
package journal

import "log/slog"

// Options of an open journal. The zero value is good.
type Options struct {
	SegmentBytes int64        // roll to a new segment when the current one is this long; default 64 MiB
	CacheBytes   int64        // decompressed frames kept for readers; default 32 MiB
	Log          *slog.Logger // default slog.Default
}

const (
	defaultSegmentBytes = 64 << 20
	defaultCacheBytes   = 32 << 20
	maxSegmentBytes     = 1 << 30 // offsets are 32 bits in the index; a frame may follow the limit
)

func (o Options) withDefaults() Options {
	if o.SegmentBytes <= 0 {
		o.SegmentBytes = defaultSegmentBytes
	}
	o.SegmentBytes = min(o.SegmentBytes, maxSegmentBytes)
	if o.CacheBytes <= 0 {
		o.CacheBytes = defaultCacheBytes
	}
	if o.Log == nil {
		o.Log = slog.Default()
	}
	return o
}
