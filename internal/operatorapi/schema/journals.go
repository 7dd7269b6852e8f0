package schema

import "time"

// Paths of what concerns journals: what they take, how long they keep, whether they are intact.
const (
	PathUsage    = "/understudy/v1/usage"                           // GET: Usage, of all of the account's source servers
	PathJournal  = "/understudy/v1/servers/{server}/journal"        // GET: Journal; POST JournalChange: Journal
	PathScrub    = "/understudy/v1/servers/{server}/scrub"          // POST: Journal; reads everything again
	PathPins     = "/understudy/v1/pins"                            // GET: Pins
	PathHold     = "/understudy/v1/servers/{server}/pins"           // POST with a choice: Pin, kept until it is released
	PathPin      = "/understudy/v1/pins/{pin}"                      // DELETE, of one that was held
	PathPointOne = "/understudy/v1/servers/{server}/points/{point}" // DELETE
	PathKeys     = "/understudy/v1/keys"                            // GET: Keys; POST: Rotation
	PathKey      = "/understudy/v1/keys/{key}"                      // DELETE
)

// ParamNote says why a state is held.
const ParamNote = "note"

// Usage answers PathUsage.
type Usage struct {
	Room    Room      `json:"room"`
	Servers []Journal `json:"servers"` // those whose journals are open
}

// Room of the file system that journals are in.
type Room struct {
	Dir          string `json:"dir"`
	FreeBytes    int64  `json:"freeBytes"`
	TotalBytes   int64  `json:"totalBytes"`
	SlowBytes    int64  `json:"slowBytes"`    // agents are slowed down with less free than this
	ReserveBytes int64  `json:"reserveBytes"` // and refused with less than this
}

// Journal of one source server.
type Journal struct {
	Server  string `json:"server"`
	Name    string `json:"name,omitempty"` // its host name
	Service string `json:"service"`        // drs or mgn
	Open    bool   `json:"open"`           // without it only the settings are told

	WindowSeconds int64 `json:"windowSeconds"` // every second of it is recoverable
	OwnWindow     bool  `json:"ownWindow"`     // it is this server's own, not the default
	QuotaBytes    int64 `json:"quotaBytes"`    // 0: no limit

	StoredBytes      int64      `json:"storedBytes"`      // all files
	UnflushedBytes   int64      `json:"unflushedBytes"`   // of these: not put away yet
	ReclaimableBytes int64      `json:"reclaimableBytes"` // of the stored: not needed any more, about
	UniqueBytes      int64      `json:"uniqueBytes"`      // before compression, every kept version of every block once
	DiskBytes        int64      `json:"diskBytes"`        // sizes of the disks
	Segments         int        `json:"segments"`
	Layers           int        `json:"layers"`
	Runs             int        `json:"runs"`
	KeptPoints       int        `json:"keptPoints"`               // older than the window
	OldestRetained   *time.Time `json:"oldestRetained,omitempty"` // every second from here on is kept; absent: all there is

	Pressure     string     `json:"pressure"` // relaxed, slow or full: how far putting away is behind
	Trouble      string     `json:"trouble,omitempty"`
	TroubleSince *time.Time `json:"troubleSince,omitempty"`

	Scrub  Scrub    `json:"scrub"`
	Damage []Damage `json:"damage"`
}

// Scrub is how far reading everything again is.
type Scrub struct {
	DoneBytes  int64      `json:"doneBytes"`
	TotalBytes int64      `json:"totalBytes"`
	Began      *time.Time `json:"began,omitempty"`    // the pass that is under way; absent between two
	LastFull   *time.Time `json:"lastFull,omitempty"` // everything was read and was good or is listed as damaged; absent: never yet
	AskedAt    *time.Time `json:"askedAt,omitempty"`  // a pass at full speed was asked for and is not done
}

// Damage is a stretch of a disk whose content, as one write left it, is lost.
type Damage struct {
	Device   string     `json:"device"`
	Offset   int64      `json:"offset"`
	Bytes    int64      `json:"bytes"` // 0: a whole file cannot be read
	Position uint64     `json:"position"`
	Written  *time.Time `json:"written,omitempty"`
	File     string     `json:"file"`
	FoundAt  time.Time  `json:"foundAt"`

	HistoryEnds bool `json:"historyEnds,omitempty"` // every state from written on is gone, until the source had been read again
}

// JournalChange changes what is not nil.
type JournalChange struct {
	WindowSeconds *int64 `json:"windowSeconds,omitempty"` // negative: the default again
	QuotaBytes    *int64 `json:"quotaBytes,omitempty"`    // 0: no limit
}

// Pins answers PathPins.
type Pins struct {
	Pins []Pin `json:"pins"`
}

// Pin keeps a state that somebody uses.
type Pin struct {
	ID        string    `json:"id"`
	Server    string    `json:"server"`
	Point     string    `json:"point,omitempty"`
	Time      time.Time `json:"time"`
	Position  uint64    `json:"position"`
	Owner     string    `json:"owner"`
	Purpose   string    `json:"purpose"` // launch, export or hold
	CreatedAt time.Time `json:"createdAt"`
}

// Keys answers GET PathKeys.
type Keys struct {
	Keys []Key `json:"keys"` // oldest first
}

// Key wraps the data keys of journals.
type Key struct {
	ID       string    `json:"id"`
	Created  time.Time `json:"created"`
	Current  bool      `json:"current"`
	Journals int       `json:"journals"` // whose data key it wraps
}

// Rotation answers POST PathKeys.
type Rotation struct {
	Key     string `json:"key"`
	Wrapped int    `json:"wrapped"` // data keys that were wrapped anew
	Later   int    `json:"later"`   // journals that are not open; theirs is when they are
}
