package replication

import "time"

// Times and thresholds of replication. AWS documents few of its own; where it does, these are the same.
const (
	// AttemptWindow is how long one initiation attempt may take, and hence the time between two.
	AttemptWindow = 30 * time.Minute

	// HandshakeBusy and HandshakeIdle are how soon an agent shall ask again: often while something is
	// about to change, seldom while replication is CONTINUOUS, paused or off.
	HandshakeBusy = time.Second
	HandshakeIdle = 10 * time.Second

	// AgentLostAfter without a handshake an agent counts as not seen: three times the longest interval, and
	// at least a minute so that a restart of either side is no alarm.
	AgentLostAfter = max(3*HandshakeIdle, time.Minute)

	// ReconnectGrace is how long the data connection may be down, while the agent is seen, before the
	// path is initiated anew. Agents dial every 30 s at the latest.
	ReconnectGrace = time.Minute

	// What a step may take. The steps that act have stepLimit each; the ones that wait for the agent have
	// their own. All eleven together fit the attempt window.
	stepLimit     = time.Minute
	pairLimit     = 2 * time.Minute
	connectLimit  = 5 * time.Minute
	transferLimit = 10 * time.Minute

	// CONTINUOUS becomes BACKLOG above the upper bounds and returns below the lower ones.
	lagUpper     = 15 * time.Second
	lagLower     = 5 * time.Second
	backlogUpper = 64 << 20
	backlogLower = 8 << 20

	// HealthyLag: a smaller lag of a CONTINUOUS server is told as zero. Agents mark the time about once a
	// second, so that much is always measured.
	HealthyLag = 2 * time.Second

	// clockSlack: a difference between the agent's clock and ours that the network may have made is
	// taken for none.
	clockSlack = time.Second

	// snapshotRetry is how long a server stays STALLED after a recovery point could not be made. One that had no room
	// goes on as soon as there is some.
	snapshotRetry = time.Minute

	// A network is UNSTABLE_NETWORK when data connections break unstableCuts times within unstableWindow, until one has
	// held for unstableQuiet.
	unstableCuts   = 5
	unstableWindow = 10 * time.Minute
	unstableQuiet  = 2 * time.Minute

	// A server is NOT_CONVERGING when it is divergeLag behind and that has not got less for divergeAfter, or when its
	// copy began anew divergeRestarts times within restartWindow, or divergeOften times over divergeAfter at least, and never
	// was complete. While writes outrun the link an agent keeps to one epoch for minutes, or as long as one round takes, so
	// few restarts say much; fewer than that may be a server that rebooted while it was copied.
	divergeLag      = 5 * time.Minute
	divergeAfter    = 30 * time.Minute
	divergeOften    = 3
	divergeRestarts = 10
	restartWindow   = time.Hour

	// checkpointEvery is how often measured progress is stored when nothing else changes.
	checkpointEvery = 5 * time.Minute

	// pollEvery is how often the world is looked at while a step waits for it, idlePoll while a server is
	// stalled or paused, teardownRetry how often what could not be cleaned up or attached is tried again.
	pollEvery     = 500 * time.Millisecond
	idlePoll      = 5 * time.Second
	teardownRetry = 30 * time.Second

	// rateWindow is what rates, and so times of arrival, are measured over.
	rateWindow = time.Minute
)
