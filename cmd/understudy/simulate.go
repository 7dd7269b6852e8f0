package main

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"os"
	"text/tabwriter"
	"time"

	"github.com/understudy-dr/understudy/internal/app/simulate"
)

type simulateCmd struct {
	Agents simulateAgentsCmd `cmd:"" help:"Register many agents without disks and let them handshake, to see how a server carries a fleet."`
}

type simulateAgentsCmd struct {
	connection   `embed:""`
	Count        int           `help:"How many agents." required:""`
	Service      string        `help:"drs or mgn." enum:"drs,mgn" default:"drs"`
	Name         string        `help:"Begins the machines' names: the same name is the same fleet." default:"sim"`
	Replicate    bool          `help:"Register to replicate, which takes quota; else replication is stopped."`
	RegisterRate float64       `help:"Registrations in a second." default:"50"`
	Every        time.Duration `help:"Time between an agent's handshakes; what the server says if left out." placeholder:"30s"`
	Settle       time.Duration `help:"How long to handshake once all have registered, before anything is measured; each agent connects at its first handshake." default:"0s"`
	For          time.Duration `help:"How long to handshake and measure." default:"1m"`
	Probe        time.Duration `help:"Ask for a page of 100 source servers this often meanwhile." placeholder:"200ms"`
	JSON         bool          `help:"Print JSON."`
}

func (c *simulateAgentsCmd) Run(ctx context.Context, log *slog.Logger) error {
	r, err := simulate.Run(ctx, simulate.Config{Endpoint: c.Endpoint, CACert: c.CACert, Region: c.Region, Profile: c.Profile, Count: c.Count,
		Service: c.Service, Name: c.Name, Replicate: c.Replicate, Register: c.RegisterRate, Every: c.Every, Settle: c.Settle, For: c.For, Probe: c.Probe,
		Progress: 10 * time.Second, Log: log})
	if err != nil {
		return err
	}
	if c.JSON {
		return printJSON(r)
	}
	return printSimulation(os.Stdout, r)
}

func printSimulation(out io.Writer, r simulate.Report) error {
	w := tabwriter.NewWriter(out, 0, 8, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintf(out, "%d agents, %.0f s, %.1f handshakes a second\n", r.Agents, r.Seconds, r.PerSecond)
	fmt.Fprintln(w, "\tcount\terrors\tp50 ms\tp99 ms\tmax ms\t")
	line := func(name string, s simulate.Summary) {
		fmt.Fprintf(w, "%s\t%d\t%d\t%.1f\t%.1f\t%.1f\t\n", name, s.Count, s.Errors, s.P50, s.P99, s.Max)
	}
	line("register", r.Registration)
	line("handshake", r.Handshake)
	if r.Probe != nil {
		line("describe 100", *r.Probe)
	}
	if err := w.Flush(); err != nil {
		return err
	}
	for kind, first := range r.FirstFailures {
		fmt.Fprintf(out, "first failure of %s: %s\n", kind, first)
	}
	return nil
}
