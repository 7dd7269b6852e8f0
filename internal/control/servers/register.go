package servers

import (
	"context"
	"fmt"
	"math"
	"slices"
	"time"

	"github.com/understudy-dr/understudy/internal/control"
	"github.com/understudy-dr/understudy/internal/control/accounts"
	"github.com/understudy-dr/understudy/internal/control/lifecycle"
	"github.com/understudy-dr/understudy/internal/control/replication"
	"github.com/understudy-dr/understudy/internal/fault"
	"github.com/understudy-dr/understudy/internal/state"
)

// Limits of what an agent may register.
const (
	maxDisks        = 60
	maxSourceDisks  = 1000
	maxCPUs         = 256
	maxNICs         = 32
	maxRoutes       = 64
	maxResolvers    = 8
	maxNameBytes    = 255
	minDiskBytes    = 1 << 20
	defaultDiskType = "AUTO"
)

// Registration is what an agent says of its machine.
type Registration struct {
	Identity       string // of the machine: the same after a reinstallation
	UserProvidedID string // tells apart machines that look the same, as clones
	Presence       Presence
	Agent          state.Agent
	Properties     state.SourceProperties
	Devices        []Device
	Tags           map[string]string // of a new server; an existing one keeps its own
	NoReplication  bool              // of a new server: it stays STOPPED
}

// Device is a disk that is to be replicated.
type Device struct {
	Name     string
	Identity string // a digest; an older agent tells none, and is believed by the name
	Bytes    uint64
	Boot     bool
}

// Register adds the machine as a source server, or updates what is known of it: the same identity is the
// same server. A new server takes the template's values and its replication record is made with it.
func (v *Servers) Register(ctx context.Context, s state.Scope, r Registration) (out state.Server, err error) {
	const op = "servers: register"
	if err := r.check(s); err != nil {
		return state.Server{}, fault.Wrap(op, err)
	}
	r.Presence.Identity = r.Identity
	now := time.Now().UTC()
	r.Properties = v.properties(r.Properties, now)
	err = v.store.Update(ctx, func(tx state.Tx) error {
		if err := accounts.Check(ctx, tx, s); err != nil {
			return err
		}
		have, err := tx.ServerByIdentity(ctx, s, r.identity())
		if fault.Is(err, fault.NotFound) && r.UserProvidedID != "" {
			have, err = v.adopt(ctx, tx, s, r, now)
		}
		switch {
		case fault.Is(err, fault.NotFound):
			out, err = v.add(ctx, tx, s, r, now)
			return err
		case err != nil:
			return err
		}
		out = have
		if err := v.recognise(out, r.Presence, time.Now()); err != nil {
			return err
		}
		if err := r.describe(&out, now); err != nil {
			return err
		}
		return tx.PutServer(ctx, out)
	})
	if err == nil {
		v.seen.note(out.ID, time.Now())
	}
	return out, fault.Wrap(op, err)
}

// identity is what the machine is recognised by. The user's own id goes in front, so that no two pairs
// make one text: a machine's identity has no line breaks.
func (r Registration) identity() string {
	if r.UserProvidedID == "" {
		return r.Identity
	}
	return r.UserProvidedID + "\n" + r.Identity
}

func (x *Servers) add(ctx context.Context, tx state.Tx, s state.Scope, r Registration, now time.Time) (state.Server, error) {
	config, err := initialConfig(ctx, tx, s)
	if err != nil {
		return state.Server{}, err
	}
	v := state.Server{
		ID: control.NewID("s-"), Scope: s, Identity: r.identity(), UserProvidedID: r.UserProvidedID,
		CreatedAt: now, ReplicationType: state.AgentBased, Config: config,
	}
	v.Config.Name = configName(v.ID)
	if v.Tags, err = control.AddTags(nil, r.Tags); err != nil {
		return v, err
	}
	if err := r.describe(&v, now); err != nil {
		return v, err
	}
	on := lifecycle.Registered
	if r.NoReplication {
		on = lifecycle.Stopped
	}
	if err := lifecycle.Apply(&v, on); err != nil {
		return v, err
	}
	if err := tx.PutServer(ctx, v); err != nil {
		return v, err
	}
	if err := tx.PutReplication(ctx, replication.NewRecord(v, r.NoReplication, now)); err != nil {
		return v, err
	}
	return v, x.Join(ctx, tx, v)
}

// initialConfig is what a server is replicated with unless somebody says otherwise: the template's.
func initialConfig(ctx context.Context, r state.Reader, s state.Scope) (state.ReplicationConfig, error) {
	found, _, err := r.Templates(ctx, s, state.Page{Limit: 1})
	if err != nil {
		return state.ReplicationConfig{}, err
	}
	if len(found) == 0 {
		return state.ReplicationConfig{}, fault.New(fault.Conflict, "servers", "the account has no replication configuration template").
			WithHint("run: aws " + string(s.Service) + " create-replication-configuration-template")
	}
	return found[0].Config, nil
}

