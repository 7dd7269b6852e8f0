package journal

import (
	"context"
	"errors"
	"io"
	"io/fs"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/understudy-dr/understudy/internal/blob/dir"
	"github.com/understudy-dr/understudy/internal/fault"
	"github.com/understudy-dr/understudy/internal/vfs"
	"github.com/understudy-dr/understudy/internal/wire"
)

// layerDir is where layers are when no other place was chosen.
const layerDir = "layers"

// Create makes the journal of a server with these disks in dir and opens it. A dir that holds one is a Conflict.
func Create(ctx context.Context, fsys vfs.FS, dir string, disks []wire.Disk, o Options) (*Journal, error) {
	m, err := newMeta(disks)
	if err != nil {
		return nil, err
	}
	return create(ctx, fsys, dir, m, o)
}

func create(ctx context.Context, fsys vfs.FS, dir string, m meta, o Options) (*Journal, error) {
	if o.Keys == nil {
		return nil, errNoProvider(dir)
	}
	if err := fsys.MkdirAll(dir); err != nil {
		return nil, vfs.Fault("journal: create "+dir, err)
	}
	lock, err := fsys.Lock(filepath.Join(dir, lockName))
	if err != nil {
		return nil, vfs.Fault("journal: create "+dir, err)
	}
	if err := writeNew(ctx, fsys, dir, m, o); err != nil {
		return nil, errors.Join(err, lock.Close())
	}
	return openLocked(ctx, fsys, dir, lock, o)
}

// writeNew writes journal.json last: without it the directory is no journal.
func writeNew(ctx context.Context, fsys vfs.FS, dir string, m meta, o Options) error {
	if err := vacant(fsys, dir); err != nil {
		return fault.Wrap("journal: create "+dir, err)
	}
	if err := vfs.WriteAtomic(fsys, filepath.Join(dir, markName), mark{}.encode()); err != nil {
		return vfs.Fault("journal: create "+dir, err)
	}
	return writeIdentity(ctx, fsys, dir, m, &catalogue{Next: 1, Remote: o.Remote}, o)
}

// vacant refuses a directory that holds a journal, or what is left of one.
func vacant(fsys vfs.FS, dir string) error {
	names, err := fsys.List(dir)
	if err != nil {
		return vfs.Fault("journal: list "+dir, err)
	}
	for _, name := range names {
		if name == metaName || strings.HasPrefix(name, segPrefix) {
			return fault.New(fault.Conflict, "journal: list "+dir, "%s exists", name).
				WithHint("remove the old journal first, or open it")
		}
	}
	return nil
}

// writeIdentity makes a key, stores a catalogue with it, and says last who the journal is.
func writeIdentity(ctx context.Context, fsys vfs.FS, dir string, m meta, c *catalogue, o Options) error {
	if err := makeKey(ctx, fsys, dir, m, o.Keys); err != nil {
		return err
	}
	d := directory{fs: fsys, dir: dir, id: m.idBytes()}
	if err := d.unlock(ctx, o.Keys); err != nil {
		return err
	}
	if err := d.writeCatalogue(c); err != nil {
		return err
	}
	if o.Remote {
		if err := enrol(ctx, fsys, dir, m, o); err != nil {
			return err
		}
	}
	b, err := m.encode()
	if err != nil {
		return err
	}
	return vfs.Fault("journal: create "+dir, vfs.WriteAtomic(fsys, filepath.Join(dir, metaName), b))
}

// Open locks, verifies and opens the journal in dir: NotFound when there is none, Corruption naming segment and offset.
func Open(ctx context.Context, fsys vfs.FS, dir string, o Options) (*Journal, error) {
	if _, err := fsys.Stat(filepath.Join(dir, metaName)); err != nil { // before the lock, which would be made
		return nil, vfs.Fault("journal: open "+dir, err)
	}
	lock, err := fsys.Lock(filepath.Join(dir, lockName))
	if err != nil {
		return nil, vfs.Fault("journal: open "+dir, err)
	}
	return openLocked(ctx, fsys, dir, lock, o)
}

