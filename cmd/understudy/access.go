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
	"github.com/understudy-dr/understudy/internal/fault"
	"github.com/understudy-dr/understudy/internal/operatorapi/schema"
)

type accessCmd struct {
	Whoami   whoamiCmd         `cmd:"" help:"Show who the credentials in use belong to."`
	Check    checkCmd          `cmd:"" help:"Show whether a key's holder may do something."`
	Users    accessUsersCmd    `cmd:"" help:"Users of an account."`
	Keys     accessKeysCmd     `cmd:"" help:"Users' access keys."`
	Policies accessPoliciesCmd `cmd:"" help:"What users and roles may do, in IAM's form."`
	Roles    accessRolesCmd    `cmd:"" help:"Roles, which callers take on with 'aws sts assume-role'."`
	Sessions accessSessionsCmd `cmd:"" help:"Temporary credentials."`
	Accounts accessAccountsCmd `cmd:"" help:"Accounts of the installation. Its own account manages them."`
	Quotas   accessQuotasCmd   `cmd:"" help:"Show an account's quotas."`
}

// accessFlags are of every verb that manages access.
type accessFlags struct {
	connection `embed:""`
	Account    string `help:"The account, where it is not the caller's own." placeholder:"ID"`
	JSON       bool   `help:"Print JSON."`
}

// with calls the server and shows what it answers.
func with[T any](ctx context.Context, f accessFlags, call func(operator.Access) (T, error), show func(io.Writer, T)) error {
	client, err := f.client(ctx)
	if err != nil {
		return err
	}
	out, err := call(client.Access(f.Account))
	if err != nil {
		return err
	}
	if f.JSON {
		return printJSON(out)
	}
	w := tabwriter.NewWriter(os.Stdout, 0, 8, 2, ' ', 0)
	show(w, out)
	return w.Flush()
}

// without is with for calls that answer nothing.
func without(ctx context.Context, f accessFlags, call func(operator.Access) error) error {
	client, err := f.client(ctx)
	if err != nil {
		return err
	}
	return call(client.Access(f.Account))
}

func day(t time.Time) string { return t.UTC().Format("2006-01-02T15:04:05Z") }

type whoamiCmd struct {
	accessFlags `embed:""`
}

func (c *whoamiCmd) Run(ctx context.Context) error {
	client, err := c.client(ctx)
	if err != nil {
		return err
	}
	who, err := client.Caller(ctx)
	if err != nil {
		return err
	}
	if c.JSON {
		return printJSON(who)
	}
	fmt.Printf("%s\n", who.ARN)
	return nil
}

type checkCmd struct {
	accessFlags `embed:""`
	Key         string `arg:"" help:"Access key, AKIA... or ASIA..."`
	Action      string `arg:"" help:"Action, as drs:StartRecovery."`
	Resource    string `arg:"" optional:"" help:"Resource, an ARN; * if left out."`
}

func (c *checkCmd) Run(ctx context.Context) error {
	return with(ctx, c.accessFlags, func(a operator.Access) (schema.Decision, error) {
		return a.Decide(ctx, schema.Question{Key: c.Key, Action: c.Action, Resource: c.Resource})
	}, func(w io.Writer, d schema.Decision) { fmt.Fprintf(w, "%s\t%s\n", d.Decision, d.ARN) })
}

type accessUsersCmd struct {
	List   usersListCmd   `cmd:"" default:"withargs" help:"List users with their policies."`
	Create usersCreateCmd `cmd:"" help:"Make a user; 'keys create' makes the user's key."`
	Set    usersSetCmd    `cmd:"" help:"Replace a user's policies."`
	Delete usersDeleteCmd `cmd:"" help:"Remove a user with all keys; sessions end."`
}

type usersListCmd struct {
	accessFlags `embed:""`
}

func (c *usersListCmd) Run(ctx context.Context) error {
	return with(ctx, c.accessFlags, func(a operator.Access) (schema.Users, error) { return a.Users(ctx) }, func(w io.Writer, v schema.Users) {
		fmt.Fprintln(w, "USER\tPOLICIES\tCREATED")
		for _, u := range v.Users {
			fmt.Fprintf(w, "%s\t%s\t%s\n", u.Name, strings.Join(u.Policies, ","), day(u.Created))
		}
	})
}

func showUser(w io.Writer, u schema.User) {
	fmt.Fprintf(w, "%s\t%s\n", u.ARN, strings.Join(u.Policies, ","))
}

type usersCreateCmd struct {
	accessFlags `embed:""`
	Name        string   `arg:"" help:"The user's name."`
	Policy      []string `help:"What the user may do: administrator, operator, read-only, agent-installer or a policy of the account's own." required:""`
}

func (c *usersCreateCmd) Run(ctx context.Context) error {
	return with(ctx, c.accessFlags, func(a operator.Access) (schema.User, error) {
		return a.CreateUser(ctx, schema.NewUser{Name: c.Name, Policies: c.Policy})
	}, showUser)
}

type usersSetCmd struct {
	accessFlags `embed:""`
	Name        string   `arg:"" help:"The user's name."`
	Policy      []string `help:"All that the user may do from now on."`
}

func (c *usersSetCmd) Run(ctx context.Context) error {
	return with(ctx, c.accessFlags, func(a operator.Access) (schema.User, error) { return a.SetUserPolicies(ctx, c.Name, c.Policy) }, showUser)
}

type usersDeleteCmd struct {
	accessFlags `embed:""`
	Name        string `arg:"" help:"The user's name."`
}

func (c *usersDeleteCmd) Run(ctx context.Context) error {
	return without(ctx, c.accessFlags, func(a operator.Access) error { return a.DeleteUser(ctx, c.Name) })
}

