package journal

import (
	"context"
	"runtime"
	"sync"
	"sync/atomic"

	"github.com/understudy-dr/understudy/internal/fault"
	"github.com/understudy-dr/understudy/internal/journal/layer"
	"github.com/understudy-dr/understudy/internal/wire"
)

const (
	window = 4 << 20   // bytes of a disk that are looked up at once
	share  = 256 << 10 // of them that one goroutine reads at once
	single = 32        // sectors of a fragment that is not worth looking for what lies beside it
)

// helpers bounds the goroutines of a process that help readers with large reads. Who finds none free reads alone.
var helpers = make(chan struct{}, runtime.GOMAXPROCS(0))

// ReadAt fills p from off of a disk, or fails: damage is a Corruption that names file, disk and range.
func (v *View) ReadAt(ctx context.Context, disk uint16, p []byte, off int64) error {
	return v.read(ctx, disk, p, off, nil)
}

// ReadSparse is ReadAt that does not fill holes, and tells them instead: in order, without overlap. What reads as zeroes may be
// told so or filled with zeroes. One look at the index answers both where data are and what they are.
func (v *View) ReadSparse(ctx context.Context, disk uint16, p []byte, off int64, hole func(off, length int64)) error {
	return v.read(ctx, disk, p, off, hole)
}

func (v *View) read(ctx context.Context, disk uint16, p []byte, off int64, hole func(off, length int64)) error {
	if err := v.check(disk, off, int64(len(p))); err != nil {
		return err
	}
	if head, size := off%wire.SectorSize, int64(len(p)); head != 0 || size%wire.SectorSize != 0 {
		whole := make([]byte, (head+size+wire.SectorSize-1)/wire.SectorSize*wire.SectorSize)
		if err := v.readSectors(ctx, disk, whole, off-head, nil); err != nil {
			return err
		}
		copy(p, whole[head:])
		return nil
	}
	return v.readSectors(ctx, disk, p, off, hole)
}

func (v *View) readSectors(ctx context.Context, disk uint16, p []byte, off int64, hole func(off, length int64)) error {
	for len(p) > 0 {
		n := min(len(p), window)
		r := reading{v: v, disk: disk, p: p[:n], start: uint64(off) / wire.SectorSize, hole: hole}
		if err := r.run(ctx); err != nil {
			return err
		}
		p, off = p[n:], off+int64(n)
	}
	return nil
}

// reading is one look at a View and the reads that follow from it.
type reading struct {
	v     *View
	disk  uint16
	p     []byte
	start uint64 // sector
	hole  func(off, length int64)
}

// at is the part of p that a run of sectors goes to.
func (r *reading) at(from, to uint64) []byte {
	return r.p[(from-r.start)*wire.SectorSize : (to-r.start)*wire.SectorSize]
}

func (r *reading) run(ctx context.Context) error {
	f := takeFinder()
	defer f.free()
	end := r.start + uint64(len(r.p))/wire.SectorSize
	if err := r.v.fragments(ctx, f, r.disk, r.start, end); err != nil {
		return err
	}
	at, data := r.start, f.list[:0] // what has to be read; the others are done with
	for i := range f.list {
		x := &f.list[i]
		if err := r.gap(ctx, at, x.start); err != nil {
			return err
		}
		at = x.end()
		if x.kind == layer.Zero {
			r.zero(x.start, at)
			continue
		}
		data = append(data, *x)
	}
	if err := r.gap(ctx, at, end); err != nil {
		return err
	}
	if len(r.p) < 2*share || len(data) == 0 {
		return r.share(ctx, f, data)
	}
	return r.together(ctx, data)
}

// gap fills what the journal says nothing of.
func (r *reading) gap(ctx context.Context, from, to uint64) error {
	if from == to {
		return nil
	}
	if parent := r.v.parent; parent != nil {
		return parent.readSectors(ctx, r.disk, r.at(from, to), int64(from)*wire.SectorSize, r.hole)
	}
	r.zero(from, to)
	return nil
}

func (r *reading) zero(from, to uint64) {
	if r.hole != nil {
		r.hole(int64(from)*wire.SectorSize, int64(to-from)*wire.SectorSize)
		return
	}
	clear(r.at(from, to))
}

// together reads shares of a large read at once, with as many helpers as are free, and waits for them.
func (r *reading) together(ctx context.Context, data []fragment) error {
	shares := cut(data)
	errs := make([]error, len(shares))
	var next atomic.Int64
	var failed atomic.Bool
	work := func() {
		f := takeFinder()
		defer f.free()
		for !failed.Load() {
			i := int(next.Add(1)) - 1
			if i >= len(shares) {
				return
			}
			if errs[i] = r.share(ctx, f, shares[i]); errs[i] != nil {
				failed.Store(true)
			}
		}
	}
	var group sync.WaitGroup
	for range len(shares) - 1 {
		select {
		case helpers <- struct{}{}:
			group.Go(func() {
				defer func() { <-helpers }()
				work()
			})
			continue
		default:
		}
		break
	}
	work()
	group.Wait()
	for _, err := range errs {
		if err != nil {
			return err
		}
	}
	return nil
}

