package usedblocks

import "strconv"

// lvmSection is a section of LVM's metadata: int64, string, []any and lvmSection by name.
type lvmSection map[string]any

func (s lvmSection) number(name string) int64 {
	n, _ := s[name].(int64)
	return n
}

func (s lvmSection) text(name string) string {
	t, _ := s[name].(string)
	return t
}

func (s lvmSection) section(name string) lvmSection {
	x, _ := s[name].(lvmSection)
	return x
}

// mentions tells whether a value is, or a list contains, a string.
func (s lvmSection) mentions(name string) bool {
	for _, x := range s {
		list, ok := x.([]any)
		if !ok {
			list = []any{x}
		}
		for _, y := range list {
			if t, ok := y.(string); ok && t == name {
				return true
			}
		}
	}
	return false
}

// parseLVM returns the one section of a volume group.
func parseLVM(text []byte) (lvmSection, error) {
	p := &lvmParser{b: text}
	top, err := p.section(0)
	if err != nil {
		return nil, err
	}
	var group lvmSection
	for _, x := range top {
		if s, ok := x.(lvmSection); ok {
			if group != nil {
				return nil, errDoubt("two volume groups in one text")
			}
			group = s
		}
	}
	if group == nil {
		return nil, errDoubt("no volume group in its text")
	}
	return group, nil
}

const lvmMaxDepth = 8

type lvmParser struct {
	b  []byte
	at int
}

func (p *lvmParser) bad() error { return errDoubt("the metadata does not parse at byte %d", p.at) }

// next skips blanks and comments and returns the byte there; 0 at the end.
func (p *lvmParser) next() byte {
	for ; p.at < len(p.b); p.at++ {
		switch c := p.b[p.at]; c {
		case ' ', '\t', '\n', '\r', 0:
		case '#':
			for p.at < len(p.b) && p.b[p.at] != '\n' {
				p.at++
			}
		default:
			return c
		}
	}
	return 0
}

// section reads up to its closing brace, or the end at the top.
func (p *lvmParser) section(depth int) (lvmSection, error) {
	s := lvmSection{}
	if depth > lvmMaxDepth {
		return nil, p.bad()
	}
	for {
		switch c := p.next(); {
		case c == 0 && depth == 0:
			return s, nil
		case c == '}' && depth > 0:
			p.at++
			return s, nil
		}
		name := p.word()
		if _, twice := s[name]; name == "" || twice {
			return nil, p.bad()
		}
		var err error
		switch p.next() {
		case '{':
			p.at++
			s[name], err = p.section(depth + 1)
		case '=':
			p.at++
			s[name], err = p.value()
		default:
			err = p.bad()
		}
		if err != nil {
			return nil, err
		}
	}
}

func (p *lvmParser) word() string {
	from := p.at
	for p.at < len(p.b) {
		c := p.b[p.at]
		if c != '_' && c != '-' && c != '.' && c != '+' && c != '/' && (c < '0' || c > '9') && (c < 'a' || c > 'z') && (c < 'A' || c > 'Z') {
			break
		}
		p.at++
	}
	return string(p.b[from:p.at])
}

func (p *lvmParser) value() (any, error) {
	if p.next() != '[' {
		return p.scalar()
	}
	p.at++
	list := []any{}
	for {
		switch p.next() {
		case ']':
			p.at++
			return list, nil
		case ',':
			p.at++
			continue
		}
		x, err := p.scalar()
		if err != nil {
			return nil, err
		}
		list = append(list, x)
	}
}

// scalar is a string in quotes, or a number; a fraction is kept as text.
func (p *lvmParser) scalar() (any, error) {
	if p.next() == '"' {
		var out []byte
		for p.at++; p.at < len(p.b); p.at++ {
			switch c := p.b[p.at]; {
			case c == '"':
				p.at++
				return string(out), nil
			case c == '\\' && p.at+1 < len(p.b):
				p.at++
				out = append(out, p.b[p.at])
			default:
				out = append(out, c)
			}
		}
		return nil, p.bad()
	}
	w := p.word()
	if w == "" {
		return nil, p.bad()
	}
	if n, err := strconv.ParseInt(w, 10, 64); err == nil {
		return n, nil
	}
	return w, nil
}
