package usedblocks

import (
	"bytes"
	"maps"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// changing is a disk that another takes the place of as soon as something past its metadata was read.
type changing struct {
	now, then *sparse
	past      int64
	changed   atomic.Bool
}

func (c *changing) ReadAt(p []byte, off int64) (int, error) {
	if off >= c.past && off < c.now.size-1<<20 { // there the signatures of arrays are looked for
		c.changed.Store(true)
	}
	if c.changed.Load() {
		return c.then.ReadAt(p, off)
	}
	return c.now.ReadAt(p, off)
}

// lvmLater is a disk as it is after one more change of its volume group, and where its metadata lies.
func lvmLater(t *testing.T, s *sparse) (later *sparse, areas []Range) {
	d := &disk{r: s, bytes: s.size}
	_, areas, err := pvHeader(lvmLabel(d))
	require.NoError(t, err)
	require.Len(t, areas, 1)
	text, err := lvmText(d, areas[0])
	require.NoError(t, err)
	old := bytes.Clone(text)
	at := bytes.Index(text, []byte("seqno = ")) + len("seqno = ")
	text[at]++
	require.NotEqual(t, old, text)
	later = &sparse{pages: maps.Clone(s.pages), size: s.size}
	var head [512]byte
	require.NoError(t, d.read(head[:], areas[0].Offset))
	require.Less(t, int64(le.Uint64(head[40:]))+int64(len(text)), areas[0].Length, "it does not go around its end")
	le.PutUint32(head[56:], lvmSum(text))
	le.PutUint32(head[:], lvmSum(head[4:]))
	later.put(head[:], areas[0].Offset)
	later.put(text, areas[0].Offset+int64(le.Uint64(head[40:])))
	return later, areas
}

func (s *sparse) put(b []byte, off int64) {
	for len(b) > 0 {
		page := make([]byte, 4096)
		copy(page, s.pages[off&^4095])
		n := copy(page[off&4095:], b)
		s.pages[off&^4095] = page
		b, off = b[n:], off+int64(n)
	}
}

// A snapshot that is made between the look at the metadata and that at its origin's file system reads what the latter has let
// go of since.
func TestVolumesThatChangeMeanwhile(t *testing.T) {
	s := fixture(t, "lvm.img.gz")
	later, areas := lvmLater(t, s)
	want := tryFind(t, s)
	require.NotEmpty(t, want)
	require.Equal(t, want, tryFind(t, later))
	c := &changing{now: s, then: later, past: areas[0].end()}
	free, found, err := Find(t.Context(), c, s.size, Options{MinFree: 4096, Settle: time.Nanosecond, Poll: time.Millisecond})
	require.NoError(t, err)
	require.Empty(t, free)
	require.True(t, c.changed.Load())
	require.ErrorContains(t, found[0].Err, "changed meanwhile")
}

// Of two copies that differ one is of the past.
func TestVolumesOfWhichTwoThingsAreTold(t *testing.T) {
	s := fixture(t, "lvm.img.gz")
	later, areas := lvmLater(t, s)
	one, two := memory(make([]byte, areas[0].end())), memory(make([]byte, areas[0].end()))
	require.NoError(t, (&disk{r: s, bytes: s.size}).read(one, 0))
	require.NoError(t, (&disk{r: later, bytes: s.size}).read(two, 0))
	second := Range{areas[0].Offset + one.size(), areas[0].Length}
	_, err := lvmMetadata(memory(append(bytes.Clone(one), two...)), []Range{areas[0], second})
	require.ErrorContains(t, err, "differ")
	_, err = lvmMetadata(memory(append(bytes.Clone(one), one...)), []Range{areas[0], second})
	require.NoError(t, err)
}
