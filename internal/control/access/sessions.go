package access

import (
	"context"
	"fmt"
	"regexp"
	"strings"
	"time"

	"github.com/understudy-dr/understudy/internal/control"
	"github.com/understudy-dr/understudy/internal/control/access/policy"
	"github.com/understudy-dr/understudy/internal/fault"
	"github.com/understudy-dr/understudy/internal/state"
)

// Assume is a request for a role's temporary credentials.
type Assume struct {
	RoleARN string
	Name    string        // of the session
	Policy  string        // narrows the session; "" does not
	Length  time.Duration // 0 is an hour
}

var sessionNamePattern = regexp.MustCompile(`^[\w+=,.@-]{2,64}$`)

// AssumeRole makes temporary credentials of a role for a caller that the role trusts. Whether the caller's
// own policies allow sts:AssumeRole was asked before; a role that is not there looks like one that does
// not trust.
func (k *Keys) AssumeRole(ctx context.Context, caller control.Principal, a Assume) (control.AccessKey, error) {
	const op = "access: assume role"
	account, name, err := parseRoleARN(a.RoleARN)
	if err != nil {
		return control.AccessKey{}, fault.Wrap(op, err)
	}
	if !sessionNamePattern.MatchString(a.Name) {
		return control.AccessKey{}, fault.New(fault.Invalid, op, "%q is no session name: it has 2 to 64 letters, digits and characters of _+=,.@-", a.Name)
	}
	if err := checkSessionPolicy(a.Policy); err != nil {
		return control.AccessKey{}, fault.Wrap(op, err)
	}
	var key control.AccessKey
	err = k.store.Update(ctx, func(tx state.Tx) error {
		role, err := tx.Role(ctx, account, name)
		if fault.Is(err, fault.NotFound) || err == nil && !trusts(role, caller.Account, caller.ARN, caller.Role) {
			return fault.New(fault.Denied, op, "User: %s is not authorized to perform: sts:AssumeRole on resource: %s", caller.ARN, a.RoleARN)
		}
		if err != nil {
			return err
		}
		length, err := sessionLength(a.Length, role.MaxSession, caller.Role != "")
		if err != nil {
			return err
		}
		s := state.Session{Account: account, Role: name, RoleID: role.ID, Name: a.Name, IssuedTo: caller.ARN, Policy: a.Policy}
		if key, err = k.issue(ctx, tx, s, length); err != nil {
			return err
		}
		key.Principal, err = rolePrincipal(ctx, tx, role, a.Name)
		return err
	})
	return key, fault.Wrap(op, err)
}

// sessionLength is how long a role's session lasts. One that a session asks for lasts an hour at most, as
// in STS, or a stolen session could be prolonged for ever.
func sessionLength(want, most time.Duration, chained bool) (time.Duration, error) {
	if chained {
		most = min(most, maxChainedSession)
	}
	if want == 0 {
		want = min(DefaultSession, most)
	}
	if want < MinSession || want > most {
		return 0, fault.New(fault.Invalid, "access", "The requested DurationSeconds exceeds the MaxSessionDuration set for this role: %d is not between %d and %d",
			int(want.Seconds()), int(MinSession.Seconds()), int(most.Seconds()))
	}
	return want, nil
}

// SessionToken makes temporary credentials of a user, who must ask with a key of their own.
func (k *Keys) SessionToken(ctx context.Context, caller control.Principal, length time.Duration) (control.AccessKey, error) {
	const op = "access: session token"
	if caller.User == "" || caller.Session {
		return control.AccessKey{}, fault.New(fault.Denied, op, "Cannot call GetSessionToken with session credentials")
	}
	if length == 0 {
		length = DefaultUserLength
	}
	if length < MinSession || length > MaxUserSession {
		return control.AccessKey{}, fault.New(fault.Invalid, op, "DurationSeconds is %d, not between %d and %d",
			int(length.Seconds()), int(MinSession.Seconds()), int(MaxUserSession.Seconds()))
	}
	var key control.AccessKey
	err := k.store.Update(ctx, func(tx state.Tx) error {
		if _, err := findUser(ctx, tx, caller.Account, caller.User); err != nil {
			return err
		}
		var err error
		key, err = k.issue(ctx, tx, state.Session{Account: caller.Account, User: caller.User, IssuedTo: caller.ARN}, length)
		key.Principal = caller
		return err
	})
	return key, fault.Wrap(op, err)
}

// keepExpired is how long a session's record outlives it, so that its holder is told that it has expired.
const keepExpired = 24 * time.Hour

// issue makes the credentials of a session, and clears away long expired ones.
func (k *Keys) issue(ctx context.Context, tx state.Tx, s state.Session, length time.Duration) (control.AccessKey, error) {
	now := k.now().UTC()
	s.KeyID, s.CreatedAt, s.ExpiresAt = sessionPrefix+random(idAlphabet, idLength), now, now.Add(length).Truncate(time.Second)
	key := control.AccessKey{ID: s.KeyID, Account: s.Account, User: s.User, Expires: s.ExpiresAt,
		Secret: random(secretAlphabet, secretLength), Token: random(secretAlphabet, tokenLength)}
	s.Sealed = k.sealSecret(s.KeyID, key.Secret+"\n"+key.Token)
	if err := tx.DeleteSessionsBefore(ctx, now.Add(-keepExpired)); err != nil {
		return key, err
	}
	return key, tx.PutSession(ctx, s)
}

// Sessions lists an account's sessions that have not expired.
func (k *Keys) Sessions(ctx context.Context, account string) (out []state.Session, err error) {
	now := k.now()
	err = k.store.View(ctx, func(r state.Reader) error {
		return eachSession(ctx, r, account, func(s state.Session) error {
			if s.ExpiresAt.After(now) {
				out = append(out, s)
			}
			return nil
		})
	})
	return out, fault.Wrap("access: sessions", err)
}

// RevokeSession ends a session at once.
func (k *Keys) RevokeSession(ctx context.Context, account, keyID string) error {
	return fault.Wrap("access: revoke session", k.store.Update(ctx, func(tx state.Tx) error {
		s, err := tx.Session(ctx, keyID)
		if err == nil && s.Account != account {
			err = fault.New(fault.NotFound, "", "")
		}
		if err != nil {
			return missing(err, "account %s has no session %s", account, keyID)
		}
		return tx.DeleteSession(ctx, keyID)
	}))
}

func eachSession(ctx context.Context, r state.Reader, account string, visit func(state.Session) error) error {
	page := state.Page{Limit: state.MaxLimit}
	for more := true; more; more = page.After != "" {
		items, next, err := r.Sessions(ctx, account, page)
		if err != nil {
			return err
		}
		for _, s := range items {
			if err := visit(s); err != nil {
				return err
			}
		}
		page.After = next
	}
	return nil
}

// checkSessionPolicy refuses a policy that could not be applied later.
func checkSessionPolicy(document string) error {
	if document == "" {
		return nil
	}
	_, err := policy.Parse([]byte(document))
	return err
}

// parseRoleARN is the account and name of a role.
func parseRoleARN(arn string) (account, name string, err error) {
	rest, ours := strings.CutPrefix(arn, "arn:aws:iam::")
	account, name, ok := strings.Cut(rest, ":role/")
	if !ours || !ok || !accountPattern.MatchString(account) || !namePattern.MatchString(name) {
		return "", "", fault.New(fault.Invalid, "access", "%s", fmt.Sprintf("%q is no ARN of a role", arn)).
			WithHint("it looks like arn:aws:iam::123456789012:role/NAME")
	}
	return account, name, nil
}
