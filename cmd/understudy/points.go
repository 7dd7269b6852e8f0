package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"text/tabwriter"
	"time"

	"github.com/understudy-dr/understudy/internal/operatorapi/schema"
)

type pointsCmd struct {
	Show   pointsShowCmd   `cmd:"" default:"withargs" help:"Show what of a source server can be recovered."`
	Create pointsCreateCmd `cmd:"" help:"Have a source server's agent make an application-consistent recovery point."`
}

type pointsCreateCmd struct {
	connection    `embed:""`
	Server        string `arg:"" help:"Source server, s-..."`
	AppConsistent bool   `help:"Run the source server's scripts and freeze its file systems for it. Nothing else needs making: every second is crash consistent." name:"app-consistent" required:""`
	JSON          bool   `help:"Print JSON."`
}

func (c *pointsCreateCmd) Run(ctx context.Context) error {
	client, err := c.client(ctx)
	if err != nil {
		return err
	}
	q, err := client.RequestPoint(ctx, c.Server)
	if err != nil || c.JSON {
		return orJSON(q, err)
	}
	fmt.Printf("recovery point %s of %s is application consistent\n", q.Point, c.Server)
	return nil
}

type pointsShowCmd struct {
	connection `embed:""`
	Server     string `arg:"" help:"Source server, s-..."`
	JSON       bool   `help:"Print JSON."`
	Delete     string `help:"Delete a recovery point before its time instead." placeholder:"pit-..."`
}

func (c *pointsShowCmd) Run(ctx context.Context) error {
	client, err := c.client(ctx)
	if err != nil {
		return err
	}
	if c.Delete != "" {
		if err := client.DeletePoint(ctx, c.Server, c.Delete); err != nil {
			return err
		}
		fmt.Printf("recovery point %s is gone\n", c.Delete)
		return nil
	}
	p, err := client.Points(ctx, c.Server)
	if err != nil {
		return err
	}
	if c.JSON {
		enc := json.NewEncoder(os.Stdout)
		enc.SetIndent("", "  ")
		return enc.Encode(p)
	}
	return printPoints(os.Stdout, p)
}

const instantFormat = "2006-01-02T15:04:05.000Z"

func printPoints(out io.Writer, p schema.Points) error {
	w := tabwriter.NewWriter(out, 0, 8, 2, ' ', 0)
	fmt.Fprintf(w, "source server %s (%s)\n", p.Server, p.Service)
	for _, d := range p.Disks {
		fmt.Fprintf(w, "  disk %s\t%d bytes\n", d.Device, d.Bytes)
	}
	if !p.Open {
		fmt.Fprintf(w, "\nnothing is recoverable now: no journal of it is open; 'aws %s describe-source-servers' shows its data replication state\n", p.Service)
		return w.Flush()
	}
	if len(p.Windows) == 0 {
		fmt.Fprintln(w, "\nnothing is recoverable yet: the first copy is not complete")
		return w.Flush()
	}
	fmt.Fprintln(w, "\nany instant in\nFROM\tTO\tLENGTH\tEPOCH\tPOSITIONS")
	for _, v := range p.Windows {
		fmt.Fprintf(w, "%s\t%s\t%s\t%d\t%d-%d\n", v.From.UTC().Format(instantFormat), v.To.UTC().Format(instantFormat),
			v.To.Sub(v.From).Round(time.Second), v.Epoch, v.FromPosition, v.ToPosition)
	}
	fmt.Fprintln(w, "\nrecovery points\nID\tTIME\tPOSITION\tCONSISTENT\tIN DOUBT")
	for _, v := range p.Points {
		fmt.Fprintf(w, "%s\t%s\t%d\t%s\t%s\n", v.ID, v.Time.UTC().Format(instantFormat), v.Position, v.Consistency, doubtful(v.Doubts))
	}
	if len(p.Points) == 0 {
		fmt.Fprintln(w, "none yet")
	}
	if err := w.Flush(); err != nil {
		return err
	}
	return printDoubts(out, p.Doubts)
}
