package layer

import (
	"bytes"
	"context"
	"crypto/aes"
	"crypto/cipher"
	"io"
	"math/rand/v2"
	"os"
	"strconv"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/understudy-dr/understudy/internal/fault"
)

// seeds prints the seeds that a test uses, which UNDERSTUDY_SEED sets.
func seeds(t *testing.T, n int) []uint64 {
	if s := os.Getenv("UNDERSTUDY_SEED"); s != "" {
		seed, err := strconv.ParseUint(s, 10, 64)
		require.NoError(t, err)
		return []uint64{seed}
	}
	first := uint64(time.Now().UnixNano())
	t.Logf("UNDERSTUDY_SEED=%d to %d", first, first+uint64(n)-1)
	list := make([]uint64, n)
	for i := range list {
		list[i] = first + uint64(i)
	}
	return list
}

func newRand(seed uint64) *rand.Rand { return rand.New(rand.NewPCG(seed, 1)) }

// gcm is the real cipher, with a key of the test's.
type gcm struct{ cipher.AEAD }

func newGCM(t testing.TB) Cipher {
	b, err := aes.NewCipher([]byte("0123456789abcdef0123456789abcdef"))
	require.NoError(t, err)
	a, err := cipher.NewGCMWithRandomNonce(b)
	require.NoError(t, err)
	return gcm{a}
}

func (g gcm) Seal(dst, plaintext, aad []byte) []byte { return g.AEAD.Seal(dst, nil, plaintext, aad) }
func (g gcm) Open(dst, sealed, aad []byte) ([]byte, error) {
	return g.AEAD.Open(dst, nil, sealed, aad)
}

// plain seals nothing, so that hostile and damaged content reaches the parsers.
type plain struct{}

func (plain) Overhead() int                         { return 0 }
func (plain) Seal(dst, b, _ []byte) []byte          { return append(dst, b...) }
func (plain) Open(dst, b, _ []byte) ([]byte, error) { return append(dst, b...), nil }

// memSource is a file in memory.
type memSource []byte

func (m memSource) ReadAt(_ context.Context, p []byte, off int64) error {
	if off < 0 || off > int64(len(m)) {
		return fault.New(fault.Corruption, "test: read", "%w", io.ErrUnexpectedEOF)
	}
	if n := copy(p, m[off:]); n < len(p) {
		return fault.New(fault.Corruption, "test: read", "%w", io.ErrUnexpectedEOF)
	}
	return nil
}

var testJournal = [16]byte{1, 2, 3}

// written makes a layer file of an iterator's spans and closes it.
func written(t testing.TB, c Cipher, number uint64, it Iterator) ([]byte, Info) {
	t.Helper()
	return writtenSmall(t, c, number, it, indexBytes)
}

// writtenSmall does it with index blocks of another size.
func writtenSmall(t testing.TB, c Cipher, number uint64, it Iterator, limit int) ([]byte, Info) {
	t.Helper()
	var b bytes.Buffer
	w, err := NewWriter(&b, WriterOptions{Journal: testJournal, Number: number, Salt: Salt{9}, Cipher: c})
	require.NoError(t, err)
	w.index.limit = limit
	for {
		s, ok, err := it.Next(t.Context())
		require.NoError(t, err)
		if !ok {
			break
		}
		require.NoError(t, w.Add(t.Context(), s))
	}
	require.NoError(t, it.Close())
	size := w.Size()
	info, err := w.Finish()
	require.NoError(t, err)
	if info.Bytes > 1<<20 {
		require.InEpsilon(t, info.Bytes, size, 0.1, "files are cut by this")
	}
	require.EqualValues(t, b.Len(), info.Bytes)
	return b.Bytes(), info
}

func opened(t testing.TB, c Cipher, number uint64, file []byte, cache *Cache) *Reader {
	t.Helper()
	r, err := Open(t.Context(), memSource(file), int64(len(file)), c, cache, testJournal, number)
	require.NoError(t, err)
	return r
}
