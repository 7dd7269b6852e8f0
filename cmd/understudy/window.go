package main

import (
	"context"
	"fmt"
	"time"

	"github.com/understudy-dr/understudy/internal/operatorapi/schema"
)

type windowCmd struct {
	Show windowShowCmd `cmd:"" help:"Show how far back every second can be recovered."`
	Set  windowSetCmd  `cmd:"" help:"Change it. A shorter window takes effect within a minute and cannot be taken back."`
}

type windowShowCmd struct {
	connection `embed:""`
	Server     string `arg:"" help:"Source server, s-..."`
	JSON       bool   `help:"Print JSON."`
}

func (c *windowShowCmd) Run(ctx context.Context) error {
	client, err := c.client(ctx)
	if err != nil {
		return err
	}
	j, err := client.Journal(ctx, c.Server)
	if err != nil || c.JSON {
		return orJSON(j, err)
	}
	printWindow(j)
	return nil
}

type windowSetCmd struct {
	connection `embed:""`
	Server     string `arg:"" help:"Source server, s-..."`
	Window     string `arg:"" help:"As 48h or 14d, or default for the server's --journal-window."`
}

func (c *windowSetCmd) Run(ctx context.Context) error {
	seconds := int64(-1)
	if c.Window != "default" {
		d, err := parseWindow(c.Window)
		if err != nil {
			return err
		}
		seconds = int64(d / time.Second)
	}
	client, err := c.client(ctx)
	if err != nil {
		return err
	}
	j, err := client.ChangeJournal(ctx, c.Server, schema.JournalChange{WindowSeconds: &seconds})
	if err != nil {
		return err
	}
	printWindow(j)
	return nil
}

func printWindow(j schema.Journal) {
	fmt.Printf("%s: every second of the last %s\n", j.Server, windowOf(j))
	if j.OldestRetained != nil {
		fmt.Printf("kept now: every second since %s, and %d older recovery points\n", stamp(j.OldestRetained), j.KeptPoints)
	}
}
