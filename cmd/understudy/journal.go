package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/understudy-dr/understudy/internal/encryption"
	"github.com/understudy-dr/understudy/internal/fault"
	"github.com/understudy-dr/understudy/internal/journal"
	"github.com/understudy-dr/understudy/internal/operatorapi/schema"
	"github.com/understudy-dr/understudy/internal/vfs"
	"github.com/understudy-dr/understudy/internal/wire"
)

type journalCmd struct {
	Verify journalVerifyCmd `cmd:"" help:"Read every byte of a journal that no server has open, or a sample, and report what is damaged."`
}

type journalVerifyCmd struct {
	Dir     string  `arg:"" help:"The journal, DATA-DIR/journals/s-..." type:"path"`
	KeyFile string  `help:"The wrapping keys; default DATA-DIR/wrapping-keys.json." type:"path"`
	Sample  percent `help:"Read only so much of the layers, chosen at random; everything else whole." placeholder:"5%" default:"100%"`
	JSON    bool    `help:"Print JSON."`
}

// percent is a flag like 5%.
type percent float64

// UnmarshalText implements encoding.TextUnmarshaler.
func (p *percent) UnmarshalText(text []byte) error {
	v, err := strconv.ParseFloat(strings.TrimSuffix(string(text), "%"), 64)
	if err != nil || !(v > 0 && v <= 100) {
		return fault.New(fault.Invalid, "sample", "%q is no part of a hundred", text).WithHint("as 5%")
	}
	*p = percent(v / 100)
	return nil
}

func (c *journalVerifyCmd) Run(ctx context.Context) error {
	if c.KeyFile == "" {
		c.KeyFile = filepath.Join(filepath.Dir(filepath.Dir(c.Dir)), "wrapping-keys.json")
	}
	o := journal.VerifyOptions{Sample: float64(c.Sample)}
	if _, err := os.Stat(c.KeyFile); err == nil { // opening would make one
		if o.Keys, err = encryption.OpenKeyFile(c.KeyFile); err != nil {
			return err
		}
	}
	r, err := journal.Verify(ctx, vfs.OS, c.Dir, o)
	if fault.Is(err, fault.NotFound) {
		return fault.New(fault.NotFound, "journal verify", "there is no journal in %s", c.Dir).WithHint("journals are DATA-DIR/journals/s-...")
	}
	if err != nil {
		return err
	}
	v := verificationOf(r)
	if c.JSON {
		err = printJSON(v)
	} else {
		err = v.print(os.Stdout)
	}
	if n := len(v.Problems); n > 0 && err == nil {
		return fault.New(fault.Corruption, "journal verify", "problems found: %d", n)
	}
	return err
}

// verification is a journal.Report for people and programs.
type verification struct {
	Journal   string          `json:"journal"`
	Segments  int             `json:"segments"`
	Frames    int             `json:"frames"`
	Extents   int             `json:"extents"`
	Layers    int             `json:"layers"`
	Skipped   int             `json:"skippedLayers"` // that the sample left out
	Timelines int             `json:"timelines"`
	Bytes     int64           `json:"bytes"`
	TornBytes int64           `json:"tornBytes"` // of a write that was never acknowledged
	Problems  []string        `json:"problems"`
	Damage    []schema.Damage `json:"damage"` // what of the disks cannot be read because of them
}

func verificationOf(r journal.Report) verification {
	v := verification{Journal: r.ID, Segments: r.Segments, Frames: r.Frames, Extents: r.Extents, Layers: r.Layers, Skipped: r.Skipped,
		Timelines: r.Timelines, Bytes: r.Bytes, TornBytes: r.TornBytes, Problems: []string{}, Damage: []schema.Damage{}}
	for _, p := range r.Problems {
		v.Problems = append(v.Problems, p.Error())
	}
	for _, d := range r.Damage {
		out := schema.Damage{Device: fmt.Sprintf("disk %d", d.Disk), Offset: int64(d.Sector) * wire.SectorSize, Bytes: int64(d.Sectors) * wire.SectorSize,
			Position: d.Position, File: d.File, FoundAt: d.FoundAt, HistoryEnds: d.Cut}
		if !d.Written.IsZero() {
			out.Written = &d.Written
		}
		v.Damage = append(v.Damage, out)
	}
	return v
}

func (v verification) print(out io.Writer) error {
	fmt.Fprintf(out, "journal %s: %d segments with %d frames and %d extents, %d layers, %d timelines, %s\n", v.Journal, v.Segments, v.Frames, v.Extents,
		v.Layers, v.Timelines, humanBytes(v.Bytes))
	if v.Skipped > 0 {
		fmt.Fprintf(out, "%d layers were not read: only a sample was asked for\n", v.Skipped)
	}
	if v.TornBytes > 0 {
		fmt.Fprintf(out, "%d bytes at the end are a torn write that was never acknowledged; the server cuts them off\n", v.TornBytes)
	}
	for _, p := range v.Problems {
		fmt.Fprintln(out, p)
	}
	if len(v.Problems) == 0 {
		fmt.Fprintln(out, "no damage found")
	}
	return printDamage(out, v.Damage)
}
