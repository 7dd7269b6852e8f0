package operatorapi

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"io"
	"math/big"
	"net/http"
	"time"

	"github.com/understudy-dr/understudy/internal/control"
	"github.com/understudy-dr/understudy/internal/control/access"
	"github.com/understudy-dr/understudy/internal/control/accounts"
	"github.com/understudy-dr/understudy/internal/control/quotas"
	"github.com/understudy-dr/understudy/internal/fault"
	"github.com/understudy-dr/understudy/internal/operatorapi/schema"
	"github.com/understudy-dr/understudy/internal/sigv4"
	"github.com/understudy-dr/understudy/internal/state"
)

// Access is what managing accounts, users and keys works on.
type Access struct {
	Keys     *access.Keys
	Accounts *accounts.Accounts
	Quotas   *quotas.Limits
	// Home is the installation's own account, which manages the others.
	Home   string
	Region string
	// Authorize admits the caller of a request.
	Authorize control.Authorize
	// Simulate decides for somebody else.
	Simulate func(ctx context.Context, p control.Principal, action, resource string) (string, error)
}

func (h *Handler) routeAccess() {
	for pattern, op := range map[string]func(*http.Request) (any, error){
		"GET " + schema.PathCaller:    h.caller,
		"GET " + schema.PathAccounts:  h.listAccounts,
		"POST " + schema.PathAccounts: h.createAccount,
		"GET " + schema.PathAccount:   h.getAccount,
		"POST " + schema.PathAccount:  h.changeAccount,
		"GET " + schema.PathQuotas:    h.quotas,

		"GET " + schema.PathUsers:       h.listUsers,
		"POST " + schema.PathUsers:      h.createUser,
		"POST " + schema.PathUser:       h.changeUser,
		"DELETE " + schema.PathUser:     h.deleteUser,
		"GET " + schema.PathUserKeys:    h.listKeys,
		"GET " + schema.PathAccess:      h.listKeys,
		"POST " + schema.PathUserKeys:   h.createKey,
		"POST " + schema.PathAccessID:   h.changeKey,
		"DELETE " + schema.PathAccessID: h.deleteKey,

		"GET " + schema.PathPolicies:   h.listPolicies,
		"PUT " + schema.PathPolicy:     h.putPolicy,
		"DELETE " + schema.PathPolicy:  h.deletePolicy,
		"GET " + schema.PathRoles:      h.listRoles,
		"PUT " + schema.PathRole:       h.putRole,
		"DELETE " + schema.PathRole:    h.deleteRole,
		"GET " + schema.PathSessions:   h.listSessions,
		"DELETE " + schema.PathSession: h.revokeSession,
		"POST " + schema.PathDecision:  h.decision,
	} {
		h.mux.HandleFunc(pattern, h.answer(op))
	}
}

// body reads a request's JSON.
func body[T any](r *http.Request) (in T, err error) {
	dec := json.NewDecoder(io.LimitReader(r.Body, maxBody))
	dec.DisallowUnknownFields()
	if err := dec.Decode(&in); err != nil {
		return in, fault.New(fault.Invalid, "", "the body is not what this operation takes: %w", err)
	}
	return in, nil
}

// all reads every page of a list.
func all[T any](list func(state.Page) ([]T, string, error)) (out []T, err error) {
	page := state.Page{Limit: state.MaxLimit}
	for more := true; more; more = page.After != "" {
		items, next, err := list(page)
		if err != nil {
			return nil, err
		}
		out, page.After = append(out, items...), next
	}
	return out, nil
}

// done answers operations that have nothing to say.
var done = struct{}{}

func (h *Handler) caller(r *http.Request) (any, error) {
	c, _ := sigv4.CallerFrom(r.Context())
	return schema.Caller{Account: c.AccountID, ARN: c.ARN, ID: control.PrincipalFrom(r.Context()).ID, Home: c.AccountID == h.Home}, nil
}

func (h *Handler) shownAccount(a state.Account) schema.Account {
	return schema.Account{ID: a.ID, Name: a.Name, Home: a.ID == h.Home, Suspended: a.Suspended, Quotas: a.Quotas, Created: a.CreatedAt}
}

func (h *Handler) listAccounts(r *http.Request) (any, error) {
	list, err := all(func(p state.Page) ([]state.Account, string, error) { return h.Access.Accounts.List(r.Context(), p) })
	out := schema.Accounts{Accounts: []schema.Account{}}
	for _, a := range list {
		out.Accounts = append(out.Accounts, h.shownAccount(a))
	}
	return out, err
}

func (h *Handler) getAccount(r *http.Request) (any, error) {
	id, err := h.account(r)
	if err != nil {
		return nil, err
	}
	a, err := h.Access.Accounts.Get(r.Context(), id)
	return h.shownAccount(a), err
}

// createAccount makes an account that can be used: with an administrator, whose key is answered.
func (h *Handler) createAccount(r *http.Request) (any, error) {
	in, err := body[schema.NewAccount](r)
	if err != nil {
		return nil, err
	}
	if in.ID == "" {
		if in.ID, err = newAccountID(); err != nil {
			return nil, err
		}
	}
	a, err := h.Access.Accounts.Create(r.Context(), in.ID, in.Name)
	if err != nil {
		return nil, err
	}
	key, err := h.Keys.Create(r.Context(), a.ID, access.Administrator, true)
	return schema.AccountMade{Account: h.shownAccount(a), Key: shownSecret(key)}, err
}

// newAccountID is twelve random digits.
func newAccountID() (string, error) {
	n, err := rand.Int(rand.Reader, big.NewInt(900_000_000_000))
	if err != nil {
		return "", fault.New(fault.Bug, "new account id", "%w", err)
	}
	return n.Add(n, big.NewInt(100_000_000_000)).String(), nil
}

