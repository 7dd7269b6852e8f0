package soak

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/understudy-dr/understudy/e2e/harness"
	"github.com/understudy-dr/understudy/e2e/workload"
	"github.com/understudy-dr/understudy/internal/operatorapi/schema"
)

// choice is an instant to take back: what export is asked for, and the instant that was meant, if one was.
type choice struct {
	args     []string
	at       time.Time // by the agent's clock
	from, to time.Time // it lies between these
	epoch    uint64
}

// choose takes an instant of any window, a position of one, a kept point, or the newest.
func choose(rng *rand.Rand, p schema.Points) (choice, bool) {
	if len(p.Windows) == 0 {
		return choice{}, false
	}
	w := p.Windows[rng.IntN(len(p.Windows))]
	if rng.IntN(2) == 0 {
		w = p.Windows[len(p.Windows)-1]
	}
	switch what := rng.IntN(4); {
	case what == 0:
		return choice{args: []string{"--latest"}, epoch: p.Windows[len(p.Windows)-1].Epoch}, true
	case what == 1 && len(p.Points) > 0:
		return choice{args: []string{"--point", p.Points[rng.IntN(len(p.Points))].ID}}, true
	default:
		at := w.From.Add(time.Duration(rng.Int64N(int64(w.To.Sub(w.From)) + 1)))
		return choice{args: []string{"--at", at.Format(time.RFC3339Nano)}, at: at, epoch: w.Epoch}, true
	}
}

// verify takes one instant back, all disks of it, and proves it.
func (l *lab) verify(rng *rand.Rand, when string) {
	l.t.Helper()
	begun := time.Now()
	proven := l.t.Run(fmt.Sprintf("%d %s", l.verified+1, when), func(t *testing.T) {
		c, images, ok := l.export(t, rng)
		if !ok {
			return
		}
		l.prove(t, c, images)
	})
	if !proven {
		l.t.FailNow()
	}
	l.proof = max(l.proof, time.Since(begun))
}

// tries bounds how often an instant is chosen anew. What was offered may be gone when it is asked for: reclaimed, or its epoch was
// given up. A server that was just started opens its journal when the agent comes.
const tries = 60

func (l *lab) export(t *testing.T, rng *rand.Rand) (choice, [3]string, bool) {
	t.Helper()
	dir := t.TempDir()
	images := [3]string{filepath.Join(dir, "database.raw"), filepath.Join(dir, "files.raw"), filepath.Join(dir, "raw.raw")}
	var c choice
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	for try := range tries {
		p, err := l.points(t)
		if err == nil {
			var ok bool
			if c, ok = choose(rng, p); !ok && p.Open {
				l.logf("nothing is recoverable yet")
				return c, images, false
			} else if ok {
				if err = l.exportAt(t, c, images); err == nil {
					if c.epoch > 0 {
						l.epochs[c.epoch] = true
					}
					c.from, c.to = l.agentClock.when(c.at)
					if now := time.Now(); c.to.After(now) { // the clock was set back, and the times of writes wait for it
						c.to = now
					}
					return c, images, true
				}
			}
		}
		require.True(t, forgivable(err), "%v: %v", c.args, err)
		if err != nil {
			l.again++
			l.logf("try %d, %v: %s", try, c.args, firstLine(err))
		}
		<-tick.C
	}
	require.Fail(t, "nothing can be exported", "%v", c.args)
	return c, images, false
}

func firstLine(err error) string {
	lines := strings.Split(strings.TrimSpace(err.Error()), "\n")
	return lines[len(lines)-1]
}

// forgivable tells whether a refusal says that the instant or the server is away, and not that something is wrong.
func forgivable(err error) bool {
	if err == nil {
		return true
	}
	const notFound, conflict, transient = 3, 4, 6
	exit, ok := errors.AsType[*exec.ExitError](err)
	return ok && (exit.ExitCode() == notFound || exit.ExitCode() == conflict || exit.ExitCode() == transient)
}

// exportAt writes the first disk as chosen and the others at the position that this was.
func (l *lab) exportAt(t *testing.T, c choice, images [3]string) error {
	args := c.args
	for _, i := range []int{2, 0, 1} { // the raw disk first: it is the one that some points lack
		d := l.disks()[i]
		said, err := l.server.TryCLI(t.Context(), append(append([]string{"export", "--server", l.id, "--device", d.Device}, args...), images[i])...)
		if err != nil {
			return errors.Join(err, remove(images))
		}
		_, after, _ := strings.Cut(said, "(position ")
		position, _, _ := strings.Cut(after, ")")
		if _, err := strconv.ParseUint(position, 10, 64); err != nil {
			return fmt.Errorf("no position in %q: %w", said, err)
		}
		args = []string{"--position", position}
	}
	return nil
}

