package state

import (
	"context"
	"time"
)

// Account is a tenant of the installation.
type Account struct {
	ID        string
	Name      string
	Suspended bool             // its keys are refused; what it replicates goes on
	Quotas    map[string]int64 `json:",omitempty"` // by quota code, where they differ from the defaults
	CreatedAt time.Time
}

// User is a person or a program of an account. Names are unique within an account, and case counts.
type User struct {
	Account   string
	Name      string
	ID        string   // AIDA..., never used again
	Policies  []string // names: built in, or of the account
	CreatedAt time.Time
}

// Role is what a caller takes on by AssumeRole.
type Role struct {
	Account    string
	Name       string
	ID         string   // AROA...
	Policies   []string // names: built in, or of the account
	Trust      []string // who may take it on: accounts, or ARNs with wildcards
	MaxSession time.Duration
	CreatedAt  time.Time
}

// Policy is a policy of an account's own.
type Policy struct {
	Account   string
	Name      string
	Document  string // in IAM's form
	CreatedAt time.Time
	UpdatedAt time.Time
}

// Session is one set of temporary credentials. It acts with the policies that its user or role has now.
type Session struct {
	KeyID     string // ASIA...
	Account   string
	User      string // of GetSessionToken, else ""
	Role      string // of AssumeRole, else ""
	RoleID    string // a role made anew under the same name is another
	Name      string // of AssumeRole
	IssuedTo  string // ARN of who asked
	Sealed    []byte // secret and token
	Policy    string // narrows, in IAM's form; "" does not
	CreatedAt time.Time
	ExpiresAt time.Time
}

// AccessReader reads who may do what. It is part of Reader. Lists are in order of name or key.
type AccessReader interface {
	Account(ctx context.Context, id string) (Account, error)
	Accounts(ctx context.Context, p Page) (items []Account, next string, err error)
	User(ctx context.Context, account, name string) (User, error)
	Users(ctx context.Context, account string, p Page) (items []User, next string, err error)
	Role(ctx context.Context, account, name string) (Role, error)
	Roles(ctx context.Context, account string, p Page) (items []Role, next string, err error)
	Policy(ctx context.Context, account, name string) (Policy, error)
	Policies(ctx context.Context, account string, p Page) (items []Policy, next string, err error)
	Session(ctx context.Context, keyID string) (Session, error)
	Sessions(ctx context.Context, account string, p Page) (items []Session, next string, err error)
}

// AccessTx writes who may do what. It is part of Tx.
type AccessTx interface {
	PutAccount(ctx context.Context, a Account) error
	PutUser(ctx context.Context, u User) error
	DeleteUser(ctx context.Context, account, name string) error
	PutRole(ctx context.Context, r Role) error
	DeleteRole(ctx context.Context, account, name string) error
	PutPolicy(ctx context.Context, p Policy) error
	DeletePolicy(ctx context.Context, account, name string) error
	PutSession(ctx context.Context, s Session) error
	DeleteSession(ctx context.Context, keyID string) error
	// DeleteSessionsBefore removes the sessions of all accounts that ended before t.
	DeleteSessionsBefore(ctx context.Context, t time.Time) error
}
