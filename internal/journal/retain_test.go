package journal

import (
	"slices"
	"testing"

	"github.com/stretchr/testify/require"
)

// Searching says the same as looking at each.
func TestRetainableIsWhatALookAtEachSays(t *testing.T) {
	rng := newRand(seeds(t, 1)[0])
	point := func() Point { return Point{Epoch: 1 + rng.Uint64N(6), Position: rng.Uint64N(60)} }
	yes := 0
	for range 300 {
		r := retained{From: point().version()}
		for range rng.IntN(20) {
			if p := point(); p.version().Less(r.From) {
				r.Points = append(r.Points, p)
			}
		}
		slices.SortFunc(r.Points, func(a, b Point) int { return a.version().Compare(b.version()) })
		var reaches []reach
		for number := uint64(1); number < 7; number++ {
			if from := rng.Uint64N(50); rng.IntN(2) == 0 {
				reaches = append(reaches, reach{number: number, from: from, to: from + rng.Uint64N(20)})
			}
		}
		for range 50 {
			p := point()
			kept := slices.ContainsFunc(r.Points, func(k Point) bool { return k.version() == p.version() })
			reached := slices.ContainsFunc(reaches, func(e reach) bool {
				return e.number == p.Epoch && p.Position >= e.from && p.Position <= e.to
			})
			require.Equal(t, kept || !p.version().Less(r.From), r.holds(p.version()), "%+v of %+v", p, r)
			require.Equal(t, kept || reached, r.retainable(reaches, p), "%+v of %+v, %+v", p, r, reaches)
			if kept || reached {
				yes++
			}
		}
	}
	require.Greater(t, yes, 1000)
}
