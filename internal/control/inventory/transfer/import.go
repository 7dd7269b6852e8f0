package transfer

import (
	"context"
	"errors"
	"fmt"
	"reflect"
	"slices"
	"time"

	"github.com/understudy-dr/understudy/internal/control"
	"github.com/understudy-dr/understudy/internal/control/quotas"
	"github.com/understudy-dr/understudy/internal/fault"
	"github.com/understudy-dr/understudy/internal/state"
)

// importFile does one import: the file is read and checked, then everything in it is done in one transaction, with the
// import's own success.
func (t *Transfers) importFile(ctx context.Context, x state.Transfer) error {
	content, err := t.cfg.Buckets.Get(ctx, object(x), maxFile)
	if err != nil {
		return err
	}
	s := &sheet{scope: x.Scope, region: t.cfg.Region}
	if err := s.read(content); err != nil {
		return err
	}
	err = t.cfg.Store.Update(ctx, func(tx state.Tx) error {
		now, err := tx.Transfer(ctx, x.Scope, x.Kind, x.ID)
		if err != nil {
			return err
		}
		if err := move(&now, Succeed); err != nil {
			return err // somebody else has done it
		}
		a := &applier{t: t, tx: tx, scope: x.Scope, said: map[string]claim{}, waves: newCache[state.Wave](), apps: newCache[state.Application](), servers: newCache[state.Server]()}
		if err := a.all(ctx, s.rows); err != nil {
			return err
		}
		now.Waves, now.Applications, now.Servers, now.Progress = a.waves.counts(), a.apps.counts(), a.servers.counts(), 100
		return tx.PutTransfer(ctx, now)
	})
	if fault.Is(err, fault.Transient) {
		return &storeError{err}
	}
	return err
}

// entry is a record that the file names, as it was and as it becomes.
type entry[R any] struct {
	now, before R
	id          string
	made        bool
	touched     bool // beside the record itself
	row         int64
}

func (e *entry[R]) changed() bool { return !reflect.DeepEqual(e.now, e.before) }

// cache has the entries of one kind by id, and the ids by what else the file calls them.
type cache[R any] struct {
	byID  map[string]*entry[R]
	names map[string]string
	order []*entry[R]
}

func newCache[R any]() *cache[R] {
	return &cache[R]{byID: map[string]*entry[R]{}, names: map[string]string{}}
}

func (c *cache[R]) find(id, name string) *entry[R] {
	if id == "" {
		id = c.names[name]
	}
	return c.byID[id]
}

func (c *cache[R]) add(id string, r R, made bool, number int64) *entry[R] {
	if have := c.byID[id]; have != nil {
		return have // by its other name
	}
	e := &entry[R]{now: r, before: r, id: id, made: made, row: number}
	c.byID[id] = e
	c.order = append(c.order, e)
	return e
}

func (c *cache[R]) counts() (n state.TransferCount) {
	for _, e := range c.order {
		switch {
		case e.made:
			n.Created++
		case e.touched || e.changed():
			n.Modified++
		}
	}
	return n
}

// claim is what a row said of a property.
type claim struct {
	value string
	row   int64
}

// applier does what the rows say, in one transaction.
type applier struct {
	t       *Transfers
	tx      state.Tx
	scope   state.Scope
	said    map[string]claim // by resource and property
	waves   *cache[state.Wave]
	apps    *cache[state.Application]
	servers *cache[state.Server]
	faulty  faulty
}

// all does every row, and collects what is wrong with each; an error of another kind ends it.
func (a *applier) all(ctx context.Context, rows []row) error {
	for i := range rows {
		if err := a.take(rows[i].number, a.row(ctx, &rows[i])); err != nil {
			return err
		}
		if len(a.faulty.list) >= maxErrors {
			break
		}
	}
	for _, write := range []func(context.Context) error{a.writeGroups, a.writeServers, a.fits} {
		if len(a.faulty.list) > 0 {
			return &a.faulty
		}
		if err := write(ctx); err != nil {
			return err
		}
	}
	if len(a.faulty.list) > 0 {
		return &a.faulty
	}
	return nil
}

