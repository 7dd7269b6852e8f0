package main

import (
	"context"
	"fmt"
)

type nbdCmd struct {
	Serve nbdServeCmd `cmd:"" help:"Serve one disk of a source server at a chosen instant, read-only."`
}

type nbdServeCmd struct {
	connection `embed:""`
	instant    `embed:""`
	Server     string `help:"Source server, s-..." required:""`
	Device     string `help:"The disk, as the source server names it: /dev/sda." required:""`
	Listen     string `help:"HOST:PORT or unix:PATH to listen on. There is no authentication: keep it local." default:"127.0.0.1:10809"`
}

func (c *nbdServeCmd) Run(ctx context.Context) error {
	choice, err := c.choice()
	if err != nil {
		return err
	}
	client, err := c.client(ctx)
	if err != nil {
		return err
	}
	at, err := client.Resolve(ctx, c.Server, choice)
	if err != nil {
		return err
	}
	warnDoubts(c.Server, at)
	p, err := client.ListenNBD(ctx, c.Listen, c.Server, c.Device, at.Position)
	if err != nil {
		return err
	}
	uri := "nbd://" + p.Addr().String()
	if p.Addr().Network() == "unix" {
		uri = "nbd+unix:///?socket=" + p.Addr().String()
	}
	fmt.Printf("%s of %s at %s (position %d) is served at %s\n", c.Device, c.Server, at.Time.UTC().Format(instantFormat), at.Position, uri)
	if err := p.Serve(ctx); err != nil {
		return err
	}
	fmt.Printf("%s of %s is not served any more\n", c.Device, c.Server)
	return nil
}
