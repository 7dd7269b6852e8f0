package sizes

import (
	"strconv"
	"strings"
)

// GiB for each virtual processor, by the first letter of a family.
var memoryRatio = map[byte]int64{'c': 2, 'm': 4, 'r': 8, 'x': 16, 't': 4, 'i': 8, 'd': 8, 'g': 4, 'p': 8, 'z': 8, 'h': 8, 'a': 2}

// Resolve is the size that a name stands for: as in the catalogue, or by the rule that names follow.
// Automation names families that are newer than any catalogue; a launch of m9i.xlarge should not fail
// because of its name.
func (c *Catalogue) Resolve(name string) (Size, bool) {
	if s, ok := c.Find(name); ok {
		return s, true
	}
	family, size, ok := strings.Cut(name, ".")
	if !ok || !namePattern.MatchString(name) {
		return Size{}, false
	}
	ratio, known := memoryRatio[family[0]]
	vcpus := vcpusOf(size)
	if !known || vcpus == 0 {
		return Size{}, false
	}
	s := Size{Name: name, VCPUs: vcpus, MemoryMiB: vcpus * ratio * 1024, Architecture: X86, Current: true}
	if isARM(family) {
		s.Architecture = ARM
	}
	return s, true
}

// vcpusOf is the number of virtual processors that a size's name stands for, 0 when it says nothing.
func vcpusOf(size string) int64 {
	switch size {
	case "nano", "micro", "small", "medium":
		return 1
	case "large":
		return 2
	case "xlarge":
		return 4
	}
	n, ok := strings.CutSuffix(size, "xlarge")
	times, err := strconv.ParseInt(n, 10, 8)
	if !ok || err != nil || times < 2 {
		return 0
	}
	return 4 * times
}

// isARM reports whether a family's name has the letter of AWS's own processors behind its generation, as
// in m7gd; the g of g5 is a graphics card's.
func isARM(family string) bool {
	generation := strings.IndexAny(family, "0123456789")
	return family[0] == 'a' || generation > 0 && strings.Contains(family[generation:], "g")
}
