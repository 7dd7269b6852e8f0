package replication

import (
	"context"
	"log/slog"
	"sync"
	"time"

	"github.com/understudy-dr/understudy/internal/control"
	"github.com/understudy-dr/understudy/internal/control/lifecycle"
	"github.com/understudy-dr/understudy/internal/fault"
	"github.com/understudy-dr/understudy/internal/state"
)

// workers bounds how many servers are acted on at one moment; slow steps are disk and network bound.
const workers = 32

// Points makes the recovery point that separates CREATING_SNAPSHOT from CONTINUOUS.
type Points interface {
	Take(ctx context.Context, s state.Scope, serverID string) (state.Point, error)
}

// Engine runs the data replication of all source servers. It alone writes replication records.
type Engine struct {
	store  state.Store
	server ReplicationServer
	log    *slog.Logger
	queue  *queue
	points Points
	// began: agents were not seen before because nobody looked.
	began time.Time

	mu     sync.Mutex
	actors map[string]*actor
	begins []Begins
}

var _ control.Replication = (*Engine)(nil)

// actor is one source server's replication: the record, and what was observed since this process began.
type actor struct {
	id string

	mu  sync.Mutex
	rec state.Replication // what is stored, besides measurements newer than savedAt
	// generation counts the changes of intent; the result of work begun under an older one is dropped.
	generation uint64
	interrupt  context.CancelFunc // of the work under way
	agent      sighting
	savedAt    time.Time
	// served: the initiation steps were done in this process, so the agent may connect.
	served bool
	// cutAt is since when the data connection is down; zero when it is up.
	cutAt time.Time
	rate  rate
	// trouble is what keeps happening to it.
	trouble trouble
	// refused: it is stalled because data could not be taken in, and the replication server says when it can again.
	refused bool
	// doubtful: the store failed in the middle of a change, which it may have kept: rec is read again before it is used.
	doubtful bool
	gone     bool // the server was deleted
}

// New returns an engine over store that works on server. Operations are accepted at once; Run acts on them.
func New(store state.Store, server ReplicationServer, log *slog.Logger) *Engine {
	return &Engine{store: store, server: server, log: log, queue: newQueue(), began: time.Now(), actors: map[string]*actor{}}
}

// Begins may refuse that one more server of a scope begins to replicate, in the transaction that begins it.
type Begins func(ctx context.Context, r state.Reader, s state.Scope) error

// OnBegin lets fn take part in the beginning of replication. It is called before anything is served.
func (e *Engine) OnBegin(fn Begins) { e.begins = append(e.begins, fn) }

// may asks those who take part.
func (e *Engine) may(s state.Scope) change {
	return func(ctx context.Context, tx state.Tx) error {
		for _, fn := range e.begins {
			if err := fn(ctx, tx, s); err != nil {
				return err
			}
		}
		return nil
	}
}

// Run reconciles until ctx ends. It waits for work under way; what that leaves half done is taken up by
// the next Run.
func (e *Engine) Run(ctx context.Context, points Points) error {
	e.points = points
	if err := e.load(ctx); err != nil {
		if ctx.Err() != nil {
			return nil // it was ended before it had begun
		}
		return fault.Wrap("replication: load", err)
	}
	stop := context.AfterFunc(ctx, e.queue.close)
	defer stop()
	var wg sync.WaitGroup
	for range workers {
		wg.Go(func() { e.work(ctx) })
	}
	wg.Wait()
	return nil
}

func (e *Engine) work(ctx context.Context) {
	for ctx.Err() == nil {
		id, ok := e.queue.get()
		if !ok {
			return
		}
		e.queue.done(id, e.pass(ctx, id))
	}
}

// load takes up every replication that needs attention.
func (e *Engine) load(ctx context.Context) error {
	for page := (state.Page{Limit: state.MaxLimit}); ; {
		var items []state.Replication
		var next string
		err := e.store.View(ctx, func(r state.Reader) (err error) {
			items, next, err = r.Replications(ctx, state.ReplicationFilter{}, page)
			return err
		})
		if err != nil {
			return err
		}
		for _, rec := range items {
			if rec.Teardown || rec.Intent == state.IntentRun || rec.Intent == state.IntentPause {
				if _, err := e.find(ctx, rec.ServerID); err != nil {
					return err
				}
				e.queue.add(rec.ServerID)
			}
		}
		if next == "" {
			return nil
		}
		page.After = next
	}
}

