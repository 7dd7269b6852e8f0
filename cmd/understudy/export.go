package main

import (
	"context"
	"fmt"
	"os"
	"sync"
	"time"

	"github.com/understudy-dr/understudy/internal/app/operator"
)

type exportCmd struct {
	connection `embed:""`
	instant    `embed:""`
	Server     string `help:"Source server, s-..." required:""`
	Device     string `help:"The disk, as the source server names it: /dev/sda." required:""`
	Format     string `help:"raw or qcow2." enum:"raw,qcow2" default:"raw"`
	Out        string `arg:"" help:"The file to write; it must not exist."`
}

func (c *exportCmd) Run(ctx context.Context) error {
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
	start := time.Now()
	bar := progressLine(c.Out)
	if err := client.Export(ctx, c.Server, c.Device, at.Position, operator.Format(c.Format), c.Out, bar); err != nil {
		return err
	}
	fmt.Printf("%s is %s of %s at %s (position %d), written in %s\n", c.Out, c.Device, c.Server,
		at.Time.UTC().Format(time.RFC3339Nano), at.Position, time.Since(start).Round(time.Millisecond))
	return nil
}

// progressLine redraws one line on a terminal and stays silent elsewhere.
func progressLine(name string) operator.Progress {
	if fi, err := os.Stderr.Stat(); err != nil || fi.Mode()&os.ModeCharDevice == 0 {
		return nil
	}
	var mu sync.Mutex
	shown := int64(-1)
	return func(done, total int64) {
		mu.Lock()
		defer mu.Unlock()
		percent := int64(100)
		if total > 0 {
			percent = done * 100 / total
		}
		if percent <= shown {
			return
		}
		shown = percent
		fmt.Fprintf(os.Stderr, "\r%s  %3d%%", name, percent)
		if percent == 100 {
			fmt.Fprint(os.Stderr, "\r\033[K")
		}
	}
}
