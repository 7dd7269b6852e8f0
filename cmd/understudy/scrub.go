package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"text/tabwriter"

	"github.com/understudy-dr/understudy/internal/operatorapi/schema"
)

type scrubCmd struct {
	Status scrubStatusCmd `cmd:"" help:"Show how far reading everything again is, and what was found damaged."`
	Start  scrubStartCmd  `cmd:"" help:"Read everything of a source server's journal now."`
}

type scrubStatusCmd struct {
	connection `embed:""`
	Server     string `arg:"" optional:"" help:"Source server, s-...; all of them when it is left out."`
	JSON       bool   `help:"Print JSON."`
}

func (c *scrubStatusCmd) Run(ctx context.Context) error {
	client, err := c.client(ctx)
	if err != nil {
		return err
	}
	var all []schema.Journal
	if c.Server == "" {
		u, err := client.Usage(ctx)
		if err != nil {
			return err
		}
		all = u.Servers
	} else {
		j, err := client.Journal(ctx, c.Server)
		if err != nil {
			return err
		}
		all = append(all, j)
	}
	if c.JSON {
		return printJSON(scrubs(all))
	}
	return printScrubs(os.Stdout, all)
}

// scrubStatus is what --json prints of each server.
type scrubStatus struct {
	Server string          `json:"server"`
	Open   bool            `json:"open"`
	Scrub  schema.Scrub    `json:"scrub"`
	Damage []schema.Damage `json:"damage"`
}

func scrubs(all []schema.Journal) []scrubStatus {
	out := []scrubStatus{}
	for _, j := range all {
		out = append(out, scrubStatus{j.Server, j.Open, j.Scrub, j.Damage})
	}
	return out
}

func printScrubs(out io.Writer, all []schema.Journal) error {
	w := tabwriter.NewWriter(out, 0, 8, 2, ' ', 0)
	fmt.Fprintln(w, "SERVER\tNAME\tREAD\tOF\tLAST IN FULL\tDAMAGE")
	for _, j := range all {
		read := "between two passes"
		if j.Scrub.Began != nil && j.Scrub.TotalBytes > 0 {
			read = fmt.Sprintf("%d%%", j.Scrub.DoneBytes*100/j.Scrub.TotalBytes)
		}
		if j.Scrub.AskedAt != nil {
			read += " (at full speed)"
		}
		if !j.Open {
			read = "not open"
		}
		damage := "none"
		if n := len(j.Damage); n > 0 {
			damage = fmt.Sprintf("%d places", n)
		}
		fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\t%s\n", j.Server, j.Name, read, humanBytes(j.Scrub.TotalBytes), ago(j.Scrub.LastFull), damage)
	}
	if err := w.Flush(); err != nil {
		return err
	}
	for _, j := range all {
		if len(j.Damage) == 0 {
			continue
		}
		fmt.Fprintf(out, "\n%s %s\n", j.Server, j.Name)
		if err := printDamage(out, j.Damage); err != nil {
			return err
		}
	}
	return nil
}

type scrubStartCmd struct {
	connection `embed:""`
	Server     string `arg:"" help:"Source server, s-..."`
}

func (c *scrubStartCmd) Run(ctx context.Context) error {
	client, err := c.client(ctx)
	if err != nil {
		return err
	}
	j, err := client.StartScrub(ctx, c.Server)
	if err != nil {
		return err
	}
	fmt.Printf("%s: reading %s; 'understudy scrub status %s' shows how far it is\n", j.Server, humanBytes(j.Scrub.TotalBytes), j.Server)
	return nil
}
