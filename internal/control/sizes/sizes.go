// Package sizes is the catalogue of instance sizes: what of a machine's processors and memory a name like
// m5.large stands for. It is data; a launch, a recommendation and EC2's DescribeInstanceTypes read it.
package sizes

import (
	"bytes"
	"cmp"
	_ "embed" // the catalogue
	"encoding/csv"
	"errors"
	"io"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/understudy-dr/understudy/internal/fault"
)

//go:embed catalogue.csv
var builtIn []byte

// Size is one instance size.
type Size struct {
	Name         string
	VCPUs        int64
	MemoryMiB    int64
	Architecture string // x86_64 or arm64
	Current      bool   // of the current generation
}

// Architectures.
const (
	X86 = "x86_64"
	ARM = "arm64"
)

// Catalogue is a list of sizes, smallest first within a family.
type Catalogue struct {
	sizes  []Size
	byName map[string]int
}

// Default is the built-in catalogue.
func Default() (*Catalogue, error) {
	return (&Catalogue{byName: map[string]int{}}).With(bytes.NewReader(builtIn))
}

// With is the catalogue with the sizes of a file added, or replaced where it has the name. The file has a
// line for each: name, virtual processors, memory in MiB, and if wanted architecture and generation
// (current or previous).
func (c *Catalogue) With(file io.Reader) (*Catalogue, error) {
	out := &Catalogue{sizes: slices.Clone(c.sizes), byName: map[string]int{}}
	for i, s := range out.sizes {
		out.byName[s.Name] = i
	}
	r := csv.NewReader(file)
	r.Comment, r.FieldsPerRecord, r.TrimLeadingSpace = '#', -1, true
	for {
		fields, err := r.Read()
		if errors.Is(err, io.EOF) {
			return out, nil
		}
		if err != nil {
			return nil, fault.New(fault.Invalid, "sizes: read", "%w", err)
		}
		s, err := parse(fields)
		if err != nil {
			line, _ := r.FieldPos(0)
			return nil, fault.New(fault.Invalid, "sizes: read", "line %d: %w", line, err)
		}
		if i, ok := out.byName[s.Name]; ok {
			out.sizes[i] = s
			continue
		}
		out.byName[s.Name] = len(out.sizes)
		out.sizes = append(out.sizes, s)
	}
}

var namePattern = regexp.MustCompile(`^[a-z0-9-]+\.[a-z0-9-]+$`)

func parse(fields []string) (Size, error) {
	s := Size{Architecture: X86, Current: true}
	if len(fields) < 3 || len(fields) > 5 || !namePattern.MatchString(fields[0]) {
		return s, fault.New(fault.Invalid, "", "%q is no size", strings.Join(fields, ",")).WithHint("it looks like own.large,2,8192,x86_64,current")
	}
	var err1, err2 error
	s.Name = fields[0]
	s.VCPUs, err1 = strconv.ParseInt(fields[1], 10, 32)
	s.MemoryMiB, err2 = strconv.ParseInt(fields[2], 10, 64)
	if err1 != nil || err2 != nil || s.VCPUs < 1 || s.MemoryMiB < 1 {
		return s, fault.New(fault.Invalid, "", "%s has no processors or no memory", s.Name)
	}
	if len(fields) > 3 {
		s.Architecture = fields[3]
	}
	if len(fields) > 4 {
		s.Current = fields[4] == "current"
	}
	if s.Architecture != X86 && s.Architecture != ARM {
		return s, fault.New(fault.Invalid, "", "%s has an unknown architecture %q", s.Name, s.Architecture)
	}
	return s, nil
}

// All lists the sizes.
func (c *Catalogue) All() []Size { return slices.Clone(c.sizes) }

// Find is the size of a name that the catalogue has.
func (c *Catalogue) Find(name string) (Size, bool) {
	i, ok := c.byName[name]
	if !ok {
		return Size{}, false
	}
	return c.sizes[i], true
}

// Recommend is the smallest size of the current generation with at least so many processors and so much
// memory; the largest where none has. Families come in the catalogue's order where sizes are equal.
func (c *Catalogue) Recommend(vcpus, memoryMiB int64, architecture string) (Size, bool) {
	fits := slices.DeleteFunc(c.All(), func(s Size) bool { return !s.Current || s.Architecture != architecture })
	if len(fits) == 0 {
		return Size{}, false
	}
	smaller := func(a, b Size) int {
		return cmp.Or(cmp.Compare(a.VCPUs, b.VCPUs), cmp.Compare(a.MemoryMiB, b.MemoryMiB))
	}
	enough := slices.DeleteFunc(slices.Clone(fits), func(s Size) bool { return s.VCPUs < vcpus || s.MemoryMiB < memoryMiB })
	if len(enough) == 0 {
		return slices.MaxFunc(fits, smaller), true
	}
	return slices.MinFunc(enough, smaller), true
}
