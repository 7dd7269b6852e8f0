// Package wireform holds how both services write values that no shape describes: times, durations, ARNs
// and page tokens. The handlers in awsapi/drsapi and awsapi/mgnapi use it.
package wireform

import (
	"fmt"
	"math"
	"strings"
	"time"

	"github.com/understudy-dr/understudy/api/rest"
	"github.com/understudy-dr/understudy/internal/fault"
)

// Time writes a time, nil when it is zero: absent members are left out.
func Time(t time.Time) *string {
	if t.IsZero() {
		return nil
	}
	return new(rest.FormatTime(t))
}

// ParseTime reads a time that a client gives: with or without fraction, in any zone. Nil is zero.
func ParseTime(member string, s *string) (time.Time, error) {
	if s == nil {
		return time.Time{}, nil
	}
	t, err := time.Parse(time.RFC3339Nano, *s)
	if err != nil {
		return time.Time{}, fault.New(fault.Invalid, "awsapi: read time", "%s: %q is no ISO 8601 date and time", member, *s)
	}
	return t.UTC(), nil
}

// Duration writes a duration as the real services do: P0D, PT9H, P2DT1H32M12.136909S.
func Duration(d time.Duration) string {
	const day = 24 * time.Hour
	d = max(d, 0).Truncate(time.Microsecond)
	if d == 0 {
		return "P0D"
	}
	var b strings.Builder
	b.WriteByte('P')
	part := func(unit time.Duration, letter string) {
		if n := d / unit; n > 0 {
			fmt.Fprintf(&b, "%d%s", n, letter)
		}
		d %= unit
	}
	part(day, "D")
	if d > 0 {
		b.WriteByte('T')
		part(time.Hour, "H")
		part(time.Minute, "M")
		switch seconds, micros := d/time.Second, d%time.Second/time.Microsecond; {
		case micros > 0:
			fmt.Fprintf(&b, "%d.%06dS", seconds, micros)
		case seconds > 0:
			fmt.Fprintf(&b, "%dS", seconds)
		}
	}
	return b.String()
}

// Text is s, nil when it is empty.
func Text[S ~string](s S) *string {
	if s == "" {
		return nil
	}
	return new(string(s))
}

// Number is n for an int64 member; what does not fit is cut to the largest.
func Number(n uint64) *int64 { return new(int64(min(n, math.MaxInt64))) }

// Present is a pointer to a list or map that the client sent, nil when it sent none.
func Present[T ~[]E, E any](v T) *T {
	if v == nil {
		return nil
	}
	return &v
}

// PresentMap is Present for maps.
func PresentMap[T ~map[K]V, K comparable, V any](v T) *T {
	if v == nil {
		return nil
	}
	return &v
}

// Some is a pointer to n, nil when it is zero.
func Some(n int64) *int64 {
	if n == 0 {
		return nil
	}
	return &n
}

// Value is what p points to, zero when it is nil.
func Value[T any](p *T) T {
	if p == nil {
		return *new(T)
	}
	return *p
}
