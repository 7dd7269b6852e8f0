package points

import (
	"context"
	"log/slog"
	"slices"
	"sync"
	"time"

	"github.com/understudy-dr/understudy/internal/fault"
	"github.com/understudy-dr/understudy/internal/state"
)

// Journals are the journals of a replication server, as far as retention goes. Times are by a journal's own clock, which
// is its agent's: everything here is counted back from the newest recoverable instant, so that neither a wrong clock nor
// a source server that died days ago takes away the seconds before its end.
type Journals interface {
	// Attached names the source servers whose journals are open here.
	Attached() []string
	// Newest is the newest recoverable instant; fault.NotFound when there is none.
	Newest(serverID string) (time.Time, error)
	// Recoverable refuses a position that cannot be read, or not any more, with fault.NotFound.
	Recoverable(serverID string, position uint64) (time.Time, error)
	// Retain keeps every instant from since on and these positions, and lets go of the rest. It reads and writes no data.
	Retain(ctx context.Context, serverID string, since time.Time, positions []uint64) error
	// SetQuota says how much a server's journal may store; 0 is no limit.
	SetQuota(serverID string, bytes int64)
}

const (
	// DefaultWindow is how far back every second is recoverable unless an operator says otherwise.
	DefaultWindow = 24 * time.Hour
	// MaxWindow is as far as an operator may go.
	MaxWindow = 10 * 365 * 24 * time.Hour
	// leastWindow stays whatever was asked for. A point is made of a position a few seconds old: no retention that was
	// worked out just before may have let go of it.
	leastWindow = 5 * time.Minute
	// retainEvery is how often the window is moved on, longestStep by how much at most.
	retainEvery = time.Minute
	longestStep = 15 * time.Minute
)

// Retention tells every journal what to keep: the window in which each second is recoverable, the recovery points, and
// what is pinned. It is the owner of pins and of the settings that they are worked out from.
type Retention struct {
	store    state.Store
	journals Journals
	window   time.Duration
	log      *slog.Logger

	mu      sync.Mutex
	changed map[string]bool // to be looked at before their minute
	wake    chan struct{}
	turns   map[string]*sync.Mutex // of a server: between looking and retaining nothing may be pinned
	failing map[string]bool        // touched by Run only
}

// NewRetention returns the retention of the journals by what is in store. A window of 0 is DefaultWindow.
func NewRetention(store state.Store, journals Journals, window time.Duration, log *slog.Logger) (*Retention, error) {
	if window == 0 {
		window = DefaultWindow
	}
	if err := checkWindow(window); err != nil {
		return nil, fault.Wrap("points: retention", err)
	}
	return &Retention{
		store: store, journals: journals, window: window, log: log, changed: map[string]bool{}, wake: make(chan struct{}, 1),
		turns: map[string]*sync.Mutex{}, failing: map[string]bool{},
	}, nil
}

// Changed asks for a server to be looked at now instead of within a minute.
func (r *Retention) Changed(serverID string) {
	r.mu.Lock()
	r.changed[serverID] = true
	r.mu.Unlock()
	select {
	case r.wake <- struct{}{}:
	default: // it is awake
	}
}

// Run keeps telling the journals until ctx ends. Pins of connections do not outlive the process that served them, so
// it begins by letting go of them.
func (r *Retention) Run(ctx context.Context) error {
	err := r.store.Update(ctx, func(tx state.Tx) error { return tx.DeletePinsFor(ctx, state.PinExport) })
	if err != nil {
		return fault.Wrap("points: release what nobody reads any more", err)
	}
	minute := time.NewTicker(retainEvery)
	defer minute.Stop()
	servers := r.journals.Attached()
	for {
		for _, id := range servers {
			if ctx.Err() != nil {
				return nil
			}
			r.report(ctx, id, r.Apply(ctx, id))
		}
		select {
		case <-ctx.Done():
			return nil
		case <-minute.C:
			servers = r.journals.Attached()
		case <-r.wake:
			servers = r.take()
		}
	}
}

