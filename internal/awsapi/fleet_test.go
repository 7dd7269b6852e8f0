package awsapi_test

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"sync"
	"time"

	"github.com/understudy-dr/understudy/internal/control"
	"github.com/understudy-dr/understudy/internal/fault"
	"github.com/understudy-dr/understudy/internal/state"
)

// fleet stands in for the packages that keep and replicate servers: what the edge needs of them to show
// that it maps requests, answers and refusals right. Their own rules are tested where they live.
type fleet struct {
	mu      sync.Mutex
	servers map[string]*state.Server
	infos   map[string]*control.ReplicationInfo
	points  []state.Point
	quota   bool  // Start refuses for a quota
	broken  error // what Describe answers
	explode bool  // Get panics
}

func newFleet() *fleet {
	return &fleet{servers: map[string]*state.Server{}, infos: map[string]*control.ReplicationInfo{}}
}

func (f *fleet) find(s state.Scope, id string) (*state.Server, *control.ReplicationInfo, error) {
	v, ok := f.servers[id]
	if !ok || v.Scope != s {
		return nil, nil, control.Missing("fleet: find", control.SourceServer, id)
	}
	return v, f.infos[id], nil
}

func (f *fleet) Get(_ context.Context, s state.Scope, id string) (state.Server, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.explode {
		panic("fleet exploded")
	}
	v, _, err := f.find(s, id)
	if err != nil {
		return state.Server{}, err
	}
	return *v, nil
}

func (f *fleet) List(_ context.Context, s state.Scope, filter state.ServerFilter, p state.Page) (items []state.Server, next string, err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, id := range slices.Sorted(maps.Keys(f.servers)) {
		v := f.servers[id]
		if v.Scope != s || id <= p.After || filter.IDs != nil && !slices.Contains(filter.IDs, id) ||
			filter.Archived != nil && *filter.Archived != v.Archived ||
			filter.StagingAccounts != nil && !slices.Contains(filter.StagingAccounts, s.Account) || // none is extended
			filter.LifeCycleStates != nil && !slices.Contains(filter.LifeCycleStates, v.LifeCycle.State) ||
			filter.ApplicationIDs != nil && !slices.Contains(filter.ApplicationIDs, v.Migration.ApplicationID) {
			continue
		}
		if len(items) == p.Size() {
			return items, items[len(items)-1].ID, nil
		}
		items = append(items, *v)
	}
	return items, "", nil
}

func (f *fleet) Describe(_ context.Context, servers []state.Server) ([]control.ReplicationInfo, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	var list []control.ReplicationInfo
	for _, s := range servers {
		list = append(list, *f.infos[s.ID])
	}
	return list, f.broken
}

func (f *fleet) move(s state.Scope, id string, kind fault.Kind, to state.ReplicationState, from ...state.ReplicationState) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	_, info, err := f.find(s, id)
	if err != nil {
		return err
	}
	if !slices.Contains(from, info.State) {
		return fault.New(kind, "fleet: move", "%w", &control.ResourceError{Type: control.SourceServer, ID: id, Err: fmt.Errorf("is %s", info.State)}).
			WithHint("look at its state first")
	}
	info.State = to
	return nil
}

func (f *fleet) Start(_ context.Context, s state.Scope, id string) error {
	if f.quota {
		return fault.New(fault.Conflict, "fleet: start", "150 servers replicate: %w", control.ErrQuota)
	}
	return f.move(s, id, fault.Conflict, state.Initiating, state.Stopped)
}

func (f *fleet) Stop(_ context.Context, s state.Scope, id string) error {
	return f.move(s, id, fault.Conflict, state.Stopped, state.Continuous, state.Initiating, state.Paused)
}

func (f *fleet) Pause(_ context.Context, s state.Scope, id string) error {
	return f.move(s, id, fault.Conflict, state.Paused, state.Continuous)
}

func (f *fleet) Resume(_ context.Context, s state.Scope, id string) error {
	return f.move(s, id, fault.Conflict, state.Backlog, state.Paused)
}

func (f *fleet) Retry(_ context.Context, s state.Scope, id string) error {
	return f.move(s, id, fault.Invalid, state.Stalled, state.Stalled)
}

func (f *fleet) Disconnect(_ context.Context, s state.Scope, id string) error {
	return f.move(s, id, fault.Conflict, state.Disconnected, state.Continuous, state.Stopped, state.Stalled)
}

