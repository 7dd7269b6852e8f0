package policy

import (
	"strings"
	"unicode/utf8"

	"github.com/understudy-dr/understudy/internal/fault"
)

// pattern is text with wildcards and variables, cut up once.
type pattern []part

// part is a literal, a wildcard, or a variable by its key.
type part struct {
	literal  string
	variable string
	kind     partKind
}

type partKind uint8

const (
	literal  partKind = iota
	anyText           // *
	anyRune           // ?
	variable          // ${key}
)

func lower(s string) string { return strings.ToLower(s) }

// parsePattern cuts s up. Variables are read only where the policy's version has them.
func parsePattern(s string, variables bool) (pattern, error) {
	var p pattern
	for s != "" {
		i := strings.IndexAny(s, "*?$")
		if i < 0 {
			return append(p, part{literal: s}), nil
		}
		if i > 0 {
			p = append(p, part{literal: s[:i]})
			s = s[i:]
		}
		switch {
		case s[0] == '*':
			p = append(p, part{kind: anyText})
		case s[0] == '?':
			p = append(p, part{kind: anyRune})
		case variables && strings.HasPrefix(s, "${"):
			v, rest, err := parseVariable(s)
			if err != nil {
				return nil, err
			}
			p = append(p, v)
			s = rest
			continue
		default:
			p = append(p, part{literal: s[:1]})
		}
		s = s[1:]
	}
	return p, nil
}

// parseVariable reads "${...}" at the head of s. ${*}, ${?} and ${$} stand for the characters themselves.
func parseVariable(s string) (part, string, error) {
	name, rest, ok := strings.Cut(s[2:], "}")
	if !ok {
		return part{}, "", fault.New(fault.Invalid, "", "the variable in %q has no end", s)
	}
	switch name {
	case "*", "?", "$":
		return part{literal: name}, rest, nil
	}
	key, k, err := findKey(name)
	if err != nil || k.many {
		return part{}, "", fault.New(fault.Invalid, "", "${%s} is no variable that is known here", name)
	}
	return part{kind: variable, variable: key}, rest, nil
}

// match reports whether the whole of s fits. A variable without a value makes the pattern fit nothing.
func (p pattern) match(s string, values func(string) ([]string, error)) (bool, error) {
	resolved := p
	for i, v := range p {
		if v.kind != variable {
			continue
		}
		have, err := values(v.variable)
		if err != nil || len(have) != 1 {
			return false, err
		}
		if &resolved[0] == &p[0] {
			resolved = append(pattern(nil), p...)
		}
		resolved[i] = part{literal: have[0]} // a wildcard in a value is only a character
	}
	return resolved.fits(s), nil
}

// fits goes back to the last * only, so its cost is at most the product of both lengths.
func (p pattern) fits(s string) bool {
	i, at := 0, 0
	star, starAt := -1, 0
	for {
		if i < len(p) {
			if n, ok := p[i].take(s[at:]); ok {
				if p[i].kind == anyText {
					star, starAt = i, at
				}
				i++
				at += n
				continue
			}
		} else if at == len(s) {
			return true
		}
		if star < 0 || starAt >= len(s) {
			return false
		}
		_, n := utf8.DecodeRuneInString(s[starAt:])
		starAt += n
		i, at = star+1, starAt
	}
}

// take is how much of s's head the part covers.
func (p part) take(s string) (int, bool) {
	switch p.kind {
	case anyText:
		return 0, true
	case anyRune:
		_, n := utf8.DecodeRuneInString(s)
		return n, n > 0
	}
	return len(p.literal), strings.HasPrefix(s, p.literal)
}

// Match reports whether the whole of s fits text with the wildcards * and ?.
func Match(text, s string) bool {
	p, err := parsePattern(text, false)
	return err == nil && p.fits(s)
}
