package journal

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"sync"

	"github.com/understudy-dr/understudy/internal/blob"
	"github.com/understudy-dr/understudy/internal/fault"
	"github.com/understudy-dr/understudy/internal/journal/layer"
	"github.com/understudy-dr/understudy/internal/vfs"
)

const layerPurpose = "understudy layer"

// fileName of a new layer or timeline. The random part keeps apart files of one number: a crash may leave one that no
// catalogue names.
func fileName(kind string, number uint64) string {
	var b [4]byte
	_, _ = rand.Read(b[:]) // never fails, by its contract
	return fmt.Sprintf("%s-%016x-%s", kind, number, hex.EncodeToString(b[:]))
}

// blobSource reads one object.
type blobSource struct {
	store  blob.Store
	name   string
	unread func(name string) // is told when the disk cannot read something of it; may be nil
}

func (s blobSource) ReadAt(ctx context.Context, p []byte, off int64) error {
	err := s.store.ReadAt(ctx, s.name, p, off)
	if s.unread != nil && vfs.Unreadable(err) {
		s.unread(s.name)
	}
	return err
}

// layerSet keeps the layers that were read last open, which costs memory for their top indexes only.
type layerSet struct {
	mu    sync.Mutex
	open  map[string]*layer.Reader
	bytes int64
}

const maxOpenLayers = 64 << 20 // bytes of top indexes

