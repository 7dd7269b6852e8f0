package quotas

import (
	"strings"

	"github.com/understudy-dr/understudy/internal/state"
)

// WireCode is the code that clients know of a quota that a service says is full; "" where AWS does not
// publish one.
func WireCode(s state.Service, what string) string {
	prefix := strings.ToUpper(string(s)) + ": "
	for _, q := range Table {
		if q.Means == prefix+what && strings.HasPrefix(string(q.Code), "L-") {
			return string(q.Code)
		}
	}
	return ""
}
