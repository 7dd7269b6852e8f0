package usedblocks

import (
	"bytes"
	"cmp"
	"hash/crc32"
	"slices"
	"strings"
)

/*
A physical volume of LVM2. Free are the extents that no logical volume's segments name, and what the content of a volume
leaves free that is linear, lies on this disk alone and is no part of anything else: a snapshot still reads what its
origin has let go of.
*/
const (
	lvmLabelSectors = 4
	lvmMagic        = " LVM2 x[5A%r0N*>"
	lvmCRC          = 0xf597a6cf
	lvmMaxText      = 64 << 20
	lvmMaxSegments  = 1 << 20
)

// lvmSum is LVM's checksum: CRC-32 without complements.
func lvmSum(b []byte) uint32 { return ^crc32.Update(^uint32(lvmCRC), crc32.IEEETable, b) }

// lvmLabel is the sector of the label; nil when there is none.
func lvmLabel(v volume) []byte {
	var b [512]byte
	for i := range int64(lvmLabelSectors) {
		if v.read(b[:], i*512) == nil && string(b[:8]) == "LABELONE" && string(b[24:32]) == "LVM2 001" && le.Uint64(b[8:]) == uint64(i) {
			return b[:]
		}
	}
	return nil
}

func isLVM(v volume) bool { return lvmLabel(v) != nil }

func lvmFree(s *search, v volume, depth int) ([]Range, error) {
	label := lvmLabel(v)
	if !sums(lvmSum(label[20:]), le.Uint32(label[16:])) {
		return nil, errDoubt("the label's checksum is wrong")
	}
	uuid, areas, err := pvHeader(label)
	if err != nil {
		return nil, err
	}
	text, err := lvmMetadata(v, areas)
	if err != nil {
		return nil, err
	}
	group, err := parseLVM(text)
	if err != nil {
		return nil, err
	}
	p, err := newPV(v, group, uuid)
	if err != nil {
		return nil, err
	}
	free, err := p.free(s, depth)
	if err != nil {
		return nil, err
	}
	switch now, err := lvmMetadata(v, areas); {
	case err != nil:
		return nil, err
	case !bytes.Equal(now, text): // a snapshot may have been made, and reads what its origin has let go of since
		return nil, errDoubt("its metadata changed meanwhile")
	}
	return free, nil
}

// lvmMetadata reads the current metadata of all areas, which is the same.
func lvmMetadata(v volume, areas []Range) (text []byte, err error) {
	for _, a := range areas {
		b, err := lvmText(v, a)
		switch {
		case err != nil:
			return nil, err
		case b == nil: // another area may hold it
		case text != nil && !bytes.Equal(b, text):
			return nil, errDoubt("its copies of the metadata differ")
		default:
			text = b
		}
	}
	if text == nil {
		return nil, errDoubt("there is no metadata")
	}
	return text, nil
}

// pvHeader is the volume's name and where its metadata areas lie.
func pvHeader(label []byte) (uuid string, areas []Range, err error) {
	at := le.Uint32(label[20:])
	if at < 32 || at > 512-40 {
		return "", nil, errDoubt("the label is damaged")
	}
	b := label[at:]
	uuid, b = string(b[:32]), b[40:]
	for lists := 0; lists < 2; b = b[16:] {
		if len(b) < 16 {
			return "", nil, errDoubt("the label is damaged")
		}
		r := Range{int64(le.Uint64(b)), int64(le.Uint64(b[8:]))}
		switch {
		case r.Offset == 0:
			lists++
		case lists == 1:
			areas = append(areas, r)
		}
	}
	return uuid, areas, nil
}

// lvmText reads the current metadata of an area, which is a ring.
func lvmText(v volume, area Range) ([]byte, error) {
	var h [512]byte
	if err := v.read(h[:], area.Offset); err != nil {
		return nil, err
	}
	off, size := int64(le.Uint64(h[40:])), int64(le.Uint64(h[48:]))
	switch {
	case string(h[4:20]) != lvmMagic || !sums(lvmSum(h[4:]), le.Uint32(h[:])):
		return nil, errDoubt("the metadata's header is damaged")
	case off == 0 || le.Uint32(h[60:])&1 != 0:
		return nil, nil
	case off < 512 || off >= area.Length || size <= 0 || size > area.Length-512 || size > lvmMaxText:
		return nil, errDoubt("metadata of %d bytes at %d", size, off)
	}
	b := make([]byte, size)
	n := min(size, area.Length-off)
	if err := v.read(b[:n], area.Offset+off); err != nil {
		return nil, err
	}
	if err := v.read(b[n:], area.Offset+512); err != nil {
		return nil, err
	}
	if !sums(lvmSum(b), le.Uint32(h[56:])) {
		return nil, errDoubt("the metadata's checksum is wrong")
	}
	return b, nil
}

