package events

import (
	"context"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/google/uuid"

	"github.com/understudy-dr/understudy/internal/fault"
	"github.com/understudy-dr/understudy/internal/state"
)

// Recorder is a state store whose updates leave events behind: whoever changes a record causes the events of that change, in the
// same transaction, and cannot forget them.
type Recorder struct {
	state.Store
	region  string
	changed broadcast
}

// NewRecorder puts a recorder around store.
func NewRecorder(store state.Store, region string) *Recorder {
	return &Recorder{Store: store, region: region}
}

// Update runs fn in one transaction, and the events that its changes cause.
func (r *Recorder) Update(ctx context.Context, fn func(state.Tx) error) error {
	var t *recording
	err := r.Store.Update(ctx, func(tx state.Tx) error {
		t = &recording{Tx: tx, region: r.region}
		return fn(t)
	})
	if err == nil && t.recorded {
		r.changed.wake()
	}
	return err
}

// Changed returns a channel that is closed when an event was recorded after the call, by this process.
func (r *Recorder) Changed() <-chan struct{} { return r.changed.wait() }

// List shows an account's events in order.
func (r *Recorder) List(ctx context.Context, account string, f state.EventFilter) (out []state.Event, err error) {
	err = r.View(ctx, func(tx state.Reader) error {
		out, err = tx.Events(ctx, account, f)
		return err
	})
	return out, fault.Wrap("events: list", err)
}

// Last is the place after all events of now.
func (r *Recorder) Last(ctx context.Context) (seq int64, err error) {
	err = r.View(ctx, func(tx state.Reader) error {
		seq, err = tx.LastEvent(ctx)
		return err
	})
	return seq, fault.Wrap("events: last", err)
}

// recording is a transaction that derives events.
type recording struct {
	state.Tx
	region   string
	recorded bool
}

// happening is what makes one event different from another.
type happening struct {
	scope    state.Scope
	kind     string
	server   string
	resource string // kind/id; empty is the server
	detail   map[string]string
}

func (t *recording) record(ctx context.Context, h happening) error {
	service := string(h.scope.Service)
	if h.resource == "" {
		h.resource = "source-server/" + h.server
	}
	_, err := t.AddEvent(ctx, state.Event{
		ID: uuid.NewString(), Account: h.scope.Account, Region: t.region, Source: "aws." + service,
		DetailType: strings.ToUpper(service) + " " + h.kind, Subject: h.server,
		Resources: []string{"arn:aws:" + service + ":" + t.region + ":" + h.scope.Account + ":" + h.resource},
		Detail:    h.detail, At: time.Now().UTC(),
	})
	t.recorded = true
	return fault.Wrap("events: record", err)
}

// toldStalled marks a server whose stall was told and whose end was not.
const toldStalled = "stalled"

// PutReplication tells of a stall once when it begins and once when it is over. An attempt to get out of it is not its end:
// INITIATING tells nothing. What a verify pass found is told once, too.
func (t *recording) PutReplication(ctx context.Context, v state.Replication) error {
	if err := t.found(ctx, v); err != nil {
		return err
	}
	if err := t.Tx.PutReplication(ctx, v); err != nil || v.State == state.Initiating {
		return err
	}
	now, change := "NOT_STALLED", t.Forget
	if v.State == state.Stalled {
		now, change = "STALLED", t.FirstTime
	}
	tell, err := change(ctx, v.ServerID, toldStalled)
	if err != nil || !tell {
		return err
	}
	return t.record(ctx, happening{scope: v.Scope, kind: stalledChange, server: v.ServerID, detail: map[string]string{"state": now}})
}

// found tells of a finding that the record does not have yet.
func (t *recording) found(ctx context.Context, v state.Replication) error {
	f := v.Finding
	if f == nil {
		return nil
	}
	before, err := was(t.Tx.Replication(ctx, v.ServerID))
	if err != nil || before != nil && f.Same(before.Finding) {
		return err
	}
	detail := map[string]string{"state": "DIFFERED", "epoch": strconv.FormatUint(f.Epoch, 10), "since": "",
		"differed-bytes": strconv.FormatUint(f.Bytes-f.Absent, 10), "absent-bytes": strconv.FormatUint(f.Absent, 10)}
	if f.Bytes == f.Absent {
		detail["state"] = "ABSENT"
	}
	if !f.Since.IsZero() {
		detail["since"] = f.Since.UTC().Format(time.RFC3339)
	}
	return t.record(ctx, happening{scope: v.Scope, kind: verifyFinding, server: v.ServerID, detail: detail})
}