func remove(files [3]string) error {
	var all error
	for _, f := range files {
		if err := os.Remove(f); !errors.Is(err, os.ErrNotExist) {
			all = errors.Join(all, err)
		}
	}
	return all
}

// prove judges what all three disks hold.
func (l *lab) prove(t *testing.T, c choice, images [3]string) {
	t.Helper()
	dir := t.TempDir()
	for _, d := range []string{dir, filepath.Dir(dir)} { // the database's user passes through
		require.NoError(t, os.Chmod(d, 0o755))
	}
	devices := [2]string{harness.Attach(t, images[0]), harness.Attach(t, images[1])}
	database := harness.Mount(t, devices[0], filepath.Join(dir, "database"))
	files := harness.Mount(t, devices[1], filepath.Join(dir, "files"), "nouuid")

	n, err := l.stamps.Judge(images[2], filepath.Join(database, stampedFile), filepath.Join(files, stampedFile))
	require.NoError(t, err)
	proven := 0
	if !c.at.IsZero() {
		least, _ := l.stamps.Around(c.from)
		_, most := l.stamps.Around(c.to)
		require.True(t, least <= n && n <= most, "as of %s, which lies between %s and %s, there were between %d and %d writes, the copy has %d",
			c.at, c.from, c.to, least, most, n)
		proven, err = l.churn.JudgeBetween(filepath.Join(files, churned), c.from, c.to)
		require.NoError(t, err)
	}
	rows := l.startCopy(t, c, filepath.Join(database, "data"), filepath.Join(dir, "socket"))
	harness.Unmount(t, database)
	harness.Unmount(t, files)
	require.NoError(t, harness.Check(t, "ext4", devices[0]))
	require.NoError(t, harness.Check(t, "xfs", devices[1]))
	l.verified++
	l.logf("proven: %s (within %s): %d stamped writes, %d files, %d transactions", strings.Join(c.args, " "), c.to.Sub(c.from), n, proven, rows)
}

// startCopy starts PostgreSQL on the copy, which recovers as from a crash, and asks it.
func (l *lab) startCopy(t *testing.T, c choice, data, socket string) int {
	t.Helper()
	pg := workload.NewPostgres(t, data, socket)
	require.NoError(t, pg.Adopt())
	pg.Start(t)
	require.NoError(t, pg.Balanced(t))
	if !c.at.IsZero() && !l.bench.Ended() {
		_, err := pg.JudgeBetween(t, l.bench.Through(t, c.to), c.from, c.to)
		require.NoError(t, err)
	}
	rows, err := strconv.Atoi(pg.Query(t, "SELECT count(*) FROM ledger")[0])
	require.NoError(t, err)
	require.NoError(t, pg.Sound(t))
	return rows
}

// finish: nothing is broken any more. Replication comes back by itself, the load ends, and the replica is the disks.
func (l *lab) finish() {
	t := l.t
	l.logf("continuous after %s", l.well().Round(time.Second))
	l.verify(rand.New(rand.NewPCG(l.seed, 0)), "in the end")
	l.bench.Finish(t)
	require.NoError(t, l.endLoad())
	l.pg.Stop(t)
	for _, m := range l.mounts {
		harness.Unmount(t, m)
	}
	ahead := l.agentClock.most() + time.Second // no write has a later time
	l.agentClock.jump(time.Now(), ahead)
	now := time.Now().Add(ahead)
	harness.Eventually(t, patience, "everything written is recoverable", func() (bool, string) {
		p, err := l.points(t)
		if err != nil {
			return false, err.Error()
		}
		return p.Latest != nil && p.Latest.Time.After(now), fmt.Sprintf("latest %v, wanted after %s", p.Latest, now)
	})
	l.identical(t)
	l.agent.Stop(t)
	l.server.Stop(t)
	require.Contains(t, l.server.CLI(t, "journal", "verify", filepath.Join(l.server.Dir, "journals", l.id)), "no damage found")
}

// identical compares every disk with its replica, bit for bit.
func (l *lab) identical(t *testing.T) {
	t.Helper()
	dir := t.TempDir()
	images := [3]string{filepath.Join(dir, "database.raw"), filepath.Join(dir, "files.raw"), filepath.Join(dir, "raw.raw")}
	require.NoError(t, l.exportAt(t, choice{args: []string{"--latest"}}, images))
	for i, d := range l.disks() {
		require.NoError(t, harness.Identical(d.Device, images[i]))
	}
	l.logf("the replica is the disks, bit for bit")
	l.prove(t, choice{args: []string{"--latest"}}, images)
}
