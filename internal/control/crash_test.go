package control_test

import (
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strconv"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/understudy-dr/understudy/internal/control"
	"github.com/understudy-dr/understudy/internal/control/accounts"
	"github.com/understudy-dr/understudy/internal/control/events"
	"github.com/understudy-dr/understudy/internal/control/templates"
	"github.com/understudy-dr/understudy/internal/state"
	"github.com/understudy-dr/understudy/internal/state/postgres"
	"github.com/understudy-dr/understudy/internal/state/sqlite"
	"github.com/understudy-dr/understudy/internal/state/statetest"
)

// step is what a client wants: it calls until it is told that it was done, or sees that it is. What was acknowledged is never
// asked for again.
type step struct {
	name string
	do   func(*process) error                // nil: it comes by itself
	done func(*testing.T, state.Reader) bool // nil: once do has worked
}

// flow is a workflow, made anew for each run.
type flow func(*outside) []step

var flows = map[string]flow{
	"replication": replicate, "migration": migrate, "recovery": recoverAndFailBack, "inventory": keepInventory, "import": importInventory,
	"networks": followNetwork, "extension": extend, "launch configuration": configure, "access": manageAccess,
}

// database makes stores that all begin alike.
type database interface {
	// base makes what copies are of.
	base(t *testing.T, fill func(state.Store))
	copy(t *testing.T, run int) state.Store
}

type sqliteFile struct{ path string }

func (d *sqliteFile) base(t *testing.T, fill func(state.Store)) {
	d.path = filepath.Join(t.TempDir(), "base.db")
	s, err := sqlite.Open(t.Context(), d.path)
	require.NoError(t, err)
	fill(s)
	require.NoError(t, s.Close())
}

func (d *sqliteFile) copy(t *testing.T, _ int) state.Store {
	b, err := os.ReadFile(d.path)
	require.NoError(t, err)
	path := filepath.Join(t.TempDir(), "state.db")
	require.NoError(t, os.WriteFile(path, b, 0o600))
	s, err := sqlite.Open(t.Context(), path)
	require.NoError(t, err)
	return s
}

type postgresServer struct{ *statetest.Postgres }

func (d postgresServer) base(t *testing.T, fill func(state.Store)) {
	s, err := postgres.Open(t.Context(), d.Database("base"))
	require.NoError(t, err)
	fill(s)
	require.NoError(t, s.Close())
}

func (d postgresServer) copy(t *testing.T, run int) state.Store {
	s, err := postgres.Open(t.Context(), d.Copy("base", t.Name()+strconv.Itoa(run)))
	require.NoError(t, err)
	return s
}

// fill makes an installation with two accounts, one of which is told of everything.
func fill(t *testing.T, store state.Store, dir string) {
	ctx := t.Context()
	for _, s := range []state.Scope{drs, mgn, {Account: otherAccount, Service: state.DRS}} {
		require.NoError(t, accounts.New(store).Initialize(ctx, s))
		if s.Service == state.DRS {
			_, err := templates.New(store).Create(ctx, s, control.ConfigPatch{PITPolicy: new(templates.DefaultPITPolicy()), StagingAreaSubnetID: new(templates.NoSubnet)}, nil)
			require.NoError(t, err)
		}
	}
	hooks, err := events.OpenWebhooks(events.NewRecorder(store, region), filepath.Join(dir, "keys"))
	require.NoError(t, err)
	_, err = hooks.Create(ctx, account, "http://listener.test/", true)
	require.NoError(t, err)
}

// run carries a workflow out on a store that breaks at its n-th step, and again at random after that. It tells whether the
// store broke.
func run(t *testing.T, db database, f flow, how breakage, n int, rng *rand.Rand) (broke bool) {
	synctest.Test(t, func(t *testing.T) {
		raw := db.copy(t, n)
		defer func() { require.NoError(t, raw.Close()) }()
		o := &outside{dir: t.TempDir(), staging: map[string]bool{}, copied: map[string]time.Time{}, agents: map[string]state.Scope{}, machines: map[string]string{}}
		require.NoError(t, os.MkdirAll(filepath.Join(o.dir, "buckets", account, bucket), 0o700))
		d := &driver{t: t, raw: raw, out: o, how: how, rng: rng}
		d.boot(n)
		defer func() { d.p.stop() }()
		for _, s := range f(o) {
			d.step(s)
		}
		var err error
		for range patience {
			if err = o.settled(t, raw); err == nil {
				break
			}
			d.second()
		}
		require.NoError(t, err)
		o.check(t, raw)
		broke = d.broke
	})
	return broke
}

// patience is how many seconds a step may take.
const patience = 400

