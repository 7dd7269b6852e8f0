package journal

import (
	"errors"
	"io"
	"io/fs"
	"path/filepath"
	"strings"

	"github.com/understudy-dr/understudy/internal/fault"
	"github.com/understudy-dr/understudy/internal/vfs"
	"github.com/understudy-dr/understudy/internal/wire"
)

// Create makes the journal of a server with these disks in dir and opens it. A dir that holds one is a Conflict.
func Create(fsys vfs.FS, dir string, disks []wire.Disk, o Options) (*Journal, error) {
	m, err := newMeta(disks)
	if err != nil {
		return nil, err
	}
	if err := fsys.MkdirAll(dir); err != nil {
		return nil, vfs.Fault("journal: create "+dir, err)
	}
	lock, err := fsys.Lock(filepath.Join(dir, lockName))
	if err != nil {
		return nil, vfs.Fault("journal: create "+dir, err)
	}
	if err := writeNew(fsys, dir, m); err != nil {
		return nil, errors.Join(err, lock.Close())
	}
	return openLocked(fsys, dir, lock, o)
}

// writeNew writes journal.json last: without it the directory is no journal.
func writeNew(fsys vfs.FS, dir string, m meta) error {
	names, err := fsys.List(dir)
	if err != nil {
		return vfs.Fault("journal: create "+dir, err)
	}
	for _, name := range names {
		if name == metaName || strings.HasPrefix(name, segPrefix) {
			return fault.New(fault.Conflict, "journal: create "+dir, "%s exists", name).
				WithHint("remove the old journal first, or open it")
		}
	}
	b, err := m.encode()
	if err != nil {
		return err
	}
	if err := vfs.WriteAtomic(fsys, filepath.Join(dir, markName), mark{}.encode()); err != nil {
		return vfs.Fault("journal: create "+dir, err)
	}
	return vfs.Fault("journal: create "+dir, vfs.WriteAtomic(fsys, filepath.Join(dir, metaName), b))
}

// Open locks, verifies and opens the journal in dir: NotFound when there is none, Corruption naming segment and offset.
func Open(fsys vfs.FS, dir string, o Options) (*Journal, error) {
	if _, err := fsys.Stat(filepath.Join(dir, metaName)); err != nil { // before the lock, which would be made
		return nil, vfs.Fault("journal: open "+dir, err)
	}
	lock, err := fsys.Lock(filepath.Join(dir, lockName))
	if err != nil {
		return nil, vfs.Fault("journal: open "+dir, err)
	}
	return openLocked(fsys, dir, lock, o)
}

func openLocked(fsys vfs.FS, dir string, lock interface{ Close() error }, o Options) (*Journal, error) {
	o = o.withDefaults()
	j := &Journal{directory: directory{fs: fsys, dir: dir}, o: o, log: o.Log, lock: lock}
	if err := j.load(); err != nil {
		if j.file != nil {
			err = errors.Join(err, j.file.Close())
		}
		if j.markF != nil {
			err = errors.Join(err, j.markF.Close())
		}
		return nil, errors.Join(err, lock.Close())
	}
	return j, nil
}

