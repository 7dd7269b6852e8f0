package transfer

import (
	"bytes"
	"cmp"
	"context"
	"encoding/csv"
	"maps"
	"slices"
	"strings"

	"github.com/understudy-dr/understudy/internal/fault"
	"github.com/understudy-dr/understudy/internal/state"
)

// exportFile does one export: everything that is not archived, as it is at one moment.
func (t *Transfers) exportFile(ctx context.Context, x state.Transfer) error {
	e := &exporter{t: t, scope: x.Scope, columns: map[string]bool{}, waves: map[string]state.Wave{}, apps: map[string]state.Application{}}
	if err := t.cfg.Store.View(ctx, func(r state.Reader) error { return e.all(ctx, r) }); err != nil {
		return &storeError{err}
	}
	content, err := e.file()
	if err != nil {
		return err
	}
	if err := t.cfg.Buckets.Put(ctx, object(x), content); err != nil {
		return err
	}
	err = t.change(ctx, x, func(_ state.Tx, now *state.Transfer) error {
		now.Waves.Written, now.Applications.Written, now.Servers.Written = int64(len(e.waves)), int64(len(e.apps)), e.servers
		now.Progress = 100
		return move(now, Succeed)
	})
	if err != nil {
		return &storeError{err} // written again when the store is well
	}
	return nil
}

// exporter collects rows, and the columns that any of them needs.
type exporter struct {
	t       *Transfers
	scope   state.Scope
	waves   map[string]state.Wave
	apps    map[string]state.Application
	servers int64
	rows    []map[string]string
	columns map[string]bool
}

// pages reads a list to its end.
func pages[T any](list func(state.Page) ([]T, string, error), each func(T) error) error {
	for p := (state.Page{Limit: state.MaxLimit}); ; {
		items, next, err := list(p)
		if err != nil {
			return err
		}
		for _, v := range items {
			if err := each(v); err != nil {
				return err
			}
		}
		if next == "" {
			return nil
		}
		p.After = next
	}
}

func (e *exporter) all(ctx context.Context, r state.Reader) error {
	active := new(false)
	err := pages(func(p state.Page) ([]state.Wave, string, error) {
		return r.Waves(ctx, e.scope, state.WaveFilter{Archived: active}, p)
	},
		func(v state.Wave) error { e.waves[v.ID] = v; return nil })
	if err != nil {
		return err
	}
	err = pages(func(p state.Page) ([]state.Application, string, error) {
		return r.Applications(ctx, e.scope, state.ApplicationFilter{Archived: active}, p)
	}, func(v state.Application) error { e.apps[v.ID] = v; return nil })
	if err != nil {
		return err
	}
	used := map[string]bool{} // waves and applications that have a row by one of their servers
	err = pages(func(p state.Page) ([]state.Server, string, error) {
		return r.Servers(ctx, e.scope, state.ServerFilter{Archived: active}, p)
	},
		func(v state.Server) error { return e.server(ctx, r, v, used) })
	if err != nil {
		return err
	}
	for _, id := range slices.Sorted(maps.Keys(e.apps)) {
		if !used[id] {
			cells := e.row()
			e.application(cells, id, used)
		}
	}
	for _, id := range slices.Sorted(maps.Keys(e.waves)) {
		if !used[id] {
			cells := e.row()
			e.wave(cells, id, used)
		}
	}
	return nil
}

func (e *exporter) row() map[string]string {
	cells := map[string]string{}
	e.rows = append(e.rows, cells)
	e.put(cells, colAccount, e.scope.Account)
	e.put(cells, colRegion, e.t.cfg.Region)
	return cells
}

// put fills a cell. What says nothing makes no column.
func (e *exporter) put(cells map[string]string, column, value string) {
	if value != "" {
		cells[column] = value
		e.columns[column] = true
	}
}

func (e *exporter) tags(cells map[string]string, prefix string, tags map[string]string) {
	for key, value := range tags {
		e.put(cells, prefix+key, value)
	}
}

func (e *exporter) wave(cells map[string]string, id string, used map[string]bool) {
	v, ok := e.waves[id]
	if !ok {
		return // archived
	}
	used[id] = true
	e.put(cells, colWave+partID, v.ID)
	e.put(cells, colWave+partName, v.Name)
	e.put(cells, colWave+partDescription, v.Description)
	e.tags(cells, colWave+partTag, v.Tags)
}

func (e *exporter) application(cells map[string]string, id string, used map[string]bool) {
	v, ok := e.apps[id]
	if !ok {
		return
	}
	used[id] = true
	e.put(cells, colApp+partID, v.ID)
	e.put(cells, colApp+partName, v.Name)
	e.put(cells, colApp+partDescription, v.Description)
	e.tags(cells, colApp+partTag, v.Tags)
	e.wave(cells, v.WaveID, used)
}

func (e *exporter) server(ctx context.Context, r state.Reader, v state.Server, used map[string]bool) error {
	e.servers++
	cells := e.row()
	e.put(cells, colServerID, v.ID)
	e.put(cells, colUserID, v.UserProvidedID)
	e.put(cells, colPlatform, v.Migration.Platform)
	e.put(cells, colFQDN, reachedBy(v))
	e.tags(cells, colTags, v.Tags)
	e.application(cells, v.Migration.ApplicationID, used)
	data, err := e.t.cfg.LaunchTemplates.Current(ctx, r, v)
	if err != nil {
		return err
	}
	c, err := r.MGNLaunchConfig(ctx, v.ID)
	if fault.Is(err, fault.NotFound) {
		return nil // added by a version that kept none
	}
	if err != nil {
		return err
	}
	for part, value := range launchOf(data, c) {
		e.put(cells, colLaunch+part, value)
	}
	return nil
}

// leading are the columns that come first, as people read them; the others follow by name.
var leading = []string{colAccount, colRegion, colWave + partID, colWave + partName, colWave + partDescription,
	colApp + partID, colApp + partName, colApp + partDescription, colServerID, colUserID, colPlatform, colFQDN, colLaunch + partType}

func place(column string) int {
	if i := slices.Index(leading, column); i >= 0 {
		return i
	}
	return len(leading)
}

// file is everything as CSV. Without any rows it is a header to fill in.
func (e *exporter) file() ([]byte, error) {
	header := slices.SortedFunc(maps.Keys(e.columns), func(a, b string) int {
		return cmp.Or(cmp.Compare(place(a), place(b)), strings.Compare(a, b))
	})
	if len(header) == 0 {
		header = leading
	}
	var out bytes.Buffer
	w := csv.NewWriter(&out)
	err := w.Write(header)
	for _, cells := range e.rows {
		line := make([]string, len(header))
		for i, column := range header {
			line[i] = cells[column]
		}
		if err == nil {
			err = w.Write(line)
		}
	}
	w.Flush()
	if err == nil {
		err = w.Error()
	}
	if err != nil {
		return nil, fault.New(fault.Bug, "export", "%w", err)
	}
	return out.Bytes(), nil
}
