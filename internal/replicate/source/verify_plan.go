package source

import (
	"cmp"
	"math/bits"
	"slices"
	"time"
)

// Proofs say when each range of each disk was last found to be the same on both sides. They outlive the agent with
// whoever starts a Source.
type Proofs struct {
	Journal string       `json:"journal"` // with which
	Disks   []DiskProofs `json:"disks"`
	Found   Findings     `json:"found"`
}

// DiskProofs are those of one disk, whose ranges are Range bytes long, the last one what is left.
type DiskProofs struct {
	Index  uint16  `json:"index"`
	Bytes  uint64  `json:"bytes"`
	Range  uint64  `json:"range"`
	Proven []int64 `json:"proven"` // Unix time when its comparison began; 0: never
}

// Findings are what verify passes have found in all, in bytes.
type Findings struct {
	Differed uint64    `json:"differed"`
	Absent   uint64    `json:"absent"` // the journal had nothing there
	Last     time.Time `json:"last,omitzero"`
}

const (
	leastRange = 16 << 20
	mostRanges = 4096      // of a disk
	lookAgain  = time.Hour // after what could not be proven
)

// plan says what is compared next: what was proven longest ago. Only Run's goroutine changes it, under Source.mu.
type plan struct {
	v      Verify
	rate   float64 // bytes per second
	window uint64  // bytes compared with one base
	proofs Proofs
	disks  []*disk
	tried  [][]int64 // as Proven, of the last attempt

	part    *portion // in hand
	begun   int64
	whole   bool // all of the range so far was proven
	counted uint64
	hot     uint64
	unused  uint64
}

// portion is what one stretch covers of a range.
type portion struct {
	disk       *disk
	n, at      int // indexes into disks and their ranges
	start, end uint64
}

func newPlan(v Verify, disks []*disk) plan {
	v.complete()
	p := plan{v: v, disks: disks}
	total := 0.0
	for _, d := range disks {
		total += float64(d.Bytes)
	}
	if v.Every > 0 {
		p.rate = min(max(total/v.Every.Seconds(), float64(v.AtLeast)), float64(v.AtMost))
	}
	p.window = min(max(uint64(p.rate*verifyPerBase), verifyWindow), verifyMost)
	if v.WindowBytes > 0 {
		p.window = v.WindowBytes
	}
	p.reset("")
	if v.Known != nil {
		p.adopt(v.Known)
	}
	return p
}

// reset forgets what was proven: it was another journal that held the same.
func (p *plan) reset(journal string) {
	p.proofs = Proofs{Journal: journal, Found: p.proofs.Found}
	p.tried, p.part = nil, nil
	for _, d := range p.disks {
		r := p.v.RangeBytes
		if r == 0 {
			r = max(leastRange, uint64(1)<<bits.Len64((d.Bytes-1)/mostRanges))
		}
		r = max(r, d.debt.BlockSize())
		n := (d.Bytes + r - 1) / r
		p.proofs.Disks = append(p.proofs.Disks, DiskProofs{Index: d.Index, Bytes: d.Bytes, Range: r, Proven: make([]int64, n)})
		p.tried = append(p.tried, make([]int64, n))
	}
}

// adopt takes over what an earlier run has proven of the same disks.
func (p *plan) adopt(known *Proofs) {
	p.proofs.Journal, p.proofs.Found = known.Journal, known.Found
	for i := range p.proofs.Disks {
		d := &p.proofs.Disks[i]
		for _, o := range known.Disks {
			if o.Index == d.Index && o.Bytes == d.Bytes && o.Range == d.Range && len(o.Proven) == len(d.Proven) {
				copy(d.Proven, o.Proven)
				copy(p.tried[i], o.Proven)
			}
		}
	}
}

// next is the part to compare now; nil when nothing is due.
func (p *plan) next(now time.Time) *portion {
	if p.part != nil {
		return p.part
	}
	n, at := p.oldest()
	if n < 0 || p.tried[n][at] != 0 && now.Sub(time.Unix(p.tried[n][at], 0)) < p.v.Every {
		return nil
	}
	d, r := p.disks[n], &p.proofs.Disks[n]
	size := d.debt.BlockSize()
	p.part = &portion{disk: d, n: n, at: at, start: uint64(at) * r.Range / size}
	p.part.end = p.bound(p.part)
	p.begun, p.whole = now.Unix(), true
	return p.part
}

// bound is where the part that begins at t.start ends.
func (p *plan) bound(t *portion) uint64 {
	return min(t.start+max(p.window/t.disk.debt.BlockSize(), 1), p.limit(t))
}

// limit is where its range ends.
func (p *plan) limit(t *portion) uint64 {
	r, size := &p.proofs.Disks[t.n], t.disk.debt.BlockSize()
	return min((uint64(t.at+1)*r.Range)/size, t.disk.debt.Blocks())
}

func (p *plan) oldest() (n, at int) {
	n = -1
	for i, list := range p.tried {
		for k, t := range list {
			if n < 0 || t < p.tried[n][at] {
				n, at = i, k
			}
		}
	}
	return n, at
}

// takes is how long comparing so much takes at the set pace.
func (p *plan) takes(bytes int) time.Duration {
	return time.Duration(float64(bytes) / p.rate * float64(time.Second))
}

// done ends a stretch. A range is proven when all of its stretches found everything the same that could be compared.
func (p *plan) done(w *stretch, now time.Time) {
	t := w.part
	if t != p.part {
		return
	}
	p.whole = p.whole && !w.untold && w.found == 0
	p.hot, p.unused = p.hot+w.hot, p.unused+w.unused*t.disk.debt.BlockSize()
	next := &portion{disk: t.disk, n: t.n, at: t.at, start: t.end}
	if next.start < p.limit(t) {
		next.end = p.bound(next)
		p.part = next
		return
	}
	p.part = nil
	p.tried[t.n][t.at] = now.Unix()
	if p.whole {
		p.proofs.Disks[t.n].Proven[t.at] = p.begun
	} else if p.v.Every > lookAgain {
		p.tried[t.n][t.at] = now.Add(lookAgain - p.v.Every).Unix()
	}
}

// blocks are what is to be compared of the portion: not what is in unused as a whole, whose ranges are in order, and not
// what was found to differ and waits to be read again.
func (t *portion) blocks(unused []Range) (out []span) {
	for _, s := range t.without(unused) {
		for s.start < s.end {
			from, to, ok := t.disk.debt.NextSet(s.start)
			if !ok || from >= s.end {
				from, to = s.end, s.end
			}
			if from > s.start {
				out = append(out, span{s.start, from})
			}
			s.start = to
		}
	}
	return out
}

// without are the blocks of the part that are not in unused as a whole. The ranges are in order.
func (t *portion) without(unused []Range) (out []span) {
	size := t.disk.debt.BlockSize()
	start := t.start
	first, _ := slices.BinarySearchFunc(unused, start*size, func(r Range, at uint64) int { return cmp.Compare(r.Offset+r.Length, at) })
	for _, r := range unused[first:] {
		from, to := (r.Offset+size-1)/size, (r.Offset+r.Length)/size
		if r.Offset+r.Length >= t.disk.Bytes {
			to = t.disk.debt.Blocks()
		}
		if from >= t.end {
			break
		}
		if from < to && to > start {
			if from > start {
				out = append(out, span{start, from})
			}
			start = to
		}
	}
	if start < t.end {
		out = append(out, span{start, t.end})
	}
	return out
}
