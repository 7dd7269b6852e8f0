package e2e

import (
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	drstypes "github.com/aws/aws-sdk-go-v2/service/drs/types"
	"github.com/stretchr/testify/require"
	"golang.org/x/sync/errgroup"

	"github.com/understudy-dr/understudy/e2e/harness"
	"github.com/understudy-dr/understudy/e2e/workload"
)

// sixty is a server with as many disks as DRS takes: a third of them raw, a third ext4, a third XFS.
type sixty struct {
	*one
	disks  []fsDisk // fs and mount are empty where the disk is raw
	stamps *workload.Stamps
}

const manyDisks = 60

// stampedIn is the file of stamped writes on a disk with a file system.
const stampedIn = "stamped"

func newSixty(t *testing.T, seed uint64) *sixty {
	t.Helper()
	s := &sixty{one: &one{dir: t.TempDir()}, disks: make([]fsDisk, manyDisks)}
	var targets []workload.Target
	for i := range s.disks {
		d := &s.disks[i]
		name := fmt.Sprintf("disk%02d", i)
		switch i % 3 {
		case 0:
			d.Disk = harness.NewDisk(t, s.dir, name, 8<<20)
			targets = append(targets, workload.Target{Path: d.Device, Blocks: 1024, Most: 16})
			continue
		case 1:
			d.Disk, d.fs = harness.NewDisk(t, s.dir, name, 16<<20), "ext4"
			d.Format(t, d.fs)
		case 2:
			d.Disk, d.fs = harness.NewDisk(t, s.dir, name, 32<<20), "xfs"
			harness.Run(t, "mkfs.xfs", "-q", "-f", "--unsupported", "-d", "agcount=2", d.Device) // smaller than anybody would have it
		}
		d.mount = harness.Mount(t, d.Device, filepath.Join(s.dir, "mounts", name))
		target, err := workload.PrepareTarget(filepath.Join(d.mount, stampedIn), 64)
		require.NoError(t, err)
		targets = append(targets, target)
	}
	s.stamps = workload.NewStamps(seed, time.Millisecond, targets...)
	return s
}

// load runs stamped writes over all disks, and files coming and going on those that have a file system, until stop is called.
func (s *sixty) load(t *testing.T, seed uint64) (stop func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error { return s.stamps.Run(ctx) })
	for i, d := range s.disks {
		if d.mount != "" {
			g.Go(func() error { return scribble(ctx, d.mount, rand.New(rand.NewPCG(seed, uint64(i)))) })
		}
	}
	return func() {
		t.Helper()
		cancel()
		require.NoError(t, g.Wait())
	}
}

// scribble writes one of a few files anew, of any size, now and then.
func scribble(ctx context.Context, dir string, rng *rand.Rand) error {
	tick := time.NewTicker(250 * time.Millisecond)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
		b := make([]byte, 1+rng.IntN(64<<10))
		for i := range b {
			b[i] = byte(rng.Uint32())
		}
		if err := os.WriteFile(filepath.Join(dir, fmt.Sprint(rng.IntN(8))), b, 0o600); err != nil {
			return err
		}
	}
}

// take exports all disks at one choice, some at a time, and returns the images and the position.
func (s *sixty) take(t *testing.T, choice ...string) []string {
	t.Helper()
	dir := t.TempDir()
	images := make([]string, len(s.disks))
	g, ctx := errgroup.WithContext(t.Context())
	g.SetLimit(4)
	for i, d := range s.disks {
		images[i] = filepath.Join(dir, filepath.Base(d.File))
		g.Go(func() error {
			_, err := s.server.TryCLI(ctx, append(append([]string{"export", "--server", s.id, "--device", d.Device}, choice...), images[i])...)
			return err
		})
	}
	require.NoError(t, g.Wait())
	return images
}

// judged mounts what can be mounted, proves that the copies are one state of all disks, and checks every file system.
func (s *sixty) judged(t *testing.T, images []string) uint64 {
	t.Helper()
	dir := t.TempDir()
	copies := make([]string, len(images))
	devices := make([]string, len(images))
	for i, d := range s.disks {
		copies[i] = images[i]
		if d.fs == "" {
			continue
		}
		devices[i] = harness.Attach(t, images[i])
		options := map[string][]string{"xfs": {"nouuid"}}[d.fs]
		copies[i] = filepath.Join(harness.Mount(t, devices[i], filepath.Join(dir, fmt.Sprint(i)), options...), stampedIn)
	}
	n, err := s.stamps.Judge(copies...)
	require.NoError(t, err)
	for i, d := range s.disks {
		if d.fs == "" {
			continue
		}
		harness.Unmount(t, filepath.Dir(copies[i]))
		require.NoError(t, harness.Check(t, d.fs, devices[i]))
	}
	return n
}

// Sixty disks are one consistency group: an instant in the middle of writes over all of them has every write up to one, and none after.
// In the end every replica is its disk, bit for bit.
func TestSixtyDisks(t *testing.T) {
	sd := seed(t)
	s := newSixty(t, sd)
	stop := s.load(t, sd)
	s.server = harness.NewServer(t, filepath.Join(s.dir, "server"))
	s.server.InitializeDRS(t)
	var devices []string
	for _, d := range s.disks {
		devices = append(devices, d.Device)
	}
	s.agent = s.server.NewAgent(t, "drs", filepath.Join(s.dir, "agent"), devices, "--ring-mib", "64", "--all-blocks")
	s.id = s.agent.ServerID(t)
	s.server.WaitState(t, s.id, drstypes.DataReplicationStateContinuous, 2*time.Minute)
	wait(t, 4*time.Second)
	at := time.Now()
	wait(t, time.Second)
	stop()
	for _, d := range s.disks {
		if d.mount != "" {
			harness.Unmount(t, d.mount)
		}
	}
	s.recoverable(t, time.Now())
	windows := s.points(t).Windows
	require.Len(t, windows, 1)
	require.True(t, windows[0].From.Before(at), "%v", windows[0])

	n := s.judged(t, s.take(t, "--at", at.Format(time.RFC3339Nano)))
	least, most := s.stamps.Around(at)
	require.True(t, least <= n && n <= most, "there were between %d and %d writes, the copy has %d", least, most, n)
	require.Less(t, n, s.stamps.Written())
	for i, image := range s.take(t, "--latest") {
		require.NoError(t, harness.Identical(s.disks[i].Device, image), strings.TrimSpace(s.disks[i].fs+" "+s.disks[i].Device))
	}
	t.Logf("%d of %d writes over %d disks were there at %s", n, s.stamps.Written(), len(s.disks), at.Format(time.RFC3339Nano))
}
