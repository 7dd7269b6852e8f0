// Package quotas is the table of everything that is bounded per account: the services' quotas as AWS
// documents them, and the rates of requests. An installation sets its own values, an account's record may
// set others. internal/app assembles it; it takes part in the adding of servers, and the edges ask it for
// the codes that clients know.
package quotas

import (
	"context"
	"slices"

	"github.com/understudy-dr/understudy/internal/control"
	"github.com/understudy-dr/understudy/internal/fault"
	"github.com/understudy-dr/understudy/internal/state"
)

// Code names a quota: as AWS does where the code is public, else by words.
type Code string

// The quotas.
const (
	DRSReplicating   Code = "L-C1D14A2B"
	DRSServers       Code = "L-E28BE5E0"
	DRSPerJob        Code = "L-B827C881"
	DRSInAllJobs     Code = "L-05AFA8C6"
	DRSJobs          Code = "L-D88FAC3A"
	DRSJobsPerServer Code = "L-DD6D028C"
	DRSLaunchActions Code = "L-0588D03B"
	DRSTemplates     Code = "L-1F3FAE4D"
	DRSNetworks      Code = "L-4B0323BD"

	MGNReplicating Code = "mgn-replicating-servers"
	MGNServers     Code = "mgn-servers"
	MGNActive      Code = "mgn-servers-not-archived"
	MGNPerJob      Code = "mgn-servers-per-job"
	MGNInAllJobs   Code = "mgn-servers-in-all-jobs"
	MGNJobs        Code = "mgn-jobs"

	MGNApplications         Code = "mgn-applications"
	MGNArchivedApplications Code = "mgn-archived-applications"
	MGNWaves                Code = "mgn-waves"
	MGNArchivedWaves        Code = "mgn-archived-waves"
	MGNPerApplication       Code = "mgn-servers-per-application"
	MGNPerWave              Code = "mgn-applications-per-wave"

	ReadRate     Code = "api-reads-per-second"
	WriteRate    Code = "api-writes-per-second"
	LaunchRate   Code = "api-launches-per-second"
	RegisterRate Code = "api-registrations-per-second"
)

// Quota is one bound.
type Quota struct {
	Code    Code
	Means   string
	Default int64
	Fixed   bool // a rule of the services, not a setting
}

// Table lists the quotas. The rates are ours: AWS does not document its own.
var Table = []Quota{
	{DRSReplicating, "DRS: replicating source servers", 300, false},
	{DRSServers, "DRS: source servers", 4000, false},
	{DRSJobs, "DRS: unfinished jobs", 20, false},
	{DRSPerJob, "DRS: source servers in one job", 100, false},
	{DRSInAllJobs, "DRS: source servers in all unfinished jobs", 500, false},
	{DRSJobsPerServer, "DRS: unfinished jobs of one source server", 1, true},
	{DRSLaunchActions, "DRS: launch actions of one source server or template", 200, true},
	{DRSTemplates, "DRS: launch configuration templates", 1, true},
	{DRSNetworks, "DRS: source networks", 100, true},
	{MGNReplicating, "MGN: replicating source servers", 150, false},
	{MGNActive, "MGN: source servers that are not archived", 4000, false},
	{MGNServers, "MGN: source servers", 50_000, false},
	{MGNJobs, "MGN: unfinished jobs", 20, false},
	{MGNPerJob, "MGN: source servers in one job", 200, false},
	{MGNInAllJobs, "MGN: source servers in all unfinished jobs", 200, false},
	{MGNApplications, "MGN: active applications", 200, false},
	{MGNArchivedApplications, "MGN: archived applications", 10_000, false},
	{MGNWaves, "MGN: active waves", 200, false},
	{MGNArchivedWaves, "MGN: archived waves", 10_000, false},
	{MGNPerApplication, "MGN: source servers in one application", 200, false},
	{MGNPerWave, "MGN: applications in one wave", 1000, false},
	{ReadRate, "API requests that only read, in a second", 200, false},
	{WriteRate, "API requests that change something, in a second", 100, false},
	{LaunchRate, "API requests that launch or terminate machines, in a second", 10, false},
	{RegisterRate, "registrations of agents, in a second", 100, false},
}

// Find is the quota of a code.
func Find(c Code) (Quota, bool) {
	i := slices.IndexFunc(Table, func(q Quota) bool { return q.Code == c })
	if i < 0 {
		return Quota{}, false
	}
	return Table[i], true
}

// Check refuses a value that a quota cannot have.
func Check(c Code, value int64) error {
	q, ok := Find(c)
	switch {
	case !ok:
		return fault.New(fault.Invalid, "quotas", "there is no quota %q", c).WithHint("'understudy access quotas' lists them")
	case q.Fixed:
		return fault.New(fault.Invalid, "quotas", "quota %s (%s) is fixed", c, q.Means)
	case value < 0 || value > 1_000_000_000:
		return fault.New(fault.Invalid, "quotas", "%d is no value of a quota", value)
	}
	return nil
}

// Limits are the quotas of an installation.
type Limits struct {
	values map[Code]int64
}

// New returns the default quotas with some set otherwise.
func New(values map[Code]int64) (*Limits, error) {
	l := &Limits{values: map[Code]int64{}}
	for _, q := range Table {
		l.values[q.Code] = q.Default
	}
	for c, v := range values {
		if err := Check(c, v); err != nil {
			return nil, err
		}
		l.values[c] = v
	}
	return l, nil
}

// Value is what the installation sets.
func (l *Limits) Value(c Code) int64 { return l.values[c] }

// Of is what counts for an account.
func (l *Limits) Of(a state.Account, c Code) int64 {
	if v, ok := a.Quotas[string(c)]; ok {
		return v
	}
	return l.values[c]
}

// Added refuses a new source server that is one too many, in the transaction that has added it.
func (l *Limits) Added(ctx context.Context, tx state.Tx, v state.Server) error {
	return l.check(ctx, tx, v.Scope, 0, DRSServers, MGNServers, MGNActive, DRSReplicating, MGNReplicating)
}

// Room refuses that one more server begins to replicate when that is one too many.
func (l *Limits) Room(ctx context.Context, r state.Reader, s state.Scope) error {
	return l.check(ctx, r, s, 1, DRSReplicating, MGNReplicating)
}

// count is how much a quota is used.
type count struct {
	code Code
	have int64
	what string // its meaning behind the service's name, in Table
}

func counts(s state.Service, n state.ServerCounts) []count {
	if s == state.MGN {
		return []count{{MGNServers, n.Total, "source servers"}, {MGNActive, n.Total - n.Archived, "source servers that are not archived"},
			{MGNReplicating, n.Replicating, "replicating source servers"}}
	}
	return []count{{DRSServers, n.Total, "source servers"}, {DRSReplicating, n.Replicating, "replicating source servers"}}
}

// check holds a scope's counts, with so many more, against some quotas.
func (l *Limits) check(ctx context.Context, r state.Reader, s state.Scope, more int64, codes ...Code) error {
	const op = "quotas: check"
	a, err := r.Account(ctx, s.Account)
	if err != nil && !fault.Is(err, fault.NotFound) {
		return fault.Wrap(op, err)
	}
	n, err := r.CountServers(ctx, s)
	if err != nil {
		return fault.Wrap(op, err)
	}
	for _, c := range counts(s.Service, n) {
		if most := l.Of(a, c.code); c.have+more > most && slices.Contains(codes, c.code) {
			return control.Full(op, control.SourceServer, "", int(most), c.what)
		}
	}
	return nil
}
