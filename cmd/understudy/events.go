package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"text/tabwriter"

	"github.com/understudy-dr/understudy/internal/app/operator"
	"github.com/understudy-dr/understudy/internal/fault"
	"github.com/understudy-dr/understudy/internal/operatorapi/schema"
)

type eventsCmd struct {
	connection `embed:""`
	Server     string `help:"Only events of this source server." placeholder:"s-..."`
	After      *int64 `help:"Only events after this number." placeholder:"NUMBER"`
	Follow     bool   `help:"Go on with what happens; without --after, begin now." short:"f"`
	JSON       bool   `help:"Print EventBridge's JSON, an event per line."`
}

func (c *eventsCmd) Run(ctx context.Context) error {
	client, err := c.client(ctx)
	if err != nil {
		return err
	}
	from := operator.EventsFrom{Server: c.Server}
	if c.After != nil {
		from.After = *c.After
	}
	if !c.Follow {
		return c.list(ctx, client, from)
	}
	if c.After == nil {
		if from.After, err = client.LastEvent(ctx); err != nil {
			return err
		}
	}
	return client.Follow(ctx, from, c.print, func(err error) { fmt.Fprintf(os.Stderr, "understudy: %v\n", err) })
}

func (c *eventsCmd) list(ctx context.Context, client *operator.Client, from operator.EventsFrom) error {
	for {
		page, err := client.Events(ctx, from, 0)
		if err != nil {
			return err
		}
		for _, e := range page.Events {
			if err := c.print(e); err != nil {
				return err
			}
		}
		if len(page.Events) == 0 {
			return nil
		}
		from.After = page.Next
	}
}

func (c *eventsCmd) print(e schema.Event) error {
	if c.JSON {
		fmt.Println(string(e.Event))
		return nil
	}
	return printEvent(os.Stdout, e)
}

// printEvent writes one line: number, time, kind, resources, details.
func printEvent(out io.Writer, e schema.Event) error {
	var v struct {
		Time       string            `json:"time"`
		DetailType string            `json:"detail-type"`
		Resources  []string          `json:"resources"`
		Detail     map[string]string `json:"detail"`
	}
	if err := json.Unmarshal(e.Event, &v); err != nil {
		return fault.New(fault.Unsupported, "event", "%w", err)
	}
	var details []string
	for name, value := range v.Detail {
		details = append(details, name+"="+value)
	}
	slices.Sort(details)
	for i, arn := range v.Resources {
		v.Resources[i] = arn[strings.LastIndex(arn, "/")+1:]
	}
	_, err := fmt.Fprintf(out, "%d  %s  %s  %s  %s\n", e.Seq, v.Time, v.DetailType, strings.Join(v.Resources, ","), strings.Join(details, " "))
	return err
}

type webhooksCmd struct {
	List   webhooksListCmd   `cmd:"" help:"Show where events are sent."`
	Add    webhooksAddCmd    `cmd:"" help:"Send events to a URL, as signed CloudEvents."`
	Remove webhooksRemoveCmd `cmd:"" help:"Send no more events to a URL."`
}

type webhooksListCmd struct {
	connection `embed:""`
}

func (c *webhooksListCmd) Run(ctx context.Context) error {
	client, err := c.client(ctx)
	if err != nil {
		return err
	}
	all, err := client.Webhooks(ctx)
	if err != nil {
		return err
	}
	w := tabwriter.NewWriter(os.Stdout, 0, 8, 2, ' ', 0)
	fmt.Fprintln(w, "ID\tURL\tMODE\tPENDING\tFAILURES")
	for _, v := range all {
		fmt.Fprintf(w, "%s\t%s\t%s\t%d\t%d\n", v.ID, v.URL, mode(v.Binary), v.Pending, v.Failures)
	}
	return w.Flush()
}

func mode(binary bool) string {
	if binary {
		return "binary"
	}
	return "structured"
}

type webhooksAddCmd struct {
	connection `embed:""`
	URL        string `arg:"" help:"https://..."`
	Binary     bool   `help:"CloudEvents in binary instead of structured mode."`
}

func (c *webhooksAddCmd) Run(ctx context.Context) error {
	client, err := c.client(ctx)
	if err != nil {
		return err
	}
	v, err := client.CreateWebhook(ctx, schema.NewWebhook{URL: c.URL, Binary: c.Binary})
	if err != nil {
		return err
	}
	fmt.Printf("%s\nsecret, shown this once: %s\n", v.ID, v.Secret)
	return nil
}

type webhooksRemoveCmd struct {
	connection `embed:""`
	ID         string `arg:"" help:"wh-..."`
}

func (c *webhooksRemoveCmd) Run(ctx context.Context) error {
	client, err := c.client(ctx)
	if err != nil {
		return err
	}
	return client.DeleteWebhook(ctx, c.ID)
}
