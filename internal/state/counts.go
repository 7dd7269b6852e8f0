package state

import "context"

// ServerCounts are the numbers that quotas bound, which are kept with the records: reading them costs the same however many
// servers there are. Servers that are being deleted do not count.
type ServerCounts struct {
	Total    int64
	Archived int64
	// Replicating counts the servers whose replication is neither STOPPED nor DISCONNECTED.
	Replicating int64
}

// CountReader counts records. It is part of Reader.
type CountReader interface {
	CountServers(ctx context.Context, s Scope) (ServerCounts, error)
}
