package journal

import (
	"bytes"
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/klauspost/compress/s2"
	"github.com/zeebo/xxh3"

	"github.com/understudy-dr/understudy/internal/blob"
	"github.com/understudy-dr/understudy/internal/encryption"
	"github.com/understudy-dr/understudy/internal/fault"
	"github.com/understudy-dr/understudy/internal/journal/layer"
	"github.com/understudy-dr/understudy/internal/vfs"
	"github.com/understudy-dr/understudy/internal/wire"
)

/*
The catalogue says what a journal consists of, beyond its unflushed segments. A file of it:

	 0  4  magic "UCAT"
	 4  4  version (1)
	 8 16  journal id
	24  8  generation
	32 32  salt of the file's key
	64  8  bytes of what follows the header
	72  8  XXH3-64 of bytes [0,72)
	80     JSON as one S2 block, sealed; the generation is authenticated with it

It is written to catalogue, then to catalogue.copy, each atomically; the greater generation counts, so damage to either
loses nothing. Where layers are in object storage it is stored there too, as catalogue-<generation>.
*/
const (
	catName       = "catalogue"
	catCopyName   = "catalogue.copy"
	catHeaderSize = 80
	catMagic      = 0x54414355 // "UCAT"
	catVersion    = 1
	catPurpose    = "understudy catalogue"
	maxCatalogue  = 1 << 30
)

// catalogue is never changed in place; see clone.
type catalogue struct {
	Generation uint64        `json:"generation"`
	Next       uint64        `json:"next"`    // number of the next file
	Flushed    uint64        `json:"flushed"` // segments up to it are in layers
	Frames     uint64        `json:"frames"`  // in them
	Fold       savedFold     `json:"fold"`    // of them
	Runs       []run         `json:"runs"`    // oldest first
	Merging    [][]uint64    `json:"merging,omitempty"`
	Timelines  []timelineRef `json:"timelines"` // oldest first
	Retained   retained      `json:"retained"`
	Floor      uint64        `json:"floor,omitempty"` // positions up to it were lost, and are not given again
	Branches   []branchRef   `json:"branches,omitempty"`
	Damage     []Damage      `json:"damage,omitempty"`
	Keepsakes  []keepsake    `json:"keepsakes,omitempty"`
	Scrub      scrubState    `json:"scrub"`
	Remote     bool          `json:"remote"` // files are in object storage
}

// run is layers sorted and without overlap.
type run struct {
	ID     uint64     `json:"id"`
	Layers []layerRef `json:"layers"`
}

// layerRef is a layer, or what a merge has left of one: only what lies in [From, To) counts.
type layerRef struct {
	Name string     `json:"name"`
	Info layer.Info `json:"info"`
	From layer.Key  `json:"from"`
	To   layer.Key  `json:"to"`
	Live int64      `json:"live"` // bytes of the file that lie in there, about
}

// savedFold is a fold as it is stored.
type savedFold struct {
	Closed  []epoch `json:"closed"`
	Current epoch   `json:"current"`
	Highest uint64  `json:"highest"`
	Data    uint64  `json:"data"`
	Bio     uint64  `json:"bio"`
	Tables  []table `json:"tables,omitempty"` // but the first, which is in journal.json
}

func saveFold(f fold) savedFold {
	return savedFold{Closed: f.closed, Current: f.cur, Highest: f.highest, Data: f.data, Bio: f.bio, Tables: f.tables[1:]}
}

// joining tells whether a disk, or a part of one, is being copied that no point shows.
func (s *savedFold) joining() bool {
	n := len(s.Tables)
	return n > 0 && len(s.Tables[n-1].Joining) > 0
}

// fold of a journal that was made for these disks.
func (s savedFold) fold(disks []wire.Disk) fold {
	t := append(tables{{Disks: disks}}, s.Tables...)
	return fold{tables: t, closed: slices.Clip(s.Closed), cur: s.Current, highest: s.Highest, data: s.Data, bio: s.Bio}
}

// branchRef is a journal that stands on a point of this one.
type branchRef struct {
	Journal string `json:"journal"`
	Point   Point  `json:"point"`
}