type accessKeysCmd struct {
	List       keysListCmd       `cmd:"" default:"withargs" help:"List keys and when each was last used."`
	Create     keysCreateCmd     `cmd:"" help:"Make a key. A user has two at most, so that one can be replaced while the other works."`
	Deactivate keysDeactivateCmd `cmd:"" help:"Make a key unusable, in a way that can be undone."`
	Activate   keysActivateCmd   `cmd:"" help:"Make a key usable again."`
	Delete     keysDeleteCmd     `cmd:"" help:"Remove a key."`
}

type keysListCmd struct {
	accessFlags `embed:""`
	User        string `arg:"" optional:"" help:"Only keys of this user."`
}

func (c *keysListCmd) Run(ctx context.Context) error {
	return with(ctx, c.accessFlags, func(a operator.Access) (schema.AccessKeys, error) { return a.Keys(ctx, c.User) }, func(w io.Writer, v schema.AccessKeys) {
		fmt.Fprintln(w, "KEY\tUSER\tSTATE\tCREATED\tLAST USED")
		for _, k := range v.Keys {
			fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\n", k.ID, k.User, activity(k.Active), day(k.Created), lastUse(k))
		}
	})
}

func activity(active bool) string {
	if active {
		return "active"
	}
	return "inactive"
}

func lastUse(k schema.AccessKey) string {
	if k.LastUsed == nil {
		return "never"
	}
	return day(*k.LastUsed) + " " + k.Service
}

type keysCreateCmd struct {
	accessFlags `embed:""`
	User        string `arg:"" help:"The user's name."`
}

// Run prints an AWS credentials file, so that it can be redirected into one.
func (c *keysCreateCmd) Run(ctx context.Context) error {
	return with(ctx, c.accessFlags, func(a operator.Access) (schema.AccessKeyMade, error) { return a.CreateKey(ctx, c.User) }, showSecret)
}

func showSecret(w io.Writer, k schema.AccessKeyMade) {
	fmt.Fprintf(w, "[%s]\naws_access_key_id = %s\naws_secret_access_key = %s\n", k.User, k.ID, k.Secret)
}

type keyArg struct {
	accessFlags `embed:""`
	Key         string `arg:"" help:"Access key, AKIA..."`
}

func (c *keyArg) activate(ctx context.Context, active bool) error {
	return with(ctx, c.accessFlags, func(a operator.Access) (schema.AccessKey, error) { return a.SetKeyActive(ctx, c.Key, active) },
		func(w io.Writer, k schema.AccessKey) {
			fmt.Fprintf(w, "%s\t%s\tlast used %s\n", k.ID, activity(k.Active), lastUse(k))
		})
}

type keysDeactivateCmd struct {
	keyArg `embed:""`
}

func (c *keysDeactivateCmd) Run(ctx context.Context) error { return c.activate(ctx, false) }

type keysActivateCmd struct {
	keyArg `embed:""`
}

func (c *keysActivateCmd) Run(ctx context.Context) error { return c.activate(ctx, true) }

type keysDeleteCmd struct {
	keyArg `embed:""`
}

func (c *keysDeleteCmd) Run(ctx context.Context) error {
	return without(ctx, c.accessFlags, func(a operator.Access) error { return a.DeleteKey(ctx, c.Key) })
}

type accessPoliciesCmd struct {
	List   policiesListCmd   `cmd:"" default:"withargs" help:"List policies: built-in ones and the account's own."`
	Show   policiesShowCmd   `cmd:"" help:"Print a policy's document."`
	Put    policiesPutCmd    `cmd:"" help:"Add or replace a policy; it counts at once."`
	Delete policiesDeleteCmd `cmd:"" help:"Remove a policy that nobody has."`
}

type policiesListCmd struct {
	accessFlags `embed:""`
}

func (c *policiesListCmd) Run(ctx context.Context) error {
	return with(ctx, c.accessFlags, func(a operator.Access) (schema.Policies, error) { return a.Policies(ctx) }, func(w io.Writer, v schema.Policies) {
		fmt.Fprintln(w, "POLICY\tMEANS")
		for _, p := range v.Policies {
			if !p.BuiltIn {
				p.Means = "changed " + day(*p.Updated)
			}
			fmt.Fprintf(w, "%s\t%s\n", p.Name, p.Means)
		}
	})
}

type policiesShowCmd struct {
	accessFlags `embed:""`
	Name        string `arg:"" help:"The policy's name."`
}

func (c *policiesShowCmd) Run(ctx context.Context) error {
	return with(ctx, c.accessFlags, func(a operator.Access) (schema.Policy, error) {
		all, err := a.Policies(ctx)
		for _, p := range all.Policies {
			if p.Name == c.Name {
				return p, nil
			}
		}
		if err == nil {
			err = fault.New(fault.NotFound, "", "there is no policy %s", c.Name)
		}
		return schema.Policy{}, err
	}, func(w io.Writer, p schema.Policy) { fmt.Fprintln(w, p.Document) })
}

type policiesPutCmd struct {
	accessFlags `embed:""`
	Name        string `arg:"" help:"The policy's name."`
	Document    []byte `arg:"" type:"filecontent" help:"File with the document, - for standard input."`
}

func (c *policiesPutCmd) Run(ctx context.Context) error {
	return with(ctx, c.accessFlags, func(a operator.Access) (schema.Policy, error) { return a.PutPolicy(ctx, c.Name, string(c.Document)) },
		func(w io.Writer, p schema.Policy) { fmt.Fprintln(w, p.ARN) })
}

type policiesDeleteCmd struct {
	accessFlags `embed:""`
	Name        string `arg:"" help:"The policy's name."`
}

func (c *policiesDeleteCmd) Run(ctx context.Context) error {
	return without(ctx, c.accessFlags, func(a operator.Access) error { return a.DeletePolicy(ctx, c.Name) })
}