// pv is this physical volume as its group sees it.
type pv struct {
	v             volume
	name          string
	start, extent int64 // bytes
	count         int64 // of extents
	volumes       lvmSection
	mentioned     map[string]bool // volumes that others stand on
}

func newPV(v volume, group lvmSection, uuid string) (*pv, error) {
	p := &pv{v: v, extent: group.number("extent_size") * 512, volumes: group.section("logical_volumes"), mentioned: map[string]bool{}}
	for name, x := range group.section("physical_volumes") {
		d, _ := x.(lvmSection)
		if strings.ReplaceAll(d.text("id"), "-", "") == uuid {
			p.name, p.start, p.count = name, d.number("pe_start")*512, d.number("pe_count")
		}
	}
	if p.name == "" || p.extent <= 0 || p.extent > 1<<40 || p.start <= 0 || p.count <= 0 || p.count > v.size()/p.extent || p.start > v.size()-p.count*p.extent {
		return nil, errDoubt("%d extents of %d bytes from %d", p.count, p.extent, p.start)
	}
	return p, nil
}

// lv is what one logical volume has on this physical volume.
type lv struct {
	name, id string
	used     []Range // on the disk
	segments []segment
	simple   bool // linear, and all of it is here
}

func (p *pv) free(s *search, depth int) ([]Range, error) {
	var all []lv
	var used []Range
	for name, x := range p.volumes {
		d, _ := x.(lvmSection)
		l, err := p.volume(name, d)
		if err != nil {
			return nil, err
		}
		all, used = append(all, l), append(used, l.used...)
	}
	free := without([]Range{{p.start, p.count * p.extent}}, used)
	slices.SortFunc(all, func(a, b lv) int { return cmp.Compare(a.name, b.name) })
	for _, l := range all {
		if l.simple && !p.mentioned[l.name] {
			inner := &logical{id: l.id, of: p.v, segments: l.segments}
			free = append(free, s.inside(inner, depth, inner.place)...)
		}
	}
	return free, nil
}

func (p *pv) volume(name string, d lvmSection) (lv, error) {
	l := lv{name: name, id: strings.ReplaceAll(d.text("id"), "-", ""), simple: true}
	for key, x := range d {
		seg, ok := x.(lvmSection)
		if !ok || !strings.HasPrefix(key, "segment") {
			continue
		}
		p.note(seg)
		if seg.text("type") != "striped" {
			l.simple = false
			if seg.mentions(p.name) {
				return l, errDoubt("volume %s has a segment of type %s here", name, seg.text("type"))
			}
			continue
		}
		if err := p.striped(&l, seg); err != nil {
			return l, err
		}
	}
	slices.SortFunc(l.segments, func(a, b segment) int { return cmp.Compare(a.logical, b.logical) })
	end := int64(0)
	for _, g := range l.segments {
		l.simple = l.simple && g.logical == end
		end = g.logical + g.length
	}
	l.simple = l.simple && len(l.segments) > 0
	return l, nil
}

// striped adds a segment of type striped, which with one stripe is linear.
func (p *pv) striped(l *lv, seg lvmSection) error {
	stripes, _ := seg["stripes"].([]any)
	n, first, count := seg.number("stripe_count"), seg.number("start_extent"), seg.number("extent_count")
	if n <= 0 || n != int64(len(stripes)/2) || count <= 0 || count > 1<<40 || first < 0 || first > 1<<40 || len(l.segments) >= lvmMaxSegments {
		return errDoubt("a segment of %d stripes", n)
	}
	l.simple = l.simple && n == 1
	for i := 0; i+1 < len(stripes); i += 2 {
		name, _ := stripes[i].(string)
		at, ok := stripes[i+1].(int64)
		if name != p.name {
			l.simple = false
			continue
		}
		length := (count + n - 1) / n
		if !ok || at < 0 || at > p.count-length {
			return errDoubt("a segment at extent %d", at)
		}
		l.used = append(l.used, Range{p.start + at*p.extent, length * p.extent})
		l.segments = append(l.segments, segment{first * p.extent, p.start + at*p.extent, length * p.extent})
	}
	return nil
}

// note remembers every name that a segment stands on.
func (p *pv) note(seg lvmSection) {
	for _, x := range seg {
		switch x := x.(type) {
		case string:
			p.mentioned[x] = true
		case []any:
			for _, y := range x {
				if name, ok := y.(string); ok {
					p.mentioned[name] = true
				}
			}
		}
	}
}