func (f *fleet) Delete(_ context.Context, s state.Scope, id string) error {
	if err := f.move(s, id, fault.Conflict, state.Disconnected, state.Disconnected); err != nil {
		return err
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	delete(f.servers, id)
	return nil
}

// change does something to a server's record.
func (f *fleet) change(s state.Scope, id string, do func(*state.Server) error) (state.Server, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	v, _, err := f.find(s, id)
	if err != nil {
		return state.Server{}, err
	}
	return *v, do(v)
}

func (f *fleet) Tag(_ context.Context, s state.Scope, id string, tags map[string]string) error {
	_, err := f.change(s, id, func(v *state.Server) error {
		v.Tags = maps.Clone(v.Tags)
		if v.Tags == nil {
			v.Tags = map[string]string{}
		}
		maps.Copy(v.Tags, tags)
		return nil
	})
	return err
}

func (f *fleet) Untag(_ context.Context, s state.Scope, id string, keys []string) error {
	_, err := f.change(s, id, func(v *state.Server) error {
		v.Tags = maps.Clone(v.Tags)
		for _, k := range keys {
			delete(v.Tags, k)
		}
		return nil
	})
	return err
}

func (f *fleet) Archive(_ context.Context, s state.Scope, id string) (state.Server, error) {
	return f.change(s, id, func(v *state.Server) error { v.Archived = true; return nil })
}

func (f *fleet) ChangeLifeCycle(_ context.Context, s state.Scope, id string, to state.LifeCycleState) (state.Server, error) {
	return f.change(s, id, func(v *state.Server) error {
		if v.LifeCycle.State != state.Testing {
			return control.Refuse("fleet: change", control.SourceServer, id, "is %s", v.LifeCycle.State)
		}
		v.LifeCycle.State = to
		return nil
	})
}

func (f *fleet) UpdateConfig(_ context.Context, s state.Scope, id string, p control.ConfigPatch) (state.Server, error) {
	if p.Name != nil && *p.Name == "bad" {
		return state.Server{}, fault.New(fault.Invalid, "fleet: update", "%w",
			&control.FieldError{Fields: []control.Field{{Name: "name", Message: "is bad"}}})
	}
	_, err := f.change(s, id, func(v *state.Server) error {
		if p.BandwidthMbps != nil {
			v.Config.BandwidthMbps = *p.BandwidthMbps
		}
		if p.Disks != nil {
			v.Config.Disks = *p.Disks
		}
		if p.PITPolicy != nil {
			v.Config.PITPolicy = *p.PITPolicy
		}
		if p.StagingAreaTags != nil {
			v.Config.StagingAreaTags = *p.StagingAreaTags
		}
		return nil
	})
	if err != nil {
		return state.Server{}, err
	}
	return *f.servers[id], nil
}

// snapshots is control.Points over the fleet's list.
type snapshots struct{ f *fleet }

func (p snapshots) List(_ context.Context, s state.Scope, serverID string, filter state.PointFilter, page state.Page) (items []state.Point, next string, err error) {
	after, _ := strconv.Atoi(page.After)
	var all []state.Point
	for _, v := range p.f.points {
		if v.ServerID == serverID && v.Scope == s && !v.Expected.Before(filter.From) && (filter.To.IsZero() || !v.Expected.After(filter.To)) {
			all = append(all, v)
		}
	}
	if filter.Descending {
		slices.Reverse(all)
	}
	end := min(after+page.Size(), len(all))
	if end < len(all) {
		next = strconv.Itoa(end)
	}
	return all[after:end], next, nil
}

func (p snapshots) Get(context.Context, state.Scope, string) (state.Point, error) {
	return state.Point{}, errors.New("the edge does not ask for one point")
}

func (p snapshots) Take(context.Context, state.Scope, string) (state.Point, error) {
	return state.Point{}, errors.New("the edge takes no points")
}

var addedAt = time.Date(2026, 11, 20, 8, 30, 0, 0, time.UTC)

// add puts a healthy server into the fleet.
func (f *fleet) add(service state.Service, account string, n int) string {
	f.mu.Lock()
	defer f.mu.Unlock()
	id := fmt.Sprintf("s-%017x", n)
	f.servers[id] = &state.Server{
		ID: id, Scope: state.Scope{Account: account, Service: service}, CreatedAt: addedAt,
		ReplicationType: state.AgentBased, Agent: state.Agent{Version: "1.0.0"},
		LifeCycle: state.LifeCycle{State: state.ReadyForTest},
		Properties: state.SourceProperties{
			UpdatedAt: addedAt, OS: "Linux version 6.12", RAMBytes: 4 << 30, CPUs: []state.CPU{{Cores: 1, Model: "x86"}},
			NICs:  []state.NIC{{MAC: "52:54:00:12:34:56", IPs: []string{"192.0.2.7"}, Primary: true}},
			Disks: []state.SourceDisk{{DeviceName: "/dev/vda", Bytes: 10 << 30}},
			Hints: state.Hints{Hostname: "web-" + strconv.Itoa(n), FQDN: "web.test", VMPath: "/dc/vm/web"},
		},
		Config: state.ReplicationConfig{
			StagingAreaSubnetID: "subnet-00000000000000000", LargeStagingDiskType: "GP3", EBSEncryption: "DEFAULT",
			DataPlaneRouting: "PRIVATE_IP", InternetProtocol: "IPV4", InstanceType: "t3.small", Name: "config",
			Disks: []state.DiskConfig{{DeviceName: "/dev/vda", Boot: true, StagingDiskType: "AUTO"}},
		},
	}
	lag := time.Duration(0)
	f.infos[id] = &control.ReplicationInfo{
		State: state.Continuous, Lag: &lag, FirstByteAt: addedAt.Add(time.Minute), LastSeenAt: addedAt.Add(time.Hour),
		LastPointAt: addedAt.Add(30 * time.Minute), ReplicatorID: "i-0123456789abcdef0",
		Attempt: state.Attempt{ID: 1, StartedAt: addedAt, NextAttemptAt: addedAt.Add(31 * time.Minute),
			Steps: []state.Step{{Name: state.StepTransfer, Status: state.Succeeded}, {Name: state.StepWait, Status: state.Skipped}}},
		Disks: []state.DiskProgress{{DeviceName: "/dev/vda", Total: 10 << 30, Replicated: 10 << 30, Rescanned: 10 << 30}},
	}
	return id
}
