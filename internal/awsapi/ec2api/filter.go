package ec2api

import (
	"encoding/base64"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/understudy-dr/understudy/internal/control/access/policy"
)

// filter is one of a request's filters: a resource passes when one of its values fits one of these.
type filter struct {
	name   string
	values []string
}

// facts are a resource's values of a filter; false for a filter that this kind of resource does not have.
type facts func(name string) ([]string, bool)

func (c *call) filters() []filter {
	var out []filter
	for _, n := range c.form.Numbers("Filter") {
		prefix := fmt.Sprintf("Filter.%d.", n)
		out = append(out, filter{c.form.Get(prefix + "Name"), c.form.List(prefix + "Value")})
	}
	return out
}

// passes reports whether a resource fits all filters.
func passes(filters []filter, f facts) bool {
	for _, v := range filters {
		have, _ := f(v.name)
		if !slices.ContainsFunc(have, func(h string) bool {
			return slices.ContainsFunc(v.values, func(w string) bool { return policy.Match(w, h) })
		}) {
			return false
		}
	}
	return true
}

// check refuses filters that a kind of resource does not have: to ignore one would show too much.
func check(filters []filter, f facts) error {
	for _, v := range filters {
		if _, ok := f(v.name); !ok {
			return wrong("InvalidParameterValue", "The filter '"+v.name+"' is invalid")
		}
	}
	return nil
}

// tagFacts are the values of the tag filters, which all kinds have.
func tagFacts(tags map[string]string, name string) ([]string, bool) {
	if name == "tag-key" {
		var keys []string
		for k := range tags {
			keys = append(keys, k)
		}
		return keys, true
	}
	key, ok := strings.CutPrefix(name, "tag:")
	if v, has := tags[key]; ok && has {
		return []string{v}, true
	}
	return nil, ok
}

func shownTags(tags map[string]string) []tag {
	var out []tag
	for k, v := range tags {
		out = append(out, tag{k, v})
	}
	slices.SortFunc(out, func(a, b tag) int { return strings.Compare(a.Key, b.Key) })
	return out
}

func cutPrefix(s, prefix string) (string, bool) { return strings.CutPrefix(s, prefix) }

const maxPage = 1000

// page reads MaxResults and NextToken. No MaxResults means everything, as far as a page goes.
func (c *call) page() (limit int, after string, err error) {
	n, err := c.form.Int("MaxResults")
	if err != nil {
		return 0, "", err
	}
	if c.form.Has("MaxResults") && (n < 1 || n > maxPage) {
		return 0, "", wrong("InvalidParameterValue", fmt.Sprintf("Value ( %d ) for parameter maxResults is invalid. Expecting a value between 1 and %d.", n, maxPage))
	}
	if n == 0 {
		n = maxPage
	}
	token, err := base64.RawURLEncoding.DecodeString(c.form.Get("NextToken"))
	if err != nil {
		return 0, "", wrong("InvalidNextToken", "The token is not valid.")
	}
	return int(n), string(token), nil
}

func token(after string) string { return base64.RawURLEncoding.EncodeToString([]byte(after)) }

// cut is one page of a list that is the same at every call.
func cut[T any](c *call, list []T) ([]T, string, error) {
	limit, after, err := c.page()
	if err != nil {
		return nil, "", err
	}
	from := 0
	if after != "" {
		if from, err = strconv.Atoi(after); err != nil || from < 0 || from > len(list) {
			return nil, "", wrong("InvalidNextToken", "The token is not valid.")
		}
	}
	list = list[from:]
	if len(list) <= limit {
		return list, "", nil
	}
	return list[:limit], token(strconv.Itoa(from + limit)), nil
}

// chosen keeps what is named by the ids, if any are, and passes the filters. An id that names nothing is an
// error with the given code.
func chosen[T any](list []T, ids []string, id func(T) string, code string, filters []filter, f func(T) facts) ([]T, error) {
	var zero T
	if err := check(filters, f(zero)); err != nil {
		return nil, err
	}
	for _, want := range ids {
		if !slices.ContainsFunc(list, func(v T) bool { return id(v) == want }) {
			return nil, wrong(code, "The ID '"+want+"' does not exist")
		}
	}
	return slices.DeleteFunc(slices.Clone(list), func(v T) bool {
		return len(ids) > 0 && !slices.Contains(ids, id(v)) || !passes(filters, f(v))
	}), nil
}
