package sink

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/understudy-dr/understudy/internal/fault"
	"github.com/understudy-dr/understudy/internal/journal"
)

// chores is a journal as maintenance sees it, with so much to do.
type chores struct {
	mu       sync.Mutex
	name     string
	steps    int   // to do
	cost     int64 // bytes of a step
	pressure journal.Pressure
	exposure journal.Exposure
	fail     error
	files    []int64 // sizes, to scrub
	next     int
	progress journal.ScrubProgress
	damage   []journal.Damage
	log      *diary
	reads    []time.Time
}

func (c *chores) Maintain(ctx context.Context, l journal.Limits) (bool, error) {
	c.mu.Lock()
	steps, fail := c.steps, c.fail
	c.mu.Unlock()
	if fail != nil {
		c.log.add(c.name + " failed")
		return false, fail
	}
	if steps == 0 {
		return false, nil
	}
	if err := l.Pace(ctx, c.cost); err != nil {
		return false, err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.steps--
	c.log.add(c.name)
	return true, nil
}

func (c *chores) Scrub(ctx context.Context, l journal.Limits) (bool, error) {
	if err := l.Pace(ctx, c.files[c.next]); err != nil {
		return false, err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	now := time.Now()
	if c.next == 0 {
		c.progress.Began = now
	}
	c.reads = append(c.reads, now)
	c.progress.Done += c.files[c.next]
	if c.next++; c.next == len(c.files) {
		c.next, c.progress.Done, c.progress.Began, c.progress.LastFull = 0, 0, time.Time{}, now
		return true, nil
	}
	return false, nil
}

func (c *chores) ScrubProgress() journal.ScrubProgress {
	c.mu.Lock()
	defer c.mu.Unlock()
	p := c.progress
	for _, n := range c.files {
		p.Total += n
	}
	return p
}

func (c *chores) readings() []time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return slices.Clone(c.reads)
}

func (c *chores) Usage() journal.Usage { return journal.Usage{LayerFiles: len(c.files)} }

func (c *chores) Pressure() journal.Pressure {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.pressure
}

func (c *chores) Exposure() journal.Exposure {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.exposure
}

func (c *chores) Damage() []journal.Damage { return c.damage }
func (c *chores) Closed() bool             { return false }

// diary is what was done, in order.
type diary struct {
	mu    sync.Mutex
	lines []string
}

func (d *diary) add(line string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.lines = append(d.lines, line)
}

func (d *diary) all() []string {
	d.mu.Lock()
	defer d.mu.Unlock()
	return slices.Clone(d.lines)
}

// cared is a caretaker of chores.
func cared(m Maintenance, all ...*chores) (*caretaker, *diary) {
	k := newCaretaker(m, slog.New(slog.DiscardHandler))
	log := &diary{}
	var wards []*ward
	for i, c := range all {
		c.name, c.log = fmt.Sprint(i), log
		wards = append(wards, newWard(c.name, c))
	}
	k.wards = func() []*ward { return wards }
	k.urgent = func(*ward) bool { return false }
	k.rested = func(*ward) {}
	return k, log
}

// start runs it until the test ends.
func start(t *testing.T, k *caretaker) (stop func()) {
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() { defer close(done); k.run(ctx) }()
	return func() { cancel(); <-done }
}

func TestTurnsAreFair(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		busy, behind := &chores{steps: 1000, cost: 1 << 20}, &chores{steps: 1000, cost: 1 << 20, pressure: journal.Slow}
		small, idle := &chores{steps: 3, cost: 1}, &chores{}
		k, log := cared(Maintenance{BytesPerSecond: 1 << 20}, busy, behind, small, idle)
		defer start(t, k)()
		<-time.After(30*time.Second + time.Millisecond)
		counts := map[string]int{}
		for _, name := range log.all() {
			counts[name]++
		}
		require.Equal(t, 3, counts["2"], "the small one is done at once")
		require.InDelta(t, 30, counts["0"]+counts["1"], 3, "a megabyte a second")
		require.Greater(t, counts["1"], counts["0"], "the one that is behind comes first")
		require.Greater(t, counts["0"], 5, "and starves nobody")
		require.LessOrEqual(t, counts["1"], 25)
	})
}

