package state

import (
	"context"
	"time"
)

// Event is something that happened and that others want to hear of, in EventBridge's words.
type Event struct {
	Seq        int64  // given by the store: it grows by one per event of the installation
	ID         string // a UUID
	Account    string
	Region     string
	Source     string // as "aws.drs"
	DetailType string
	Subject    string // whose order counts: the source server's id
	Resources  []string
	Detail     map[string]string
	At         time.Time
}

// EventFilter narrows a list of events; a zero member does not.
type EventFilter struct {
	After   int64 // only events with a greater Seq
	Subject string
	Limit   int // as in Page
}

// Webhook is where an account's events are sent.
type Webhook struct {
	ID        string
	Account   string
	URL       string
	Binary    bool // CloudEvents in binary mode instead of structured
	CreatedAt time.Time
}

// Lane is what one webhook has still to be told of one subject. It exists while there is something.
type Lane struct {
	Webhook  string
	Subject  string
	After    int64 // the last event that was delivered, or given up
	Attempts int64 // failures of the next one
	NextAt   time.Time
}

// EventReader reads events. It is part of Reader.
type EventReader interface {
	// Events lists an account's events in order.
	Events(ctx context.Context, account string, f EventFilter) ([]Event, error)
	// LastEvent is the greatest Seq ever given; 0 before the first.
	LastEvent(ctx context.Context) (int64, error)
	Webhook(ctx context.Context, account, id string) (Webhook, error)
	// Webhooks lists an account's webhooks, oldest first; those of all accounts when account is empty.
	Webhooks(ctx context.Context, account string) ([]Webhook, error)
	// Lanes lists a webhook's lanes in the order of their NextAt.
	Lanes(ctx context.Context, webhook string, limit int) ([]Lane, error)
	Lane(ctx context.Context, webhook, subject string) (Lane, error)
}

// EventTx writes events. It is part of Tx.
type EventTx interface {
	// AddEvent appends an event, gives it its Seq, and opens a lane to every webhook of its account.
	AddEvent(ctx context.Context, e Event) (Event, error)
	// ExpireEvents removes events from before a time.
	ExpireEvents(ctx context.Context, before time.Time) error
	// FirstTime tells whether this is the first call for a server and a thing that happens to it.
	FirstTime(ctx context.Context, serverID, what string) (bool, error)
	// Forget makes the next call of FirstTime the first again, and tells whether there was one.
	Forget(ctx context.Context, serverID, what string) (bool, error)
	PutWebhook(ctx context.Context, w Webhook) error
	// DeleteWebhook removes a webhook with its lanes.
	DeleteWebhook(ctx context.Context, account, id string) error
	PutLane(ctx context.Context, l Lane) error
	DeleteLane(ctx context.Context, webhook, subject string) error
}