// was makes a record that does not exist nil.
func was[T any](v T, err error) (*T, error) {
	if fault.Is(err, fault.NotFound) {
		return nil, nil
	}
	return &v, err
}

// PutServer tells when an MGN server becomes READY_FOR_TEST for the first time.
func (t *recording) PutServer(ctx context.Context, v state.Server) error {
	if err := t.Tx.PutServer(ctx, v); err != nil || v.LifeCycle.State != state.ReadyForTest || v.Scope.Service != state.MGN {
		return err
	}
	first, err := t.FirstTime(ctx, v.ID, string(state.ReadyForTest))
	if err != nil || !first {
		return err
	}
	return t.record(ctx, happening{scope: v.Scope, kind: lifecycleChange, server: v.ID, detail: map[string]string{"state": string(state.ReadyForTest)}})
}

// PutPoint tells of every new recovery point of DRS. There are no EBS snapshots behind one.
func (t *recording) PutPoint(ctx context.Context, p state.Point) error {
	if p.Scope.Service != state.DRS {
		return t.Tx.PutPoint(ctx, p)
	}
	before, err := was(t.Tx.Point(ctx, p.Scope, p.ID))
	if err != nil {
		return err
	}
	if err := t.Tx.PutPoint(ctx, p); err != nil || before != nil {
		return err
	}
	return t.record(ctx, happening{scope: p.Scope, kind: pitSnapshotTaken, server: p.ServerID,
		detail: map[string]string{"DrsSnapshotID": p.ID, "EbsSnapshotIDs": ""}})
}

// launches are the jobs whose results are told, with the word for what was launched.
var launches = map[state.JobInitiator]string{
	state.ByStartTest: "TEST", state.ByStartCutover: "CUTOVER", state.ByStartRecovery: "RECOVERY", state.ByStartDrill: "RECOVERY",
}

// PutJob tells how a launch ended, server by server.
func (t *recording) PutJob(ctx context.Context, j state.Job) error {
	word, told := launches[j.InitiatedBy]
	if !told || j.Type != state.JobLaunch {
		return t.Tx.PutJob(ctx, j)
	}
	before, err := was(t.Tx.Job(ctx, j.Scope, j.ID))
	if err != nil {
		return err
	}
	if err := t.Tx.PutJob(ctx, j); err != nil {
		return err
	}
	for _, p := range j.Participants {
		result, ended := results[p.Status]
		if !ended || p.ServerID == "" || before != nil && slices.ContainsFunc(before.Participants, func(b state.Participant) bool {
			return b.ServerID == p.ServerID && b.Status == p.Status
		}) {
			continue
		}
		detail := map[string]string{"state": word + result, "job-id": j.ID}
		if j.Scope.Service == state.DRS {
			detail["is-drill"] = strings.ToUpper(boolText(j.InitiatedBy == state.ByStartDrill))
		}
		if err := t.record(ctx, happening{scope: j.Scope, kind: launchResult, server: p.ServerID, detail: detail}); err != nil {
			return err
		}
	}
	return nil
}

var results = map[state.LaunchStatus]string{state.Launched: "_LAUNCH_SUCCEEDED", state.LaunchFailed: "_LAUNCH_FAILED"}

func boolText(b bool) string {
	if b {
		return "true"
	}
	return "false"
}

// failbacks are the failback states that are told.
var failbacks = []state.FailbackState{state.FailbackInProgress, state.FailbackCompleted, state.FailbackError}

// PutRecoveryInstance tells how a failback goes.
func (t *recording) PutRecoveryInstance(ctx context.Context, v state.RecoveryInstance) error {
	before, err := was(t.Tx.RecoveryInstance(ctx, v.Scope, v.ID))
	if err != nil {
		return err
	}
	if err := t.Tx.PutRecoveryInstance(ctx, v); err != nil {
		return err
	}
	if before != nil && before.Failback.State == v.Failback.State || !slices.Contains(failbacks, v.Failback.State) {
		return nil
	}
	return t.record(ctx, happening{scope: v.Scope, kind: failbackChange, server: v.ServerID, resource: "recovery-instance/" + v.ID,
		detail: map[string]string{"state": string(v.Failback.State)}})
}