// cut parts fragments into runs of about a share; one that is longer is cut itself.
func cut(data []fragment) [][]fragment {
	const most = share / wire.SectorSize
	var shares [][]fragment
	var now []fragment
	n := uint64(0)
	for _, x := range data {
		for x.sectors > 0 {
			part := x
			if room := most - n; x.sectors > room {
				part = x.to(x.start + room)
			}
			now, n = append(now, part), n+part.sectors
			x = x.from(part.end())
			if n == most {
				shares, now, n = append(shares, now), nil, 0
			}
		}
	}
	if len(now) > 0 {
		shares = append(shares, now)
	}
	return shares
}

// share reads fragments: those of a layer all at once, where there are several. When that meets damage, one by one, so that
// it is told what exactly is damaged.
func (r *reading) share(ctx context.Context, f *finder, data []fragment) error {
	if len(data) == 1 && data[0].sectors <= single {
		return r.v.readFragment(ctx, r.disk, &data[0], r.at(data[0].start, data[0].end()))
	}
	for i := range data {
		x := &data[i]
		if x.kind == layer.Data && x.layer != nil {
			continue
		}
		if err := r.v.readFragment(ctx, r.disk, x, r.at(x.start, x.end())); err != nil {
			return err
		}
	}
	var last *layer.Reader
	for i := range data {
		if l := data[i].layer; l != nil && l != last && !seen(data[:i], l) {
			last = l
			if err := r.layer(ctx, f, data[i:], l); err != nil {
				return err
			}
		}
	}
	return nil
}

// seen tells whether a layer is that of one of these.
func seen(data []fragment, l *layer.Reader) bool {
	for i := range data {
		if data[i].layer == l {
			return true
		}
	}
	return false
}

// layer reads the fragments of one layer.
func (r *reading) layer(ctx context.Context, f *finder, data []fragment, l *layer.Reader) error {
	f.parts = f.parts[:0]
	for i := range data {
		if x := &data[i]; x.layer == l && x.kind == layer.Data {
			f.parts = append(f.parts, layer.Part{Piece: x.found.Clip(x.start, x.sectors), At: int(x.start-r.start) * wire.SectorSize})
		}
	}
	err := l.ReadParts(ctx, f.parts, r.p)
	if !fault.Is(err, fault.Corruption) {
		return fault.Wrap("journal: read", err)
	}
	for i := range data {
		if x := &data[i]; x.layer == l && x.kind == layer.Data {
			if err := r.v.readFragment(ctx, r.disk, x, r.at(x.start, x.end())); err != nil {
				return err
			}
		}
	}
	return nil // the source has thought better of it
}

func (v *View) readFragment(ctx context.Context, disk uint16, f *fragment, p []byte) error {
	var err error
	switch {
	case f.kind == layer.Lost:
		err = lost(f.found.Cause())
	case f.layer != nil:
		err = f.layer.Read(ctx, f.found.Clip(f.start, f.sectors), p)
	default:
		err = v.readPiece(disk, f, p)
	}
	if err == nil {
		return nil
	}
	if fault.Is(err, fault.Corruption) {
		v.j.noteDamage(f, disk)
	}
	return fault.New(fault.KindOf(err), "journal: "+f.place(), "%sdisk %d, bytes %d to %d, as written at position %d: %w",
		f.offset(), disk, f.start*wire.SectorSize, f.end()*wire.SectorSize, f.version.Position, err)
}

// lost is the error of content that was damaged before, or whose index is now.
func lost(cause error) error {
	hint := "choose another point; newer ones are whole once the source server has sent this range again"
	if cause == nil {
		return fault.New(fault.Corruption, "journal: read", "was damaged on the replication server and is lost").WithHint(hint)
	}
	return fault.New(fault.Corruption, "journal: read", "was damaged on the replication server and is lost: %w", cause).WithHint(hint)
}

func (v *View) readPiece(disk uint16, f *fragment, p []byte) error {
	x := f.piece.from(f.start)
	r, err := v.j.frames.get(frameKey{x.segment, x.frame})
	if err != nil {
		return err
	}
	data, err := r.at(disk, f.start, int64(x.raw)*wire.SectorSize, int64(len(p)))
	if err != nil {
		return err
	}
	copy(p, data)
	return nil
}
