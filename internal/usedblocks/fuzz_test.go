package usedblocks

import (
	"bytes"
	"compress/gzip"
	"io"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// sparse is an image of which only the pages that say something are kept.
type sparse struct {
	pages map[int64][]byte
	size  int64
}

func (s *sparse) ReadAt(p []byte, off int64) (n int, err error) {
	for n < len(p) && off < s.size {
		page, in := off&^4095, off&4095
		k := int(min(4096-in, int64(len(p)-n), s.size-off))
		if b, ok := s.pages[page]; ok {
			copy(p[n:n+k], b[in:])
		} else {
			clear(p[n : n+k])
		}
		n, off = n+k, off+int64(k)
	}
	if n < len(p) {
		return n, io.EOF
	}
	return n, nil
}

// fixture opens an image of testdata: gzip of (offset, page)*.
func fixture(t testing.TB, name string) *sparse {
	f, err := os.Open(filepath.Join("testdata", name))
	require.NoError(t, err)
	defer f.Close()
	z, err := gzip.NewReader(f)
	require.NoError(t, err)
	b, err := io.ReadAll(z)
	require.NoError(t, err)
	s := &sparse{pages: map[int64][]byte{}, size: int64(le.Uint64(b))}
	for b = b[8:]; len(b) > 0; b = b[8+4096:] {
		s.pages[int64(le.Uint64(b))] = bytes.Clone(b[8 : 8+4096])
	}
	return s
}

var fixtures = []string{"ext4.img.gz", "xfs.img.gz", "btrfs.img.gz", "gpt.img.gz", "lvm.img.gz"}

func tryFind(t testing.TB, s *sparse) []Range {
	free, _, err := Find(t.Context(), s, s.size, Options{MinFree: 4096, Settle: time.Nanosecond, Poll: time.Millisecond})
	require.NoError(t, err)
	last := int64(0)
	for _, r := range free {
		require.True(t, r.Offset >= last && r.Length > 0 && r.end() <= s.size, "%v of %d", r, s.size)
		last = r.end()
	}
	return free
}

func TestFixtures(t *testing.T) {
	for _, name := range fixtures {
		free := tryFind(t, fixture(t, name))
		require.Greater(t, total(free), fixture(t, name).size/4, name)
	}
}

// Every byte of metadata that is damaged is noticed, or harmless: no panic, no endless loop, no range that is not there.
func FuzzFind(f *testing.F) {
	for i := range fixtures {
		f.Add(byte(i), []byte{0, 0, 0, 0, 1})
	}
	var images []*sparse
	for _, name := range fixtures {
		images = append(images, fixture(f, name))
	}
	behindSums = true
	f.Cleanup(func() { behindSums = false })
	f.Fuzz(func(t *testing.T, which byte, edits []byte) {
		base := images[int(which)%len(images)]
		s := &sparse{pages: map[int64][]byte{}, size: base.size}
		var keys []int64
		for at, b := range base.pages {
			s.pages[at] = b
			keys = append(keys, at)
		}
		slices.Sort(keys)
		for ; len(edits) >= 5 && len(edits) < 5*64; edits = edits[5:] {
			at := keys[int(le.Uint16(edits))%len(keys)]
			b := bytes.Clone(s.pages[at])
			b[le.Uint16(edits[2:])%4096] ^= edits[4]
			s.pages[at] = b
		}
		tryFind(t, s)
	})
}
