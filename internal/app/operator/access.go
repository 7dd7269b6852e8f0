package operator

import (
	"context"
	"net/http"

	"github.com/understudy-dr/understudy/internal/operatorapi/schema"
)

// Caller tells who the credentials belong to.
func (c *Client) Caller(ctx context.Context) (out schema.Caller, err error) {
	err = c.call(ctx, http.MethodGet, schema.PathCaller, nil, nil, &out)
	return out, err
}

// Access manages the users, keys, policies and roles of one account.
type Access struct {
	client  *Client
	account string
}

// Access is of the caller's own account when account is empty.
func (c *Client) Access(account string) Access {
	if account == "" {
		account = schema.Self
	}
	return Access{c, account}
}

// Accounts lists the installation's accounts.
func (c *Client) Accounts(ctx context.Context) (out schema.Accounts, err error) {
	err = c.call(ctx, http.MethodGet, schema.PathAccounts, nil, nil, &out)
	return out, err
}

// CreateAccount makes an account and its administrator.
func (c *Client) CreateAccount(ctx context.Context, in schema.NewAccount) (out schema.AccountMade, err error) {
	err = c.call(ctx, http.MethodPost, schema.PathAccounts, nil, in, &out)
	return out, err
}

func (a Access) at(path string, params ...string) string {
	return place(path, append([]string{"account", a.account}, params...)...)
}

// ChangeAccount changes the account.
func (a Access) ChangeAccount(ctx context.Context, in schema.AccountChange) (out schema.Account, err error) {
	err = a.client.call(ctx, http.MethodPost, a.at(schema.PathAccount), nil, in, &out)
	return out, err
}

// Quotas lists the account's quotas.
func (a Access) Quotas(ctx context.Context) (out schema.Quotas, err error) {
	err = a.client.call(ctx, http.MethodGet, a.at(schema.PathQuotas), nil, nil, &out)
	return out, err
}

// Users lists the users.
func (a Access) Users(ctx context.Context) (out schema.Users, err error) {
	err = a.client.call(ctx, http.MethodGet, a.at(schema.PathUsers), nil, nil, &out)
	return out, err
}

// CreateUser makes a user.
func (a Access) CreateUser(ctx context.Context, in schema.NewUser) (out schema.User, err error) {
	err = a.client.call(ctx, http.MethodPost, a.at(schema.PathUsers), nil, in, &out)
	return out, err
}

// SetUserPolicies replaces a user's policies.
func (a Access) SetUserPolicies(ctx context.Context, user string, policies []string) (out schema.User, err error) {
	err = a.client.call(ctx, http.MethodPost, a.at(schema.PathUser, "user", user), nil, schema.Attached{Policies: policies}, &out)
	return out, err
}

// DeleteUser removes a user with all keys.
func (a Access) DeleteUser(ctx context.Context, user string) error {
	return a.client.call(ctx, http.MethodDelete, a.at(schema.PathUser, "user", user), nil, nil, &struct{}{})
}

// Keys lists the account's access keys, or one user's.
func (a Access) Keys(ctx context.Context, user string) (out schema.AccessKeys, err error) {
	path := a.at(schema.PathAccess)
	if user != "" {
		path = a.at(schema.PathUserKeys, "user", user)
	}
	err = a.client.call(ctx, http.MethodGet, path, nil, nil, &out)
	return out, err
}

// CreateKey makes a further key of a user.
func (a Access) CreateKey(ctx context.Context, user string) (out schema.AccessKeyMade, err error) {
	err = a.client.call(ctx, http.MethodPost, a.at(schema.PathUserKeys, "user", user), nil, struct{}{}, &out)
	return out, err
}

// SetKeyActive makes a key usable or not.
func (a Access) SetKeyActive(ctx context.Context, key string, active bool) (out schema.AccessKey, err error) {
	err = a.client.call(ctx, http.MethodPost, a.at(schema.PathAccessID, "key", key), nil, schema.AccessKeyChange{Active: active}, &out)
	return out, err
}

// DeleteKey removes a key.
func (a Access) DeleteKey(ctx context.Context, key string) error {
	return a.client.call(ctx, http.MethodDelete, a.at(schema.PathAccessID, "key", key), nil, nil, &struct{}{})
}

// Policies lists the built-in policies and the account's own.
func (a Access) Policies(ctx context.Context) (out schema.Policies, err error) {
	err = a.client.call(ctx, http.MethodGet, a.at(schema.PathPolicies), nil, nil, &out)
	return out, err
}

// PutPolicy adds or replaces a policy.
func (a Access) PutPolicy(ctx context.Context, name, document string) (out schema.Policy, err error) {
	err = a.client.call(ctx, http.MethodPut, a.at(schema.PathPolicy, "policy", name), nil, schema.Document{Document: document}, &out)
	return out, err
}

// DeletePolicy removes a policy that nobody has.
func (a Access) DeletePolicy(ctx context.Context, name string) error {
	return a.client.call(ctx, http.MethodDelete, a.at(schema.PathPolicy, "policy", name), nil, nil, &struct{}{})
}

// Roles lists the roles.
func (a Access) Roles(ctx context.Context) (out schema.Roles, err error) {
	err = a.client.call(ctx, http.MethodGet, a.at(schema.PathRoles), nil, nil, &out)
	return out, err
}

// PutRole adds or changes a role.
func (a Access) PutRole(ctx context.Context, name string, in schema.NewRole) (out schema.Role, err error) {
	err = a.client.call(ctx, http.MethodPut, a.at(schema.PathRole, "role", name), nil, in, &out)
	return out, err
}

// DeleteRole removes a role; its sessions end.
func (a Access) DeleteRole(ctx context.Context, name string) error {
	return a.client.call(ctx, http.MethodDelete, a.at(schema.PathRole, "role", name), nil, nil, &struct{}{})
}

// Sessions lists the temporary credentials that are good now.
func (a Access) Sessions(ctx context.Context) (out schema.Sessions, err error) {
	err = a.client.call(ctx, http.MethodGet, a.at(schema.PathSessions), nil, nil, &out)
	return out, err
}

// RevokeSession ends temporary credentials at once.
func (a Access) RevokeSession(ctx context.Context, key string) error {
	return a.client.call(ctx, http.MethodDelete, a.at(schema.PathSession, "key", key), nil, nil, &struct{}{})
}

// Decide tells what would be decided for a key's holder.
func (a Access) Decide(ctx context.Context, q schema.Question) (out schema.Decision, err error) {
	err = a.client.call(ctx, http.MethodPost, a.at(schema.PathDecision), nil, q, &out)
	return out, err
}
