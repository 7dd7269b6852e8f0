package journal

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"path/filepath"
	"slices"

	"github.com/understudy-dr/understudy/internal/blob"
	"github.com/understudy-dr/understudy/internal/encryption"
	"github.com/understudy-dr/understudy/internal/fault"
	"github.com/understudy-dr/understudy/internal/vfs"
)

// identity is what a journal in object storage needs beside its catalogue, layers and timelines to be a journal again:
// who it is, and its wrapped key. It is stored as identity-<number>; the highest number counts.
type identity struct {
	Meta []byte             `json:"journal"` // journal.json, byte for byte
	Key  encryption.Wrapped `json:"key"`
}

const identityPrefix = "identity-"

// putIdentity stores the identity and forgets older ones.
func putIdentity(ctx context.Context, store blob.Store, m meta, key encryption.Wrapped) error {
	doc, err := m.encode()
	if err != nil {
		return err
	}
	b, err := json.Marshal(identity{Meta: doc, Key: key})
	if err != nil {
		return fault.New(fault.Bug, "journal: encode identity", "%w", err)
	}
	old, err := store.List(ctx, identityPrefix)
	if err != nil {
		return err
	}
	number := 1
	if n := len(old); n > 0 {
		if _, err := fmt.Sscanf(old[n-1].Name, identityPrefix+"%d", &number); err != nil {
			return fault.New(fault.Corruption, "journal: identity", "object %s has no number", old[n-1].Name)
		}
		number++
	}
	if err := blob.Put(ctx, store, fmt.Sprintf("%s%010d", identityPrefix, number), b); err != nil {
		return err
	}
	for _, o := range old {
		if err := store.Delete(ctx, o.Name); err != nil {
			return err
		}
	}
	return nil
}

// enrol stores who a journal is in a store that holds no other. What the removal of an earlier one left there is deleted.
func enrol(ctx context.Context, fsys vfs.FS, dir string, m meta, o Options) error {
	w, err := readKey(fsys, dir)
	if err != nil {
		return err
	}
	op := "journal: create " + dir
	switch _, there, err := readIdentity(ctx, o.Blobs); {
	case fault.Is(err, fault.NotFound):
		if err := Purge(ctx, o.Blobs); err != nil {
			return err
		}
	case err != nil:
		return fault.Wrap(op, err)
	case there.ID != m.ID:
		return fault.New(fault.Conflict, op, "object storage holds journal %s", there.ID).
			WithHint("restore that journal, or purge it first")
	}
	return fault.Wrap(op, putIdentity(ctx, o.Blobs, m, w))
}

// Restore makes the directory of a journal again whose disk was lost, from what is in object storage (Options.Blobs). What
// had not become a layer is gone; the agent notices when it is welcomed and sends again what differs. NotFound: there is no
// journal in the store. Conflict: there is one in dir.
func Restore(ctx context.Context, fsys vfs.FS, dir string, o Options) (err error) {
	op := "journal: restore " + dir
	id, m, err := readIdentity(ctx, o.Blobs)
	if err != nil {
		return fault.Wrap(op, err)
	}
	if err := fsys.MkdirAll(dir); err != nil {
		return vfs.Fault(op, err)
	}
	lock, err := fsys.Lock(filepath.Join(dir, lockName))
	if err != nil {
		return vfs.Fault(op, err)
	}
	defer func() { err = errors.Join(err, lock.Close()) }()
	if err := vacant(fsys, dir); err != nil {
		return fault.Wrap(op, err)
	}
	if err := writeKey(fsys, dir, id.Key); err != nil {
		return err
	}
	d := directory{fs: fsys, dir: dir, id: m.idBytes()}
	if err := d.unlock(ctx, o.Keys); err != nil {
		return fault.Wrap(op, err)
	}
	c, err := newestRemote(ctx, &d, o.Blobs)
	if err != nil {
		return fault.Wrap(op, err)
	}
	c.skip()
	if err := vfs.WriteAtomic(fsys, d.path(markName), mark{}.encode()); err != nil {
		return vfs.Fault(op, err)
	}
	if err := d.writeCatalogue(c); err != nil {
		return err
	}
	b, err := m.encode()
	if err != nil {
		return err
	}
	return vfs.Fault(op, vfs.WriteAtomic(fsys, d.path(metaName), b))
}

