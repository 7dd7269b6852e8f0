package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/understudy-dr/understudy/internal/app/operator"
	"github.com/understudy-dr/understudy/internal/operatorapi/schema"
)

type accessRolesCmd struct {
	List   rolesListCmd   `cmd:"" default:"withargs" help:"List roles."`
	Put    rolesPutCmd    `cmd:"" help:"Add or change a role."`
	Delete rolesDeleteCmd `cmd:"" help:"Remove a role; its sessions end."`
}

type rolesListCmd struct {
	accessFlags `embed:""`
}

func (c *rolesListCmd) Run(ctx context.Context) error {
	return with(ctx, c.accessFlags, func(a operator.Access) (schema.Roles, error) { return a.Roles(ctx) }, func(w io.Writer, v schema.Roles) {
		fmt.Fprintln(w, "ROLE\tPOLICIES\tTRUSTS\tLONGEST SESSION")
		for _, r := range v.Roles {
			fmt.Fprintf(w, "%s\t%s\t%s\t%s\n", r.ARN, strings.Join(r.Policies, ","), strings.Join(r.Trust, ","), time.Duration(r.MaxSeconds)*time.Second)
		}
	})
}

type rolesPutCmd struct {
	accessFlags `embed:""`
	Name        string        `arg:"" help:"The role's name."`
	Policy      []string      `help:"What the role may do." required:""`
	Trust       []string      `help:"Who may take it on: account ids, or ARNs of users and roles with wildcards." required:""`
	MaxSession  time.Duration `help:"Longest session, 15m to 12h." default:"1h"`
}

func (c *rolesPutCmd) Run(ctx context.Context) error {
	return with(ctx, c.accessFlags, func(a operator.Access) (schema.Role, error) {
		return a.PutRole(ctx, c.Name, schema.NewRole{Policies: c.Policy, Trust: c.Trust, MaxSeconds: int64(c.MaxSession / time.Second)})
	}, func(w io.Writer, r schema.Role) { fmt.Fprintln(w, r.ARN) })
}

type rolesDeleteCmd struct {
	accessFlags `embed:""`
	Name        string `arg:"" help:"The role's name."`
}

func (c *rolesDeleteCmd) Run(ctx context.Context) error {
	return without(ctx, c.accessFlags, func(a operator.Access) error { return a.DeleteRole(ctx, c.Name) })
}

type accessSessionsCmd struct {
	List   sessionsListCmd   `cmd:"" default:"withargs" help:"List temporary credentials that are good now."`
	Revoke sessionsRevokeCmd `cmd:"" help:"End temporary credentials at once."`
}

type sessionsListCmd struct {
	accessFlags `embed:""`
}

func (c *sessionsListCmd) Run(ctx context.Context) error {
	return with(ctx, c.accessFlags, func(a operator.Access) (schema.Sessions, error) { return a.Sessions(ctx) }, func(w io.Writer, v schema.Sessions) {
		fmt.Fprintln(w, "KEY\tACTS AS\tISSUED TO\tEXPIRES")
		for _, s := range v.Sessions {
			fmt.Fprintf(w, "%s\t%s\t%s\t%s\n", s.KeyID, s.ARN, s.IssuedTo, day(s.Expires))
		}
	})
}

type sessionsRevokeCmd struct {
	accessFlags `embed:""`
	Key         string `arg:"" help:"Access key of the session, ASIA..."`
}

func (c *sessionsRevokeCmd) Run(ctx context.Context) error {
	return without(ctx, c.accessFlags, func(a operator.Access) error { return a.RevokeSession(ctx, c.Key) })
}

type accessAccountsCmd struct {
	List    accountsListCmd    `cmd:"" default:"withargs" help:"List accounts."`
	Create  accountsCreateCmd  `cmd:"" help:"Make an account with an administrator, and print the administrator's key."`
	Suspend accountsSuspendCmd `cmd:"" help:"Refuse an account's keys. Its agents go on replicating."`
	Resume  accountsResumeCmd  `cmd:"" help:"Take an account's keys again."`
	Quota   accountsQuotaCmd   `cmd:"" help:"Set an account's own quota."`
}