func TestAFullJournalIsNotHeldToTheRate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		full := &chores{steps: 1000, cost: 1 << 20, pressure: journal.Full}
		k, log := cared(Maintenance{BytesPerSecond: 1 << 20}, full)
		defer start(t, k)()
		<-time.After(time.Millisecond)
		require.Len(t, log.all(), 1000)
		require.EqualValues(t, 1000<<20, k.wards()[0].care().Maintained)
	})
}

// TestNobodyHoldsUpAFullJournal: a step of a journal with time to spare hurries while another has none.
func TestNobodyHoldsUpAFullJournal(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		big, full := &chores{steps: 1, cost: 1 << 30}, &chores{steps: 10, cost: 1 << 20}
		k, log := cared(Maintenance{BytesPerSecond: 1 << 20}, big, full)
		full.pressure = journal.Full
		k.brake.syncing() // and a sync that hangs
		defer start(t, k)()
		<-time.After(time.Second)
		require.Len(t, log.all(), 11)
	})
}

func TestMaintenanceStandsAside(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := &chores{steps: 1000, cost: 1 << 20}
		k, log := cared(Maintenance{BytesPerSecond: 1 << 20, SlowSync: 50 * time.Millisecond}, c)
		defer start(t, k)()
		rate := func(d time.Duration) int {
			before := len(log.all())
			<-time.After(d)
			return len(log.all()) - before
		}
		rate(10 * time.Second)
		require.InDelta(t, 20, rate(20*time.Second), 1)
		quick := k.brake.syncing()
		<-time.After(10 * time.Millisecond)
		require.Equal(t, 10*time.Millisecond, quick())
		require.InDelta(t, 20, rate(20*time.Second), 1, "a quick sync is no reason")

		hangs := k.brake.syncing()
		<-time.After(100 * time.Millisecond)
		rate(900 * time.Millisecond) // the step under way ends
		require.Zero(t, rate(3*time.Second), "a sync hangs")
		hangs()
		require.Zero(t, rate(3*time.Second), "it rests after a slow one")
		rate(3 * time.Second)
		require.InDelta(t, 10, rate(10*time.Second), 1, "and goes on")

		for range 3 { // a disk that is always slow does not end maintenance
			hangs = k.brake.syncing()
			require.Positive(t, rate(2*standAside))
			hangs()
		}
		k.brake.syncing()
		c.mu.Lock()
		c.pressure = journal.Slow
		c.mu.Unlock()
		rate(standAside)
		require.InDelta(t, 10, rate(10*time.Second), 1, "one that is behind does not wait for what waits for it")
	})
}

func TestFailuresBackOffAndAreToldOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		broken := &chores{steps: 2, fail: fault.New(fault.Transient, "test", "object storage is away")}
		k, log := cared(Maintenance{}, broken, &chores{steps: 5, cost: 1})
		defer start(t, k)()
		<-time.After(10 * time.Minute)
		failed := 0
		for _, name := range log.all() {
			if name == "0 failed" {
				failed++
			}
		}
		require.InDelta(t, 15, failed, 2, "1, 2, 4, ... 60 s apart")
		w := k.wards()[0]
		require.Error(t, w.care().Err)
		require.Less(t, w.care().ErrAt.Sub(time.Now().Add(-10*time.Minute)), 2*time.Second, "since when, not the last time")
		broken.mu.Lock()
		broken.fail = nil
		broken.mu.Unlock()
		<-time.After(longestBackoff + time.Second)
		require.NoError(t, w.care().Err)
		require.Zero(t, w.care().ErrAt)
		broken.mu.Lock()
		require.Zero(t, broken.steps)
		broken.mu.Unlock()
	})
}

