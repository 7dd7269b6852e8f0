package access

import (
	"context"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/understudy-dr/understudy/internal/control/access/policy"
	"github.com/understudy-dr/understudy/internal/fault"
	"github.com/understudy-dr/understudy/internal/state"
)

// Limits of a session's length, as in STS.
const (
	MinSession        = 15 * time.Minute
	DefaultSession    = time.Hour
	MaxRoleSession    = 12 * time.Hour
	maxChainedSession = time.Hour
	MaxUserSession    = 36 * time.Hour
	DefaultUserLength = 12 * time.Hour
)

var accountPattern = regexp.MustCompile(`^[0-9]{12}$`)

// PutRole adds a role or changes it. Sessions of a role that is changed go on with what it allows now.
func (k *Keys) PutRole(ctx context.Context, r state.Role) (state.Role, error) {
	const op = "access: put role"
	if r.MaxSession == 0 {
		r.MaxSession = DefaultSession
	}
	if err := checkRole(r); err != nil {
		return state.Role{}, fault.Wrap(op, err)
	}
	err := k.store.Update(ctx, func(tx state.Tx) error {
		if _, err := tx.Account(ctx, r.Account); err != nil {
			return missing(err, "there is no account %s", r.Account)
		}
		if err := checkPolicies(ctx, tx, r.Account, r.Policies); err != nil {
			return err
		}
		have, err := tx.Role(ctx, r.Account, r.Name)
		switch {
		case fault.Is(err, fault.NotFound):
			r.ID, r.CreatedAt = rolePrefix+random(idAlphabet, idLength), k.now().UTC()
		case err != nil:
			return err
		default:
			r.ID, r.CreatedAt = have.ID, have.CreatedAt
		}
		return tx.PutRole(ctx, r)
	})
	return r, fault.Wrap(op, err)
}

func checkRole(r state.Role) error {
	if err := checkName("role", r.Name); err != nil {
		return err
	}
	if r.MaxSession < MinSession || r.MaxSession > MaxRoleSession {
		return fault.New(fault.Invalid, "access", "a session lasts %v to %v, not %v", MinSession, MaxRoleSession, r.MaxSession)
	}
	if len(r.Trust) == 0 {
		return fault.New(fault.Invalid, "access", "role %s trusts nobody", r.Name).WithHint("name an account, or a user's or role's ARN")
	}
	for _, t := range r.Trust {
		if !accountPattern.MatchString(t) && !strings.HasPrefix(t, "arn:aws:iam::") && !strings.HasPrefix(t, "arn:aws:sts::") {
			return fault.New(fault.Invalid, "access", "%q is neither an account nor the ARN of a user or role", t)
		}
	}
	return nil
}

// Roles lists an account's roles by name.
func (k *Keys) Roles(ctx context.Context, account string, p state.Page) (items []state.Role, next string, err error) {
	err = k.store.View(ctx, func(r state.Reader) error {
		items, next, err = r.Roles(ctx, account, p)
		return err
	})
	return items, next, fault.Wrap("access: roles", err)
}

// DeleteRole removes a role; its sessions end with it.
func (k *Keys) DeleteRole(ctx context.Context, account, name string) error {
	return fault.Wrap("access: delete role", k.store.Update(ctx, func(tx state.Tx) error {
		if _, err := tx.Role(ctx, account, name); err != nil {
			return missing(err, "account %s has no role %s", account, name)
		}
		err := eachSession(ctx, tx, account, func(s state.Session) error {
			if s.Role != name {
				return nil
			}
			return tx.DeleteSession(ctx, s.KeyID)
		})
		if err != nil {
			return err
		}
		return tx.DeleteRole(ctx, account, name)
	}))
}

// trusts reports whether a role may be taken on by somebody of an account with these ARNs.
func trusts(r state.Role, account string, arns ...string) bool {
	return slices.ContainsFunc(r.Trust, func(t string) bool {
		if accountPattern.MatchString(t) {
			return t == account
		}
		return slices.ContainsFunc(arns, func(arn string) bool { return arn != "" && policy.Match(t, arn) })
	})
}
