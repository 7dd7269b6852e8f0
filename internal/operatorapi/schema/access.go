package schema

import "time"

// Paths of who may do what. {account} is an account's id, or Self for the caller's own.
const (
	PathCaller   = "/understudy/v1/caller"             // GET: Caller
	PathAccounts = "/understudy/v1/accounts"           // GET: Accounts; POST NewAccount: AccountMade
	PathAccount  = "/understudy/v1/accounts/{account}" // GET: Account; POST AccountChange: Account

	PathQuotas   = "/understudy/v1/accounts/{account}/quotas"                   // GET: Quotas
	PathUsers    = "/understudy/v1/accounts/{account}/users"                    // GET: Users; POST NewUser: User
	PathUser     = "/understudy/v1/accounts/{account}/users/{user}"             // POST Attached: User; DELETE
	PathUserKeys = "/understudy/v1/accounts/{account}/users/{user}/access-keys" // GET: AccessKeys; POST: AccessKeyMade
	PathAccess   = "/understudy/v1/accounts/{account}/access-keys"              // GET: AccessKeys
	PathAccessID = "/understudy/v1/accounts/{account}/access-keys/{key}"        // POST AccessKeyChange: AccessKey; DELETE
	PathPolicies = "/understudy/v1/accounts/{account}/policies"                 // GET: Policies
	PathPolicy   = "/understudy/v1/accounts/{account}/policies/{policy}"        // PUT Document: Policy; DELETE
	PathRoles    = "/understudy/v1/accounts/{account}/roles"                    // GET: Roles
	PathRole     = "/understudy/v1/accounts/{account}/roles/{role}"             // PUT NewRole: Role; DELETE
	PathSessions = "/understudy/v1/accounts/{account}/sessions"                 // GET: Sessions
	PathSession  = "/understudy/v1/accounts/{account}/sessions/{key}"           // DELETE
	PathDecision = "/understudy/v1/accounts/{account}/decision"                 // POST Question: Decision
)

// Self stands for the caller's own account.
const Self = "self"

// Caller answers PathCaller.
type Caller struct {
	Account string `json:"account"`
	ARN     string `json:"arn"`
	ID      string `json:"id"`
	Home    bool   `json:"home"` // of the installation's own account, which manages the others
}

// Account is a tenant of the installation.
type Account struct {
	ID        string           `json:"id"`
	Name      string           `json:"name,omitempty"`
	Home      bool             `json:"home,omitempty"`
	Suspended bool             `json:"suspended,omitempty"`
	Quotas    map[string]int64 `json:"quotas,omitempty"` // its own
	Created   time.Time        `json:"created"`
}

// Accounts answers GET PathAccounts.
type Accounts struct {
	Accounts []Account `json:"accounts"`
}

// NewAccount is an account to make; without an id it gets one.
type NewAccount struct {
	ID   string `json:"id,omitempty"`
	Name string `json:"name,omitempty"`
}

// AccountMade answers POST PathAccounts: the account and its administrator's key.
type AccountMade struct {
	Account Account       `json:"account"`
	Key     AccessKeyMade `json:"key"`
}

// AccountChange changes what it names. A quota that is null goes back to the installation's.
type AccountChange struct {
	Name      *string           `json:"name,omitempty"`
	Suspended *bool             `json:"suspended,omitempty"`
	Quotas    map[string]*int64 `json:"quotas,omitempty"`
}

// Quotas answers PathQuotas.
type Quotas struct {
	Quotas []Quota `json:"quotas"`
}

// Quota is one bound of an account.
type Quota struct {
	Code    string `json:"code"`
	Means   string `json:"means"`
	Value   int64  `json:"value"`
	Default int64  `json:"default"` // of the installation
	Fixed   bool   `json:"fixed,omitempty"`
}

// User of an account.
type User struct {
	Name     string    `json:"name"`
	ARN      string    `json:"arn"`
	ID       string    `json:"id"`
	Policies []string  `json:"policies"`
	Created  time.Time `json:"created"`
}

// Users answers GET PathUsers.
type Users struct {
	Users []User `json:"users"`
}

// NewUser is a user to make.
type NewUser struct {
	Name     string   `json:"name"`
	Policies []string `json:"policies"`
}

// Attached replaces a user's policies.
type Attached struct {
	Policies []string `json:"policies"`
}

// AccessKey without its secret.
type AccessKey struct {
	ID       string     `json:"id"`
	User     string     `json:"user"`
	Active   bool       `json:"active"`
	Created  time.Time  `json:"created"`
	LastUsed *time.Time `json:"lastUsed,omitempty"` // to within some minutes
	Service  string     `json:"lastUsedService,omitempty"`
	Region   string     `json:"lastUsedRegion,omitempty"`
}

// AccessKeys answers GET PathAccess and PathUserKeys.
type AccessKeys struct {
	Keys []AccessKey `json:"keys"`
}

// AccessKeyMade is a new key. Its secret cannot be had again.
type AccessKeyMade struct {
	ID     string `json:"id"`
	Secret string `json:"secret"`
	User   string `json:"user"`
}

// AccessKeyChange makes a key usable or not.
type AccessKeyChange struct {
	Active bool `json:"active"`
}

// Policy in IAM's form.
type Policy struct {
	Name     string     `json:"name"`
	ARN      string     `json:"arn,omitempty"`
	BuiltIn  bool       `json:"builtIn,omitempty"`
	Means    string     `json:"means,omitempty"`
	Document string     `json:"document"`
	Updated  *time.Time `json:"updated,omitempty"`
}

// Policies answers PathPolicies.
type Policies struct {
	Policies []Policy `json:"policies"`
}

// Document is a policy's text.
type Document struct {
	Document string `json:"document"`
}

// Role that others take on.
type Role struct {
	Name       string    `json:"name"`
	ARN        string    `json:"arn"`
	Policies   []string  `json:"policies"`
	Trust      []string  `json:"trust"`
	MaxSeconds int64     `json:"maxSessionSeconds"`
	Created    time.Time `json:"created"`
}

// Roles answers PathRoles.
type Roles struct {
	Roles []Role `json:"roles"`
}

// NewRole makes a role, or changes one.
type NewRole struct {
	Policies   []string `json:"policies"`
	Trust      []string `json:"trust"`
	MaxSeconds int64    `json:"maxSessionSeconds,omitempty"` // an hour when 0
}

// Session is a set of temporary credentials.
type Session struct {
	KeyID    string    `json:"keyId"`
	ARN      string    `json:"arn"`
	IssuedTo string    `json:"issuedTo"`
	Narrowed bool      `json:"narrowed,omitempty"` // by a policy of its own
	Created  time.Time `json:"created"`
	Expires  time.Time `json:"expires"`
}

// Sessions answers PathSessions.
type Sessions struct {
	Sessions []Session `json:"sessions"`
}

// Question is whether a key's holder may do something.
type Question struct {
	Key      string `json:"key"` // an access key's id
	Action   string `json:"action"`
	Resource string `json:"resource,omitempty"` // * when empty
}

// Decision answers PathDecision.
type Decision struct {
	ARN      string `json:"arn"`
	Decision string `json:"decision"` // allowed, implicitDeny or explicitDeny
}
