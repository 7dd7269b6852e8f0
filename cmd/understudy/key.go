package main

import (
	"context"
	"fmt"
	"os"
	"text/tabwriter"
)

type keyCmd struct {
	List   keyListCmd   `cmd:"" help:"List the wrapping keys."`
	Rotate keyRotateCmd `cmd:"" help:"Make a new wrapping key and wrap the journals' data keys with it. No data is rewritten."`
	Retire keyRetireCmd `cmd:"" help:"Remove a wrapping key that no journal needs any more, for ever."`
}

type keyListCmd struct {
	connection `embed:""`
	JSON       bool `help:"Print JSON."`
}

func (c *keyListCmd) Run(ctx context.Context) error {
	client, err := c.client(ctx)
	if err != nil {
		return err
	}
	keys, err := client.Keys(ctx)
	if err != nil || c.JSON {
		return orJSON(keys, err)
	}
	w := tabwriter.NewWriter(os.Stdout, 0, 8, 2, ' ', 0)
	fmt.Fprintln(w, "KEY\tCREATED\tJOURNALS\t")
	for _, k := range keys.Keys {
		note := ""
		switch {
		case k.Current:
			note = "current"
		case k.Journals == 0:
			note = "not needed here; 'understudy key retire " + k.ID + "' removes it"
		}
		fmt.Fprintf(w, "%s\t%s\t%d\t%s\n", k.ID, k.Created.UTC().Format(instantFormat), k.Journals, note)
	}
	return w.Flush()
}

type keyRotateCmd struct {
	connection `embed:""`
	JSON       bool `help:"Print JSON."`
}

func (c *keyRotateCmd) Run(ctx context.Context) error {
	client, err := c.client(ctx)
	if err != nil {
		return err
	}
	r, err := client.RotateKey(ctx)
	if err != nil || c.JSON {
		return orJSON(r, err)
	}
	fmt.Printf("the wrapping key is %s now, and the data keys of %d journals are wrapped with it\n", r.Key, r.Wrapped)
	if r.Later > 0 {
		fmt.Printf("%d journals are not open; theirs are wrapped with it when they are\n", r.Later)
	}
	fmt.Println("back the key file up now: without it the journals cannot be read")
	return nil
}

type keyRetireCmd struct {
	connection `embed:""`
	Key        string `arg:"" help:"Its id, as 'understudy key list' prints it."`
}

func (c *keyRetireCmd) Run(ctx context.Context) error {
	client, err := c.client(ctx)
	if err != nil {
		return err
	}
	if err := client.RetireKey(ctx, c.Key); err != nil {
		return err
	}
	fmt.Printf("wrapping key %s is gone\n", c.Key)
	return nil
}
