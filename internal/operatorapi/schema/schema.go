// Package schema is what Understudy's own operations say on the wire: those that AWS's two APIs have no word for, because
// there a recovery point is one in ten minutes and a disk cannot be read back. internal/operatorapi serves them and
// internal/app/operator calls them; nobody else needs it.
//
// Requests are signed as for the AWS services, with the service name Service. Bodies are JSON.
package schema

import "time"

// Service is the signing name of Understudy's own operations.
const Service = "understudy"

// Paths, relative to the endpoint. {server} is a source server's id.
const (
	PathPoints       = "/understudy/v1/servers/{server}/points"                    // GET: Points; POST: PointRequest
	PathPointRequest = "/understudy/v1/servers/{server}/points/requests/{request}" // GET: PointRequest
	PathResolve      = "/understudy/v1/servers/{server}/resolve"                   // GET with a choice: Resolved
	PathVolume       = "/understudy/v1/servers/{server}/volume"                    // GET with a choice and a device, Upgrade: nbd

	PathEvents   = "/understudy/v1/events"             // GET: Events
	PathWebhooks = "/understudy/v1/webhooks"           // GET: Webhooks; POST NewWebhook: Webhook with its secret
	PathWebhook  = "/understudy/v1/webhooks/{webhook}" // DELETE
)

// Query parameters of a choice (exactly one) and of a volume.
const (
	ParamAt       = "at"       // RFC 3339 with fraction
	ParamPoint    = "point"    // pit-...
	ParamPosition = "position" // decimal
	ParamLatest   = "latest"   // "true"
	ParamDevice   = "device"   // /dev/...
)

// UpgradeNBD is the protocol a volume's connection is upgraded to: NBD fixed newstyle, one export named "".
const UpgradeNBD = "nbd"

// Points answers PathPoints.
type Points struct {
	Server  string    `json:"server"`
	Service string    `json:"service"` // drs or mgn
	Disks   []Disk    `json:"disks"`
	Open    bool      `json:"open"`    // the server has a journal of it open; without one nothing can be told
	Windows []Window  `json:"windows"` // every instant in them is recoverable, oldest first
	Points  []Point   `json:"points"`  // kept recovery points, oldest first
	Doubts  []Doubt   `json:"doubts,omitempty"`
	Latest  *Resolved `json:"latest,omitempty"`
}

// Disk of a source server.
type Disk struct {
	Device string `json:"device"`
	Bytes  uint64 `json:"bytes"`
}

// Window is a stretch without a gap: every position in it is crash consistent over all disks.
type Window struct {
	Epoch        uint64    `json:"epoch"`
	From         time.Time `json:"from"`
	To           time.Time `json:"to"`
	FromPosition uint64    `json:"fromPosition"`
	ToPosition   uint64    `json:"toPosition"`
}

// Point is a kept recovery point, the API's recovery snapshot.
type Point struct {
	ID       string    `json:"id"`
	Time     time.Time `json:"time"`
	Position uint64    `json:"position"`
	// Consistency is "crash" or "application": then file systems were frozen, and applications had been told.
	Consistency string `json:"consistency"`
	// Doubts are the epochs of the doubts that it may suffer from.
	Doubts []uint64 `json:"doubts,omitempty"`
}

// PointRequest asks an agent for an application-consistent point. It is open until Point or Error is there.
type PointRequest struct {
	ID      string    `json:"id"`
	Server  string    `json:"server"`
	AskedAt time.Time `json:"askedAt"`
	Until   time.Time `json:"until"` // nobody waits longer
	Point   string    `json:"point,omitempty"`
	Error   string    `json:"error,omitempty"`
}

// Resolved is a choice made exact.
type Resolved struct {
	Position uint64    `json:"position"`
	Time     time.Time `json:"time"`
	Disks    []Disk    `json:"disks,omitempty"`
	Doubts   []Doubt   `json:"doubts,omitempty"` // that it may suffer from
}

// Error is the body of every answer that is not a success.
type Error struct {
	Kind    string `json:"kind"`    // fault.Kind by name
	Message string `json:"message"` // with what to do next
}
