package awsapi

import (
	"context"
	"net"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/understudy-dr/understudy/internal/control"
	"github.com/understudy-dr/understudy/internal/control/access/policy"
	"github.com/understudy-dr/understudy/internal/fault"
)

// Authorize admits what the caller of a request that this handler has verified wants to do: not more often
// than the account may, and only what the caller's policies allow. It is for handlers that are mounted;
// the modelled services ask by themselves. It is a control.Authorize.
func (h *Handler) Authorize(ctx context.Context, action string, resources ...string) error {
	if e := entryFrom(ctx); e.operation == "" {
		_, e.operation, _ = strings.Cut(action, ":")
	}
	if err := h.throttle.admit(ctx, action); err != nil {
		return err
	}
	return h.decide(ctx, action, resources, nil)
}

// Simulate decides as Authorize does for a principal of one's choice, and admits nothing.
func (h *Handler) Simulate(ctx context.Context, p control.Principal, action, resource string) (policy.Decision, error) {
	e := *entryFrom(ctx)
	e.principal = p
	return p.Policies.Decide(policy.Request{Action: action, Resource: resource, Values: (&asked{h: h, entry: &e, resource: resource}).values(ctx)})
}

// decide asks the caller's policies about every resource. The request's own tags are those it would give.
func (h *Handler) decide(ctx context.Context, action string, resources []string, tags map[string]string) error {
	if len(resources) == 0 {
		resources = []string{policy.Any}
	}
	e := entryFrom(ctx)
	for _, resource := range resources {
		q := asked{h: h, entry: e, resource: resource, tags: tags}
		r := policy.Request{Action: action, Resource: resource, Values: q.values(ctx)}
		switch d, err := e.principal.Policies.Decide(r); {
		case err != nil:
			return fault.Wrap("awsapi: authorize", err)
		case d != policy.Allow:
			return refusal(e.principal, r, d)
		}
	}
	return nil
}

// refusal says no in the words of the AWS services, with the reason that they give.
func refusal(p control.Principal, r policy.Request, d policy.Decision) error {
	because := "because no identity-based policy allows the " + r.Action + " action"
	if d == policy.ExplicitDeny {
		because = "with an explicit deny in an identity-based policy"
	}
	if p.Policies.Session != nil {
		without, err := policy.Set{Identity: p.Policies.Identity}.Decide(r)
		if err == nil && without == policy.Allow {
			because = strings.Replace(because, "identity-based", "session", 1)
			because = strings.Replace(because, "an session", "a session", 1)
		}
	}
	return fault.New(fault.Denied, "", "User: %s is not authorized to perform: %s on resource: %s %s", p.ARN, r.Action, r.Resource, because)
}

// asked answers what policies ask of one request.
type asked struct {
	h        *Handler
	entry    *entry
	resource string
	tags     map[string]string

	found map[string]string // the resource's tags, once they have been asked for
}

func (q *asked) values(ctx context.Context) func(string) ([]string, error) {
	return func(key string) ([]string, error) {
		name, tag, isTag := strings.Cut(key, "/")
		if !isTag {
			return q.plain(key), nil
		}
		if name+"/" == policy.RequestTag {
			return tagValues(q.tags, tag), nil
		}
		if q.found == nil {
			var err error
			if q.found, err = q.h.resourceTags(ctx, q.resource); err != nil {
				return nil, err
			}
		}
		return tagValues(q.found, tag), nil
	}
}

func (q *asked) plain(key string) []string {
	p := q.entry.principal
	one := func(s string) []string {
		if s == "" {
			return nil
		}
		return []string{s}
	}
	switch key {
	case policy.TagKeys:
		var keys []string
		for k := range q.tags {
			keys = append(keys, k)
		}
		return keys
	case policy.SourceIP:
		return one(q.entry.sourceIP)
	case policy.SecureTransport:
		return one(strconv.FormatBool(q.entry.secure))
	case policy.CurrentTime:
		return one(q.h.cfg.Now().UTC().Format(time.RFC3339Nano))
	case policy.PrincipalARN:
		if p.Role != "" {
			return one(p.Role)
		}
		return one(p.ARN)
	case policy.PrincipalAccount:
		return one(p.Account)
	case policy.Username:
		return one(p.User)
	}
	return nil
}

// tagValues are the values of a tag; as in IAM, the case of its name does not count.
func tagValues(tags map[string]string, name string) []string {
	var out []string
	for k, v := range tags {
		if strings.EqualFold(k, name) {
			out = append(out, v)
		}
	}
	slices.Sort(out)
	return out
}

// Tagger is a mounted service whose resources have tags.
type Tagger interface {
	// ResourceTags answers fault.NotFound for a resource that does not exist.
	ResourceTags(ctx context.Context, arn string) (map[string]string, error)
}

// resourceTags are the tags of a resource, from the service that its ARN names. A resource that does not
// exist has none: the operation itself will say so.
func (h *Handler) resourceTags(ctx context.Context, arn string) (map[string]string, error) {
	none := map[string]string{}
	parts := strings.SplitN(arn, ":", 6)
	if len(parts) != 6 {
		return none, nil
	}
	s, ok := h.services[parts[2]].(Tagger)
	if !ok {
		return none, nil
	}
	tags, err := s.ResourceTags(ctx, arn)
	if fault.Is(err, fault.NotFound) {
		return none, nil
	}
	if tags == nil {
		tags = none
	}
	return tags, err
}

// sourceIP is the address that a request came from.
func sourceIP(r *http.Request) string {
	host, _, err := net.SplitHostPort(r.RemoteAddr)
	if err != nil {
		return r.RemoteAddr
	}
	return host
}
