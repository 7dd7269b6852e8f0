package operator

import (
	"context"
	"net"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/understudy-dr/understudy/internal/nbd"
)

// halfHole is a disk whose first half is a hole and whose second half is not.
type halfHole struct{ size int64 }

func (d halfHole) Size() int64 { return d.size }

func (d halfHole) ReadAt(_ context.Context, p []byte, _ int64) error {
	for i := range p {
		p[i] = 1
	}
	return nil
}

func (d halfHole) Extents(context.Context, int64, int64) ([]nbd.Extent, error) {
	return []nbd.Extent{{Length: d.size / 2, Hole: true}, {Length: d.size / 2}}, nil
}

// An interrupted copy must not pass for a whole one, even when the interruption hits while nothing is in flight.
func TestAnInterruptedCopyIsAnError(t *testing.T) {
	theirs, ours := net.Pipe()
	s := &nbd.Server{Exports: nbd.Static(nbd.Export{Backend: halfHole{2 << 20}, ReadOnly: true})}
	served := make(chan error, 1)
	go func() { served <- s.ServeConn(t.Context(), theirs) }()
	disk, err := nbd.NewClient(t.Context(), ours, nbd.ClientConfig{})
	require.NoError(t, err)
	f, err := os.Create(filepath.Join(t.TempDir(), "out"))
	require.NoError(t, err)
	defer f.Close()

	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	err = copyVolume(ctx, disk, f, func(int64, int64) { cancel() })
	require.ErrorIs(t, err, context.Canceled)

	require.NoError(t, copyVolume(t.Context(), disk, f, nil))
	require.NoError(t, disk.Close())
	require.NoError(t, <-served)
}