func configName(id string) string { return "Data Replication Configuration for Source Server " + id }

// describe takes over what the agent says of the machine.
func (r Registration) describe(v *state.Server, now time.Time) (err error) {
	v.Agent, v.Properties, v.Machine = r.Agent, r.Properties, r.Presence.machine()
	if v.Disks, err = assign(v.Disks, r.Devices); err != nil {
		return err
	}
	v.Config.Disks = configure(v.Config.Disks, v.Replicated())
	v.Archived = false // whoever installs the agent again wants the server back
	return nil
}

// assign gives every device its index: the one it had, or one that no disk of this server ever had.
func assign(have []state.Disk, devices []Device) ([]state.Disk, error) {
	out := slices.Clone(have)
	next := uint32(0)
	for i := range out {
		next = max(next, out[i].Index+1)
		out[i].Gone = true
	}
	for _, d := range devices {
		i := slices.IndexFunc(out, func(o state.Disk) bool { return d.Identity != "" && o.Identity == d.Identity })
		if i < 0 {
			i = slices.IndexFunc(out, func(o state.Disk) bool { return o.DeviceName == d.Name && (o.Identity == "" || d.Identity == "") })
		}
		if i < 0 {
			if next > math.MaxUint16 { // which is what an index is on the wire
				return nil, fault.New(fault.OutOfSpace, "servers", "the server had %d disks over time, and disk numbers are not used twice", next).
					WithHint("disconnect and delete the source server, and register it anew")
			}
			out = append(out, state.Disk{DeviceName: d.Name, Index: next})
			i = len(out) - 1
			next++
		}
		out[i].DeviceName, out[i].Bytes, out[i].Boot, out[i].Gone = d.Name, d.Bytes, d.Boot, false
		if d.Identity != "" {
			out[i].Identity = d.Identity
		}
	}
	return out, nil
}

// configure keeps the configuration of disks that stay.
func configure(have []state.DiskConfig, disks []state.Disk) []state.DiskConfig {
	out := make([]state.DiskConfig, 0, len(disks))
	for _, d := range disks {
		c := state.DiskConfig{DeviceName: d.DeviceName, StagingDiskType: defaultDiskType}
		if i := slices.IndexFunc(have, func(o state.DiskConfig) bool { return o.DeviceName == d.DeviceName }); i >= 0 {
			c = have[i]
		}
		c.Boot = d.Boot
		out = append(out, c)
	}
	return out
}

func (r Registration) check(s state.Scope) error {
	var bad []control.Field
	add := func(name, format string, args ...any) {
		bad = append(bad, control.Field{Name: name, Message: fmt.Sprintf(format, args...)})
	}
	if !s.Service.Valid() {
		add("service", "must be drs or mgn")
	}
	if !plain(r.Identity) || r.Identity == "" {
		add("machine_identity", "must be 1 to %d printable characters", maxNameBytes)
	}
	if !plain(r.UserProvidedID) {
		add("user_provided_id", "must be at most %d printable characters", maxNameBytes)
	}
	if tooMany(r.Properties) {
		add("properties", "has too many entries")
	}
	for _, message := range wrongDevices(r.Devices) {
		add("devices", "%s", message)
	}
	if len(bad) > 0 {
		return fault.New(fault.Invalid, "registration", "%w", &control.FieldError{Fields: bad})
	}
	return nil
}

func wrongDevices(devices []Device) (wrong []string) {
	add := func(format string, args ...any) { wrong = append(wrong, fmt.Sprintf(format, args...)) }
	if n := len(devices); n < 1 || n > maxDisks {
		add("must be 1 to %d disks", maxDisks)
	}
	names := map[string]bool{}
	for _, d := range devices {
		id := "identity " + d.Identity
		switch {
		case d.Name == "" || !plain(d.Name) || !plain(d.Identity):
			add("a device name must be 1 to %d printable characters", maxNameBytes)
		case names[d.Name] || d.Identity != "" && names[id]:
			add("%s is named twice", d.Name)
		case d.Bytes < minDiskBytes:
			add("%s is smaller than 1 MiB and cannot be replicated", d.Name)
		}
		names[d.Name], names[id] = true, true
	}
	return wrong
}

func tooMany(p state.SourceProperties) bool {
	return len(p.Disks) > maxSourceDisks || len(p.CPUs) > maxCPUs || len(p.NICs) > maxNICs ||
		len(p.Routes) > maxRoutes || len(p.Resolver.Servers) > maxResolvers || len(p.Resolver.Search) > maxResolvers
}

func plain(s string) bool {
	return len(s) <= maxNameBytes && !slices.ContainsFunc([]byte(s), func(b byte) bool { return b < ' ' || b == 0x7f })
}
