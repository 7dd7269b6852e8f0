package operatorapi

import (
	"net/http"
	"time"

	"github.com/understudy-dr/understudy/internal/control/access"
	"github.com/understudy-dr/understudy/internal/control/access/policy"
	"github.com/understudy-dr/understudy/internal/fault"
	"github.com/understudy-dr/understudy/internal/operatorapi/schema"
	"github.com/understudy-dr/understudy/internal/state"
)

func (h *Handler) listPolicies(r *http.Request) (any, error) {
	account, err := h.account(r)
	if err != nil {
		return nil, err
	}
	var out schema.Policies
	for _, b := range access.BuiltIns() {
		out.Policies = append(out.Policies, schema.Policy{Name: b.Name, BuiltIn: true, Means: b.Means, Document: b.Document})
	}
	list, err := all(func(p state.Page) ([]state.Policy, string, error) { return h.Keys.Policies(r.Context(), account, p) })
	for _, p := range list {
		out.Policies = append(out.Policies, shownPolicy(p))
	}
	return out, err
}

func shownPolicy(p state.Policy) schema.Policy {
	return schema.Policy{Name: p.Name, ARN: access.PolicyARN(p.Account, p.Name), Document: p.Document, Updated: &p.UpdatedAt}
}

func (h *Handler) putPolicy(r *http.Request) (any, error) {
	in, err := body[schema.Document](r)
	if err != nil {
		return nil, err
	}
	account, err := h.account(r)
	if err != nil {
		return nil, err
	}
	p, err := h.Keys.PutPolicy(r.Context(), account, r.PathValue("policy"), in.Document)
	return shownPolicy(p), err
}

func (h *Handler) deletePolicy(r *http.Request) (any, error) {
	account, err := h.account(r)
	if err != nil {
		return nil, err
	}
	return done, h.Keys.DeletePolicy(r.Context(), account, r.PathValue("policy"))
}

func shownRole(v state.Role) schema.Role {
	return schema.Role{Name: v.Name, ARN: access.RoleARN(v.Account, v.Name), Policies: append([]string{}, v.Policies...),
		Trust: append([]string{}, v.Trust...), MaxSeconds: int64(v.MaxSession / time.Second), Created: v.CreatedAt}
}

func (h *Handler) listRoles(r *http.Request) (any, error) {
	account, err := h.account(r)
	if err != nil {
		return nil, err
	}
	list, err := all(func(p state.Page) ([]state.Role, string, error) { return h.Keys.Roles(r.Context(), account, p) })
	out := schema.Roles{Roles: []schema.Role{}}
	for _, v := range list {
		out.Roles = append(out.Roles, shownRole(v))
	}
	return out, err
}

func (h *Handler) putRole(r *http.Request) (any, error) {
	in, err := body[schema.NewRole](r)
	if err != nil {
		return nil, err
	}
	account, err := h.account(r)
	if err != nil {
		return nil, err
	}
	v, err := h.Keys.PutRole(r.Context(), state.Role{Account: account, Name: r.PathValue("role"), Policies: in.Policies, Trust: in.Trust,
		MaxSession: seconds(in.MaxSeconds)})
	return shownRole(v), err
}

func (h *Handler) deleteRole(r *http.Request) (any, error) {
	account, err := h.account(r)
	if err != nil {
		return nil, err
	}
	return done, h.Keys.DeleteRole(r.Context(), account, r.PathValue("role"))
}

func (h *Handler) listSessions(r *http.Request) (any, error) {
	account, err := h.account(r)
	if err != nil {
		return nil, err
	}
	list, err := h.Keys.Sessions(r.Context(), account)
	out := schema.Sessions{Sessions: []schema.Session{}}
	for _, s := range list {
		arn := access.UserARN(account, s.User)
		if s.Role != "" {
			arn = access.SessionARN(account, s.Role, s.Name)
		}
		out.Sessions = append(out.Sessions, schema.Session{KeyID: s.KeyID, ARN: arn, IssuedTo: s.IssuedTo, Narrowed: s.Policy != "",
			Created: s.CreatedAt, Expires: s.ExpiresAt})
	}
	return out, err
}

func (h *Handler) revokeSession(r *http.Request) (any, error) {
	account, err := h.account(r)
	if err != nil {
		return nil, err
	}
	return done, h.Keys.RevokeSession(r.Context(), account, r.PathValue("key"))
}

// decision tells what would be decided, without doing anything.
func (h *Handler) decision(r *http.Request) (any, error) {
	in, err := body[schema.Question](r)
	if err != nil {
		return nil, err
	}
	account, err := h.account(r)
	if err != nil {
		return nil, err
	}
	if in.Resource == "" {
		in.Resource = policy.Any
	}
	key, err := h.Keys.Lookup(r.Context(), in.Key)
	if err == nil && key.Account != account || fault.Is(err, fault.Denied) {
		return nil, fault.New(fault.NotFound, "", "account %s has no access key %s that is to be used", account, in.Key)
	}
	if err != nil {
		return nil, err
	}
	d, err := h.Simulate(r.Context(), key.Principal, in.Action, in.Resource)
	return schema.Decision{ARN: key.Principal.ARN, Decision: d}, err
}
