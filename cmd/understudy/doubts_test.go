package main

import (
	"bytes"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/understudy-dr/understudy/internal/operatorapi/schema"
)

func TestPointsShowDoubts(t *testing.T) {
	since := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	until := since.Add(time.Hour)
	p := schema.Points{Server: "s-1", Service: "drs", Open: true, Windows: []schema.Window{{Epoch: 1, From: since, To: until}},
		Points: []schema.Point{{ID: "pit-1", Time: since, Consistency: "crash"}, {ID: "pit-2", Time: until, Consistency: "crash", Doubts: []uint64{2, 7}}}}
	print := func() string {
		var out bytes.Buffer
		require.NoError(t, printPoints(&out, p))
		return out.String()
	}
	require.NotContains(t, print(), "differed")
	p.Doubts = []schema.Doubt{
		{Epoch: 2, Until: &until, Bytes: 12288, AbsentBytes: 4096, Ranges: []schema.DoubtRange{{Device: "/dev/sda", Offset: 4096, Bytes: 8192}, {Device: "/dev/sdb", Bytes: 4096}}},
		{Epoch: 7, Since: &since, Bytes: 1 << 20, Ranges: make([]schema.DoubtRange, shownRanges+3)},
		{Epoch: 9, Bytes: 1 << 20, More: true},
	}
	text := print()
	require.Regexp(t, `pit-1 .*crash +no\n`, text)
	require.Regexp(t, `pit-2 .*crash +2 7\n`, text)
	require.Regexp(t, `\n2 +the beginning +2026-01-02T04:04:05.000Z +8.0 KiB +4.0 KiB +/dev/sda +4096-12288\n +/dev/sdb +0-4096\n`, text)
	require.Regexp(t, `\n7 +2026-01-02T03:04:05.000Z +is being sent +`, text)
	require.Contains(t, text, "and 3 more; --json shows all\n")
	require.Contains(t, text, "and more than were remembered\n")
}
