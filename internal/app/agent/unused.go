package agent

import (
	"context"
	"log/slog"

	"golang.org/x/sys/unix"

	"github.com/understudy-dr/understudy/internal/fault"
	"github.com/understudy-dr/understudy/internal/replicate/source"
	"github.com/understudy-dr/understudy/internal/usedblocks"
)

// unusedBlocks tells the source what its disks' file systems do not use.
type unusedBlocks struct {
	disks map[uint16]source.Disk
	log   *slog.Logger
}

func newUnusedBlocks(disks []source.Disk, log *slog.Logger) unusedBlocks {
	u := unusedBlocks{disks: map[uint16]source.Disk{}, log: log}
	for _, d := range disks {
		u.disks[d.Index] = d
	}
	return u
}

// Commit is sync(2): every file system of the machine, in whatever mount namespace, commits what it did before. One that
// hangs, as on a server that is gone, holds up the call and nobody else: the kernel lets no one interrupt it.
func (unusedBlocks) Commit(ctx context.Context) error {
	done := make(chan struct{})
	go func() {
		unix.Sync()
		close(done)
	}()
	select {
	case <-done:
		return nil
	case <-ctx.Done():
		return fault.New(fault.Transient, "agent: sync", "%w", ctx.Err())
	}
}

func (u unusedBlocks) Find(ctx context.Context, disk uint16, sure bool) ([]source.Range, error) {
	d := u.disks[disk]
	o := usedblocks.Options{}
	if sure {
		here, err := mountedFrom(d.Device)
		if err != nil {
			return nil, fault.New(fault.Transient, "agent: mounted file systems", "%w", err)
		}
		o.Mounted = here.has
	}
	free, found, err := usedblocks.Find(ctx, d.Reader, int64(d.Bytes), o)
	if err != nil {
		return nil, err
	}
	for _, c := range found {
		attrs := []any{"disk", d.Device, "at", c.Offset, "bytes", c.Length, "kind", c.Kind, "free", c.Free}
		if c.Err != nil {
			attrs = append(attrs, "all is read because", c.Err)
		}
		u.log.Info("content of the disk", attrs...)
	}
	list := make([]source.Range, len(free))
	for i, r := range free {
		list[i] = source.Range{Offset: uint64(r.Offset), Length: uint64(r.Length)}
	}
	return list, nil
}
