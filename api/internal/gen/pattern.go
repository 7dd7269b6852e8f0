package main

import (
	"fmt"
	"regexp"
	"strconv"
	"strings"
)

// maxRepeat is the largest repeat count that Go's engine compiles.
const maxRepeat = 1000

var (
	lookahead = regexp.MustCompile(`^\(\?!([A-Za-z0-9:_-]+)\)`)
	// atom is a class, an escaped or a plain character, followed by a counted repeat.
	repeat = regexp.MustCompile(`(\[(?:\\.|[^\]\\])*\]|\\.|[^\\()\[\]{}*+?|])\{(\d+),(\d+)\}`)
)

// pattern is the Go source of a pattern. Models are written for an engine with lookahead and without a
// limit on repeats; what Go's lacks is rewritten here, and anything else is refused.
func pattern(expr string) (string, error) {
	re2, not := expr, ""
	if m := lookahead.FindStringSubmatch(re2); m != nil {
		not, re2 = m[1], re2[len(m[0]):]
	}
	re2 = repeat.ReplaceAllStringFunc(re2, splitRepeat)
	if _, err := regexp.Compile(`\A(?:` + re2 + `)\z`); err != nil {
		return "", fmt.Errorf("pattern %s: %w", expr, err)
	}
	fields := []string{"Expr: " + strconv.Quote(expr)}
	if re2 != expr {
		fields = append(fields, "RE2: "+strconv.Quote(re2))
	}
	if not != "" {
		fields = append(fields, "Not: "+strconv.Quote(not))
	}
	return "&rest.Pattern{" + strings.Join(fields, ", ") + "}", nil
}

// splitRepeat turns x{1,1024} into x{1,1000}x{0,24}.
func splitRepeat(s string) string {
	m := repeat.FindStringSubmatch(s)
	least, err1 := strconv.Atoi(m[2])
	most, err2 := strconv.Atoi(m[3])
	if err1 != nil || err2 != nil || most <= maxRepeat || least > maxRepeat {
		return s
	}
	out := fmt.Sprintf("%s{%d,%d}", m[1], least, maxRepeat)
	for most -= maxRepeat; most > 0; most -= maxRepeat {
		out += fmt.Sprintf("%s{0,%d}", m[1], min(most, maxRepeat))
	}
	return out
}
