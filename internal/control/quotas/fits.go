package quotas

import (
	"context"
	"strings"

	"github.com/understudy-dr/understudy/internal/control"
	"github.com/understudy-dr/understudy/internal/fault"
	"github.com/understudy-dr/understudy/internal/state"
)

// Fits refuses a use of a quota that is more than the scope's account may. kind and id name what is full. No limits
// are the default ones.
func (l *Limits) Fits(ctx context.Context, r state.Reader, s state.Scope, c Code, kind, id string, use int) error {
	const op = "quotas: fit"
	q, ok := Find(c)
	if !ok {
		return fault.New(fault.Bug, op, "there is no quota %q", c)
	}
	most := q.Default
	if l != nil {
		a, err := r.Account(ctx, s.Account)
		if err != nil && !fault.Is(err, fault.NotFound) {
			return fault.Wrap(op, err)
		}
		most = l.Of(a, c)
	}
	if int64(use) <= most {
		return nil
	}
	_, what, _ := strings.Cut(q.Means, ": ")
	return control.Full(op, kind, id, int(most), what)
}