// find returns the actor of a server, taking it up from the store the first time.
func (e *Engine) find(ctx context.Context, id string) (*actor, error) {
	e.mu.Lock()
	a := e.actors[id]
	e.mu.Unlock()
	if a != nil {
		return a, nil
	}
	// The lock is held while reading so that nobody can hold an older actor of the same server.
	e.mu.Lock()
	defer e.mu.Unlock()
	if a := e.actors[id]; a != nil {
		return a, nil
	}
	a = &actor{id: id, savedAt: time.Now()}
	var err error
	a.rec, err = e.read(ctx, id)
	if fault.Is(err, fault.NotFound) {
		return nil, control.Missing("replication", control.SourceServer, id)
	}
	if err != nil {
		return nil, err
	}
	if a.rec.State == state.Initiating {
		// The steps act on this process's listener and journals: done in an earlier one they are not done.
		a.rec.Attempt.Steps = freshSteps()
	}
	e.actors[id] = a
	return a, nil
}

// read is what the store has of a server's replication.
func (e *Engine) read(ctx context.Context, id string) (rec state.Replication, err error) {
	err = e.store.View(ctx, func(r state.Reader) (err error) {
		if rec, err = r.Replication(ctx, id); err != nil {
			return err
		}
		newest, _, err := r.Points(ctx, id, state.PointFilter{Descending: true}, state.Page{Limit: 1})
		if len(newest) > 0 {
			rec.LastPointAt = newest[0].At
		}
		return err
	})
	return rec, err
}

// sure sees that an actor's record is the store's. What was begun for another one is dropped. The caller holds a.mu.
func (e *Engine) sure(ctx context.Context, a *actor) error {
	if !a.doubtful {
		return nil
	}
	rec, err := e.read(ctx, a.id)
	if fault.Is(err, fault.NotFound) {
		a.gone = true
		e.mu.Lock()
		delete(e.actors, a.id)
		e.mu.Unlock()
		return control.Missing("replication", control.SourceServer, a.id)
	}
	if err != nil {
		return err
	}
	if rec.Intent != a.rec.Intent || rec.State != a.rec.State || rec.Attempt.ID != a.rec.Attempt.ID || rec.Deleting != a.rec.Deleting {
		a.changed()
	}
	a.rec, a.savedAt, a.doubtful = rec, time.Now(), false
	e.queue.add(a.id)
	return nil
}

// in is find for callers who name the scope: another scope's server does not exist for them.
func (e *Engine) in(ctx context.Context, s state.Scope, id string) (*actor, error) {
	a, err := e.find(ctx, id)
	if err != nil {
		return nil, err
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	if err := e.sure(ctx, a); err != nil {
		return nil, err
	}
	if a.gone || a.rec.Deleting || a.rec.Scope != s {
		return nil, control.Missing("replication", control.SourceServer, id)
	}
	return a, nil
}

// change is something else to do in the transaction that stores a record.
type change func(context.Context, state.Tx) error

// save stores a changed record and makes it the actor's. also runs in the same transaction. The caller
// holds a.mu.
func (e *Engine) save(ctx context.Context, a *actor, rec state.Replication, also ...change) error {
	written := false
	err := e.store.Update(ctx, func(tx state.Tx) error {
		for _, fn := range also {
			if err := fn(ctx, tx); err != nil {
				return err
			}
		}
		written = true
		return tx.PutReplication(ctx, rec)
	})
	if err != nil {
		a.doubtful = written // a refusal came before
		return err
	}
	if a.rec.State != rec.State {
		e.log.Info("data replication", "server", a.id, "from", a.rec.State, "to", rec.State, "error", rec.Error)
		a.rate, a.cutAt = rate{}, time.Time{} // measured anew from here
	}
	a.rec, a.savedAt = rec, time.Now()
	return nil
}

// live moves the server's life cycle in the transaction of the record's change.
func live(rec state.Replication, on lifecycle.Trigger) change {
	return func(ctx context.Context, tx state.Tx) error {
		v, err := tx.Server(ctx, rec.Scope, rec.ServerID)
		if err != nil {
			return err
		}
		before := v.LifeCycle.State
		if err := lifecycle.Apply(&v, on); err != nil || v.LifeCycle.State == before {
			return err
		}
		return tx.PutServer(ctx, v)
	}
}
