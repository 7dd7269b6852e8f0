package blobtest

import (
	"bytes"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/understudy-dr/understudy/internal/blob"
	"github.com/understudy-dr/understudy/internal/fault"
)

// model runs random operations from several goroutines, each with names of its own, against a map.
func model(t *testing.T, s blob.Store) {
	rng := NewRand(t)
	var group sync.WaitGroup
	errs := make([]error, 4)
	for i := range errs {
		m := &oracle{t: t, rng: rand.New(rand.NewPCG(rng.Uint64(), 0)), store: blob.Sub(s, fmt.Sprintf("part%d", i)), objects: map[string][]byte{}}
		group.Go(func() {
			for range 60 {
				if errs[i] = m.step(); errs[i] != nil {
					return
				}
			}
		})
	}
	group.Wait()
	for _, err := range errs {
		require.NoError(t, err)
	}
}

type oracle struct {
	t       *testing.T
	rng     *rand.Rand
	store   blob.Store
	objects map[string][]byte
}

func (m *oracle) step() error {
	name := fmt.Sprintf("%c/%d", 'a'+m.rng.IntN(3), m.rng.IntN(4))
	data, exists := m.objects[name]
	switch m.rng.IntN(10) {
	case 0, 1, 2:
		return m.put(name, exists)
	case 3:
		delete(m.objects, name)
		return m.store.Delete(m.t.Context(), name)
	case 4:
		return m.list()
	}
	return m.read(name, data, exists)
}

func (m *oracle) put(name string, exists bool) error {
	data := Bytes(m.rng, m.rng.IntN(70_000))
	err := blob.Put(m.t.Context(), m.store, name, data)
	if exists {
		if !fault.Is(err, fault.Conflict) {
			return fmt.Errorf("put of an object that exists: %w", err)
		}
		return nil
	}
	m.objects[name] = data
	return err
}

func (m *oracle) list() error {
	infos, err := m.store.List(m.t.Context(), "a/")
	if err != nil {
		return err
	}
	want := []blob.Info{}
	for _, name := range slices.Sorted(maps.Keys(m.objects)) {
		if strings.HasPrefix(name, "a/") {
			want = append(want, blob.Info{Name: name, Size: int64(len(m.objects[name]))})
		}
	}
	if !slices.Equal(want, infos) {
		return fmt.Errorf("listed %v, not %v", infos, want)
	}
	return nil
}

func (m *oracle) read(name string, data []byte, exists bool) error {
	off, n := m.rng.IntN(len(data)+1), 1+m.rng.IntN(20_000)
	p := make([]byte, n)
	err := m.store.ReadAt(m.t.Context(), name, p, int64(off))
	switch {
	case !exists:
		if !fault.Is(err, fault.NotFound) {
			return fmt.Errorf("read of a missing object: %w", err)
		}
	case off+n > len(data):
		if !fault.Is(err, fault.Corruption) {
			return fmt.Errorf("read past the end: %w", err)
		}
	case err != nil:
		return err
	case !bytes.Equal(data[off:off+n], p):
		return fmt.Errorf("%s: wrong bytes at %d", name, off)
	}
	return nil
}