type accountsListCmd struct {
	accessFlags `embed:""`
}

func (c *accountsListCmd) Run(ctx context.Context) error {
	client, err := c.client(ctx)
	if err != nil {
		return err
	}
	list, err := client.Accounts(ctx)
	if err != nil {
		return err
	}
	if c.JSON {
		return printJSON(list)
	}
	w := tabwriter.NewWriter(os.Stdout, 0, 8, 2, ' ', 0)
	fmt.Fprintln(w, "ACCOUNT\tNAME\tSTATE\tOWN QUOTAS")
	for _, a := range list.Accounts {
		showAccount(w, a)
	}
	return w.Flush()
}

func showAccount(w io.Writer, a schema.Account) {
	state := "active"
	switch {
	case a.Home:
		state = "home"
	case a.Suspended:
		state = "suspended"
	}
	fmt.Fprintf(w, "%s\t%s\t%s\t%v\n", a.ID, a.Name, state, a.Quotas)
}

type accountsCreateCmd struct {
	accessFlags `embed:""`
	ID          string `arg:"" optional:"" help:"Twelve digits; random if left out."`
	Name        string `help:"What people call it."`
}

func (c *accountsCreateCmd) Run(ctx context.Context) error {
	client, err := c.client(ctx)
	if err != nil {
		return err
	}
	made, err := client.CreateAccount(ctx, schema.NewAccount{ID: c.ID, Name: c.Name})
	if err != nil {
		return err
	}
	if c.JSON {
		return printJSON(made)
	}
	fmt.Printf("# account %s\n", made.Account.ID)
	showSecret(os.Stdout, made.Key)
	return nil
}

// accountArg names an account that is to be changed.
type accountArg struct {
	connection `embed:""`
	ID         string `arg:"" help:"The account."`
	JSON       bool   `help:"Print JSON."`
}

func (c accountArg) change(ctx context.Context, in schema.AccountChange) error {
	return with(ctx, accessFlags{connection: c.connection, Account: c.ID, JSON: c.JSON}, func(a operator.Access) (schema.Account, error) {
		return a.ChangeAccount(ctx, in)
	}, showAccount)
}

type accountsSuspendCmd struct {
	accountArg `embed:""`
}

func (c *accountsSuspendCmd) Run(ctx context.Context) error {
	return c.change(ctx, schema.AccountChange{Suspended: new(true)})
}

type accountsResumeCmd struct {
	accountArg `embed:""`
}

func (c *accountsResumeCmd) Run(ctx context.Context) error {
	return c.change(ctx, schema.AccountChange{Suspended: new(false)})
}

type accountsQuotaCmd struct {
	accountArg `embed:""`
	Code       string `arg:"" help:"The quota's code, as 'access quotas' prints it."`
	Value      *int64 `arg:"" optional:"" help:"Its value; the installation's if left out."`
}

func (c *accountsQuotaCmd) Run(ctx context.Context) error {
	return c.change(ctx, schema.AccountChange{Quotas: map[string]*int64{c.Code: c.Value}})
}

type accessQuotasCmd struct {
	accessFlags `embed:""`
}

func (c *accessQuotasCmd) Run(ctx context.Context) error {
	return with(ctx, c.accessFlags, func(a operator.Access) (schema.Quotas, error) { return a.Quotas(ctx) }, func(w io.Writer, v schema.Quotas) {
		fmt.Fprintln(w, "CODE\tVALUE\tINSTALLATION\tMEANS")
		for _, q := range v.Quotas {
			means := q.Means
			if q.Fixed {
				means += " (fixed)"
			}
			fmt.Fprintf(w, "%s\t%d\t%d\t%s\n", q.Code, q.Value, q.Default, means)
		}
	})
}