func (h *Handler) changeAccount(r *http.Request) (any, error) {
	in, err := body[schema.AccountChange](r)
	if err != nil {
		return nil, err
	}
	id, err := h.account(r)
	if err != nil {
		return nil, err
	}
	if id == h.Home && in.Suspended != nil && *in.Suspended {
		return nil, fault.New(fault.Conflict, "", "account %s is the installation's own; nobody could lift its suspension", id)
	}
	a, err := h.Access.Accounts.Change(r.Context(), id, accounts.Change{Name: in.Name, Suspended: in.Suspended, Quotas: in.Quotas})
	return h.shownAccount(a), err
}

func (h *Handler) quotas(r *http.Request) (any, error) {
	id, err := h.account(r)
	if err != nil {
		return nil, err
	}
	a, err := h.Access.Accounts.Get(r.Context(), id)
	out := schema.Quotas{}
	for _, q := range quotas.Table {
		out.Quotas = append(out.Quotas, schema.Quota{Code: string(q.Code), Means: q.Means, Value: h.Access.Quotas.Of(a, q.Code),
			Default: h.Access.Quotas.Value(q.Code), Fixed: q.Fixed})
	}
	return out, err
}

func shownUser(u state.User) schema.User {
	return schema.User{Name: u.Name, ARN: access.UserARN(u.Account, u.Name), ID: u.ID, Policies: append([]string{}, u.Policies...), Created: u.CreatedAt}
}

func (h *Handler) listUsers(r *http.Request) (any, error) {
	account, err := h.account(r)
	if err != nil {
		return nil, err
	}
	list, err := all(func(p state.Page) ([]state.User, string, error) { return h.Keys.Users(r.Context(), account, p) })
	out := schema.Users{Users: []schema.User{}}
	for _, u := range list {
		out.Users = append(out.Users, shownUser(u))
	}
	return out, err
}

func (h *Handler) createUser(r *http.Request) (any, error) {
	in, err := body[schema.NewUser](r)
	if err != nil {
		return nil, err
	}
	account, err := h.account(r)
	if err != nil {
		return nil, err
	}
	u, err := h.Keys.CreateUser(r.Context(), account, in.Name, in.Policies)
	return shownUser(u), err
}

func (h *Handler) changeUser(r *http.Request) (any, error) {
	in, err := body[schema.Attached](r)
	if err != nil {
		return nil, err
	}
	account, err := h.account(r)
	if err != nil {
		return nil, err
	}
	u, err := h.Keys.SetUserPolicies(r.Context(), account, r.PathValue("user"), in.Policies)
	return shownUser(u), err
}

func (h *Handler) deleteUser(r *http.Request) (any, error) {
	account, err := h.account(r)
	if err != nil {
		return nil, err
	}
	return done, h.Keys.DeleteUser(r.Context(), account, r.PathValue("user"))
}

func shownKey(k state.AccessKey) schema.AccessKey {
	out := schema.AccessKey{ID: k.ID, User: k.User, Active: !k.Inactive, Created: k.CreatedAt, Service: k.LastUsedService, Region: k.LastUsedRegion}
	if !k.LastUsedAt.IsZero() {
		out.LastUsed = &k.LastUsedAt
	}
	return out
}

func shownSecret(k control.AccessKey) schema.AccessKeyMade {
	return schema.AccessKeyMade{ID: k.ID, Secret: k.Secret, User: k.User}
}

func (h *Handler) listKeys(r *http.Request) (any, error) {
	account, err := h.account(r)
	if err != nil {
		return nil, err
	}
	list, err := h.Keys.List(r.Context(), account, r.PathValue("user"))
	out := schema.AccessKeys{Keys: []schema.AccessKey{}}
	for _, k := range list {
		out.Keys = append(out.Keys, shownKey(k))
	}
	return out, err
}

func (h *Handler) createKey(r *http.Request) (any, error) {
	account, err := h.account(r)
	if err != nil {
		return nil, err
	}
	k, err := h.Keys.CreateKey(r.Context(), account, r.PathValue("user"))
	return shownSecret(k), err
}

// key finds the key that the request names and admits the caller to its user. Who may not is not told
// whether there is such a key.
func (h *Handler) key(r *http.Request, action string) (account, id string, err error) {
	if account, err = h.account(r); err != nil {
		return "", "", err
	}
	id = r.PathValue("key")
	k, findErr := h.Keys.Find(r.Context(), account, id)
	if err := h.Authorize(r.Context(), schema.Service+":"+action, access.UserARN(account, k.User)); err != nil {
		return "", "", err
	}
	return account, id, findErr
}

func (h *Handler) changeKey(r *http.Request) (any, error) {
	in, err := body[schema.AccessKeyChange](r)
	if err != nil {
		return nil, err
	}
	account, id, err := h.key(r, "ChangeAccessKey")
	if err != nil {
		return nil, err
	}
	if err := h.Keys.SetKeyActive(r.Context(), account, id, in.Active); err != nil {
		return nil, err
	}
	k, err := h.Keys.Find(r.Context(), account, id)
	return shownKey(k), err
}

func (h *Handler) deleteKey(r *http.Request) (any, error) {
	account, id, err := h.key(r, "DeleteAccessKey")
	if err != nil {
		return nil, err
	}
	return done, h.Keys.Delete(r.Context(), account, id)
}

// seconds is a length as it is sent, kept from overflowing.
func seconds(n int64) time.Duration {
	const most = int64(1 << 30)
	return time.Duration(max(-most, min(n, most))) * time.Second
}