// driver is the client, and whoever starts the process again.
type driver struct {
	t     *testing.T
	raw   state.Store
	out   *outside
	how   breakage
	rng   *rand.Rand
	p     *process
	broke bool
}

// boot starts a process, again when it cannot start, on a store that breaks at its n-th step.
func (d *driver) boot(n int) {
	for {
		b := &breaker{Store: d.raw, how: d.how, left: n}
		p, err := boot(d.t, d.out, b)
		if err == nil {
			d.p = p
			return
		}
		require.ErrorIs(d.t, err, errBroken)
		d.broke, n = true, d.next()
		d.out.check(d.t, d.raw)
	}
}

// next is when the store breaks after it has broken: not at all, where only one breakage is wanted.
func (d *driver) next() int {
	if d.rng == nil {
		return 0
	}
	return 1 + d.rng.IntN(60)
}

func (d *driver) second() {
	<-time.After(time.Second)
	b := d.p.breaker
	b.mu.Lock()
	broke := b.broke
	b.broke = false
	if broke && !b.dead {
		b.left = d.next()
	}
	b.mu.Unlock()
	if !broke {
		return
	}
	d.broke = true
	if b.ended() {
		d.p.stop()
		d.boot(d.next())
	}
	d.out.check(d.t, d.raw)
}

func (d *driver) step(s step) {
	told := s.do == nil
	var last error
	for range patience {
		seen := s.done == nil && told
		if s.done != nil {
			require.NoError(d.t, d.raw.View(d.t.Context(), func(r state.Reader) error { seen = s.done(d.t, r); return nil }))
		}
		if seen {
			return
		}
		if !told {
			last = s.do(d.p)
			told = last == nil
		}
		d.second()
	}
	all, _, err := records(d.t, d.raw)
	d.t.Fatalf("%s: told %v, last answer: %v; %+v %v", s.name, told, last, all, err)
}

func records(t *testing.T, store state.Store) (all []state.Replication, next string, err error) {
	err = store.View(t.Context(), func(r state.Reader) error {
		all, next, err = r.Replications(t.Context(), state.ReplicationFilter{}, everything)
		return err
	})
	return all, next, err
}

// TestEveryStep breaks the store at the steps of each workflow in each way. Whatever broke, when the process is there again
// every workflow comes to its end, and nothing of it is there twice or half. Each run of the test takes another seventh of
// the steps; UNDERSTUDY_STRIDE=1 takes them all, in some minutes.
func TestEveryStep(t *testing.T) {
	everyStep(t, strideOf(t, 7), func(*testing.T) database { return &sqliteFile{} })
}

// The same on PostgreSQL, where it is the store's transactions that differ.
func TestStepsOnPostgreSQL(t *testing.T) {
	server := statetest.StartPostgres(t)
	everyStep(t, strideOf(t, 61), func(*testing.T) database { return postgresServer{server} })
}

func strideOf(t *testing.T, stride int) int {
	if text := os.Getenv("UNDERSTUDY_STRIDE"); text != "" {
		var err error
		stride, err = strconv.Atoi(text)
		require.NoError(t, err)
	}
	return max(1, stride)
}

func everyStep(t *testing.T, stride int, open func(*testing.T) database) {
	seed := seedOf(t)
	db := open(t)
	db.base(t, func(s state.Store) { fill(t, s, t.TempDir()) })
	for name, f := range flows {
		for _, how := range []breakage{crash, failure, doubt} {
			t.Run(fmt.Sprint(name, "/", how), func(t *testing.T) {
				first := 1 + int(seed%uint64(stride))
				for n := first; ; n += stride {
					if !run(t, db, f, how, n, nil) {
						t.Logf("%d steps, one in %d of them", n-1, stride)
						break
					}
				}
			})
		}
	}
}

// TestManyBreakages breaks the store again and again.
func TestManyBreakages(t *testing.T) {
	rng := rand.New(rand.NewPCG(seedOf(t), 1))
	db := &sqliteFile{}
	db.base(t, func(s state.Store) { fill(t, s, t.TempDir()) })
	for name, f := range flows {
		for _, how := range []breakage{crash, failure, doubt} {
			t.Run(fmt.Sprint(name, "/", how), func(t *testing.T) {
				run(t, db, f, how, 1+rng.IntN(10), rng)
			})
		}
	}
}

func seedOf(t *testing.T) uint64 {
	seed := rand.Uint64()
	if text := os.Getenv("UNDERSTUDY_SEED"); text != "" {
		var err error
		seed, err = strconv.ParseUint(text, 10, 64)
		require.NoError(t, err)
	}
	t.Logf("UNDERSTUDY_SEED=%d", seed)
	return seed
}
