package points

import (
	"time"

	"github.com/understudy-dr/understudy/internal/state"
)

// policy is when points are made and how long they are kept.
type policy struct {
	rules []state.PITRule
	// newest keeps this many points whatever their age.
	newest int
}

// interval is the finest grid any policy has; every policy's instants lie on it. It is what the APIs
// allow: MGN makes a point every ten minutes, and DRS accepts no finer rule.
const interval = 10 * time.Minute

// mgnKept is how many points MGN keeps of a server.
const mgnKept = 6

func policyOf(v state.Server) policy {
	if v.Scope.Service == state.MGN {
		return policy{rules: []state.PITRule{{ID: 1, Units: state.Minute, Interval: 10, Enabled: true}}, newest: mgnKept}
	}
	// However long a server is out of reach, its last point stays: it may be all there is.
	return policy{rules: v.Config.PITPolicy, newest: 1}
}

func every(r state.PITRule) time.Duration { return time.Duration(r.Interval) * r.Units.Duration() }

// bucket numbers the intervals of a rule since the Unix epoch, in UTC: days begin at midnight.
func bucket(r state.PITRule, t time.Time) int64 { return t.Unix() / int64(every(r)/time.Second) }

func usable(r state.PITRule) bool { return r.Enabled && every(r) >= time.Second }

// due reports whether a point is to be made at an instant.
func (p policy) due(t time.Time) bool {
	for _, r := range p.rules {
		if usable(r) && t.Equal(t.Truncate(time.Second)) && t.Unix()%int64(every(r)/time.Second) == 0 {
			return true
		}
	}
	return false
}

// expired picks the points that nothing keeps. What is application consistent does not compete with what is not. The
// points come in order of their expected time.
func (p policy) expired(points []state.Point, now time.Time) []state.Point {
	kinds := map[state.Consistency][]state.Point{}
	for _, pt := range points {
		kinds[pt.Consistency] = append(kinds[pt.Consistency], pt)
	}
	special := kinds[state.ApplicationConsistent]
	return append(p.expiredOf(kinds[state.CrashConsistent], 0, now), p.expiredOf(special, p.shortest(), now)...)
}

// shortest is how long the rule that forgets first keeps a point.
func (p policy) shortest() time.Duration {
	least := time.Duration(0)
	for _, r := range p.rules {
		if age := time.Duration(r.Retention) * r.Units.Duration(); usable(r) && (least == 0 || age < least) {
			least = age
		}
	}
	return least
}

// expiredOf is expired for points of one kind. All are kept for a time; after that a rule keeps, for as long as it says, the
// first point of each of its intervals.
func (p policy) expiredOf(points []state.Point, all time.Duration, now time.Time) []state.Point {
	keep := make([]bool, len(points))
	for i := max(0, len(points)-p.newest); i < len(points); i++ {
		keep[i] = true
	}
	for _, r := range p.rules {
		if !usable(r) {
			continue
		}
		age := time.Duration(r.Retention) * r.Units.Duration()
		for i, pt := range points {
			first := i == 0 || bucket(r, points[i-1].Expected) != bucket(r, pt.Expected)
			if first && now.Sub(pt.Expected) < age {
				keep[i] = true
			}
		}
	}
	var out []state.Point
	for i, pt := range points {
		if !keep[i] && now.Sub(pt.Expected) >= all {
			out = append(out, pt)
		}
	}
	return out
}
