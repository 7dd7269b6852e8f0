package source

import (
	"slices"
	"time"
)

// Latency says how long writes took to become durable on the server: of the oldest and of the newest write of each
// frame, the median and the 99th percentile over the last Frames frames.
type Latency struct {
	OldestP50, OldestP99 time.Duration
	NewestP50, NewestP99 time.Duration
	Frames               int
}

// window keeps the latencies of recent frames.
type window struct {
	oldest, newest []int64 // ns
	next           int
}

const windowFrames = 4096

func (w *window) add(oldest, newest int64) {
	if len(w.oldest) < windowFrames {
		w.oldest, w.newest = append(w.oldest, oldest), append(w.newest, newest)
		return
	}
	w.oldest[w.next], w.newest[w.next] = oldest, newest
	w.next = (w.next + 1) % windowFrames
}

func (w *window) quantiles() Latency {
	l := Latency{Frames: len(w.oldest)}
	if l.Frames > 0 {
		l.OldestP50, l.OldestP99 = quantiles(w.oldest)
		l.NewestP50, l.NewestP99 = quantiles(w.newest)
	}
	return l
}

func quantiles(ns []int64) (p50, p99 time.Duration) {
	sorted := slices.Sorted(slices.Values(ns))
	return time.Duration(sorted[len(sorted)/2]), time.Duration(sorted[len(sorted)*99/100])
}