// clone is a copy that may be changed: its slices of runs are its own, layers of unchanged runs are shared.
func (c *catalogue) clone() *catalogue {
	next := *c
	next.Runs = slices.Clone(c.Runs)
	next.Merging = slices.Clone(c.Merging)
	next.Timelines = slices.Clone(c.Timelines)
	next.Branches = slices.Clone(c.Branches)
	next.Damage = slices.Clone(c.Damage)
	next.Keepsakes = slices.Clone(c.Keepsakes)
	return &next
}

// names calls yield for every object that the catalogue needs.
func (c *catalogue) names(yield func(string) bool) {
	for i := range c.Runs {
		for k := range c.Runs[i].Layers {
			if !yield(c.Runs[i].Layers[k].Name) {
				return
			}
		}
	}
	for i := range c.Timelines {
		if !yield(c.Timelines[i].Name) {
			return
		}
	}
}

// numbers of the objects that the catalogue needs.
func (c *catalogue) numbers() map[string]uint64 {
	m := map[string]uint64{}
	for i := range c.Runs {
		for k := range c.Runs[i].Layers {
			m[c.Runs[i].Layers[k].Name] = c.Runs[i].Layers[k].Info.Number
		}
	}
	for i := range c.Timelines {
		m[c.Timelines[i].Name] = c.Timelines[i].Number
	}
	return m
}

func catAAD(generation uint64) []byte {
	return binary.LittleEndian.AppendUint64([]byte("catalogue"), generation)
}

func encodeCatalogue(d *directory, c *catalogue) ([]byte, error) {
	doc, err := json.Marshal(c)
	if err != nil {
		return nil, fault.New(fault.Bug, "journal: encode "+catName, "%w", err)
	}
	salt := newSalt()
	fc, err := d.key.File(salt, catPurpose)
	if err != nil {
		return nil, err
	}
	b := make([]byte, catHeaderSize)
	b = fc.Seal(b, s2.Encode(nil, doc), catAAD(c.Generation))
	le := binary.LittleEndian
	le.PutUint32(b, catMagic)
	le.PutUint32(b[4:], catVersion)
	copy(b[8:], d.id[:])
	le.PutUint64(b[24:], c.Generation)
	copy(b[32:], salt[:])
	le.PutUint64(b[64:], uint64(len(b)-catHeaderSize))
	le.PutUint64(b[72:], xxh3.Hash(b[:72]))
	return b, nil
}

func parseCatalogue(d *directory, b []byte) (*catalogue, error) {
	const op = "journal: " + catName
	le := binary.LittleEndian
	switch {
	case len(b) < catHeaderSize || le.Uint32(b) != catMagic || le.Uint64(b[72:]) != xxh3.Hash(b[:72]):
		return nil, fault.New(fault.Corruption, op, "damaged at offset 0")
	case le.Uint32(b[4:]) != catVersion:
		return nil, fault.New(fault.Unsupported, op, "version %d, this build reads %d", le.Uint32(b[4:]), catVersion)
	case [16]byte(b[8:24]) != d.id:
		return nil, fault.New(fault.Corruption, op, "belongs to journal %x", b[8:24])
	case le.Uint64(b[64:]) != uint64(len(b)-catHeaderSize):
		return nil, fault.New(fault.Corruption, op, "%d bytes do not fit its header", len(b))
	}
	fc, err := d.key.File([encryption.SaltSize]byte(b[32:64]), catPurpose)
	if err != nil {
		return nil, err
	}
	generation := le.Uint64(b[24:])
	packed, err := fc.Open(nil, b[catHeaderSize:], catAAD(generation))
	if err != nil {
		return nil, fault.Wrap(op, err)
	}
	if n, err := s2.DecodedLen(packed); err != nil || n > maxCatalogue {
		return nil, fault.New(fault.Corruption, op, "does not decompress")
	}
	doc, err := s2.Decode(nil, packed)
	if err != nil {
		return nil, fault.New(fault.Corruption, op, "%w", err)
	}
	c := &catalogue{}
	if err := json.Unmarshal(doc, c); err != nil {
		return nil, fault.New(fault.Corruption, op, "%w", err)
	}
	c.Generation = generation
	return c, nil
}

