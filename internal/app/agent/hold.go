package agent

import (
	"context"
	"path/filepath"
	"time"

	"github.com/understudy-dr/understudy/internal/consistency"
)

const leastHold = 100 * time.Millisecond

// holder is what holds the machine still for a capture without payloads; nil where --freeze leaves nothing that could be.
func (r *replicator) holder() (func(context.Context, func(context.Context) error) error, error) {
	freeze, err := consistency.ParseSelection(r.cfg.Freeze)
	if err != nil || freeze.Nothing() {
		return nil, err
	}
	return func(ctx context.Context, f func(context.Context) error) error { return r.hold(ctx, freeze, f) }, nil
}

// hold calls f while the file systems to freeze are frozen. No script is run: this happens every minute.
func (r *replicator) hold(ctx context.Context, freeze consistency.Selection, f func(context.Context) error) error {
	m, err := consistency.New(r.holding(freeze, f))
	if err != nil {
		return err
	}
	_, err = m.Make(ctx, "capture")
	return err
}

func (r *replicator) holding(freeze consistency.Selection, f func(context.Context) error) consistency.Config {
	return consistency.Config{
		Dir: filepath.Join(r.cfg.StateDir, "no-scripts"), Freeze: freeze, Disks: r.disks.numbers, Ready: func() error { return nil },
		Guard: guardCommand, Note: runFile(r.cfg.StateDir, "hold"), Log: r.log, Deadline: max(r.cfg.HoldAtMost, leastHold),
		Cut: func(ctx context.Context) (consistency.Cut, error) { return noPosition{}, f(ctx) },
	}
}

// noPosition: the point is the epoch that f saw completed.
type noPosition struct{}

func (noPosition) Position(context.Context) (epoch, position uint64, err error) { return 0, 0, nil }

// numbers are the disks at hand as major:minor.
func (n *inventory) numbers() []string {
	var out []string
	for _, d := range n.now() {
		out = append(out, d.dev.String())
	}
	return out
}
