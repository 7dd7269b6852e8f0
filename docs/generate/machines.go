package main

import (
	"fmt"
	"slices"
	"strings"

	"github.com/understudy-dr/understudy/internal/control/failback"
	"github.com/understudy-dr/understudy/internal/control/inventory/transfer"
	"github.com/understudy-dr/understudy/internal/control/jobs"
	"github.com/understudy-dr/understudy/internal/control/lifecycle"
	"github.com/understudy-dr/understudy/internal/control/networks"
	"github.com/understudy-dr/understudy/internal/control/recovery"
	"github.com/understudy-dr/understudy/internal/control/replication"
)

// row is one line of any state machine's table.
type row struct {
	on   string
	from []string
	to   string
}

// machine is a state machine as its page shows it: one picture for each group of triggers.
type machine struct {
	name, about string
	start       []string // where it begins
	groups      []group
}

type group struct {
	name string
	rows []row
}

func texts[S ~string](list []S) []string {
	out := make([]string, len(list))
	for i, s := range list {
		out[i] = string(s)
	}
	return out
}

func machines() []machine {
	return []machine{
		dataReplication(), lifeCycle(),
		{"Jobs", "Of both services; `internal/control/jobs`. There is no failed job: failure is each participant's.", []string{"PENDING"},
			[]group{{"", rows(jobs.JobTable, func(r jobs.JobRow) row { return row{string(r.On), texts(r.From), string(r.To)} })}}},
		{"Participants of jobs", "One server, recovery instance or network in a job; `internal/control/jobs`.", []string{"PENDING"},
			[]group{{"", rows(jobs.ParticipantTable, func(r jobs.ParticipantRow) row { return row{string(r.On), texts(r.From), string(r.To)} })}}},
		{"Recovery instances", "The machine of a DRS recovery instance; `internal/control/recovery`.", []string{"PENDING"},
			[]group{{"", rows(recovery.Table, func(r recovery.Row) row { return row{string(r.On), texts(r.From), string(r.To)} })}}},
		{"Failback", "The way of a DRS recovery instance back; `internal/control/failback`. It begins at the left state over a failback client, at the " +
			"right one where the source server was an instance in AWS.", []string{"FAILBACK_NOT_STARTED", "FAILBACK_NOT_READY_FOR_LAUNCH"},
			[]group{{"", rows(failback.Table, func(r failback.Row) row { return row{string(r.On), texts(r.From), string(r.To)} })}}},
		{"Imports and exports", "Of MGN's inventory; `internal/control/inventory/transfer`.", []string{"PENDING"},
			[]group{{"", rows(transfer.Table, func(r transfer.Row) row { return row{string(r.On), texts(r.From), string(r.To)} })}}},
		{"Source networks", "The replication of a DRS source network; `internal/control/networks`.", []string{"STOPPED"},
			[]group{{"", rows(networks.Table, func(r networks.Row) row { return row{string(r.On), texts(r.From), string(r.To)} })}}},
	}
}

func rows[R any](table []R, as func(R) row) []row {
	out := make([]row, len(table))
	for i, r := range table {
		out[i] = as(r)
	}
	return out
}

func dataReplication() machine {
	m := machine{"Data replication", "Of one source server, in both services; `internal/control/replication`. An operation that a state has no line for is " +
		"refused. `(back)` is the state that a pause or a stall interrupted; what was up to date goes on in BACKLOG.",
		[]string{"INITIATING", "STOPPED"}, []group{{name: "What is called"}, {name: "What is observed"}}}
	for _, r := range replication.Table {
		on, at := string(r.On), 1
		if slices.Contains(replication.Operations, r.On) {
			at = 0
		}
		if r.MGNOnly {
			on += " (MGN)"
		}
		m.groups[at].rows = append(m.groups[at].rows, row{on, texts(r.From), string(r.To)})
	}
	return m
}

func lifeCycle() machine {
	m := machine{"MGN life cycle", "Of one MGN source server; `internal/control/lifecycle`.", nil, []group{{name: "What happens"}, {name: "What is called"}}}
	for _, r := range lifecycle.Table {
		at := 0
		if lifecycle.Wish(r.On) {
			at = 1
		}
		from := texts(r.From)
		for i := range from {
			if from[i] == "" {
				from[i] = "(new)"
			}
		}
		m.groups[at].rows = append(m.groups[at].rows, row{string(r.On), from, string(r.To)})
	}
	return m
}

func machinesPage() string {
	var b strings.Builder
	b.WriteString("# State machines\n\nEach is one table in code, and that table alone moves it. This page is made from the tables by `go generate ./docs/generate`.\n")
	for i, m := range machines() {
		fmt.Fprintf(&b, "\n## %s\n\n%s\n", m.name, m.about)
		for _, g := range m.groups {
			if g.name != "" {
				fmt.Fprintf(&b, "\n### %s\n", g.name)
			}
			b.WriteString("\n" + picture(m.start, g.rows) + "\n" + list(g.rows))
		}
		if i == 0 { // of data replication
			b.WriteString(failuresTable())
		}
	}
	return b.String()
}

// picture draws rows as a Mermaid diagram, one arrow for each pair of states.
func picture(start []string, table []row) string {
	type pair struct{ from, to string }
	labels := map[pair][]string{}
	var order []pair
	var states []string
	see := func(s string) {
		if !slices.Contains(states, s) {
			states = append(states, s)
		}
	}
	for _, r := range table {
		for _, from := range r.from {
			p := pair{from, r.to}
			if labels[p] == nil {
				order = append(order, p)
			}
			labels[p] = append(labels[p], r.on)
			see(from)
			see(r.to)
		}
	}
	var b strings.Builder
	b.WriteString("```mermaid\nstateDiagram-v2\n")
	for _, s := range states {
		fmt.Fprintf(&b, "    state %q as %s\n", s, alias(s))
	}
	for _, s := range start {
		if slices.Contains(states, s) {
			fmt.Fprintf(&b, "    [*] --> %s\n", alias(s))
		}
	}
	for _, p := range order {
		fmt.Fprintf(&b, "    %s --> %s: %s\n", alias(p.from), alias(p.to), strings.Join(labels[p], " / "))
	}
	b.WriteString("```\n")
	return b.String()
}

// alias is a state's name without what Mermaid cannot read.
func alias(s string) string {
	return strings.Map(func(r rune) rune {
		if r == '_' || r >= 'A' && r <= 'Z' || r >= 'a' && r <= 'z' {
			return r
		}
		return '_'
	}, s)
}

func list(table []row) string {
	var b strings.Builder
	b.WriteString("| on | from | to |\n|---|---|---|\n")
	for _, r := range table {
		fmt.Fprintf(&b, "| %s | %s | %s |\n", r.on, strings.Join(r.from, ", "), r.to)
	}
	return b.String()
}
