package main

import (
	"encoding/json"
	"fmt"
	"math"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/understudy-dr/understudy/internal/fault"
)

// printJSON prints what a verb with --json answers.
func printJSON(v any) error {
	enc := json.NewEncoder(os.Stdout)
	enc.SetIndent("", "  ")
	return enc.Encode(v)
}

var units = []string{"B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB"}

// humanBytes has three digits that count.
func humanBytes(n int64) string {
	v, u := float64(n), 0
	for ; math.Abs(v) >= 1000 && u < len(units)-1; u++ {
		v /= 1024
	}
	if u == 0 || math.Abs(v) >= 99.5 {
		return fmt.Sprintf("%.0f %s", v, units[u])
	}
	return fmt.Sprintf("%.1f %s", v, units[u])
}

// parseBytes reads 500GiB, 1.5TiB, 2000 or 0.
func parseBytes(text string) (int64, error) {
	number := strings.TrimRight(text, "BKMGTPEi ")
	unit := strings.TrimSpace(text[len(number):])
	scale := 1.0
	if unit != "" {
		n := -1
		for i, name := range units {
			if unit == name {
				n = i
			}
		}
		if n < 0 {
			return 0, fault.New(fault.Invalid, "size", "%q has no known unit", text).WithHint("as 500GiB; KiB, MiB, GiB, TiB and PiB are known")
		}
		scale = math.Pow(1024, float64(n))
	}
	v, err := strconv.ParseFloat(strings.TrimSpace(number), 64)
	if err != nil || v < 0 || math.IsNaN(v) || v*scale >= math.MaxInt64 {
		return 0, fault.New(fault.Invalid, "size", "%q is no size", text).WithHint("as 500GiB")
	}
	return int64(v * scale), nil
}

// parseWindow reads a duration that may be in days.
func parseWindow(text string) (time.Duration, error) {
	if days, ok := strings.CutSuffix(text, "d"); ok {
		if n, err := strconv.ParseFloat(days, 64); err == nil && n >= 0 && n < 100000 {
			return time.Duration(n * float64(24*time.Hour)), nil
		}
	}
	d, err := time.ParseDuration(text)
	if err != nil || d < 0 {
		return 0, fault.New(fault.Invalid, "window", "%q is no length of time", text).WithHint("as 48h, 90m or 14d")
	}
	return d, nil
}

// humanSpan leaves out what is nothing: 48h, 1h30m, 14d.
func humanSpan(d time.Duration) string {
	const day = 24 * time.Hour
	if d >= 3*day && d%day == 0 {
		return fmt.Sprintf("%dd", d/day)
	}
	s := d.Round(time.Second).String()
	if strings.HasSuffix(s, "m0s") {
		s = strings.TrimSuffix(s, "0s")
	}
	if strings.HasSuffix(s, "h0m") {
		s = strings.TrimSuffix(s, "0m")
	}
	return s
}

// byteSize is a flag like 500GiB.
type byteSize int64

// UnmarshalText implements encoding.TextUnmarshaler.
func (b *byteSize) UnmarshalText(text []byte) error {
	n, err := parseBytes(string(text))
	*b = byteSize(n)
	return err
}

// span is a flag like 48h or 14d.
type span time.Duration

// UnmarshalText implements encoding.TextUnmarshaler.
func (s *span) UnmarshalText(text []byte) error {
	d, err := parseWindow(string(text))
	*s = span(d)
	return err
}

// ago says how long something is past, or that it never was.
func ago(t *time.Time) string {
	if t == nil {
		return "never"
	}
	d := time.Since(*t)
	switch {
	case d < time.Minute:
		return "just now"
	case d < 2*time.Hour:
		return fmt.Sprintf("%d minutes ago", d/time.Minute)
	case d < 48*time.Hour:
		return fmt.Sprintf("%d hours ago", d/time.Hour)
	}
	return fmt.Sprintf("%d days ago", d/(24*time.Hour))
}
