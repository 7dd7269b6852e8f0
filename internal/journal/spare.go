package journal

import (
	"errors"
	"io/fs"
	"strings"

	"github.com/understudy-dr/understudy/internal/vfs"
)

/*
A flushed segment is not removed but kept as a spare, spare-<20 digits>.usj, and becomes the next segment: to overwrite blocks
that a file has already costs no change of the file system's own records at each sync, which is most of the cost of one.

What an old segment held may lie behind the new one's last record. It is enciphered with another key, so it reads as a torn
write does, and is cut off where a torn write is: when the segment is sealed, closed or opened again.
*/
const (
	sparePrefix = "spare-"
	maxSpares   = 2
)

func spareName(number uint64) string {
	return sparePrefix + strings.TrimPrefix(segName(number), segPrefix)
}

// spare keeps a flushed segment, if it is worth it, and says whether it did.
func (j *Journal) spare(number uint64) (bool, error) {
	info, err := j.fs.Stat(j.path(segName(number)))
	if err != nil || info.Size < j.o.SegmentBytes/2 || j.idle() {
		return false, ignoreMissing(err)
	}
	names, err := j.spares()
	if err != nil || len(names) >= maxSpares {
		return false, err
	}
	if err := j.fs.Rename(j.path(segName(number)), j.path(spareName(number))); err != nil {
		return false, vfs.Fault("journal: keep "+segName(number), err)
	}
	return true, nil
}

// idle tells whether segments end by age: whoever writes so little needs no spares.
func (j *Journal) idle() bool {
	j.w.Lock()
	defer j.w.Unlock()
	return j.aged
}

func (j *Journal) spares() ([]string, error) {
	names, err := j.fs.List(j.dir)
	if err != nil {
		return nil, vfs.Fault("journal: list "+j.dir, err)
	}
	var list []string
	for _, name := range names {
		if strings.HasPrefix(name, sparePrefix) {
			list = append(list, name)
		}
	}
	return list, nil
}

// dropSpares gives their room back.
func (d *directory) dropSpares() error {
	names, err := d.fs.List(d.dir)
	if err != nil {
		return vfs.Fault("journal: list "+d.dir, err)
	}
	for _, name := range names {
		if strings.HasPrefix(name, sparePrefix) {
			if err := d.fs.Remove(d.path(name)); err != nil {
				return vfs.Fault("journal: remove "+name, err)
			}
		}
	}
	return nil
}

// createSegment makes the file of a new segment with its header, durable under its name. A spare gets the header first and
// the name second, so that a segment's file always begins with its own header.
func (j *Journal) createSegment(number uint64) (vfs.File, error) {
	name := j.path(segName(number))
	names, err := j.spares()
	if err != nil {
		return nil, err
	}
	head := encodeSegHeader(j.id, number, newSalt())
	if len(names) == 0 {
		return j.createNew(name, head)
	}
	f, err := j.fs.OpenWrite(j.path(names[0]))
	if err != nil {
		return nil, vfs.Fault("journal: begin "+segName(number), err)
	}
	_, err = f.WriteAt(head, 0)
	if err == nil {
		err = f.Sync()
	}
	if err == nil {
		err = j.fs.Rename(j.path(names[0]), name)
	}
	if err == nil {
		err = j.fs.SyncDir(j.dir)
	}
	if err != nil {
		return nil, vfs.Fault("journal: begin "+segName(number), errors.Join(err, f.Close(), ignoreMissing(j.fs.Remove(name))))
	}
	return f, nil
}

func (j *Journal) createNew(name string, head []byte) (vfs.File, error) {
	f, err := j.fs.Create(name)
	if errors.Is(err, fs.ErrExist) { // an earlier attempt failed and could not be undone
		if err = j.fs.Remove(name); err == nil {
			f, err = j.fs.Create(name)
		}
	}
	if err != nil {
		return nil, vfs.Fault("journal: begin "+name, err)
	}
	_, err = f.WriteAt(head, 0)
	if err == nil {
		err = f.Sync()
	}
	if err == nil {
		err = j.fs.SyncDir(j.dir)
	}
	if err != nil {
		return nil, vfs.Fault("journal: begin "+name, errors.Join(err, f.Close(), j.fs.Remove(name)))
	}
	return f, nil
}

func ignoreMissing(err error) error {
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}

// cutTail takes what an old segment left behind the tail's last record off its file, before anybody reads it as a whole.
func (j *Journal) cutTail() error {
	size, err := j.file.Size()
	if err != nil || size == j.tail.bytes {
		return vfs.Fault("journal: "+segName(j.tail.number), err)
	}
	if err := j.file.Truncate(j.tail.bytes); err != nil {
		return vfs.Fault("journal: "+segName(j.tail.number), err)
	}
	return vfs.Fault("journal: "+segName(j.tail.number), j.file.Sync())
}
