package main

import (
	"math"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/understudy-dr/understudy/internal/fault"
	"github.com/understudy-dr/understudy/internal/operatorapi/schema"
)

func TestSizes(t *testing.T) {
	for text, want := range map[string]int64{"0": 0, "2000": 2000, "7 B": 7, "500GiB": 500 << 30, "1.5TiB": 3 << 39, "64 MiB": 64 << 20, "1KiB": 1024} {
		got, err := parseBytes(text)
		require.NoError(t, err, text)
		require.Equal(t, want, got, text)
	}
	for _, text := range []string{"", "GiB", "-1", "5GB", "5XiB", "NaN", "9EiB", "1e400", "5 5"} {
		_, err := parseBytes(text)
		require.Equal(t, fault.Invalid, fault.KindOf(err), "%q", text)
	}
	for n, want := range map[int64]string{0: "0 B", 999: "999 B", 1000: "1.0 KiB", 1536: "1.5 KiB", 100 << 10: "100 KiB", 1 << 40: "1.0 TiB", math.MaxInt64: "8.0 EiB", -2048: "-2.0 KiB"} {
		require.Equal(t, want, humanBytes(n))
	}
}

func TestSpans(t *testing.T) {
	for text, want := range map[string]time.Duration{"48h": 48 * time.Hour, "90m": 90 * time.Minute, "14d": 14 * 24 * time.Hour, "0.5d": 12 * time.Hour, "0": 0} {
		got, err := parseWindow(text)
		require.NoError(t, err, text)
		require.Equal(t, want, got, text)
	}
	for _, text := range []string{"", "d", "-1h", "-2d", "48", "two days", "1e9d"} {
		_, err := parseWindow(text)
		require.Equal(t, fault.Invalid, fault.KindOf(err), "%q", text)
	}
	for d, want := range map[time.Duration]string{48 * time.Hour: "48h", 90 * time.Minute: "1h30m", 14 * 24 * time.Hour: "14d", 0: "0s", 10 * time.Minute: "10m", 61 * time.Second: "1m1s"} {
		require.Equal(t, want, humanSpan(d))
	}
	now := time.Now()
	for age, want := range map[time.Duration]string{time.Second: "just now", 5 * time.Minute: "5 minutes ago", 3 * time.Hour: "3 hours ago", 100 * time.Hour: "4 days ago"} {
		at := now.Add(-age)
		require.Equal(t, want, ago(&at))
	}
	require.Equal(t, "never", ago(nil))
}

func TestPercent(t *testing.T) {
	var p percent
	require.NoError(t, p.UnmarshalText([]byte("5%")))
	require.InDelta(t, 0.05, float64(p), 1e-9)
	for _, text := range []string{"", "0", "101%", "-1", "x", "NaN"} {
		require.Error(t, p.UnmarshalText([]byte(text)), text)
	}
}

func TestCondition(t *testing.T) {
	good := schema.Journal{Open: true, Pressure: "relaxed"}
	require.Equal(t, "good", condition(good))
	require.Equal(t, "not open", condition(schema.Journal{}))
	bad := schema.Journal{Open: true, Pressure: "full", QuotaBytes: 5, StoredBytes: 6, Trouble: "x", Damage: make([]schema.Damage, 2)}
	require.Equal(t, "quota used up, damaged in 2 places, maintenance fails, maintenance is behind (full)", condition(bad))
}
