package schema

import (
	"encoding/json"
	"time"
)

// Query parameters of PathEvents.
const (
	ParamAfter  = "after"  // decimal: only events after this place; "now": none yet
	ParamServer = "server" // s-...: only of this source server
	ParamWait   = "wait"   // seconds to wait for an event when there is none, MaxWait at most
)

// MaxWait bounds ParamWait.
const MaxWait = 30 * time.Second

// Events answers PathEvents.
type Events struct {
	Events []Event `json:"events"`
	Next   int64   `json:"next"` // After of the next request
}

// Event is one thing that happened.
type Event struct {
	Seq   int64           `json:"seq"`
	Event json.RawMessage `json:"event"` // in EventBridge's form
}

// NewWebhook asks for a webhook.
type NewWebhook struct {
	URL    string `json:"url"`
	Binary bool   `json:"binary,omitempty"` // CloudEvents in binary instead of structured mode
}

// Webhooks answers PathWebhooks.
type Webhooks struct {
	Webhooks []Webhook `json:"webhooks"`
}

// Webhook is where an account's events are sent.
type Webhook struct {
	ID        string    `json:"id"`
	URL       string    `json:"url"`
	Binary    bool      `json:"binary"`
	CreatedAt time.Time `json:"createdAt"`
	Secret    string    `json:"secret,omitempty"` // what deliveries are signed with; told once, when it is made
	Pending   int       `json:"pending"`          // source servers with events that were not delivered yet
	Failures  int64     `json:"failures"`         // in a row, of the one that failed most
}