// layer opens a layer, or finds it open.
func (j *Journal) layer(ctx context.Context, ref *layerRef) (*layer.Reader, error) {
	s := &j.layers
	s.mu.Lock()
	r := s.open[ref.Name]
	s.mu.Unlock()
	if r != nil {
		return r, nil
	}
	r, err := j.openLayer(ctx, ref, j.cache)
	if err != nil {
		return nil, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if have := s.open[ref.Name]; have != nil {
		return have, nil
	}
	if s.open == nil {
		s.open = map[string]*layer.Reader{}
	}
	s.open[ref.Name] = r
	s.bytes += r.Memory()
	for name, old := range s.open { // any will do: they are cheap to open again
		if s.bytes <= maxOpenLayers || len(s.open) == 1 {
			break
		}
		if old != r {
			delete(s.open, name)
			s.bytes -= old.Memory()
		}
	}
	return r, nil
}

func (j *Journal) openLayer(ctx context.Context, ref *layerRef, cache *layer.Cache) (*layer.Reader, error) {
	c, err := j.key.File(ref.Info.Salt, layerPurpose)
	if err != nil {
		return nil, err
	}
	r, err := layer.Open(ctx, blobSource{j.blobs, ref.Name, j.noteUnreadable}, ref.Info.Bytes, c, cache, j.id, ref.Info.Number)
	return r, fault.Wrap("journal: "+ref.Name, err)
}

func (s *layerSet) forget(name string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if r := s.open[name]; r != nil {
		delete(s.open, name)
		s.bytes -= r.Memory()
	}
}

// garbage is a file that no catalogue from a generation on names.
type garbage struct {
	name    string // of an object; "" for a segment
	segment uint64
	number  uint64 // of a layer, for the block cache
	since   uint64
}

// hold keeps the files of the current catalogue, and the segments that are not flushed, from being deleted until release.
func (j *Journal) hold() published {
	j.mu.Lock()
	defer j.mu.Unlock()
	if j.held == nil {
		j.held = map[uint64]int{}
	}
	j.held[j.pub.cat.Generation]++
	return j.pub
}

func (j *Journal) release(p *published) {
	j.mu.Lock()
	defer j.mu.Unlock()
	g := p.cat.Generation
	if j.held[g]--; j.held[g] == 0 {
		delete(j.held, g)
	}
}

// discard notes what the new catalogue names no more.
func (j *Journal) discard(old, c *catalogue, flushed []*segment) {
	kept := map[string]bool{}
	for name := range c.held {
		kept[name] = true
	}
	number := old.numbers()
	j.mu.Lock()
	defer j.mu.Unlock()
	for name := range old.held {
		if _, segment := parseName(name, segSuffix); !segment && !kept[name] {
			kept[name] = true // a layer may be named twice
			j.garbage = append(j.garbage, garbage{name: name, number: number[name], since: c.Generation})
		}
	}
	for _, s := range flushed {
		j.garbage = append(j.garbage, garbage{segment: s.number, since: c.Generation})
	}
}

// begun notes a file that is about to be made: it is deleted if no catalogue comes to name it.
func (j *Journal) begun(name string, number uint64) {
	j.fresh = append(j.fresh, garbage{name: name, number: number})
}

// abandon gives up what a failed step made. As long as a catalogue that names it may be on disk it stays.
func (j *Journal) abandon() {
	since := uint64(0)
	if j.unsettled {
		since = j.tried + 1
	}
	j.mu.Lock()
	defer j.mu.Unlock()
	for _, g := range j.fresh {
		g.since = since
		j.garbage = append(j.garbage, g)
	}
	j.fresh = nil
}

// sweep deletes what nobody holds. It deletes nothing that a catalogue in object storage may still name.
func (j *Journal) sweep(ctx context.Context) (did bool, err error) {
	for {
		g, ok := j.sweepable()
		if !ok {
			return did, nil
		}
		if err := j.erase(ctx, g); err != nil {
			j.mu.Lock()
			j.garbage = append(j.garbage, g)
			j.mu.Unlock()
			return did, err
		}
		did = true
	}
}

func (j *Journal) sweepable() (garbage, bool) {
	j.mu.Lock()
	defer j.mu.Unlock()
	oldest := j.pub.cat.Generation
	for held := range j.held {
		oldest = min(oldest, held)
	}
	if j.pub.cat.Remote {
		oldest = min(oldest, j.remoteAt)
	}
	for i, g := range j.garbage {
		if g.since <= oldest {
			j.garbage = append(j.garbage[:i:i], j.garbage[i+1:]...)
			return g, true
		}
	}
	return garbage{}, false
}

func (j *Journal) erase(ctx context.Context, g garbage) error {
	if g.name != "" {
		j.layers.forget(g.name)
		j.cache.Drop(j.id, g.number)
		return j.blobs.Delete(ctx, g.name)
	}
	if err := j.frames.forget(uint32(g.segment)); err != nil {
		return err
	}
	j.idx.forget(g.segment)
	if j.catalogue().keepsake(segName(g.segment)) {
		return j.moveAside(g.segment)
	}
	if kept, err := j.spare(g.segment); err != nil || !kept {
		return errors.Join(err, j.removeSegment(g.segment))
	}
	return j.removeSegment(g.segment) // its index
}

// removeSegment takes the index first: a segment without one is scanned, an index without its segment is damage.
func (d *directory) removeSegment(number uint64) error {
	for _, name := range []string{idxName(number), segName(number)} {
		if err := d.fs.Remove(d.path(name)); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return vfs.Fault("journal: remove "+name, err)
		}
	}
	return nil
}

// sweepOrphans finds objects that no catalogue names, so that they are deleted: a crash left them.
func (j *Journal) sweepOrphans(ctx context.Context) error {
	c := j.catalogue()
	j.forgetAside(c)
	kept := map[string]bool{}
	var left []garbage
	for name := range c.held {
		kept[name] = true
	}
	for _, kind := range []string{"layer-", "timeline-"} {
		list, err := j.blobs.List(ctx, kind)
		if err != nil {
			return err
		}
		for _, o := range list {
			if !kept[o.Name] {
				j.log.Info("journal: unfinished file is removed", "dir", j.dir, "file", o.Name)
				left = append(left, garbage{name: o.Name})
			}
		}
	}
	j.mu.Lock()
	defer j.mu.Unlock()
	j.garbage = append(j.garbage, left...)
	return nil
}
