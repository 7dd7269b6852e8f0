package policy

import (
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/understudy-dr/understudy/internal/fault"
)

// Key is what a policy may ask of a request.
type Key struct {
	Name   string // in its usual spelling; a tag key ends in "/" and the tag's name follows
	Means  string
	many   bool // may have several values
	costly bool // must be fetched
}

// The condition keys.
const (
	RequestTag       = "aws:RequestTag/"
	ResourceTag      = "aws:ResourceTag/"
	TagKeys          = "aws:TagKeys"
	SourceIP         = "aws:SourceIp"
	SecureTransport  = "aws:SecureTransport"
	CurrentTime      = "aws:CurrentTime"
	PrincipalARN     = "aws:PrincipalArn"
	PrincipalAccount = "aws:PrincipalAccount"
	Username         = "aws:username"
)

// Keys lists the condition keys that are known here. A policy with another is refused.
var Keys = []Key{
	{Name: RequestTag, Means: "a tag in the request"},
	{Name: ResourceTag, Means: "a tag that the resource has", costly: true},
	{Name: TagKeys, Means: "the names of the tags in the request", many: true},
	{Name: SourceIP, Means: "the address the request came from"},
	{Name: SecureTransport, Means: "whether the request came over TLS"},
	{Name: CurrentTime, Means: "now"},
	{Name: PrincipalARN, Means: "the ARN of who asks; of a session, its role's"},
	{Name: PrincipalAccount, Means: "the account of who asks"},
	{Name: Username, Means: "the name of the user who asks; sessions of roles have none"},
}

// findKey is the key in its usual spelling, a tag's name behind it, and what is known of it.
func findKey(name string) (string, Key, error) {
	for _, k := range Keys {
		if tag, ok := cutFold(name, k.Name); ok && (tag != "") == strings.HasSuffix(k.Name, "/") {
			return k.Name + tag, k, nil
		}
	}
	var known []string
	for _, k := range Keys {
		known = append(known, k.Name)
	}
	return "", Key{}, fault.New(fault.Invalid, "", "condition key %q is unknown here", name).
		WithHint("known are " + strings.Join(known, ", "))
}

func cutFold(s, prefix string) (string, bool) {
	if len(s) < len(prefix) || !strings.EqualFold(s[:len(prefix)], prefix) {
		return "", false
	}
	return s[len(prefix):], true
}

// condition is one operator on one key, met when one of its values compares.
type condition struct {
	name     string
	key      Key
	operator operator
	forAll   bool // ForAllValues:
	forAny   bool // ForAnyValue:
	ifExists bool
	null     bool // the Null operator: whether the key is absent
	absent   bool // what Null wants
	want     []wanted
}

// wanted is one value of a condition, read once.
type wanted struct {
	pattern pattern
	prefix  netip.Prefix
	time    time.Time
	truth   bool
}

// operator compares one value of a request.
type operator struct {
	parse   func(string, bool) (wanted, error)
	compare func(have string, w wanted, values func(string) ([]string, error)) (bool, error)
	not     bool
}

var operators = map[string]operator{
	"StringEquals":              {parseLiteral, equalText, false},
	"StringNotEquals":           {parseLiteral, equalText, true},
	"StringEqualsIgnoreCase":    {parseLiteral, equalFold, false},
	"StringNotEqualsIgnoreCase": {parseLiteral, equalFold, true},
	"StringLike":                {parseLike, likeText, false},
	"StringNotLike":             {parseLike, likeText, true},
	"ArnEquals":                 {parseLike, likeText, false},
	"ArnLike":                   {parseLike, likeText, false},
	"ArnNotEquals":              {parseLike, likeText, true},
	"ArnNotLike":                {parseLike, likeText, true},
	"IpAddress":                 {parseAddress, inNetwork, false},
	"NotIpAddress":              {parseAddress, inNetwork, true},
	"Bool":                      {parseBool, equalBool, false},
	"DateLessThan":              {parseTime, before, false},
	"DateLessThanEquals":        {parseTime, after, true},
	"DateGreaterThan":           {parseTime, after, false},
	"DateGreaterThanEquals":     {parseTime, before, true},
	"Null":                      {parseBool, nil, false},
}

func parseCondition(name, key string, values []scalar, variables bool) (condition, error) {
	full, k, err := findKey(key)
	if err != nil {
		return condition{}, err
	}
	c := condition{name: full, key: k}
	rest, forAll := strings.CutPrefix(name, "ForAllValues:")
	rest, forAny := strings.CutPrefix(rest, "ForAnyValue:")
	rest, c.ifExists = strings.CutSuffix(rest, "IfExists")
	c.forAll, c.forAny, c.null = forAll, forAny, rest == "Null"
	o, ok := operators[rest]
	switch {
	case !ok:
		return c, fault.New(fault.Invalid, "", "condition operator %q is unknown here", name)
	case c.null && (forAll || forAny || c.ifExists || len(values) != 1):
		return c, fault.New(fault.Invalid, "", "the operator Null stands alone and has one value")
	case k.many != (forAll || forAny) && !c.null:
		return c, fault.New(fault.Invalid, "", "%s: ForAllValues: and ForAnyValue: are for keys with several values, and those need one of them", key)
	case len(values) == 0:
		return c, fault.New(fault.Invalid, "", "%s has no values", key)
	}
	c.operator = o
	for _, v := range values {
		w, err := o.parse(string(v), variables)
		if err != nil {
			return c, err
		}
		c.want = append(c.want, w)
	}
	c.absent = c.null && c.want[0].truth
	return c, nil
}