// What was lost with the disk had numbers and positions, and somebody may remember them: a cache blocks by the number of their
// layer, a recovery point its position. None is given again, or the memory would show other content.
const (
	skippedFiles     = 1 << 32
	skippedPositions = 1 << 40
)

func (c *catalogue) skip() {
	c.Next += skippedFiles
	c.raise(0)
	last, _ := c.flushed()
	c.Branches = slices.DeleteFunc(c.Branches, func(b branchRef) bool { return last.Less(b.Point.version()) }) // their point was lost
}

func readIdentity(ctx context.Context, store blob.Store) (identity, meta, error) {
	var id identity
	list, err := store.List(ctx, identityPrefix)
	if err != nil {
		return id, meta{}, err
	}
	if len(list) == 0 {
		return id, meta{}, fault.New(fault.NotFound, "journal: identity", "there is no journal in the object store")
	}
	b, err := blob.Get(ctx, store, list[len(list)-1].Name, 2*maxMeta)
	if err != nil {
		return id, meta{}, err
	}
	if err := json.Unmarshal(b, &id); err != nil {
		return id, meta{}, fault.New(fault.Corruption, "journal: identity", "%w", err)
	}
	m, err := parseMeta(id.Meta)
	return id, m, err
}

// newestRemote is the newest catalogue that verifies.
func newestRemote(ctx context.Context, d *directory, store blob.Store) (*catalogue, error) {
	list, err := store.List(ctx, remotePrefix)
	if err != nil {
		return nil, err
	}
	if len(list) == 0 {
		return &catalogue{Next: 1, Remote: true}, nil // nothing was flushed yet
	}
	newest, err := catalogueNumber(list[len(list)-1].Name)
	if err != nil {
		return nil, err
	}
	for i := len(list) - 1; i >= 0; i-- {
		b, err := blob.Get(ctx, store, list[i].Name, maxCatalogue)
		if err != nil {
			return nil, err
		}
		c, err := parseCatalogue(d, b)
		if err == nil {
			c.Generation = newest // even if that one is damaged: the next must come after it
			return c, nil
		}
		if i == 0 || !fault.Is(err, fault.Corruption) {
			return nil, err
		}
	}
	return nil, fault.New(fault.NotFound, "journal: catalogue", "there is none")
}

// Purge deletes everything of one journal from its object store, its key first.
func Purge(ctx context.Context, store blob.Store) error {
	for _, prefix := range []string{identityPrefix, ""} {
		list, err := store.List(ctx, prefix)
		if err != nil {
			return fault.Wrap("journal: purge", err)
		}
		for _, o := range list {
			if err := store.Delete(ctx, o.Name); err != nil {
				return fault.Wrap("journal: purge", err)
			}
		}
	}
	return nil
}

// Rewrap wraps the data key with the provider's current wrapping key. Nothing else is rewritten. It says false when the
// key is wrapped so already.
func (j *Journal) Rewrap(ctx context.Context) (bool, error) {
	j.upkeep.Lock()
	defer j.upkeep.Unlock()
	if err := j.isClosed(); err != nil {
		return false, err
	}
	old, err := readKey(j.fs, j.dir)
	if err != nil {
		return false, err
	}
	w, changed, err := encryption.Rewrap(ctx, j.o.Keys, old, j.id[:])
	if err != nil || !changed {
		return false, fault.Wrap("journal: rotate "+j.dir, err)
	}
	if j.o.Remote {
		if err := putIdentity(ctx, j.blobs, j.meta, w); err != nil {
			return false, fault.Wrap("journal: rotate "+j.dir, err)
		}
	}
	return true, writeKey(j.fs, j.dir, w)
}