func openLocked(ctx context.Context, fsys vfs.FS, dir string, lock io.Closer, o Options) (*Journal, error) {
	o = o.withDefaults()
	j := &Journal{directory: directory{fs: fsys, dir: dir}, o: o, log: o.Log, lock: lock, cache: o.Cache}
	j.stop, j.stopping = context.WithCancel(context.Background())
	if err := j.load(ctx); err != nil {
		if j.file != nil {
			err = errors.Join(err, j.file.Close())
		}
		if j.markF != nil {
			err = errors.Join(err, j.markF.Close())
		}
		if j.closer != nil {
			err = errors.Join(err, j.closer.Close())
		}
		return nil, errors.Join(err, lock.Close())
	}
	return j, nil
}

func (j *Journal) load(ctx context.Context) error {
	m, err := readMeta(j.fs, j.dir)
	if err != nil {
		return err
	}
	if m, err = j.upgrade(ctx, m); err != nil {
		return err
	}
	j.meta, j.id, j.disks = m, m.idBytes(), m.Disks
	if err := j.unlock(ctx, j.o.Keys); err != nil {
		return err
	}
	if err := j.openBlobs(); err != nil {
		return err
	}
	if m.Parent != nil {
		if _, err := j.openParent(); err != nil {
			return err
		}
	}
	j.frames = newFrameStore(&j.directory, j.o.CacheBytes)
	j.idx = newEndCache()
	if err := errors.Join(j.clean(), j.rejoin()); err != nil {
		return err
	}
	if err := j.loadCatalogue(ctx); err != nil {
		return err
	}
	return j.loadSegments(ctx)
}

// upgrade gives a journal of format 1 a key and a catalogue. Its segments stay as they are until they are flushed. One of
// format 2 differs in its name only: what wrote it would take other disks for damage.
func (j *Journal) upgrade(ctx context.Context, m meta) (meta, error) {
	if m.Format >= FormatV3 {
		return m, nil
	}
	from := m.Format
	m.Format = FormatV3
	j.log.Info("journal: brought to another format", "dir", j.dir, "from", from, "to", m.Format)
	if from < FormatV2 {
		return m, writeIdentity(ctx, j.fs, j.dir, m, &catalogue{Next: 1, Remote: j.o.Remote}, j.o)
	}
	b, err := m.encode()
	if err != nil {
		return m, err
	}
	return m, vfs.Fault("journal: open "+j.dir, vfs.WriteAtomic(j.fs, j.path(metaName), b))
}

func (j *Journal) openBlobs() error {
	if j.blobs = j.o.Blobs; j.blobs != nil {
		return nil
	}
	own, err := dir.New(j.fs, j.path(layerDir))
	if err != nil {
		return err
	}
	j.blobs, j.closer = own, own
	return nil
}

func (j *Journal) loadCatalogue(ctx context.Context) error {
	c, err := j.readCatalogue()
	if err != nil {
		return missing(catName, err) // a journal has one from its beginning
	}
	if c.Remote != j.o.Remote {
		if err := j.move(ctx, c); err != nil {
			return err
		}
	}
	j.pub.cat, j.pub.retained = c, c.Retained
	j.before = c.Fold.fold(j.disks)
	j.pub.fold = j.before
	// This catalogue may be there once only, not be durable, or not be in object storage yet: nothing is deleted on its word
	// before it was written again.
	j.tried, j.loaded, j.unsettled = c.Generation, c.Generation, true
	if err := j.notSuperseded(ctx); fault.Is(err, fault.Conflict) {
		return err
	} else if err != nil {
		j.log.Warn("journal: segments stay until object storage answers", "dir", j.dir, "err", err)
	}
	return nil
}

// move is for a journal whose files are elsewhere than is said now. One that has none moves.
func (j *Journal) move(ctx context.Context, c *catalogue) error {
	for range c.names {
		where := map[bool]string{true: "object storage", false: "the local directory"}
		return fault.New(fault.Conflict, "journal: open "+j.dir, "its layers are in %s, not in %s", where[c.Remote], where[j.o.Remote]).
			WithHint("configure the store that it was made with, or stop replication and start it again")
	}
	c.Remote = j.o.Remote
	c.Generation++
	if c.Remote {
		if err := enrol(ctx, j.fs, j.dir, j.meta, j.o); err != nil {
			return err
		}
	}
	return j.writeCatalogue(c)
}

