package e2e

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/understudy-dr/understudy/e2e/harness"
	"github.com/understudy-dr/understudy/internal/app/agent"
)

// The capture modes where the kernel does not let payloads be read. What a point promises is the same: a state that all
// disks had at one instant; how one comes to points is not.

func (o *one) status(t *testing.T) agent.Status {
	t.Helper()
	var s agent.Status
	require.NoError(t, json.Unmarshal([]byte(o.server.CLI(t, "agent", "status", "--json", "--state-dir", o.agent.StateDir)), &s))
	return s
}

// count writes numbers, each first to one file and then to another, both synced, as fast as it can.
func (o *one) count(t *testing.T) (stop func()) {
	t.Helper()
	stopping, stopped := make(chan struct{}), make(chan error, 1)
	var files [2]*os.File
	for i, name := range []string{"ahead", "behind"} {
		f, err := os.Create(filepath.Join(o.mount, name))
		require.NoError(t, err)
		files[i] = f
	}
	go func() {
		defer files[0].Close()
		defer files[1].Close()
		for n := 1; ; n++ {
			for _, f := range files {
				_, err := f.WriteAt(fmt.Appendf(nil, "%08d", n), 0)
				if err == nil {
					err = f.Sync()
				}
				if err != nil {
					stopped <- err
					return
				}
			}
			select {
			case <-stopping:
				stopped <- nil
				return
			default:
			}
		}
	}()
	var ended bool
	stop = func() {
		t.Helper()
		if !ended {
			ended = true
			close(stopping)
			require.NoError(t, <-stopped)
		}
	}
	t.Cleanup(stop) // before the disk is unmounted
	return stop
}

// counted reads the numbers on an image, which is mounted as it is where it was cut while frozen. A moment that was still
// by itself is a crash, as it were: its log is replayed first.
func counted(t *testing.T, image string) (ahead, behind int, clean bool) {
	t.Helper()
	clean = !strings.Contains(harness.Run(t, "dumpe2fs", "-h", image), "needs_recovery")
	if !clean {
		_, _ = harness.Try(t.Context(), "e2fsck", "-fp", image) // 1: it replayed; Check tells the rest
	}
	require.NoError(t, harness.Check(t, "ext4", image))
	dir := harness.Mount(t, harness.Attach(t, image), filepath.Join(t.TempDir(), "mount"), "ro", "noload")
	defer harness.Unmount(t, dir)
	read := func(name string) int {
		b, err := os.ReadFile(filepath.Join(dir, name))
		require.NoError(t, err)
		n, err := strconv.Atoi(strings.TrimSpace(string(b)))
		require.NoError(t, err)
		return n
	}
	return read("ahead"), read("behind"), clean
}

func (o *one) startMode(t *testing.T, mode string, args ...string) {
	t.Helper()
	o.server.InitializeDRS(t)
	o.start(t, "drs", append([]string{"--capture-mode", mode, "--point-interval", "1s"}, args...)...)
}

// tellsMode: what is used and why is said wherever one looks.
func (o *one) tellsMode(t *testing.T, mode string) {
	t.Helper()
	s := o.status(t)
	require.Equal(t, mode, s.Capture)
	require.Equal(t, "as --capture-mode says", s.CaptureWhy)
	require.Contains(t, o.server.CLI(t, "agent", "status", "--metrics", "--state-dir", o.agent.StateDir), `understudy_agent_capture_mode{mode="`+mode+`"} 1`)
	require.Contains(t, o.agent.Log(), "mode="+mode)
	server, err := o.server.Describe(t, o.server.DRS(t), o.id)
	require.NoError(t, err)
	require.Contains(t, *server.SourceProperties.Os.FullString, "understudy captures by "+mode)
}

// A database that never rests has points all the same: its file system is held still for a moment, so that an export
// needs no log replayed and has the numbers in their order.
func TestBitmapModePointsUnderLoad(t *testing.T) {
	o := newOne(t)
	stop := o.count(t)
	o.startMode(t, "bitmap", "--hold-at-most", "5s")
	last, frozen := 0, false
	for taken := 0; taken < 3 || !frozen; taken++ {
		require.Less(t, taken, 20, "no point was cut while frozen")
		o.recoverable(t, time.Now())
		out := o.export(t, "--latest")
		ahead, behind, clean := counted(t, out)
		frozen = frozen || clean
		require.Truef(t, ahead == behind || ahead == behind+1, "ahead %d, behind %d", ahead, behind)
		require.Greater(t, ahead, last)
		last = ahead
	}
	s := o.status(t)
	require.NotNil(t, s.Points.Last)
	require.Positive(t, s.Points.Held)
	t.Logf("held for %.0f ms, last attempt %q, %d epochs", s.Points.Held, s.Points.Failed, s.Epoch)
	o.tellsMode(t, "bitmap")
	require.Empty(t, s.Disks[0].Missed)
	stop()
	o.same(t)
}

// Where nothing may be held still, a busy server has no point but where a moment happens to be still, and no other is
// offered; as soon as it rests there is one.
func TestNoPointWithoutStillness(t *testing.T) {
	never := []string{"--hold-at-most", "0"}
	for _, c := range []struct {
		name, mode string
		args       []string
	}{{"bitmap", "bitmap", never}, {"scan", "scan", never}, {"freeze none", "bitmap", []string{"--hold-at-most", "5s", "--freeze", "none"}}} {
		t.Run(c.name, func(t *testing.T) {
			mode := c.mode
			o := newOne(t)
			stop := o.count(t)
			o.startMode(t, mode, c.args...)
			harness.Eventually(t, time.Minute, "some attempts have failed", func() (bool, string) {
				s := o.status(t)
				return s.Epoch >= 4, fmt.Sprintf("%+v", s)
			})
			o.tellsMode(t, mode)
			require.Zero(t, o.status(t).Points.Held, "nothing was frozen")
			if mode == "scan" { // no second passes without a write
				require.Nil(t, o.points(t).Latest)
				require.Nil(t, o.status(t).Points.Last)
			} else if p := o.points(t).Latest; p != nil { // a tenth of one may
				out := o.export(t, "--position", fmt.Sprint(p.Position))
				ahead, behind, _ := counted(t, out)
				require.Truef(t, ahead == behind || ahead == behind+1, "ahead %d, behind %d", ahead, behind)
			}
			stop()
			o.same(t)
			o.write(t, "second", 1<<20)
			o.same(t)
		})
	}
}

// A killed agent's pinned bitmaps go on, a killed scan begins anew; neither loses anything.
func TestModesSurviveTheAgent(t *testing.T) {
	for _, mode := range []string{"bitmap", "scan"} {
		t.Run(mode, func(t *testing.T) {
			o := newOne(t)
			o.startMode(t, mode)
			o.recoverable(t, time.Now())
			before := o.status(t)
			o.agent.Kill()
			<-o.agent.Done()
			o.write(t, "while it was dead", 2<<20)
			o.agent.Start(t)
			o.same(t)
			var after agent.Status
			harness.Eventually(t, 10*time.Second, "the status tells of another epoch", func() (bool, string) {
				after = o.status(t)
				return after.Epoch > before.Epoch, fmt.Sprintf("%+v", after)
			})
			require.Equal(t, mode == "bitmap", after.Reason == "gap", after.Reason)
			if mode == "scan" {
				require.Less(t, after.RawBytes, uint64(smallDisk/4), "compared, not sent")
			}
		})
	}
}
