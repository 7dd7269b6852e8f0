package journal

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// What only the local disk has is counted until a catalogue in object storage names it.
func TestExposure(t *testing.T) {
	began := time.Now()
	h, store := newRemote(t, Options{})
	check := func(any, sealed bool) {
		t.Helper()
		x := h.j.Exposure()
		require.Equal(t, any, x.Bytes > 0)
		require.Equal(t, sealed, x.Sealed > 0)
		require.Equal(t, any, !x.Since.IsZero())
		require.False(t, any && (x.Since.Before(began) || x.Since.After(time.Now())))
	}
	h.write(3, 0)
	check(true, false)
	require.NoError(t, h.j.Seal())
	check(true, true)
	store.before = failing("create", remotePrefix)
	_, err := h.j.Maintain(t.Context(), Limits{}) // the catalogue that the last opening may have left half
	require.ErrorIs(t, err, errIO)
	for range 3 {
		_, err = h.j.Maintain(t.Context(), Limits{})
		require.ErrorIs(t, err, errIO)
	}
	check(true, true)
	store.before = nil
	h.reopen()
	quiesce(t, h.j)
	check(false, false)
	h.write(1, 0)
	require.NoError(t, h.j.Seal())
	_, err = h.j.flush(t.Context(), &Limits{})
	require.NoError(t, err)
	check(false, false)
	store.before = failing("create", remotePrefix)
	h.write(1, 0)
	require.NoError(t, h.j.Seal())
	_, err = h.j.flush(t.Context(), &Limits{})
	require.ErrorIs(t, err, errIO)
	require.Empty(t, h.j.snapshot().sealed)
	check(true, true)
	store.before = nil
	_, err = h.j.Maintain(t.Context(), Limits{})
	require.NoError(t, err)
	check(false, false)
	require.NoError(t, h.j.Close())

	local := newHistory(t, Options{})
	local.write(3, 0)
	require.Zero(t, local.j.Exposure(), "it is as safe as its disk")
	require.NoError(t, local.j.Close())
}

// A frame takes what accounting says that it takes.
func TestRecordOverhead(t *testing.T) {
	h := newHistory(t, Options{})
	before, frame := h.j.Usage().Stored, dataFrame(1, 101, 0, 1)
	h.append(frame)
	require.EqualValues(t, len(frame)+RecordOverhead, h.j.Usage().Stored-before)
	require.NoError(t, h.j.Close())
}