// take notes what is the row's fault and hands back what is not.
func (a *applier) take(number int64, err error, about ...func(*state.TransferError)) error {
	switch fault.KindOf(err) {
	case fault.Invalid, fault.NotFound, fault.Conflict, fault.Unsupported:
	default:
		return err
	}
	if err == nil {
		return nil
	}
	e := state.TransferError{At: time.Now().UTC(), Row: number, RawError: control.Message(err), AccountID: a.scope.Account}
	for _, fn := range about {
		fn(&e)
	}
	a.faulty.list = append(a.faulty.list, e)
	return nil
}

const opImport = "import"

func (a *applier) row(ctx context.Context, r *row) error {
	wave, err := a.wave(ctx, r)
	if err != nil {
		return err
	}
	app, err := a.application(ctx, r)
	if err != nil {
		return err
	}
	if app != nil && wave != nil {
		if err := a.claim(r, app.id, "wave", wave.id); err != nil {
			return err
		}
		app.now.WaveID = wave.id
	}
	return a.server(ctx, r, app)
}

// claim refuses a row that contradicts an earlier one.
func (a *applier) claim(r *row, id, property, value string) error {
	key := id + " " + property
	have, ok := a.said[key]
	if ok && have.value != value {
		return fault.New(fault.Invalid, opImport, "row %d says %q of %s's %s, this row %q", have.row, have.value, id, property, value)
	}
	if !ok {
		a.said[key] = claim{value, r.number}
	}
	return nil
}

// describe applies what rows say of every kind of group.
func (a *applier) describe(r *row, g *group, id string, name, description *string, tags *map[string]string) error {
	if g.name != "" {
		if err := a.claim(r, id, "name", g.name); err != nil {
			return err
		}
		*name = g.name
	}
	if g.description != nil {
		if err := a.claim(r, id, "description", *g.description); err != nil {
			return err
		}
		*description = *g.description
	}
	return a.tags(r, id, tags, g.tags)
}

func (a *applier) tags(r *row, id string, have *map[string]string, said map[string]string) error {
	for key, value := range said {
		if err := a.claim(r, id, "tag "+key, value); err != nil {
			return err
		}
	}
	if len(said) == 0 {
		return nil
	}
	all, err := control.AddTags(*have, said)
	if err == nil {
		*have = all
	}
	return err
}

func (a *applier) wave(ctx context.Context, r *row) (*entry[state.Wave], error) {
	g := &r.wave
	if !g.named() {
		return nil, nil //nolint:nilnil // the row names none
	}
	e := a.waves.find(g.id, g.name)
	if e == nil {
		v, made, err := named(g, "Wave",
			func() (state.Wave, error) { return a.tx.Wave(ctx, a.scope, g.id) },
			func() (state.Wave, error) { return a.tx.WaveByName(ctx, a.scope, g.name) },
			func() (state.Wave, error) { return a.t.cfg.Waves.Add(ctx, a.tx, a.scope, g.name, "", nil) })
		if err != nil {
			return nil, err
		}
		if v.Archived {
			return nil, control.Refuse(opImport, "Wave", v.ID, "is archived")
		}
		e = a.waves.add(v.ID, v, made, r.number)
	}
	a.waves.names[g.name] = e.id
	return e, a.describe(r, g, e.id, &e.now.Name, &e.now.Description, &e.now.Tags)
}

func (a *applier) application(ctx context.Context, r *row) (*entry[state.Application], error) {
	g := &r.app
	if !g.named() {
		return nil, nil //nolint:nilnil // the row names none
	}
	e := a.apps.find(g.id, g.name)
	if e == nil {
		v, made, err := named(g, "Application",
			func() (state.Application, error) { return a.tx.Application(ctx, a.scope, g.id) },
			func() (state.Application, error) { return a.tx.ApplicationByName(ctx, a.scope, g.name) },
			func() (state.Application, error) {
				return a.t.cfg.Applications.Add(ctx, a.tx, a.scope, g.name, "", nil)
			})
		if err != nil {
			return nil, err
		}
		if v.Archived {
			return nil, control.Refuse(opImport, "Application", v.ID, "is archived")
		}
		e = a.apps.add(v.ID, v, made, r.number)
	}
	a.apps.names[g.name] = e.id
	return e, a.describe(r, g, e.id, &e.now.Name, &e.now.Description, &e.now.Tags)
}

