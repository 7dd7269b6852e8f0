package sink

import (
	"context"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/understudy-dr/understudy/internal/encryption"
	"github.com/understudy-dr/understudy/internal/fault"
)

// TestKeyRotation rotates the wrapping key under an open and beside a closed journal, and takes the old ones away.
func TestKeyRotation(t *testing.T) {
	h := newHouse(t)
	_, err := h.s.CreateStaging(t.Context(), "s-closed", []StagingDisk{StagingDisk(disks[0])})
	require.NoError(t, err)
	p := h.begin()
	before, err := h.s.Keys()
	require.NoError(t, err)
	require.Len(t, before, 1)
	require.Equal(t, []string{server, "s-closed"}, before[0].Journals)
	require.True(t, before[0].Current)

	r, err := h.s.RotateKey(t.Context())
	require.NoError(t, err)
	require.Equal(t, Rotation{Key: r.Key, Wrapped: 1, Later: 1}, r)
	keys, err := h.s.Keys()
	require.NoError(t, err)
	require.Len(t, keys, 2)
	require.Equal(t, []string{"s-closed"}, keys[0].Journals)
	require.Equal(t, []string{server}, keys[1].Journals)
	require.Equal(t, r.Key, keys[1].ID)
	p.send(data(1, 120, 0, 1))
	require.EqualValues(t, 120, p.acked(3), "nothing else noticed")

	err = h.s.RetireKey(t.Context(), before[0].ID)
	require.Equal(t, fault.Conflict, fault.KindOf(err))
	require.NotEmpty(t, fault.HintOf(err))
	_, err = h.s.AttachStaging(t.Context(), "s-closed")
	require.NoError(t, err)
	require.NoError(t, h.s.RetireKey(t.Context(), before[0].ID), "it took the current key when it was opened")
	require.Equal(t, fault.Conflict, fault.KindOf(h.s.RetireKey(t.Context(), r.Key)))
	require.NoError(t, h.stop())
	h.start()
	h.admit()
	p = h.dial(server)
	p.hello(nil)
	require.EqualValues(t, 120, p.welcomed().Durable, "all is readable with the new key alone")
}

// foreign is a provider whose keys are not ours to change.
type foreign struct{ encryption.Provider }

func TestForeignKeysAreLeftAlone(t *testing.T) {
	h := newHouseWith(t, func(c *Config) { c.Journal.Keys = foreign{c.Journal.Keys} })
	_, err := h.s.RotateKey(context.Background())
	require.Equal(t, fault.Unsupported, fault.KindOf(err))
	require.Equal(t, fault.Unsupported, fault.KindOf(h.s.RetireKey(t.Context(), "x")))
	_, err = h.s.Keys()
	require.Equal(t, fault.Unsupported, fault.KindOf(err))
}
