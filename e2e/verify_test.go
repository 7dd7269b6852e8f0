package e2e

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/understudy-dr/understudy/e2e/harness"
	"github.com/understudy-dr/understudy/internal/operatorapi/schema"
)

// spoil writes to the file behind the loop device, so that neither file system nor capture see it: a block of a file that
// is in use.
func (o *one) spoil(t *testing.T, name string, block int) {
	t.Helper()
	content, err := os.ReadFile(filepath.Join(o.mount, name))
	require.NoError(t, err)
	disk, err := os.ReadFile(o.disk.File)
	require.NoError(t, err)
	at := bytes.Index(disk, content[block*1024:][:1024]) // the file system's blocks
	require.Positive(t, at)
	f, err := os.OpenFile(o.disk.File, os.O_WRONLY, 0)
	require.NoError(t, err)
	defer f.Close()
	_, err = f.WriteAt(bytes.Repeat([]byte("unseen "), 200)[:1024], int64(at))
	require.NoError(t, err)
}

// While a file system is written all the time, a verify pass finds what capture did not see, and nothing else; it is sent
// again, and said wherever one looks. What was proven outlives the agent.
func TestVerifyFindsWhatNobodySaw(t *testing.T) {
	o := newOne(t)
	o.server.InitializeDRS(t)
	o.start(t, "drs", "--verify-every", "2s")
	stop := o.count(t)
	harness.Eventually(t, 2*time.Minute, "all is proven", func() (bool, string) {
		s := o.status(t)
		if o.agent.Ended() {
			t.Fatalf("the agent ended: %v\n%s", o.agent.Err(), o.agent.Log())
		}
		return len(s.Disks) == 1 && s.Disks[0].VerifiedAt > 0 && s.Disks[0].Verified == smallDisk, fmt.Sprintf("%+v %+v", s.Disks, s.Verify)
	})
	before := o.status(t)
	require.Zero(t, before.Verify.Differed)
	require.Zero(t, before.Verify.Absent)

	o.spoil(t, "first", 100)
	harness.Eventually(t, 2*time.Minute, "the difference is found and sent again", func() (bool, string) {
		s := o.status(t)
		return s.Verify.Differed > 0 && s.Verify.Waiting == 0 && s.Epoch > before.Epoch && s.Phase == "continuous", fmt.Sprintf("%+v epoch %d %s", s.Verify, s.Epoch, s.Phase)
	})
	s := o.status(t)
	require.EqualValues(t, 4096, s.Verify.Differed)
	require.Zero(t, s.Verify.Absent)
	require.NotNil(t, s.Verify.Last)
	require.Equal(t, "verify", s.Reason)
	require.Contains(t, o.agent.Log(), "the journal differs from the disk")
	require.Contains(t, o.server.Log(), "earlier points may be wrong there")
	require.Contains(t, o.server.CLI(t, "agent", "status", "--state-dir", o.agent.StateDir), "FOUND 4 KiB that differed")
	metrics := o.server.CLI(t, "agent", "status", "--metrics", "--state-dir", o.agent.StateDir)
	require.Contains(t, metrics, `understudy_agent_verify_found_bytes_total{kind="differed"} 4096`)
	require.Contains(t, metrics, "understudy_agent_verify_oldest_proof_timestamp_seconds")
	stop()
	o.same(t)
	o.doubted(t)

	o.agent.Stop(t)
	var kept struct{ Version int }
	b, err := os.ReadFile(filepath.Join(o.agent.StateDir, "proofs.json"))
	require.NoError(t, err)
	require.NoError(t, json.Unmarshal(b, &kept))
	require.Equal(t, 1, kept.Version)
	o.agent.Args = []string{"--ring-mib", "16", "--verify-every", "168h"}
	o.agent.Start(t)
	o.continuous(t)
	harness.Eventually(t, time.Minute, "the proofs are taken over", func() (bool, string) {
		s := o.status(t)
		return s.PID != before.PID && s.Phase == "continuous" && len(s.Disks) == 1 && s.Disks[0].Verified == smallDisk && s.Verify.Compared == 0, fmt.Sprintf("%+v", s)
	})
}

// doubted sees that the finding reached whoever operates the server: by event, metric, and wherever an instant from before it is shown or read.
func (o *one) doubted(t *testing.T) {
	t.Helper()
	var told struct{ Detail map[string]string }
	harness.Eventually(t, time.Minute, "an event tells of it", func() (bool, string) {
		out := o.server.CLI(t, "events", "--json")
		for line := range strings.Lines(out) {
			if strings.Contains(line, "DRS Source Server Verify Finding") {
				require.NoError(t, json.Unmarshal([]byte(line), &told))
			}
		}
		return told.Detail != nil, out
	})
	require.Equal(t, "DIFFERED", told.Detail["state"])
	require.Equal(t, "4096", told.Detail["differed-bytes"])
	var p schema.Points
	require.NoError(t, json.Unmarshal([]byte(o.server.CLI(t, "points", o.id, "--json")), &p))
	require.Len(t, p.Doubts, 1)
	d := p.Doubts[0]
	require.EqualValues(t, 4096, d.Bytes)
	require.Equal(t, []schema.DoubtRange{{Device: o.disk.Device, Offset: d.Ranges[0].Offset, Bytes: 4096}}, d.Ranges)
	require.NotNil(t, d.Until)
	require.Equal(t, fmt.Sprint(d.Epoch), told.Detail["epoch"])
	require.Contains(t, o.server.CLI(t, "points", o.id), "\nin doubt: ")
	require.Contains(t, o.scrape(t, "/metrics"), `understudy_journal_doubtful_bytes{kind="differed",server="`+o.id+`"} 4096`)
	n := slices.IndexFunc(p.Windows, func(w schema.Window) bool { return w.Epoch >= d.Epoch })
	require.Positive(t, n)
	read := func(at time.Time) string {
		return o.server.CLI(t, "export", "--server", o.id, "--device", o.disk.Device, "--at", at.Format(time.RFC3339Nano), filepath.Join(t.TempDir(), "image"))
	}
	require.Contains(t, read(p.Windows[n-1].To), "up to 4.0 KiB of it may be wrong")
	require.NotContains(t, read(p.Windows[n].To), "may be wrong")
}