// named finds what a row names: by its id, which must exist, or by its name, which is made where it does not.
func named[R any](g *group, kind string, byID, byName, make func() (R, error)) (v R, made bool, err error) {
	if g.id != "" {
		if v, err = byID(); fault.Is(err, fault.NotFound) {
			err = control.Missing(opImport, kind, g.id)
		}
		return v, false, err
	}
	if v, err = byName(); !fault.Is(err, fault.NotFound) {
		return v, false, err
	}
	v, err = make()
	return v, err == nil, err
}

// writeGroups stores what has changed of waves and applications. Two that exchange their names cannot both be first.
func (a *applier) writeGroups(ctx context.Context) error {
	for _, e := range a.waves.order {
		if !e.changed() {
			continue
		}
		err := a.t.cfg.Waves.Edit(ctx, a.tx, &e.now, &e.now.Name, nil)
		if err == nil {
			err = a.tx.PutWave(ctx, e.now)
		}
		if err := a.take(e.row, err, func(x *state.TransferError) { x.WaveID = e.id }); err != nil {
			return err
		}
	}
	for _, e := range a.apps.order {
		if !e.changed() {
			continue
		}
		err := a.t.cfg.Applications.Edit(ctx, a.tx, &e.now, &e.now.Name, nil)
		if err == nil {
			err = a.tx.PutApplication(ctx, e.now)
		}
		if err := a.take(e.row, err, func(x *state.TransferError) { x.ApplicationID = e.id }); err != nil {
			return err
		}
	}
	return nil
}

// fits holds what has become of waves and applications against the quotas.
func (a *applier) fits(ctx context.Context) error {
	apps := make([]string, len(a.apps.order))
	waves := make([]string, len(a.waves.order))
	for i, e := range a.apps.order {
		apps[i] = e.id
	}
	for i, e := range a.waves.order {
		waves[i] = e.id
	}
	sizes := map[string]int{}
	for part := range slices.Chunk(apps, state.DefaultLimit) {
		members, err := a.tx.ApplicationMembers(ctx, a.scope, part)
		if err != nil {
			return err
		}
		for _, m := range members {
			sizes[m.Of] += m.Count
		}
	}
	for _, e := range a.apps.order {
		err := a.t.cfg.Limits.Fits(ctx, a.tx, a.scope, quotas.MGNPerApplication, "Application", e.id, sizes[e.id])
		if err := a.take(e.row, err, func(x *state.TransferError) { x.ApplicationID = e.id }); err != nil {
			return err
		}
	}
	for part := range slices.Chunk(waves, state.DefaultLimit) {
		in, err := a.tx.CountInWaves(ctx, a.scope, part)
		if err != nil {
			return err
		}
		for _, id := range part {
			err := a.t.cfg.Limits.Fits(ctx, a.tx, a.scope, quotas.MGNPerWave, "Wave", id, in[id])
			if err := a.take(a.waves.byID[id].row, err, func(x *state.TransferError) { x.WaveID = id }); err != nil {
				return err
			}
		}
	}
	return nil
}

var errNoName = errors.New("mgn:server:fqdn-for-action-framework, a name or an address, is needed for a new server")

// contradiction says that an id cannot be what a row wants it to be.
func contradiction(id, have, want string) error {
	return fault.New(fault.Invalid, opImport, "%w", &control.ResourceError{Type: control.SourceServer, ID: id,
		Err: fmt.Errorf("has the user-provided id %q, which cannot become %q", have, want)})
}
