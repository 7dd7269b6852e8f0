package state

import "time"

// Consistency is what a recovery point promises.
type Consistency string

// The kinds of consistency.
const (
	CrashConsistent       Consistency = ""            // what a power cut would have left; every position is
	ApplicationConsistent Consistency = "application" // file systems were frozen, applications told
)

// PointRequest asks a server's agent for an application-consistent point, or tells what became of it. A server has one:
// the newest.
type PointRequest struct {
	ID       string
	Scope    Scope
	ServerID string
	AskedAt  time.Time
	Until    time.Time // nobody waits for it any longer
	PointID  string    // the point that was made
	Error    string    // why there is none
}

// Open tells whether somebody still waits for the point.
func (q PointRequest) Open(now time.Time) bool {
	return q.ID != "" && q.PointID == "" && q.Error == "" && now.Before(q.Until)
}
