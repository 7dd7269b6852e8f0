package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"text/tabwriter"

	"github.com/understudy-dr/understudy/internal/operatorapi/schema"
)

type pinsCmd struct {
	List    pinsListCmd    `cmd:"" default:"withargs" help:"List the states that are in use, and by whom."`
	Hold    pinsHoldCmd    `cmd:"" help:"Keep a state until it is released, whatever the window and the point-in-time policy say."`
	Release pinsReleaseCmd `cmd:"" help:"Let go of a held state."`
}

type pinsListCmd struct {
	connection `embed:""`
	JSON       bool `help:"Print JSON."`
}

func (c *pinsListCmd) Run(ctx context.Context) error {
	client, err := c.client(ctx)
	if err != nil {
		return err
	}
	pins, err := client.Pins(ctx)
	if err != nil || c.JSON {
		return orJSON(pins, err)
	}
	return printPins(os.Stdout, pins.Pins)
}

func printPins(out io.Writer, pins []schema.Pin) error {
	if len(pins) == 0 {
		fmt.Fprintln(out, "nothing is in use")
		return nil
	}
	w := tabwriter.NewWriter(out, 0, 8, 2, ' ', 0)
	fmt.Fprintln(w, "PIN\tSERVER\tTIME\tPOINT\tPURPOSE\tOWNER\tSINCE")
	for _, p := range pins {
		point := p.Point
		if point == "" {
			point = "-"
		}
		fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\t%s\t%s\n", p.ID, p.Server, p.Time.UTC().Format(instantFormat), point, p.Purpose, p.Owner,
			p.CreatedAt.UTC().Format(instantFormat))
	}
	return w.Flush()
}

type pinsHoldCmd struct {
	connection `embed:""`
	instant    `embed:""`
	Server     string `arg:"" help:"Source server, s-..."`
	Note       string `help:"Why, in a word; it becomes part of the owner's name." placeholder:"WORD"`
}

func (c *pinsHoldCmd) Run(ctx context.Context) error {
	choice, err := c.choice()
	if err != nil {
		return err
	}
	client, err := c.client(ctx)
	if err != nil {
		return err
	}
	p, err := client.Hold(ctx, c.Server, choice, c.Note)
	if err != nil {
		return err
	}
	fmt.Printf("%s keeps %s at %s; 'understudy pins release %s' lets go of it\n", p.ID, p.Server, p.Time.UTC().Format(instantFormat), p.ID)
	return nil
}

type pinsReleaseCmd struct {
	connection `embed:""`
	Pin        string `arg:"" help:"Its id, pin-..."`
}

func (c *pinsReleaseCmd) Run(ctx context.Context) error {
	client, err := c.client(ctx)
	if err != nil {
		return err
	}
	if err := client.Release(ctx, c.Pin); err != nil {
		return err
	}
	fmt.Printf("%s is released\n", c.Pin)
	return nil
}