func (j *Journal) loadSegments(ctx context.Context) error {
	low, err := j.loadMark()
	if err != nil {
		return err
	}
	l, gap := j.segments(j.pub.cat.Flushed)
	if gap != nil && !fault.Is(gap, fault.Corruption) {
		return gap
	}
	for _, n := range l.flushed {
		j.garbage = append(j.garbage, garbage{segment: n, since: j.tried + 1})
	}
	for n := l.first; n <= l.last; n++ {
		switch err := j.loadPatiently(ctx, n, gap != nil || n < l.last || l.sidecars[n], low); {
		case fault.Is(err, fault.Corruption):
			return j.isolate(n, l.top, err)
		case err != nil:
			return err
		}
	}
	if low.segment > l.last && gap == nil {
		l.top = low.segment
		gap = fault.New(fault.Corruption, "journal: open "+j.dir, "%s is missing, %d bytes of it were durable", segName(low.segment), low.bytes)
	}
	if gap != nil {
		return j.isolate(l.last+1, l.top, gap)
	}
	if !low.known { // more may have been durable than is here
		return j.amend(func(c *catalogue) { c.raise(j.pub.fold.highest) })
	}
	return nil
}

func (j *Journal) loadOne(n uint64, sealed bool, low bound) error {
	if sealed {
		return j.loadSealed(n)
	}
	return j.loadTail(n, low)
}

// bound is what is known of the end of the unsealed segment.
type bound struct {
	mark
	known    bool // the mark was read: what lies above it may be torn
	isolated bool // what does not verify was told to be lost
}

// of a segment: what must be there.
func (b *bound) of(n uint64) int64 {
	if b.segment == n {
		return max(segHeaderV1, b.bytes)
	}
	return segHeaderV1
}

// loadMark opens the mark. One that is lost or damaged bounds nothing, so it is made anew, and any position may have been given.
func (j *Journal) loadMark() (bound, error) {
	m, err := j.readMark()
	low := bound{mark: m, known: err == nil}
	if fault.Is(err, fault.Corruption) || fault.Is(err, fault.NotFound) {
		j.log.Warn("journal: tail mark made anew", "dir", j.dir, "err", err)
		low.mark = mark{}
		err = vfs.Fault("journal: "+markName, vfs.WriteAtomic(j.fs, j.path(markName), low.encode()))
	}
	if err != nil {
		return low, err
	}
	j.markF, err = j.fs.OpenWrite(j.path(markName))
	return low, vfs.Fault("journal: "+markName, err)
}

// loadSealed takes the sidecar's word for a segment, or indexes the segment again. A sidecar, even a
// damaged one, proves that its segment was synced whole, so nothing of that may be torn. A segment that is shorter than its
// sidecar says has lost what is missing, and no more.
func (j *Journal) loadSealed(n uint64) error {
	s, _, err := j.readSidecar(n, false)
	if err == nil {
		if err = j.checkLength(s); err != nil {
			j.log.Error("journal: damaged", "dir", j.dir, "err", err)
		}
	} else if s, _, err = j.reindex(n, j.before, err); err != nil {
		return err
	}
	j.before.restore(&s.sum)
	j.pub.fold = j.before
	s.began = time.Now()
	j.addSealed(s)
	return nil
}

func (j *Journal) checkLength(s *segment) error {
	info, err := j.fs.Stat(j.path(segName(s.number)))
	if err != nil {
		return vfs.Fault("journal: "+segName(s.number), err)
	}
	if info.Size != s.bytes {
		return fault.New(fault.Corruption, "journal: "+segName(s.number), "%d bytes at offset %d, sealed with %d", info.Size, min(info.Size, s.bytes), s.bytes)
	}
	return nil
}