func (j *Journal) load() error {
	m, err := readMeta(j.fs, j.dir)
	if err != nil {
		return err
	}
	j.meta, j.id, j.disks = m, m.idBytes(), newDiskSet(m.Disks)
	j.frames = newFrameStore(&j.directory, j.o.CacheBytes)
	j.idx = newIndexCache()
	if err := j.clean(); err != nil {
		return err
	}
	low, err := j.loadMark()
	if err != nil {
		return err
	}
	count, sidecars, err := j.segments()
	if err != nil {
		return err
	}
	if low.segment > count {
		return fault.New(fault.Corruption, "journal: open "+j.dir, "%s is missing, %d bytes of it were durable", segName(low.segment), low.bytes)
	}
	for n := uint64(1); n <= count; n++ {
		if n < count || sidecars[n] {
			err = j.loadSealed(n)
		} else {
			err = j.loadTail(n, low)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// loadMark opens the mark. One that is lost or damaged bounds nothing, so it is made anew.
func (j *Journal) loadMark() (mark, error) {
	m, err := j.readMark()
	if fault.Is(err, fault.Corruption) || fault.Is(err, fault.NotFound) {
		j.log.Warn("journal: tail mark made anew", "dir", j.dir, "err", err)
		m = mark{}
		err = vfs.Fault("journal: "+markName, vfs.WriteAtomic(j.fs, j.path(markName), m.encode()))
	}
	if err != nil {
		return m, err
	}
	j.markF, err = j.fs.OpenWrite(j.path(markName))
	return m, vfs.Fault("journal: "+markName, err)
}

// loadSealed takes the sidecar's word for a segment of the right length, or indexes the segment again. A sidecar, even a
// damaged one, proves that its segment was synced whole, so nothing of that may be torn.
func (j *Journal) loadSealed(n uint64) error {
	s, _, err := j.readSidecar(n, false)
	if err == nil {
		if err = j.checkLength(s); err != nil {
			return err
		}
	} else if s, _, err = j.reindex(n, j.before, err); err != nil {
		return err
	}
	j.before.restore(&s.sum)
	j.pub.fold = j.before
	j.addSealed(s)
	return nil
}

func (j *Journal) checkLength(s *segment) error {
	f, err := j.openSegment(s.number)
	if err != nil {
		return err
	}
	size, err := f.Size()
	if err = errors.Join(err, f.Close()); err != nil {
		return vfs.Fault("journal: "+segName(s.number), err)
	}
	if size != s.bytes {
		return fault.New(fault.Corruption, "journal: "+segName(s.number), "%d bytes at offset %d, sealed with %d", size, min(size, s.bytes), s.bytes)
	}
	return nil
}

// loadTail opens the segment that was being written. What was not durable may be torn.
func (j *Journal) loadTail(n uint64, low mark) error {
	bound := int64(segHeaderSize)
	if low.segment == n {
		bound = max(bound, low.bytes)
	}
	f, err := j.fs.OpenWrite(j.path(segName(n)))
	if err != nil {
		return vfs.Fault("journal: "+segName(n), err)
	}
	j.file = f
	head := make([]byte, segHeaderSize)
	if err := vfs.ReadFull(f, head, 0); err != nil && !errors.Is(err, io.ErrUnexpectedEOF) {
		return vfs.Fault("journal: "+segName(n), err)
	}
	if err := checkSegHeader(head, j.id, n); err != nil {
		size, sizeErr := f.Size()
		if sizeErr != nil || size > segHeaderSize || low.segment == n || fault.Is(err, fault.Unsupported) {
			return errors.Join(err, sizeErr)
		}
		return j.dropTail(n)
	}
	b, good, err := j.scan(f, n, j.before)
	if err != nil && (!b.torn || good < bound) {
		return damage(n, good, err)
	}
	if good < bound {
		return fault.New(fault.Corruption, "journal: "+segName(n), "ends at offset %d, %d bytes were durable", good, bound)
	}
	return j.adopt(b, good, bound, err)
}

// dropTail removes a segment whose header never became durable: nothing was written behind it.
func (j *Journal) dropTail(n uint64) error {
	j.log.Warn("journal: unfinished segment removed", "dir", j.dir, "segment", segName(n))
	err := errors.Join(j.file.Close(), j.fs.Remove(j.path(segName(n))), j.fs.SyncDir(j.dir))
	j.file = nil
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
		err = rewrite(j.file, bound, good)
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
	j.tail = b
	j.publish()
	j.writeMark()
	return nil
}

func rewrite(f vfs.File, from, to int64) error {
	buf := make([]byte, min(max(0, to-from), 1<<20))
	for from < to {
		p := buf[:min(int64(len(buf)), to-from)]
		if err := vfs.ReadFull(f, p, from); err != nil {
			return err
		}
		if _, err := f.WriteAt(p, from); err != nil {
			return err
		}
		from += int64(len(p))
	}
	return nil
}

// Remove deletes the journal in dir and dir itself. It is idempotent; a journal that is open is a Conflict.
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

// removeAll begins with journal.json: what is left after a crash is no journal any more.
func removeAll(fsys vfs.FS, dir string) error {
	if err := fsys.Remove(filepath.Join(dir, metaName)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if err := fsys.SyncDir(dir); err != nil {
		return err
	}
	names, err := fsys.List(dir)
	if err != nil {
		return err
	}
	for _, name := range names {
		if err := fsys.Remove(filepath.Join(dir, name)); err != nil {
			return err
		}
	}
	if err := fsys.Remove(dir); err != nil {
		return err
	}
	return fsys.SyncDir(filepath.Dir(dir))
}
