package operator

import (
	"context"
	"crypto/tls"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/understudy-dr/understudy/internal/app/serve"
	"github.com/understudy-dr/understudy/internal/control/access"
	"github.com/understudy-dr/understudy/internal/fault"
	"github.com/understudy-dr/understudy/internal/operatorapi/schema"
)

const home = "111122223333"

func free(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	require.NoError(t, l.Close())
	return l.Addr().String()
}

// installation is a whole server, and who calls it.
type installation struct {
	address, dir string
}

func install(t *testing.T) installation {
	t.Helper()
	in := installation{free(t), t.TempDir()}
	ctx, stop := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() {
		ended <- serve.Run(ctx, serve.Config{DataDir: in.dir, Listen: in.address, DataListen: free(t), Region: "us-east-1", AccountID: home,
			Log: slog.New(slog.DiscardHandler)})
	}()
	t.Cleanup(func() {
		stop()
		require.NoError(t, <-ended)
	})
	for tick := time.Tick(20 * time.Millisecond); ; <-tick {
		c, err := tls.Dial("tcp", in.address, &tls.Config{InsecureSkipVerify: true})
		if err == nil {
			require.NoError(t, c.Close())
			return in
		}
		require.Empty(t, ended, "the server ended")
	}
}

// as is a client with a key; without one, the administrator's.
func (in installation) as(t *testing.T, k schema.AccessKeyMade) *Client {
	t.Helper()
	file, profile := filepath.Join(in.dir, "credentials"), access.Profile
	if k.ID != "" {
		file, profile = filepath.Join(t.TempDir(), "credentials"), "user"
		require.NoError(t, os.WriteFile(file, fmt.Appendf(nil, "[user]\naws_access_key_id=%s\naws_secret_access_key=%s\n", k.ID, k.Secret), 0o600))
	}
	t.Setenv("AWS_SHARED_CREDENTIALS_FILE", file)
	c, err := NewClient(t.Context(), Options{Endpoint: "https://" + in.address, CACert: filepath.Join(in.dir, "pki", "ca.pem"), Region: "us-east-1", Profile: profile})
	require.NoError(t, err)
	return c
}

func requireKind(t *testing.T, kind fault.Kind, err error) {
	t.Helper()
	require.Error(t, err)
	require.Equal(t, kind, fault.KindOf(err), "%v", err)
}

func TestRotateAKey(t *testing.T) {
	in := install(t)
	ctx := t.Context()
	admin := in.as(t, schema.AccessKeyMade{}).Access("")
	_, err := admin.CreateUser(ctx, schema.NewUser{Name: "ann", Policies: []string{access.Operator}})
	require.NoError(t, err)
	old, err := admin.CreateKey(ctx, "ann")
	require.NoError(t, err)
	who, err := in.as(t, old).Caller(ctx)
	require.NoError(t, err)
	require.Equal(t, "arn:aws:iam::"+home+":user/ann", who.ARN)
	require.True(t, who.Home)

	fresh, err := admin.CreateKey(ctx, "ann")
	require.NoError(t, err)
	_, err = admin.CreateKey(ctx, "ann")
	requireKind(t, fault.Conflict, err)
	k, err := admin.SetKeyActive(ctx, old.ID, false)
	require.NoError(t, err)
	require.NotNil(t, k.LastUsed, "that it was used shows who still has it")
	_, err = in.as(t, old).Caller(ctx)
	requireKind(t, fault.Denied, err)
	_, err = in.as(t, fresh).Caller(ctx)
	require.NoError(t, err)
	require.NoError(t, admin.DeleteKey(ctx, old.ID))
	list, err := admin.Keys(ctx, "ann")
	require.NoError(t, err)
	require.Len(t, list.Keys, 1)
}

func TestWhoMayManage(t *testing.T) {
	in := install(t)
	ctx := t.Context()
	admin := in.as(t, schema.AccessKeyMade{}).Access("")
	key := func(user string, policies ...string) schema.AccessKeyMade {
		_, err := admin.CreateUser(ctx, schema.NewUser{Name: user, Policies: policies})
		require.NoError(t, err)
		k, err := admin.CreateKey(ctx, user)
		require.NoError(t, err)
		return k
	}
	// Everybody may look after their own keys, and nobody else's.
	_, err := admin.PutPolicy(ctx, "own-keys", `{"Version":"2012-10-17","Statement":{"Effect":"Allow",
		"Action":["understudy:CreateAccessKey","understudy:ChangeAccessKey","understudy:DeleteAccessKey"],"Resource":"arn:aws:iam::*:user/${aws:username}"}}`)
	require.NoError(t, err)
	ann, bob := key("ann", "own-keys"), key("bob", access.ReadOnly)
	mine := in.as(t, ann).Access("")
	_, err = mine.CreateKey(ctx, "ann")
	require.NoError(t, err)
	_, err = mine.CreateKey(ctx, "bob")
	requireKind(t, fault.Denied, err)
	require.ErrorContains(t, err, "User: arn:aws:iam::"+home+":user/ann is not authorized to perform: understudy:CreateAccessKey on resource: arn:aws:iam::"+home+":user/bob")
	requireKind(t, fault.Denied, mine.DeleteKey(ctx, bob.ID))
	requireKind(t, fault.Denied, mine.DeleteKey(ctx, "AKIANOBODYNOBODYNOBO"))
	require.NoError(t, mine.DeleteKey(ctx, ann.ID))

	reader := in.as(t, bob).Access("")
	_, err = reader.Users(ctx)
	require.NoError(t, err)
	_, err = reader.SetUserPolicies(ctx, "bob", []string{access.Administrator})
	requireKind(t, fault.Denied, err)
	_, err = reader.PutPolicy(ctx, "all", `{"Statement":{"Effect":"Allow","Action":"*","Resource":"*"}}`)
	requireKind(t, fault.Denied, err)
	_, err = reader.PutRole(ctx, "all", schema.NewRole{Policies: []string{access.Administrator}, Trust: []string{home}})
	requireKind(t, fault.Denied, err)
	d, err := admin.Decide(ctx, schema.Question{Key: bob.ID, Action: "drs:DescribeJobs"})
	require.NoError(t, err)
	require.Equal(t, "allowed", d.Decision)
	d, err = admin.Decide(ctx, schema.Question{Key: bob.ID, Action: "understudy:ReadVolume"})
	require.NoError(t, err)
	require.Equal(t, "implicitDeny", d.Decision)
}

