package agent

import (
	"context"
	"os"
	"path/filepath"
	"time"

	"github.com/understudy-dr/understudy/internal/consistency"
	"github.com/understudy-dr/understudy/internal/fault"
)

// holdNote tells the next agent what this one may have left frozen.
func holdNote(serverID string) string {
	return filepath.Join("/run/understudy", "hold-"+serverID+".json")
}

const leastHold = 100 * time.Millisecond

// hold calls f while the file systems on the replicated disks are frozen. No script is run: this happens every minute.
func (r *replicator) hold(ctx context.Context, f func(context.Context) error) error {
	self, err := os.Executable()
	if err != nil {
		return fault.New(fault.Unknown, "agent: hold", "%w", err)
	}
	note := holdNote(r.id.ServerID)
	if err := os.MkdirAll(filepath.Dir(note), 0o700); err != nil {
		return fault.New(fault.Unknown, "agent: hold", "%w", err)
	}
	m, err := consistency.New(consistency.Config{
		Dir: filepath.Join(r.cfg.StateDir, "no-scripts"), Disks: r.disks.numbers, Ready: func() error { return nil },
		Guard: []string{self, "agent", "guard"}, Note: note, Log: r.log, Deadline: max(r.cfg.HoldAtMost, leastHold),
		Cut: func(ctx context.Context) (consistency.Cut, error) { return noPosition{}, f(ctx) },
	})
	if err != nil {
		return err
	}
	_, err = m.Make(ctx, "capture")
	return err
}

// noPosition: the point is the epoch that f saw completed.
type noPosition struct{}

func (noPosition) Position(context.Context) (epoch, position uint64, err error) { return 0, 0, nil }

// numbers are the disks as major:minor.
func (s diskSet) numbers() []string {
	var out []string
	for _, d := range s {
		out = append(out, d.dev.String())
	}
	return out
}
