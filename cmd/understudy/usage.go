package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/understudy-dr/understudy/internal/operatorapi/schema"
)

type usageCmd struct {
	connection `embed:""`
	Server     string `arg:"" optional:"" help:"Source server, s-...; all of them when it is left out."`
	JSON       bool   `help:"Print JSON."`
}

func (c *usageCmd) Run(ctx context.Context) error {
	client, err := c.client(ctx)
	if err != nil {
		return err
	}
	if c.Server != "" {
		j, err := client.Journal(ctx, c.Server)
		if err != nil || c.JSON {
			return orJSON(j, err)
		}
		return printJournal(os.Stdout, j)
	}
	u, err := client.Usage(ctx)
	if err != nil || c.JSON {
		return orJSON(u, err)
	}
	return printUsage(os.Stdout, u)
}

func orJSON(v any, err error) error {
	if err != nil {
		return err
	}
	return printJSON(v)
}

func printUsage(out io.Writer, u schema.Usage) error {
	w := tabwriter.NewWriter(out, 0, 8, 2, ' ', 0)
	if len(u.Servers) == 0 {
		fmt.Fprintln(w, "no journal is open")
	} else {
		fmt.Fprintln(w, "SERVER\tNAME\tSTORED\tUNIQUE\tDISKS\tRECLAIMABLE\tWINDOW\tQUOTA\tCONDITION")
	}
	stored := int64(0)
	for _, j := range u.Servers {
		stored += j.StoredBytes
		fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\t%s\t%s\t%s\t%s\n", j.Server, j.Name, humanBytes(j.StoredBytes), uniqueOf(j),
			humanBytes(j.DiskBytes), humanBytes(j.ReclaimableBytes), windowOf(j), quotaOf(j), condition(j))
	}
	if len(u.Servers) > 1 {
		fmt.Fprintf(w, "%d servers\t\t%s\n", len(u.Servers), humanBytes(stored))
	}
	if err := w.Flush(); err != nil {
		return err
	}
	fmt.Fprintf(out, "\n%s: %s free of %s%s\n", u.Room.Dir, humanBytes(u.Room.FreeBytes), humanBytes(u.Room.TotalBytes), roomNote(u.Room))
	return nil
}

func roomNote(r schema.Room) string {
	switch {
	case r.FreeBytes < r.ReserveBytes:
		return fmt.Sprintf("; FULL: nothing is taken in until %s are free", humanBytes(r.ReserveBytes))
	case r.FreeBytes < r.SlowBytes:
		return fmt.Sprintf("; LOW: agents are slowed down with less than %s", humanBytes(r.SlowBytes))
	}
	return ""
}

func windowOf(j schema.Journal) string {
	s := humanSpan(time.Duration(j.WindowSeconds) * time.Second)
	if j.OwnWindow {
		return s
	}
	return s + " (default)"
}

func quotaOf(j schema.Journal) string {
	if j.QuotaBytes == 0 {
		return "-"
	}
	return fmt.Sprintf("%s (%d%% used)", humanBytes(j.QuotaBytes), j.StoredBytes*100/j.QuotaBytes)
}

// condition is the worst that can be said in a few words.
func condition(j schema.Journal) string {
	var all []string
	switch {
	case !j.Open:
		return "not open"
	case j.QuotaBytes > 0 && j.StoredBytes >= j.QuotaBytes:
		all = append(all, "quota used up")
	}
	if n := len(j.Damage); n > 0 {
		all = append(all, fmt.Sprintf("damaged in %d places", n))
	}
	if j.Trouble != "" {
		all = append(all, "maintenance fails")
	}
	if j.Pressure != "relaxed" {
		all = append(all, "maintenance is behind ("+j.Pressure+")")
	}
	if len(all) == 0 {
		return "good"
	}
	return strings.Join(all, ", ")
}