// met holds a condition against a request. A key that the request does not have meets only operators
// that say what it must not be, as in IAM.
func (c *condition) met(values func(string) ([]string, error)) (bool, error) {
	have, err := values(c.name)
	switch {
	case err != nil:
		return false, err
	case c.null:
		return (len(have) == 0) == c.absent, nil
	case len(have) == 0:
		return c.ifExists || c.forAll || c.operator.not && !c.forAny, nil
	}
	for _, h := range have {
		one, err := c.one(h, values)
		if err != nil {
			return false, err
		}
		// A negated operator must hold for all values of a key; any other for one, unless it says otherwise.
		if every := c.forAll || c.operator.not && !c.forAny; one != every {
			return one, nil
		}
	}
	return c.forAll || c.operator.not && !c.forAny, nil
}

// one compares one value of the request with the wanted ones, of which one must compare.
func (c *condition) one(have string, values func(string) ([]string, error)) (bool, error) {
	for _, w := range c.want {
		if hit, err := c.operator.compare(have, w, values); err != nil || hit {
			return hit != c.operator.not, err
		}
	}
	return c.operator.not, nil
}

// parseLiteral reads text in which a wildcard is only a character.
func parseLiteral(s string, variables bool) (wanted, error) {
	p, err := parsePattern(s, variables)
	for i := range p {
		switch p[i].kind {
		case anyText:
			p[i] = part{literal: "*"}
		case anyRune:
			p[i] = part{literal: "?"}
		}
	}
	return wanted{pattern: p}, err
}

func parseLike(s string, variables bool) (wanted, error) {
	p, err := parsePattern(s, variables)
	return wanted{pattern: p}, err
}

func equalText(have string, w wanted, values func(string) ([]string, error)) (bool, error) {
	return w.pattern.match(have, values)
}

func likeText(have string, w wanted, values func(string) ([]string, error)) (bool, error) {
	return w.pattern.match(have, values)
}

func equalFold(have string, w wanted, values func(string) ([]string, error)) (bool, error) {
	folded := slices.Clone(w.pattern)
	for i := range folded {
		folded[i].literal = lower(folded[i].literal)
	}
	return folded.match(lower(have), func(key string) ([]string, error) {
		v, err := values(key)
		out := make([]string, len(v))
		for i := range v {
			out[i] = lower(v[i])
		}
		return out, err
	})
}

func parseAddress(s string, _ bool) (wanted, error) {
	if a, err := netip.ParseAddr(s); err == nil {
		return wanted{prefix: netip.PrefixFrom(a.Unmap(), a.Unmap().BitLen())}, nil
	}
	p, err := netip.ParsePrefix(s)
	if err != nil {
		return wanted{}, fault.New(fault.Invalid, "", "%q is neither an address nor a network", s)
	}
	return wanted{prefix: p}, nil
}

func inNetwork(have string, w wanted, _ func(string) ([]string, error)) (bool, error) {
	a, err := netip.ParseAddr(have)
	return err == nil && w.prefix.Contains(a.Unmap().WithZone("")), nil
}

func parseBool(s string, _ bool) (wanted, error) {
	truth, err := strconv.ParseBool(lower(s))
	if err != nil {
		return wanted{}, fault.New(fault.Invalid, "", "%q is neither true nor false", s)
	}
	return wanted{truth: truth}, nil
}

func equalBool(have string, w wanted, _ func(string) ([]string, error)) (bool, error) {
	return have == strconv.FormatBool(w.truth), nil
}

func parseTime(s string, _ bool) (wanted, error) {
	t, err := time.Parse(time.RFC3339, s)
	if err != nil {
		return wanted{}, fault.New(fault.Invalid, "", "%q is no time", s).WithHint("it looks like 2026-01-02T03:04:05Z")
	}
	return wanted{time: t}, nil
}

func before(have string, w wanted, _ func(string) ([]string, error)) (bool, error) {
	t, err := time.Parse(time.RFC3339Nano, have)
	return err == nil && t.Before(w.time), nil
}

func after(have string, w wanted, _ func(string) ([]string, error)) (bool, error) {
	t, err := time.Parse(time.RFC3339Nano, have)
	return err == nil && t.After(w.time), nil
}
