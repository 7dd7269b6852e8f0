package access

import (
	"context"
	"slices"

	"github.com/understudy-dr/understudy/internal/control"
	"github.com/understudy-dr/understudy/internal/control/access/policy"
	"github.com/understudy-dr/understudy/internal/fault"
	"github.com/understudy-dr/understudy/internal/state"
)

// UserARN names a user.
func UserARN(account, name string) string { return "arn:aws:iam::" + account + ":user/" + name }

// RoleARN names a role.
func RoleARN(account, name string) string { return "arn:aws:iam::" + account + ":role/" + name }

// PolicyARN names a policy.
func PolicyARN(account, name string) string { return "arn:aws:iam::" + account + ":policy/" + name }

// SessionARN names a session of a role.
func SessionARN(account, role, name string) string {
	return "arn:aws:sts::" + account + ":assumed-role/" + role + "/" + name
}

func administers(policies []string) bool { return slices.Contains(policies, Administrator) }

func userPrincipal(ctx context.Context, r state.Reader, u state.User) (control.Principal, error) {
	documents, err := documents(ctx, r, u.Account, u.Policies)
	return control.Principal{Account: u.Account, ARN: UserARN(u.Account, u.Name), ID: u.ID, User: u.Name,
		Policies: policy.Set{Identity: documents}}, err
}

func rolePrincipal(ctx context.Context, r state.Reader, role state.Role, session string) (control.Principal, error) {
	documents, err := documents(ctx, r, role.Account, role.Policies)
	return control.Principal{Account: role.Account, ARN: SessionARN(role.Account, role.Name, session), Role: RoleARN(role.Account, role.Name),
		ID: role.ID + ":" + session, Policies: policy.Set{Identity: documents}}, err
}

// narrow adds the policy that temporary credentials were asked for with.
func narrow(p *control.Principal, document string) error {
	if document == "" {
		return nil
	}
	d, err := policy.Parse([]byte(document))
	if err != nil {
		return fault.New(fault.Corruption, "access: session policy", "%w", err)
	}
	p.Policies.Session = d
	return nil
}

// documents are the policies of the given names. One that is missing is an error: it may have denied.
func documents(ctx context.Context, r state.Reader, account string, names []string) ([]*policy.Document, error) {
	var out []*policy.Document
	for _, name := range names {
		if d, ok := builtIn[name]; ok {
			out = append(out, d.parsed)
			continue
		}
		record, err := r.Policy(ctx, account, name)
		if err != nil {
			return nil, fault.New(fault.Corruption, "access: policies", "policy %s of account %s: %w", name, account, err)
		}
		d, err := policy.Parse([]byte(record.Document))
		if err != nil {
			return nil, fault.New(fault.Corruption, "access: policies", "policy %s of account %s: %w", name, account, err)
		}
		out = append(out, d)
	}
	return out, nil
}

// checkPolicies refuses names that stand for nothing.
func checkPolicies(ctx context.Context, r state.Reader, account string, names []string) error {
	for i, name := range names {
		if slices.Contains(names[:i], name) {
			return fault.New(fault.Invalid, "access", "policy %s is named twice", name)
		}
		if _, ok := builtIn[name]; ok {
			continue
		}
		_, err := r.Policy(ctx, account, name)
		if fault.Is(err, fault.NotFound) {
			return fault.New(fault.NotFound, "access", "account %s has no policy %q", account, name).
				WithHint("built in are " + builtInNames() + "; 'understudy access policies put' adds one")
		}
		if err != nil {
			return err
		}
	}
	if len(names) > maxPolicies {
		return fault.New(fault.Conflict, "access", "%d policies are more than %d: %w", len(names), maxPolicies, control.ErrQuota)
	}
	return nil
}

const maxPolicies = 10 // of one user or role, as in IAM
