package points

import (
	"context"
	"time"

	"github.com/understudy-dr/understudy/internal/control"
	"github.com/understudy-dr/understudy/internal/fault"
	"github.com/understudy-dr/understudy/internal/state"
)

// Settings are what holds for one server's journal.
type Settings struct {
	Window     time.Duration // in which every second is recoverable
	Own        bool          // the window is this server's own, not the default
	QuotaBytes int64         // 0 is no limit
}

func checkWindow(d time.Duration) error {
	if d < 0 || d > MaxWindow {
		return fault.New(fault.Invalid, "window", "%s is not between 0 and %d days", d, MaxWindow/(24*time.Hour))
	}
	return nil
}

// Settings shows what holds for a server's journal.
func (r *Retention) Settings(ctx context.Context, s state.Scope, serverID string) (out Settings, err error) {
	err = r.store.View(ctx, func(tx state.Reader) error {
		if err := exists(ctx, tx, s, serverID); err != nil {
			return err
		}
		v, err := settings(ctx, tx, serverID)
		out = Settings{Window: r.effective(v), Own: v.Window != nil, QuotaBytes: v.QuotaBytes}
		return err
	})
	return out, fault.Wrap("points: settings", err)
}

// SetWindow gives a server a window of its own, or with nil the default again.
func (r *Retention) SetWindow(ctx context.Context, s state.Scope, serverID string, window *time.Duration) error {
	if window != nil {
		if err := checkWindow(*window); err != nil {
			return fault.Wrap("points: set window", err)
		}
	}
	return fault.Wrap("points: set window", r.set(ctx, s, serverID, func(v *state.JournalSettings) { v.Window = window }))
}

// SetQuota limits what a server's journal may store; 0 is no limit.
func (r *Retention) SetQuota(ctx context.Context, s state.Scope, serverID string, bytes int64) error {
	if bytes < 0 {
		return fault.New(fault.Invalid, "points: set quota", "%d bytes", bytes)
	}
	return fault.Wrap("points: set quota", r.set(ctx, s, serverID, func(v *state.JournalSettings) { v.QuotaBytes = bytes }))
}

func (r *Retention) set(ctx context.Context, s state.Scope, serverID string, change func(*state.JournalSettings)) error {
	err := r.store.Update(ctx, func(tx state.Tx) error {
		if err := exists(ctx, tx, s, serverID); err != nil {
			return err
		}
		v, err := settings(ctx, tx, serverID)
		if err != nil {
			return err
		}
		change(&v)
		return tx.PutJournalSettings(ctx, v)
	})
	if err == nil {
		r.Changed(serverID)
	}
	return err
}

func exists(ctx context.Context, tx state.Reader, s state.Scope, serverID string) error {
	_, err := tx.Server(ctx, s, serverID)
	if fault.Is(err, fault.NotFound) {
		return control.Missing("points", control.SourceServer, serverID)
	}
	return err
}