// readCatalogue returns the newest that verifies of the two local copies.
func (d *directory) readCatalogue() (*catalogue, error) {
	newest, errs := d.readCatalogues()
	if newest != nil {
		return newest, nil
	}
	for _, err := range errs { // a catalogue that is damaged is worse news than one that is not there
		if !fault.Is(err, fault.NotFound) {
			return nil, err
		}
	}
	return nil, errors.Join(errs...)
}

// readCatalogues also tells what is wrong with either copy.
func (d *directory) readCatalogues() (newest *catalogue, errs []error) {
	for _, name := range []string{catName, catCopyName} {
		b, err := vfs.ReadFile(d.fs, d.path(name), maxCatalogue)
		var c *catalogue
		if err == nil {
			c, err = parseCatalogue(d, b)
		} else {
			err = vfs.Fault("journal: "+name, err)
		}
		if err != nil {
			errs = append(errs, err)
		} else if newest == nil || c.Generation > newest.Generation {
			newest = c
		}
	}
	return newest, errs
}

func (d *directory) writeCatalogue(c *catalogue) error {
	b, err := encodeCatalogue(d, c)
	if err != nil {
		return err
	}
	for _, name := range []string{catName, catCopyName} {
		if err := vfs.WriteAtomic(d.fs, d.path(name), b); err != nil {
			return vfs.Fault("journal: "+name, err)
		}
	}
	return nil
}

const remotePrefix = "catalogue-"

func remoteCatalogue(generation uint64) string {
	return fmt.Sprintf("%s%020d", remotePrefix, generation)
}

func catalogueNumber(name string) (generation uint64, err error) {
	digits := strings.TrimPrefix(name, remotePrefix)
	if generation, err = strconv.ParseUint(digits, 10, 64); err != nil || len(digits) != 20 {
		return 0, fault.New(fault.Corruption, "journal: catalogue", "object %s has no number", name)
	}
	return generation, nil
}

// commit makes c, a changed clone of the current catalogue, the current one. The upkeep lock is held. flushed segments,
// if any, leave the published list with it.
func (j *Journal) commit(ctx context.Context, c *catalogue) error {
	old := j.catalogue()
	if err := j.notSuperseded(ctx); err != nil {
		return err
	}
	settled := !j.unsettled
	j.tried++
	c.Generation = j.tried
	j.mu.RLock()
	c.Retained, c.Damage = c.bounded(j.pub.retained), mergeDamage(c.Damage, j.noted)
	noted := len(j.noted)
	j.keepUnreadable(old, c)
	j.mu.RUnlock()
	c.forgetDamage()
	c.Fold.Closed = pruneEpochs(c.Fold.Closed, &c.Retained)
	c.pruneTimelines(&c.Retained)
	j.unsettled = true
	if err := j.writeCatalogue(c); err != nil {
		j.unsettled = !settled || j.mayBeThere(c.Generation)
		return err
	}
	j.unsettled, j.fresh = false, nil
	j.mu.Lock()
	j.pub.cat = c
	j.noted, j.known = j.noted[noted:], nil
	var flushed []*segment
	for len(j.pub.sealed) > 0 && j.pub.sealed[0].number <= c.Flushed {
		s := j.pub.sealed[0]
		flushed = append(flushed, s)
		j.pub.sealed = j.pub.sealed[1:]
		j.pub.bytes -= s.bytes
		j.pub.frames -= uint64(s.sum.Frames)
	}
	if c.Remote {
		j.uploading(c.Generation, flushed)
	}
	j.mu.Unlock()
	j.discard(old, c, flushed)
	if len(c.Damage) < len(old.Damage) || len(c.Keepsakes) < len(old.Keepsakes) {
		j.forgetAside(c)
	}
	if c.Remote {
		return j.publishRemote(ctx)
	}
	return nil
}

// mayBeThere tells whether any of a catalogue whose writing failed reached its name. On a full disk it did not, and then what was made for
// it can be deleted at once.
func (j *Journal) mayBeThere(generation uint64) bool {
	newest, errs := j.readCatalogues()
	return newest == nil || len(errs) > 0 || newest.Generation >= generation
}