func TestAccountsAreApart(t *testing.T) {
	in := install(t)
	ctx := t.Context()
	root := in.as(t, schema.AccessKeyMade{})
	lab, err := root.CreateAccount(ctx, schema.NewAccount{ID: "444455556666", Name: "lab"})
	require.NoError(t, err)
	other := in.as(t, lab.Key)
	who, err := other.Caller(ctx)
	require.NoError(t, err)
	require.Equal(t, "444455556666", who.Account)
	require.False(t, who.Home)

	// The new account's administrator manages the account, and nothing beside it.
	_, err = other.Access("").CreateUser(ctx, schema.NewUser{Name: "ann", Policies: []string{access.ReadOnly}})
	require.NoError(t, err)
	_, err = other.Access(home).Users(ctx)
	requireKind(t, fault.Denied, err)
	_, err = other.Access(home).CreateKey(ctx, access.Administrator)
	requireKind(t, fault.Denied, err)
	_, err = other.Accounts(ctx)
	requireKind(t, fault.Denied, err)
	_, err = other.CreateAccount(ctx, schema.NewAccount{})
	requireKind(t, fault.Denied, err)
	_, err = other.Access("").ChangeAccount(ctx, schema.AccountChange{Quotas: map[string]*int64{"L-C1D14A2B": new(int64(9))}})
	requireKind(t, fault.Denied, err)
	users, err := other.Access("").Users(ctx)
	require.NoError(t, err)
	require.Len(t, users.Users, 2)
	own, err := root.Access("").Users(ctx)
	require.NoError(t, err)
	require.Len(t, own.Users, 1)

	// The installation's own account manages it too.
	users, err = root.Access("444455556666").Users(ctx)
	require.NoError(t, err)
	require.Len(t, users.Users, 2)
	_, err = root.Access("444455556666").ChangeAccount(ctx, schema.AccountChange{Suspended: new(true), Quotas: map[string]*int64{"L-C1D14A2B": new(int64(9))}})
	require.NoError(t, err)
	_, err = other.Caller(ctx)
	requireKind(t, fault.Denied, err)
	q, err := root.Access("444455556666").Quotas(ctx)
	require.NoError(t, err)
	require.Equal(t, int64(9), q.Quotas[0].Value)
	require.Equal(t, int64(300), q.Quotas[0].Default)
	_, err = root.Access("").ChangeAccount(ctx, schema.AccountChange{Suspended: new(true)})
	requireKind(t, fault.Conflict, err)
}

func TestRolesAndPolicies(t *testing.T) {
	in := install(t)
	ctx := t.Context()
	admin := in.as(t, schema.AccessKeyMade{}).Access("")
	r, err := admin.PutRole(ctx, "drill", schema.NewRole{Policies: []string{access.Operator}, Trust: []string{home}})
	require.NoError(t, err)
	require.Equal(t, int64(3600), r.MaxSeconds)
	roles, err := admin.Roles(ctx)
	require.NoError(t, err)
	require.Len(t, roles.Roles, 1)
	require.NoError(t, admin.DeleteRole(ctx, "drill"))
	sessions, err := admin.Sessions(ctx)
	require.NoError(t, err)
	require.Empty(t, sessions.Sessions)
	requireKind(t, fault.NotFound, admin.RevokeSession(ctx, "ASIANOBODYNOBODYNOBO"))

	_, err = admin.PutPolicy(ctx, "look", `{"Statement":{"Effect":"Allow","Action":"drs:Describe*","Resource":"*"}}`)
	require.NoError(t, err)
	_, err = admin.PutPolicy(ctx, "bad", `{"Statement":{}}`)
	requireKind(t, fault.Invalid, err)
	all, err := admin.Policies(ctx)
	require.NoError(t, err)
	require.Len(t, all.Policies, 5)
	require.NoError(t, admin.DeletePolicy(ctx, "look"))
	requireKind(t, fault.NotFound, admin.DeletePolicy(ctx, "look"))
	_, err = admin.CreateUser(ctx, schema.NewUser{Name: "ann"})
	require.NoError(t, err)
	require.NoError(t, admin.DeleteUser(ctx, "ann"))
	requireKind(t, fault.NotFound, admin.DeleteUser(ctx, "ann"))
}

// An operation that the table of actions does not name is left to administrators of the installation.
func TestUnknownOperations(t *testing.T) {
	in := install(t)
	c := in.as(t, schema.AccessKeyMade{})
	err := c.call(t.Context(), http.MethodPatch, strings.Replace(schema.PathUsers, "{account}", schema.Self, 1), nil, nil, &struct{}{})
	requireKind(t, fault.NotFound, err)
}