// TestScrubSchedule: everything is read once a period, evenly, whatever its size, and nothing more often.
func TestScrubSchedule(t *testing.T) {
	const period = 7 * 24 * time.Hour
	equal := make([]int64, 100)
	for i := range equal {
		equal[i] = 64 << 20
	}
	for name, files := range map[string][]int64{"one": {1 << 20}, "many": equal, "mixed": {1 << 30, 5, 1 << 20, 64 << 20, 64 << 20}} {
		t.Run(name, func(t *testing.T) {
			c := &chores{files: files}
			now := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
			begun, passes := now, 0
			var done []time.Duration // of each pass
			worst := int64(0)
			var window []int64 // bytes of each hour of the last tenth of a period
			for range 5 * 7 * 24 {
				read := int64(0)
				for due(c.ScrubProgress(), len(c.files), period, now) {
					before := c.next
					passed, err := c.Scrub(t.Context(), journal.Limits{Pace: func(context.Context, int64) error { return nil }})
					require.NoError(t, err)
					if c.next == 1 || passed && len(files) == 1 {
						begun = now
					}
					c.progress.Began = begun
					read += files[before]
					if passed {
						c.progress.Began, c.progress.LastFull = time.Time{}, now
						passes++
						done = append(done, now.Sub(begun))
					}
				}
				window = append(window, read)
				if len(window) > 17 {
					window = window[1:]
				}
				sum := int64(0)
				for _, n := range window {
					sum += n
				}
				worst = max(worst, sum)
				now = now.Add(time.Hour)
			}
			require.InDelta(t, 5, passes, 1)
			total := int64(0)
			for _, n := range files {
				total += n
			}
			if name == "many" {
				require.Less(t, worst, total*14/100, "a tenth of the period reads about a tenth")
				for _, d := range done {
					require.Less(t, d, period)
					require.Greater(t, d, period*8/10)
				}
			}
		})
	}
}

func TestScrubOnDemandReadsAll(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := &chores{files: []int64{10, 20, 30}}
		k, _ := cared(Maintenance{ScrubPeriod: 7 * 24 * time.Hour}, c)
		s := &Server{care: k, replicas: map[string]*replica{"0": {id: "0", ward: k.wards()[0]}}}
		defer start(t, k)()
		<-time.After(time.Minute)
		require.Len(t, c.readings(), 1, "one that was never read is begun at once")
		require.NoError(t, s.StartScrub("0"))
		require.Equal(t, fault.NotFound, fault.KindOf(s.StartScrub("1")))
		<-time.After(10 * time.Second)
		require.Len(t, c.readings(), 1+2+3, "to the end of the pass that was under way, then all")
		care, err := s.Care("0")
		require.NoError(t, err)
		require.Zero(t, care.ScrubAsked)
		require.EqualValues(t, 120, care.Scrubbed)
		_, err = s.Care("1")
		require.Equal(t, fault.NotFound, fault.KindOf(err))
		<-time.After(24 * time.Hour)
		require.Len(t, c.readings(), 6)
	})
}

func TestDamageIsAskedForOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		now := time.Now()
		young, old := journal.Damage{Disk: 1, Sector: 8, Sectors: 8, FoundAt: now}, journal.Damage{Sectors: 1, FoundAt: now.Add(-2 * mendYoung)}
		c := &chores{files: []int64{1}, damage: []journal.Damage{old, young}, progress: journal.ScrubProgress{LastFull: now}}
		k, _ := cared(Maintenance{}, c)
		var asked [][]journal.Damage
		busy := errors.New("agent is away")
		k.repair = func(_ *ward, d []journal.Damage) error {
			if len(asked) == 0 {
				asked = append(asked, nil)
				return busy
			}
			asked = append(asked, d)
			return nil
		}
		s := &Server{care: k, replicas: map[string]*replica{"0": {id: "0", ward: k.wards()[0]}}}
		defer start(t, k)()
		<-time.After(time.Hour)
		require.Equal(t, [][]journal.Damage{nil, {young}}, asked, "again after a failure, then no more")
		require.NoError(t, s.StartScrub("0"))
		<-time.After(time.Hour)
		require.Equal(t, [][]journal.Damage{nil, {young}, {old, young}}, asked, "whoever scrubs wants all mended")
	})
}