// loadTail opens the segment that was being written. What was not durable may be torn.
func (j *Journal) loadTail(n uint64, low bound) error {
	least := low.of(n)
	f, err := j.fs.OpenWrite(j.path(segName(n)))
	if err != nil {
		return vfs.Fault("journal: "+segName(n), err)
	}
	size, err := f.Size()
	if err != nil {
		return errors.Join(vfs.Fault("journal: "+segName(n), err), f.Close())
	}
	s, err := j.asSegment(f, n)
	if err != nil {
		if size > segHeaderSize || low.segment == n || !fault.Is(err, fault.Corruption) {
			return errors.Join(err, f.Close())
		}
		return j.dropTail(f, n)
	}
	b, good, err := j.scan(s, j.before)
	switch {
	case err != nil && !low.isolated && (!b.torn || good < least):
		return errors.Join(damage(n, good, err), f.Close())
	case good < least:
		return errors.Join(fault.New(fault.Corruption, "journal: "+segName(n), "ends at offset %d, %d bytes were durable", good, least), f.Close())
	}
	j.file = s
	if err != nil && !low.isolated {
		if err := j.doubt(s, b, good); err != nil {
			return err
		}
	}
	if err := j.adopt(b, good, least, err); err != nil {
		j.file = nil
		return errors.Join(err, s.Close())
	}
	if s.cipher != nil {
		return nil
	}
	return j.seal() // of version 1: nothing more goes in there
}

// dropTail removes a segment whose header never became durable: nothing was written behind it.
func (j *Journal) dropTail(f vfs.File, n uint64) error {
	j.log.Warn("journal: unfinished segment removed", "dir", j.dir, "segment", segName(n))
	err := errors.Join(f.Close(), j.fs.Remove(j.path(segName(n))), j.fs.SyncDir(j.dir))
	return vfs.Fault("journal: "+segName(n), err)
}

// adopt makes the good part of the tail durable: what is above the bound is written again, see mark.
func (j *Journal) adopt(b *builder, good, bound int64, torn error) error {
	size, err := j.file.Size()
	if err == nil && torn != nil {
		j.log.Warn("journal: torn tail cut off", "dir", j.dir, "segment", segName(b.number), "offset", good, "bytes", size-good, "err", torn)
		err = j.file.Truncate(good)
	}
	if err == nil {
		err = copyRange(j.file, j.file, bound, good)
	}
	if err == nil {
		err = j.file.Sync()
	}
	if err == nil {
		err = j.fs.SyncDir(j.dir)
	}
	if err != nil {
		return vfs.Fault("journal: recover "+segName(b.number), err)
	}
	j.tail, j.began = b, time.Now()
	j.publish()
	j.writeMark()
	return nil
}

func copyRange(dst, src vfs.File, from, to int64) error {
	buf := make([]byte, min(max(0, to-from), 1<<20))
	for from < to {
		p := buf[:min(int64(len(buf)), to-from)]
		if err := vfs.ReadFull(src, p, from); err != nil {
			return err
		}
		if _, err := dst.WriteAt(p, from); err != nil {
			return err
		}
		from += int64(len(p))
	}
	return nil
}

// Remove deletes the journal in dir and dir itself. It is idempotent; a journal that is open is a Conflict. Objects in a
// store of its own (Options.Blobs) are deleted by Purge.
func Remove(fsys vfs.FS, dir string) error {
	if _, err := fsys.Stat(dir); errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	lock, err := fsys.Lock(filepath.Join(dir, lockName))
	if err != nil {
		return vfs.Fault("journal: remove "+dir, err)
	}
	err = removeAll(fsys, dir)
	return vfs.Fault("journal: remove "+dir, errors.Join(err, lock.Close()))
}

// removeAll begins with the key and journal.json: what is left after a crash is no journal any more, and nobody reads it.
func removeAll(fsys vfs.FS, dir string) error {
	for _, name := range []string{keyName, metaName} {
		if err := fsys.Remove(filepath.Join(dir, name)); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		if err := fsys.SyncDir(dir); err != nil {
			return err
		}
	}
	if err := removeTree(fsys, dir); err != nil {
		return err
	}
	return fsys.SyncDir(filepath.Dir(dir))
}

func removeTree(fsys vfs.FS, dir string) error {
	names, err := fsys.List(dir)
	if err != nil {
		return err
	}
	if i := slices.Index(names, lockName); i >= 0 { // last: until then nobody else begins
		names = append(slices.Delete(names, i, i+1), lockName)
	}
	for _, name := range names {
		name = filepath.Join(dir, name)
		info, err := fsys.Stat(name)
		if err == nil && info.Dir {
			err = removeTree(fsys, name)
		} else if err == nil {
			err = fsys.Remove(name)
		}
		if err != nil {
			return err
		}
	}
	return fsys.Remove(dir)
}
