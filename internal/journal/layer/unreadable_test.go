package layer

import (
	"bytes"
	"context"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/understudy-dr/understudy/internal/fault"
)

// pages is a file some pages of which cannot be read, and counts how often they are asked for.
type pages struct {
	memSource
	bad   map[int64]bool
	asked int
}

func (s *pages) ReadAt(ctx context.Context, p []byte, off int64) error {
	for at := off / tailPiece; at*tailPiece < off+int64(len(p)); at++ {
		if s.bad[at] {
			s.asked++
			return fault.New(fault.Corruption, "test: read", "page %d cannot be read", at)
		}
	}
	return s.memSource.ReadAt(ctx, p, off)
}

// The top index is there twice, one behind the other, each with its footer. A page that cannot be read costs the layer only if it has something of both.
func TestTopIndexUnreadable(t *testing.T) {
	c := newGCM(t)
	m := &Memory{}
	for i := range uint64(3000) {
		m.Add(1, i*16, 8, Version{1, 1 + i}, Zero, nil, nil)
	}
	file, _ := writtenSmall(t, c, 7, m.Iterate(), 64)
	whole := opened(t, c, 7, file, nil)
	n := int64(whole.foot.topLen)
	require.Greater(t, n, int64(2*tailPiece))
	seam := int64(whole.foot.indexEnd) + n + footerSize
	for page := (seam - n) / tailPiece; page*tailPiece < int64(len(file)); page++ {
		s := &pages{memSource: file, bad: map[int64]bool{page: true}}
		r, err := Open(t.Context(), s, int64(len(file)), c, nil, testJournal, 7)
		if page*tailPiece < seam && seam < (page+1)*tailPiece {
			require.Equal(t, fault.Corruption, fault.KindOf(err))
			continue
		}
		require.NoError(t, err, "page %d", page)
		require.Equal(t, whole.top, r.top)
	}
}

// A block that cannot be read is asked for a few times, not once for each of its cells.
func TestUnreadableBlockIsNotAskedForAgainAndAgain(t *testing.T) {
	c := newGCM(t)
	m := &Memory{}
	content := bytes.Repeat([]byte("0123456789abcdef0123456789abcde\n"), 1<<20/32) // of blocks of 64 KiB
	rng := newRand(1)
	for i := range content {
		if i%3 == 0 {
			content[i] = byte(rng.Uint32())
		}
	}
	m.Add(1, 0, 2048, Version{1, 1}, Data, content, nil)
	file, _ := written(t, c, 7, m.Iterate())
	s := &pages{memSource: file, bad: map[int64]bool{int64(len(file)) / tailPiece / 2: true}}
	r, err := Open(t.Context(), memSource(file), int64(len(file)), c, nil, testJournal, 7)
	require.NoError(t, err)
	r.src = s
	found := 0
	require.NoError(t, r.Verify(t.Context(), func(Range, error) { found++ }))
	require.Equal(t, 1, found, "one stretch")
	require.Positive(t, s.asked)
	require.Less(t, s.asked, 8)
}

// Of a layer that cannot be read at all, what is newer than its newest version is not lost, however many versions it had.
func TestNewerThanAnUnreadableLayer(t *testing.T) {
	c := newGCM(t)
	for _, since := range []Version{{1, 1}, {1, 5}} {
		newer := &Memory{}
		newer.Add(1, 0, 8, Version{1, 6}, Data, bytes.Repeat([]byte{6}, 8*SectorSize), nil)
		lost := Unreadable([]Range{{Disk: 1, Sectors: 16, Version: Version{1, 5}, Since: since}})
		file, _ := written(t, c, 7, Merge([]Iterator{lost, newer.Iterate()}, Keep{}))
		r := opened(t, c, 7, file, nil)
		for at, want := range map[Version][]Kind{{1, 6}: {Data, Lost}, {1, 5}: {Lost, Lost}, since: {Lost, Lost}} {
			var got []Kind
			require.NoError(t, r.Lookup(t.Context(), 1, 0, 16, at, func(p Piece) error {
				got = append(got, p.Kind)
				return nil
			}))
			require.Equal(t, want, got, "at %v, since %v", at, since)
		}
	}
}
