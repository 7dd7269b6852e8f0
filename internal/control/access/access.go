// Package access keeps who may do what: users with their access keys, roles that others take on, policies
// in IAM's form and temporary credentials. Secrets are needed in plain text to verify SigV4 signatures, so
// they are stored sealed with a key in a file of this machine: the database alone, as in a backup, gives
// nobody access. internal/app opens it; internal/awsapi looks keys up through control.Access, and
// internal/operatorapi manages them.
package access

import (
	"context"
	"crypto/cipher"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"time"

	"github.com/understudy-dr/understudy/internal/control"
	"github.com/understudy-dr/understudy/internal/fault"
	"github.com/understudy-dr/understudy/internal/state"
)

// Alphabets and lengths that AWS's own ids and keys have; clients and secret scanners know them.
const (
	keyPrefix      = "AKIA"
	sessionPrefix  = "ASIA"
	userPrefix     = "AIDA"
	rolePrefix     = "AROA"
	idAlphabet     = "ABCDEFGHIJKLMNOPQRSTUVWXYZ234567"
	idLength       = 16
	secretAlphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"
	secretLength   = 40
	tokenLength    = 200
)

// Keys keeps who may do what.
type Keys struct {
	store state.Store
	seal  cipher.AEAD
	now   func() time.Time

	mu    sync.Mutex
	noted map[string]time.Time // when a key's last use was last written
}

var _ control.Access = (*Keys)(nil)

// Open opens the keys in store, with their sealing key under dir; that is made the first time.
func Open(store state.Store, dir string) (*Keys, error) {
	seal, err := newSeal(filepath.Join(dir, "access.key"))
	if err != nil {
		return nil, fault.Wrap("access: open", err)
	}
	return &Keys{store: store, seal: seal, now: time.Now, noted: map[string]time.Time{}}, nil
}

var namePattern = regexp.MustCompile(`^[\w+=,.@-]{1,64}$`)

// checkName refuses what IAM would refuse too.
func checkName(what, name string) error {
	if !namePattern.MatchString(name) {
		return fault.New(fault.Invalid, "access", "%q is no name of a %s: it has 1 to 64 letters, digits and characters of _+=,.@-", name, what)
	}
	return nil
}

// Lookup finds a credential by its key id. fault.Denied stands for every reason why it is not to be used,
// so that who tries keys learns nothing.
func (k *Keys) Lookup(ctx context.Context, id string) (key control.AccessKey, err error) {
	const op = "access: lookup"
	var sealed []byte
	err = k.store.View(ctx, func(r state.Reader) error {
		if strings.HasPrefix(id, sessionPrefix) {
			key, sealed, err = session(ctx, r, id)
		} else {
			key, sealed, err = longTerm(ctx, r, id)
		}
		if err != nil {
			return err
		}
		key.Principal.Quotas, err = checkAccount(ctx, r, key.Account)
		return err
	})
	if fault.Is(err, fault.NotFound) {
		return control.AccessKey{}, fault.New(fault.Denied, op, "access key %q is not to be used", id)
	}
	if err != nil {
		return control.AccessKey{}, fault.Wrap(op, err)
	}
	secret, err := k.openSecret(id, sealed)
	if err != nil {
		return control.AccessKey{}, fault.Wrap(op, err)
	}
	key.Secret, key.Token, _ = strings.Cut(secret, "\n") // a session's record holds both
	return key, nil
}

// checkAccount refuses the keys of an account that is suspended or gone; else it tells the account's own
// quotas.
func checkAccount(ctx context.Context, r state.Reader, id string) (map[string]int64, error) {
	a, err := r.Account(ctx, id)
	if err == nil && a.Suspended {
		err = fault.New(fault.Denied, "access", "account %s is suspended", id)
	}
	return a.Quotas, err
}

// longTerm is a user's own key.
func longTerm(ctx context.Context, r state.Reader, id string) (control.AccessKey, []byte, error) {
	record, err := r.AccessKey(ctx, id)
	if err != nil {
		return control.AccessKey{}, nil, err
	}
	if record.Inactive {
		return control.AccessKey{}, nil, fault.New(fault.Denied, "access", "access key %s is inactive", id)
	}
	user, err := r.User(ctx, record.Account, record.User)
	if err != nil {
		return control.AccessKey{}, nil, err
	}
	principal, err := userPrincipal(ctx, r, user)
	if err != nil {
		return control.AccessKey{}, nil, err
	}
	return control.AccessKey{ID: id, Account: user.Account, User: user.Name, Admin: administers(user.Policies), Principal: principal}, record.Sealed, nil
}

// session is a set of temporary credentials. It is as good as its user or role is now.
func session(ctx context.Context, r state.Reader, id string) (control.AccessKey, []byte, error) {
	none := control.AccessKey{}
	s, err := r.Session(ctx, id)
	if err != nil {
		return none, nil, err
	}
	key := control.AccessKey{ID: id, Account: s.Account, User: s.User, Expires: s.ExpiresAt}
	if s.User != "" {
		user, err := r.User(ctx, s.Account, s.User)
		if err != nil {
			return none, nil, err
		}
		key.Admin = administers(user.Policies)
		key.Principal, err = userPrincipal(ctx, r, user)
		if err != nil {
			return none, nil, err
		}
	} else {
		role, err := r.Role(ctx, s.Account, s.Role)
		if err != nil {
			return none, nil, err
		}
		if role.ID != s.RoleID {
			return none, nil, fault.New(fault.NotFound, "access", "the role %s of this session is gone", s.Role)
		}
		key.Admin = administers(role.Policies)
		key.Principal, err = rolePrincipal(ctx, r, role, s.Name)
		if err != nil {
			return none, nil, err
		}
	}
	key.Principal.Session = true
	if err := narrow(&key.Principal, s.Policy); err != nil {
		return none, nil, err
	}
	return key, s.Sealed, nil
}

const noteEvery = 5 * time.Minute

// Used notes the last use of a user's key, at most once in five minutes: a write for every call would cost
// more than the call.
func (k *Keys) Used(ctx context.Context, id, service, region string) error {
	if strings.HasPrefix(id, sessionPrefix) {
		return nil
	}
	now := k.now().UTC()
	k.mu.Lock()
	before, ok := k.noted[id]
	if ok && now.Sub(before) < noteEvery {
		k.mu.Unlock()
		return nil
	}
	k.noted[id] = now
	k.mu.Unlock()
	err := k.store.Update(ctx, func(tx state.Tx) error {
		r, err := tx.AccessKey(ctx, id)
		if fault.Is(err, fault.NotFound) {
			return nil // deleted meanwhile
		}
		if err != nil {
			return err
		}
		r.LastUsedAt, r.LastUsedService, r.LastUsedRegion = now, service, region
		return tx.PutAccessKey(ctx, r)
	})
	if err != nil {
		k.mu.Lock()
		delete(k.noted, id)
		k.mu.Unlock()
	}
	return fault.Wrap("access: note use", err)
}
