package simulate

import (
	"math"
	"sync"
	"time"
)

// Summary of many latencies, in milliseconds to within two percent.
type Summary struct {
	Count  int64   `json:"count"`
	Errors int64   `json:"errors"`
	P50    float64 `json:"p50Milliseconds"`
	P99    float64 `json:"p99Milliseconds"`
	Max    float64 `json:"maxMilliseconds"`
}

const (
	growth  = 1.02 // of a bucket over the one before
	buckets = 1200 // the last is above five hours
)

// histogram counts latencies in buckets that grow, so that a run of any length takes the same room. The
// zero value is ready.
type histogram struct {
	mu     sync.Mutex
	counts [buckets]int64
	total  int64
	errors int64
	max    time.Duration
}

func bucketOf(d time.Duration) int {
	us := max(1, float64(d.Microseconds()))
	return min(buckets-1, int(math.Log(us)/math.Log(growth)))
}

func (h *histogram) add(d time.Duration) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.counts[bucketOf(d)]++
	h.total++
	h.max = max(h.max, d)
}

func (h *histogram) reset() {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.counts, h.total, h.errors, h.max = [buckets]int64{}, 0, 0, 0
}

func (h *histogram) fail() {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.errors++
}

func (h *histogram) count() int64 {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.total
}

func (h *histogram) summary() Summary {
	h.mu.Lock()
	defer h.mu.Unlock()
	return Summary{Count: h.total, Errors: h.errors, P50: h.quantile(0.50), P99: h.quantile(0.99), Max: milliseconds(h.max)}
}

// quantile is the upper end of the bucket that holds it.
func (h *histogram) quantile(q float64) float64 {
	if h.total == 0 {
		return 0
	}
	rank := int64(math.Ceil(q * float64(h.total)))
	seen := int64(0)
	for i, n := range h.counts {
		if seen += n; seen >= rank {
			return math.Min(math.Pow(growth, float64(i+1))/1000, milliseconds(h.max))
		}
	}
	return milliseconds(h.max)
}

func milliseconds(d time.Duration) float64 { return float64(d.Microseconds()) / 1000 }
