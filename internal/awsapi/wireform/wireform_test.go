package wireform

import (
	"encoding/base64"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/understudy-dr/understudy/internal/fault"
	"github.com/understudy-dr/understudy/internal/state"
)

// The samples are captures of the real services.
func TestDuration(t *testing.T) {
	for want, d := range map[string]time.Duration{
		"P0D":                 0,
		"PT5M":                5 * time.Minute,
		"PT30S":               30 * time.Second,
		"PT9H":                9 * time.Hour,
		"P152D":               152 * 24 * time.Hour,
		"PT0.000001S":         time.Microsecond,
		"PT16H20M38.697305S":  16*time.Hour + 20*time.Minute + 38*time.Second + 697305*time.Microsecond,
		"P2DT1H32M12.136909S": 49*time.Hour + 32*time.Minute + 12*time.Second + 136909*time.Microsecond,
	} {
		require.Equal(t, want, Duration(d))
	}
	require.Equal(t, "P0D", Duration(-time.Hour))
	require.Equal(t, "P0D", Duration(time.Nanosecond))
}

func TestTimes(t *testing.T) {
	require.Nil(t, Time(time.Time{}))
	at := time.Date(2026, 1, 2, 3, 4, 5, 678_901_234, time.FixedZone("", 3600))
	require.Equal(t, "2026-01-02T02:04:05.678901Z", *Time(at))
	for _, s := range []string{"2026-01-02T02:04:05Z", "2026-01-02T02:04:05.000Z", "2026-01-02T02:04:05.000000+00:00"} {
		got, err := ParseTime("m", &s)
		require.NoError(t, err)
		require.Equal(t, time.Date(2026, 1, 2, 2, 4, 5, 0, time.UTC), got)
	}
	_, err := ParseTime("m", new("2026-02-30T00:00:00Z"))
	require.True(t, fault.Is(err, fault.Invalid))
}

func TestARN(t *testing.T) {
	n := Namer{Service: "drs", Region: "home-1", Account: "000000000001"}
	kind, id, err := n.Parse(*n.ARN(SourceServer, "s-1"))
	require.NoError(t, err)
	require.Equal(t, []string{SourceServer, "s-1"}, []string{kind, id})
	for _, arn := range []string{"", "arn:aws:drs:home-1:000000000001:", "arn:aws:drs:home-1:000000000001:x/", "arn:aws:drs:home-1:000000000001:x/y/z",
		"arn:aws:drs:home-1:000000000002:source-server/s-1"} {
		_, _, err := n.Parse(arn)
		require.True(t, fault.Is(err, fault.NotFound), arn)
	}
}

func TestPageTokens(t *testing.T) {
	p, err := Page("q", nil, nil)
	require.NoError(t, err)
	require.Equal(t, state.Page{Limit: 200}, p)
	p, err = Page("q", new(int32(1<<30)), new(""))
	require.NoError(t, err)
	require.Equal(t, state.MaxLimit, p.Limit)

	token, err := NextToken("q", "after \x00 this")
	require.NoError(t, err)
	p, err = Page("q", new(int32(7)), token)
	require.NoError(t, err)
	require.Equal(t, state.Page{After: "after \x00 this", Limit: 7}, p)
	_, err = Page("other", nil, token)
	require.True(t, fault.Is(err, fault.Invalid))
	for i := range *token { // one that was changed anywhere is none of ours
		for _, b := range []byte("AZaz09-_") {
			if changed := []byte(*token); changed[i] != b {
				changed[i] = b
				_, err = Page("q", nil, new(string(changed)))
				require.ErrorIs(t, err, ErrToken, "%s", changed)
			}
		}
	}
	elsewhere, err := NextToken("other", "after \x00 this")
	require.NoError(t, err)
	require.NotEqual(t, token, elsewhere)
	for _, text := range []string{"???", *token + "A", (*token)[1:], "e30", base64.RawURLEncoding.EncodeToString([]byte(`{"a":"after \u0000 this"}`))} {
		_, err = Page("q", nil, &text)
		require.ErrorIs(t, err, ErrToken, text)
	}
	none, err := NextToken("q", "")
	require.NoError(t, err)
	require.Nil(t, none)
}

func TestStepsAreAlwaysEleven(t *testing.T) {
	require.Len(t, Steps(state.Attempt{}), 11)
	steps := Steps(state.Attempt{Steps: []state.Step{{Name: state.StepPair, Status: state.Failed}, {Name: "ELSE", Status: state.Failed}}})
	require.Len(t, steps, 11)
	for _, s := range steps {
		want := state.NotStarted
		if s.Name == state.StepPair {
			want = state.Failed
		}
		require.Equal(t, want, s.Status)
	}
}
