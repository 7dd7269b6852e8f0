package main

import (
	"fmt"
	"io"
	"os"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/understudy-dr/understudy/internal/operatorapi/schema"
)

// shownRanges bounds how many ranges of each doubt are printed.
const shownRanges = 8

// printDoubts lists what verify passes found; the points before may be wrong there.
func printDoubts(out io.Writer, all []schema.Doubt) error {
	if len(all) == 0 {
		return nil
	}
	fmt.Fprintln(out, "\nin doubt: journal and disks differed there. It was sent again; instants and points between may be wrong in these ranges, all else is right")
	w := tabwriter.NewWriter(out, 0, 8, 2, ' ', 0)
	fmt.Fprintln(w, "DOUBT\tAFTER\tBEFORE\tDIFFERED\tABSENT\tDISK\tBYTES")
	for _, d := range all {
		lead := fmt.Sprintf("%d\t%s\t%s\t%s\t%s", d.Epoch, instantOr(d.Since, "the beginning"), instantOr(d.Until, "is being sent"),
			humanBytes(int64(d.Bytes-d.AbsentBytes)), humanBytes(int64(d.AbsentBytes)))
		for i, g := range d.Ranges {
			if i == shownRanges {
				break
			}
			fmt.Fprintf(w, "%s\t%s\t%d-%d\n", lead, g.Device, g.Offset, g.Offset+g.Bytes)
			lead = strings.Repeat("\t", strings.Count(lead, "\t"))
		}
		switch more := len(d.Ranges) - shownRanges; {
		case d.More:
			fmt.Fprintf(w, "%s\t\tand more than were remembered\n", lead)
		case more > 0:
			fmt.Fprintf(w, "%s\t\tand %d more; --json shows all\n", lead, more)
		}
	}
	return w.Flush()
}

func instantOr(t *time.Time, otherwise string) string {
	if t == nil {
		return otherwise
	}
	return t.UTC().Format(instantFormat)
}

// doubtful is the column of a point.
func doubtful(epochs []uint64) string {
	if len(epochs) == 0 {
		return "no"
	}
	return strings.Trim(fmt.Sprint(epochs), "[]")
}

// warnDoubts tells whoever reads a state what may be wrong in it.
func warnDoubts(server string, at schema.Resolved) {
	if len(at.Doubts) == 0 {
		return
	}
	bytes := uint64(0)
	for _, d := range at.Doubts {
		bytes += d.Bytes
	}
	fmt.Fprintf(os.Stderr, "understudy: warning: journal and disks were found to differ after this instant: up to %s of it may be wrong ('understudy points %s' says where)\n",
		humanBytes(int64(bytes)), server)
}
