// Package events tells others what happens to source servers, in EventBridge's words: it derives events from changes of the
// records, in the transaction of the change, and delivers them to webhooks. internal/app/serve puts Recorder around the state
// store and runs the Dispatcher; internal/operatorapi lists events and keeps the webhooks.
package events

import (
	"sync"
	"time"

	"github.com/understudy-dr/understudy/internal/state"
)

// Envelope is an event as EventBridge hands it out.
type Envelope struct {
	Version    string            `json:"version"`
	ID         string            `json:"id"`
	DetailType string            `json:"detail-type"`
	Source     string            `json:"source"`
	Account    string            `json:"account"`
	Time       string            `json:"time"`
	Region     string            `json:"region"`
	Resources  []string          `json:"resources"`
	Detail     map[string]string `json:"detail"`
}

// EnvelopeOf is an event in EventBridge's form.
func EnvelopeOf(e state.Event) Envelope {
	return Envelope{Version: "0", ID: e.ID, DetailType: e.DetailType, Source: e.Source, Account: e.Account,
		Time: e.At.UTC().Format("2006-01-02T15:04:05Z"), Region: e.Region, Resources: e.Resources, Detail: e.Detail}
}

// Retention is how long events can be listed.
const Retention = 7 * 24 * time.Hour

// The kinds of events. The first word of a detail type is the service's.
const (
	launchResult     = "Source Server Launch Result"
	lifecycleChange  = "Source Server Lifecycle State Change"
	stalledChange    = "Source Server Data Replication Stalled Change"
	failbackChange   = "Recovery Instance Failback State Change"
	pitSnapshotTaken = "PIT Snapshot Taken"
	verifyFinding    = "Source Server Verify Finding" // not AWS's
)

// broadcast wakes everybody who waits for a change.
type broadcast struct {
	mu sync.Mutex
	ch chan struct{}
}

// wait returns a channel that the next change closes.
func (b *broadcast) wait() <-chan struct{} {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.ch == nil {
		b.ch = make(chan struct{})
	}
	return b.ch
}

func (b *broadcast) wake() {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.ch != nil {
		close(b.ch)
		b.ch = nil
	}
}