func (r *Retention) take() []string {
	r.mu.Lock()
	defer r.mu.Unlock()
	var out []string
	for id := range r.changed {
		out = append(out, id)
	}
	clear(r.changed)
	slices.Sort(out)
	return out
}

// report logs when a server's trouble begins and when it ends, not every minute between.
func (r *Retention) report(ctx context.Context, serverID string, err error) {
	switch {
	case err != nil && !r.failing[serverID] && ctx.Err() == nil:
		r.failing[serverID] = true
		r.log.Warn("a journal cannot be told what to keep; it keeps everything meanwhile", "server", serverID, "error", err)
	case err == nil && r.failing[serverID]:
		delete(r.failing, serverID)
		r.log.Info("a journal is told again what to keep", "server", serverID)
	}
}

// turn serializes what decides about one server's journal.
func (r *Retention) turn(serverID string) (done func()) {
	r.mu.Lock()
	m := r.turns[serverID]
	if m == nil {
		m = &sync.Mutex{}
		r.turns[serverID] = m
	}
	r.mu.Unlock()
	m.Lock()
	return m.Unlock
}

// Apply tells one server's journal what to keep. A server without a journal here, or of which nothing is recoverable,
// is told nothing: a journal that is told nothing keeps everything.
func (r *Retention) Apply(ctx context.Context, serverID string) error {
	defer r.turn(serverID)()
	keep, err := r.wanted(ctx, serverID)
	if err != nil {
		return fault.Wrap("points: retention", err)
	}
	r.journals.SetQuota(serverID, keep.quota)
	newest, err := r.journals.Newest(serverID)
	if fault.Is(err, fault.NotFound) {
		return nil
	}
	if err == nil {
		err = r.journals.Retain(ctx, serverID, begin(newest, keep.window), keep.positions)
	}
	if fault.Is(err, fault.NotFound) { // detached just now
		return nil
	}
	return fault.Wrap("points: retention", err)
}

// begin is where a window begins. It moves on in steps of a hundredth, for each step is one more thing that a journal has to
// remember for good.
func begin(newest time.Time, window time.Duration) time.Time {
	window = max(window, leastWindow)
	return newest.Add(-window).Truncate(min(max(window/100, time.Second), longestStep))
}

// wanted is what the records say of one server.
type wanted struct {
	window    time.Duration
	quota     int64
	positions []uint64 // sorted, each once
}

func (r *Retention) wanted(ctx context.Context, serverID string) (w wanted, err error) {
	err = r.store.View(ctx, func(tx state.Reader) error {
		v, err := settings(ctx, tx, serverID)
		if err != nil {
			return err
		}
		w.window, w.quota = r.effective(v), v.QuotaBytes
		points, err := allPoints(ctx, tx, serverID)
		if err != nil {
			return err
		}
		pins, err := tx.ServerPins(ctx, serverID)
		for _, p := range points {
			w.positions = append(w.positions, p.Position)
		}
		for _, p := range pins {
			w.positions = append(w.positions, p.Position)
		}
		return err
	})
	slices.Sort(w.positions)
	w.positions = slices.Compact(w.positions)
	return w, err
}

func (r *Retention) effective(v state.JournalSettings) time.Duration {
	if v.Window == nil {
		return r.window
	}
	return *v.Window
}

// settings are those of a server, or none.
func settings(ctx context.Context, tx state.Reader, serverID string) (state.JournalSettings, error) {
	v, err := tx.JournalSettings(ctx, serverID)
	if fault.Is(err, fault.NotFound) {
		return state.JournalSettings{ServerID: serverID}, nil
	}
	return v, err
}

func allPoints(ctx context.Context, tx state.Reader, serverID string) (all []state.Point, err error) {
	for page := (state.Page{Limit: state.MaxLimit}); ; {
		items, next, err := tx.Points(ctx, serverID, state.PointFilter{}, page)
		if err != nil {
			return nil, err
		}
		all = append(all, items...)
		if next == "" {
			return all, nil
		}
		page.After = next
	}
}