func printJournal(out io.Writer, j schema.Journal) error {
	w := tabwriter.NewWriter(out, 0, 8, 2, ' ', 0)
	fmt.Fprintf(w, "source server\t%s %s (%s)\n", j.Server, j.Name, j.Service)
	fmt.Fprintf(w, "condition\t%s\n", condition(j))
	if j.Trouble != "" {
		fmt.Fprintf(w, "  maintenance\tfails since %s: %s\n", stamp(j.TroubleSince), j.Trouble)
	}
	fmt.Fprintf(w, "window\t%s\n", windowOf(j))
	fmt.Fprintf(w, "quota\t%s\n", quotaOf(j))
	if !j.Open {
		fmt.Fprintln(w, "\nits journal is not open; 'aws "+j.Service+" describe-source-servers' shows its data replication state")
		return w.Flush()
	}
	since := "everything"
	if j.OldestRetained != nil {
		since = "every second since " + stamp(j.OldestRetained)
	}
	fmt.Fprintf(w, "kept\t%s, and %d older recovery points\n", since, j.KeptPoints)
	fmt.Fprintf(w, "stored\t%s in %d layers and %d segments\n", humanBytes(j.StoredBytes), j.Layers, j.Segments)
	fmt.Fprintf(w, "  unique\t%s before compression, of disks of %s\n", uniqueOf(j), humanBytes(j.DiskBytes))
	fmt.Fprintf(w, "  reclaimable\t%s\n", humanBytes(j.ReclaimableBytes))
	fmt.Fprintf(w, "  unflushed\t%s\n", humanBytes(j.UnflushedBytes))
	fmt.Fprintf(w, "scrub\t%s\n", scrubOf(j.Scrub))
	if err := w.Flush(); err != nil {
		return err
	}
	return printDamage(out, j.Damage)
}

// uniqueOf is not told of what is in segments only.
func uniqueOf(j schema.Journal) string {
	if j.UniqueBytes == 0 {
		return "-"
	}
	return humanBytes(j.UniqueBytes)
}

func stamp(t *time.Time) string {
	if t == nil {
		return "an unknown time"
	}
	return t.UTC().Format(instantFormat)
}

func scrubOf(s schema.Scrub) string {
	out := "last read in full: " + ago(s.LastFull)
	if s.Began != nil && s.TotalBytes > 0 {
		out = fmt.Sprintf("%d%% of %s read since %s; ", s.DoneBytes*100/s.TotalBytes, humanBytes(s.TotalBytes), s.Began.UTC().Format(instantFormat)) + out
	}
	if s.AskedAt != nil {
		out += "; at full speed, as asked at " + s.AskedAt.UTC().Format(instantFormat)
	}
	return out
}

// shownDamage is how many stretches people are shown; --json has all.
const shownDamage = 50

func printDamage(out io.Writer, all []schema.Damage) error {
	if len(all) == 0 {
		return nil
	}
	fmt.Fprintln(out, "\ndamaged: what was written there then cannot be read; everything else can")
	w := tabwriter.NewWriter(out, 0, 8, 2, ' ', 0)
	fmt.Fprintln(w, "DISK\tBYTES\tLENGTH\tWRITTEN\tFOUND\tFILE")
	for i, d := range all {
		if i == shownDamage {
			fmt.Fprintf(w, "and %d more; --json shows all\n", len(all)-i)
			break
		}
		place, length := fmt.Sprintf("%d-%d", d.Offset, d.Offset+d.Bytes), humanBytes(d.Bytes)
		switch {
		case d.HistoryEnds && d.Bytes == 0:
			place, length = "history ended", "-"
		case d.Bytes == 0:
			place, length = "from "+fmt.Sprint(d.Offset), "a whole file"
		}
		fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\t%s\n", d.Device, place, length, stamp(d.Written), d.FoundAt.UTC().Format(instantFormat), d.File)
	}
	return w.Flush()
}

type quotaCmd struct {
	Set quotaSetCmd `cmd:"" help:"Limit what a source server's journal may store."`
}

type quotaSetCmd struct {
	connection `embed:""`
	Server     string `arg:"" help:"Source server, s-..."`
	Size       string `arg:"" help:"As 500GiB, or none."`
}

func (c *quotaSetCmd) Run(ctx context.Context) error {
	bytes := int64(0)
	if c.Size != "none" {
		var err error
		if bytes, err = parseBytes(c.Size); err != nil {
			return err
		}
	}
	client, err := c.client(ctx)
	if err != nil {
		return err
	}
	j, err := client.ChangeJournal(ctx, c.Server, schema.JournalChange{QuotaBytes: &bytes})
	if err != nil {
		return err
	}
	fmt.Printf("%s stores %s, quota %s\n", j.Server, humanBytes(j.StoredBytes), quotaOf(j))
	return nil
}