func (j *Journal) catalogue() *catalogue {
	j.mu.RLock()
	defer j.mu.RUnlock()
	return j.pub.cat
}

// publishRemote stores the current catalogue beside the layers, and forgets older ones. If it fails the journal goes on:
// nothing is deleted until it succeeds.
func (j *Journal) publishRemote(ctx context.Context) error {
	c := j.catalogue()
	if j.unsettled || j.remoteAt == c.Generation {
		return nil
	}
	b, err := encodeCatalogue(&j.directory, c)
	if err != nil {
		return err
	}
	list, err := j.remoteCatalogues(ctx, c.Generation)
	if err != nil {
		return err
	}
	name := remoteCatalogue(c.Generation)
	err = blob.Put(ctx, j.blobs, name, b)
	if fault.Is(err, fault.Conflict) { // of an attempt whose answer was lost; what is there is as good
		err = j.sameRemote(ctx, c)
	}
	if err != nil {
		return fault.Wrap("journal: store the catalogue", err)
	}
	j.remoteAt = c.Generation
	j.uploaded(c.Generation)
	for _, o := range list {
		if o.Name != name {
			if err := j.blobs.Delete(ctx, o.Name); err != nil {
				return err
			}
		}
	}
	return nil
}

// remoteCatalogues lists those in object storage, none of which may be newer than a generation.
func (j *Journal) remoteCatalogues(ctx context.Context, generation uint64) ([]blob.Info, error) {
	list, err := j.blobs.List(ctx, remotePrefix)
	if err != nil {
		return nil, err
	}
	name := remoteCatalogue(generation)
	if n := len(list); n > 0 && list[n-1].Name > name {
		return nil, fault.New(fault.Conflict, "journal: "+j.dir, "object storage has a newer catalogue, %s, than this disk, %s", list[n-1].Name, name).
			WithHint("this directory is an old copy: move it away, and the journal is restored from object storage")
	}
	return list, nil
}

// notSuperseded makes sure, once after opening and before anything is changed, that object storage is this journal's, and that this
// directory is no old copy: on its word everything would be deleted that came after.
func (j *Journal) notSuperseded(ctx context.Context) error {
	if j.newest || !j.o.Remote {
		return nil
	}
	switch _, there, err := readIdentity(ctx, j.blobs); {
	case fault.Is(err, fault.NotFound) || err == nil && there.ID != j.meta.ID:
		return fault.New(fault.Conflict, "journal: "+j.dir, "object storage does not hold this journal").
			WithHint("configure the store that it was made with")
	case err != nil:
		return err
	}
	_, err := j.remoteCatalogues(ctx, j.loaded)
	j.newest = err == nil
	return err
}

// sameRemote tells whether the catalogue of this generation that is in object storage says the same.
func (j *Journal) sameRemote(ctx context.Context, c *catalogue) error {
	b, err := blob.Get(ctx, j.blobs, remoteCatalogue(c.Generation), maxCatalogue)
	if err != nil {
		return err
	}
	there, err := parseCatalogue(&j.directory, b)
	if err != nil {
		return err
	}
	var docs [2][]byte
	for i, v := range []*catalogue{c, there} {
		if docs[i], err = json.Marshal(v); err != nil {
			return fault.New(fault.Bug, "journal: encode "+catName, "%w", err)
		}
	}
	if !bytes.Equal(docs[0], docs[1]) {
		return fault.New(fault.Conflict, "journal: "+j.dir, "object storage has another catalogue of generation %d", c.Generation).
			WithHint("somebody else writes to this journal's objects")
	}
	return nil
}

// pruneEpochs forgets closed epochs of which nothing can be asked any more, and that cast no doubt on what can.
func pruneEpochs(closed []epoch, r *retained) []epoch {
	closed = slices.Clone(closed)
	gatherDoubts(closed)
	return slices.DeleteFunc(closed, func(e epoch) bool {
		if e.Number >= r.From.Epoch || e.doubts(r) {
			return false
		}
		return !slices.ContainsFunc(r.Points, func(p Point) bool { return p.Epoch == e.Number })
	})
}
