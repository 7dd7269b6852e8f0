package e2e

import (
	"encoding/json"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/drs"
	drstypes "github.com/aws/aws-sdk-go-v2/service/drs/types"
	"github.com/stretchr/testify/require"

	"github.com/understudy-dr/understudy/e2e/harness"
	"github.com/understudy-dr/understudy/internal/operatorapi/schema"
)

func (o *one) looked(t *testing.T, into any, args ...string) {
	t.Helper()
	require.NoError(t, json.Unmarshal([]byte(o.server.CLI(t, append(args, "--json")...)), into))
}

func (o *one) usage(t *testing.T) (j schema.Journal) {
	t.Helper()
	o.looked(t, &j, "usage", o.id)
	return j
}

func (o *one) scrape(t *testing.T, path string) string {
	t.Helper()
	resp, err := http.Get("http://" + o.server.Metrics + path)
	require.NoError(t, err)
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	require.NoError(t, err)
	require.Equal(t, http.StatusOK, resp.StatusCode, "%s", b)
	return string(b)
}

// An operator looks after a journal: what it takes, what it keeps, who uses it, whether it is intact, its keys.
func TestJournalIsLookedAfter(t *testing.T) {
	t.Parallel()
	o := newOne(t, "--journal-window", "3h")
	o.server.InitializeDRS(t)
	o.start(t, "drs")
	o.continuous(t)

	out := o.server.CLI(t, "usage")
	require.Contains(t, out, o.id)
	require.Contains(t, out, "good")
	require.Contains(t, out, "free of")
	require.Contains(t, o.server.CLI(t, "usage", o.id), "3h (default)")
	j := o.usage(t)
	require.True(t, j.Open)
	require.Positive(t, j.StoredBytes)
	require.EqualValues(t, smallDisk, j.DiskBytes)
	require.EqualValues(t, 3*3600, j.WindowSeconds)
	require.Contains(t, o.server.CLI(t, "window", "set", o.id, "2d"), "48h")
	require.True(t, o.usage(t).OwnWindow)
	require.Contains(t, o.server.CLI(t, "window", "set", o.id, "default"), "3h (default)")

	o.full(t)
	o.held(t)
	o.scrubbed(t)
	o.rekeyed(t)

	text := o.scrape(t, "/metrics")
	require.Contains(t, text, `understudy_replication_state{server="`+o.id+`",state="CONTINUOUS"} 1`)
	require.Contains(t, text, `aws_drs_lag_duration_maximum{source_server_id="`+o.id+`"}`)
	require.Contains(t, text, `understudy_journal_stored_bytes{server="`+o.id+`"}`)
	require.Contains(t, text, "understudy_ingest_sync_seconds_count")
	require.Equal(t, "ok\n", o.scrape(t, "/healthz"))
	o.same(t)
}

// full runs into the server's quota and out again.
func (o *one) full(t *testing.T) {
	o.server.CLI(t, "quota", "set", o.id, "1MiB")
	o.write(t, "more than the quota", 4<<20)
	code, raw := o.stalled(t, time.Minute)
	require.Equal(t, drstypes.DataReplicationErrorStringSnapshotsFailure, code)
	require.Contains(t, raw, "quota")
	require.Contains(t, o.server.CLI(t, "usage", o.id), "quota used up")
	o.server.CLI(t, "quota", "set", o.id, "none")
	o.server.WaitState(t, o.id, drstypes.DataReplicationStateContinuous, time.Minute)
}

// held keeps a state, which keeps the journal from being deleted.
func (o *one) held(t *testing.T) {
	require.Contains(t, o.server.CLI(t, "pins"), "nothing is in use")
	point := o.points(t).Points[0].ID
	require.Contains(t, o.server.CLI(t, "pins", "hold", o.id, "--point", point, "--note", "incident"), "pin-")
	var pins schema.Pins
	o.looked(t, &pins, "pins")
	require.Len(t, pins.Pins, 1)
	p := pins.Pins[0]
	require.Equal(t, "hold", p.Purpose)
	require.True(t, strings.HasPrefix(p.Owner, "incident-"))
	require.Equal(t, point, p.Point)
	code, message := refusal(t, o.server, "points", o.id, "--delete", point)
	require.Equal(t, 4, code)
	require.Contains(t, message, p.Owner)
	_, err := o.server.DRS(t).StopReplication(t.Context(), &drs.StopReplicationInput{SourceServerID: &o.id})
	var conflict *drstypes.ConflictException
	require.ErrorAs(t, err, &conflict)
	require.Contains(t, conflict.ErrorMessage(), "in use")
	require.Contains(t, o.server.CLI(t, "pins", "release", p.ID), "released")
	code, message = refusal(t, o.server, "pins", "release", p.ID)
	require.Equal(t, 3, code)
	require.Contains(t, message, "no pin")
	require.Contains(t, o.server.CLI(t, "points", o.id, "--delete", point), "is gone")
}

func (o *one) scrubbed(t *testing.T) {
	require.Contains(t, o.server.CLI(t, "scrub", "start", o.id), "reading")
	harness.Eventually(t, time.Minute, "the scrub ends", func() (bool, string) {
		j := o.usage(t)
		return j.Scrub.AskedAt == nil && j.Scrub.LastFull != nil && j.Layers > 0 && len(j.Damage) == 0, ""
	})
	require.Contains(t, o.server.CLI(t, "scrub", "status"), "none")
}

// rekeyed rotates the wrapping key, takes the old one away, and kills the server.
func (o *one) rekeyed(t *testing.T) {
	var keys schema.Keys
	o.looked(t, &keys, "key", "list")
	require.Len(t, keys.Keys, 1)
	old := keys.Keys[0].ID
	code, _ := refusal(t, o.server, "key", "retire", old)
	require.Equal(t, 4, code)
	require.Contains(t, o.server.CLI(t, "key", "rotate"), "back the key file up")
	require.Contains(t, o.server.CLI(t, "key", "list"), "not needed here")
	o.server.CLI(t, "key", "retire", old)
	o.server.Kill()
	o.server.Start(t)
	o.server.WaitState(t, o.id, drstypes.DataReplicationStateContinuous, 2*time.Minute)
	require.True(t, o.usage(t).Open)
}
