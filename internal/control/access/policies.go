package access

import (
	"context"
	"maps"
	"slices"

	"github.com/understudy-dr/understudy/internal/control/access/policy"
	"github.com/understudy-dr/understudy/internal/fault"
	"github.com/understudy-dr/understudy/internal/state"
)

// BuiltIns lists the policies that every account has, by name.
func BuiltIns() []BuiltIn {
	var out []BuiltIn
	for _, name := range slices.Sorted(maps.Keys(builtIn)) {
		out = append(out, builtIn[name])
	}
	return out
}

// Policies lists an account's own policies by name.
func (k *Keys) Policies(ctx context.Context, account string, p state.Page) (items []state.Policy, next string, err error) {
	err = k.store.View(ctx, func(r state.Reader) error {
		items, next, err = r.Policies(ctx, account, p)
		return err
	})
	return items, next, fault.Wrap("access: policies", err)
}

// PutPolicy adds or replaces a policy of an account; it counts from the next request on.
func (k *Keys) PutPolicy(ctx context.Context, account, name, document string) (out state.Policy, err error) {
	const op = "access: put policy"
	if err := checkName("policy", name); err != nil {
		return out, fault.Wrap(op, err)
	}
	if _, ok := builtIn[name]; ok {
		return out, fault.New(fault.Conflict, op, "policy %s is built in", name).WithHint("choose another name")
	}
	if _, err := policy.Parse([]byte(document)); err != nil {
		return out, fault.Wrap(op, err)
	}
	now := k.now().UTC()
	err = k.store.Update(ctx, func(tx state.Tx) error {
		if _, err := tx.Account(ctx, account); err != nil {
			return missing(err, "there is no account %s", account)
		}
		out, err = tx.Policy(ctx, account, name)
		if fault.Is(err, fault.NotFound) {
			out, err = state.Policy{Account: account, Name: name, CreatedAt: now}, nil
		}
		if err != nil {
			return err
		}
		out.Document, out.UpdatedAt = document, now
		return tx.PutPolicy(ctx, out)
	})
	return out, fault.Wrap(op, err)
}

// DeletePolicy removes a policy that nobody has.
func (k *Keys) DeletePolicy(ctx context.Context, account, name string) error {
	return fault.Wrap("access: delete policy", k.store.Update(ctx, func(tx state.Tx) error {
		if _, err := tx.Policy(ctx, account, name); err != nil {
			return missing(err, "account %s has no policy %s of its own", account, name)
		}
		holder, err := holder(ctx, tx, account, name)
		if err != nil {
			return err
		}
		if holder != "" {
			return fault.New(fault.Conflict, "access", "policy %s is in use by %s", name, holder).WithHint("give that another policy first")
		}
		return tx.DeletePolicy(ctx, account, name)
	}))
}

// holder is somebody who has a policy, or "".
func holder(ctx context.Context, r state.Reader, account, name string) (string, error) {
	page := state.Page{Limit: state.MaxLimit}
	for more := true; more; more = page.After != "" {
		users, next, err := r.Users(ctx, account, page)
		if err != nil {
			return "", err
		}
		for _, u := range users {
			if slices.Contains(u.Policies, name) {
				return UserARN(account, u.Name), nil
			}
		}
		page.After = next
	}
	for more := true; more; more = page.After != "" {
		roles, next, err := r.Roles(ctx, account, page)
		if err != nil {
			return "", err
		}
		for _, v := range roles {
			if slices.Contains(v.Policies, name) {
				return RoleARN(account, v.Name), nil
			}
		}
		page.After = next
	}
	return "", nil
}
