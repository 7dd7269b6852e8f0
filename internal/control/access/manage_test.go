package access

import (
	"fmt"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/understudy-dr/understudy/internal/control"
	"github.com/understudy-dr/understudy/internal/control/access/policy"
	"github.com/understudy-dr/understudy/internal/fault"
	"github.com/understudy-dr/understudy/internal/state"
)

const elsewhere = "444455556666"

// clock is a time that tests move.
type clock struct{ at time.Time }

func (c *clock) now() time.Time { return c.at }

func ring(t *testing.T) (*Keys, *clock) {
	t.Helper()
	s, dir := setup(t)
	k, err := Open(s, filepath.Join(dir, "keys"))
	require.NoError(t, err)
	c := &clock{time.Date(2026, 11, 22, 10, 0, 0, 0, time.UTC)}
	k.now = c.now
	for _, id := range []string{account, elsewhere} {
		require.NoError(t, s.Update(t.Context(), func(tx state.Tx) error { return k.ensureAccount(t.Context(), tx, id) }))
	}
	return k, c
}

func requireKind(t *testing.T, kind fault.Kind, err error) {
	t.Helper()
	require.Error(t, err)
	require.Equal(t, kind, fault.KindOf(err), "%v", err)
}

func may(t *testing.T, p control.Principal, action string) bool {
	t.Helper()
	d, err := p.Policies.Decide(policy.Request{Action: action, Resource: policy.Any, Values: func(string) ([]string, error) { return nil, nil }})
	require.NoError(t, err)
	return d == policy.Allow
}

func TestBuiltInPolicies(t *testing.T) {
	require.Len(t, BuiltIns(), 4, "one of them does not parse")
	for name, want := range map[string]string{
		Administrator:  "drs:InitializeService drs:StartRecovery mgn:DescribeJobs ec2:ModifyLaunchTemplate understudy:ReadVolume understudy:PutAccess understudy:RegisterAgent",
		Operator:       "drs:StartRecovery mgn:DescribeJobs ec2:ModifyLaunchTemplate understudy:ReadVolume understudy:RegisterAgent",
		ReadOnly:       "mgn:DescribeJobs",
		AgentInstaller: "understudy:RegisterAgent",
	} {
		p := control.Principal{Policies: policy.Set{Identity: []*policy.Document{builtIn[name].parsed}}}
		var got []string
		for action := range strings.FieldsSeq("drs:InitializeService drs:StartRecovery mgn:DescribeJobs ec2:ModifyLaunchTemplate understudy:ReadVolume understudy:PutAccess understudy:RegisterAgent") {
			if may(t, p, action) {
				got = append(got, action)
			}
		}
		require.Equal(t, want, strings.Join(got, " "), name)
	}
}

func TestKeysOfAUser(t *testing.T) {
	k, c := ring(t)
	ctx := t.Context()
	_, err := k.CreateKey(ctx, account, "ann")
	requireKind(t, fault.NotFound, err)
	u, err := k.CreateUser(ctx, account, "ann", []string{Operator})
	require.NoError(t, err)
	require.Regexp(t, `^AIDA[A-Z2-7]{16}$`, u.ID)
	_, err = k.CreateUser(ctx, account, "ann", nil)
	requireKind(t, fault.Conflict, err)
	for _, bad := range []string{"", "a b", "a/b", strings.Repeat("x", 65)} {
		_, err = k.CreateUser(ctx, account, bad, nil)
		requireKind(t, fault.Invalid, err)
	}
	_, err = k.CreateUser(ctx, "999999999999", "ann", nil)
	requireKind(t, fault.NotFound, err)

	one, err := k.CreateKey(ctx, account, "ann")
	require.NoError(t, err)
	c.at = c.at.Add(time.Second)
	two, err := k.CreateKey(ctx, account, "ann")
	require.NoError(t, err)
	_, err = k.CreateKey(ctx, account, "ann")
	require.ErrorIs(t, err, control.ErrQuota, "two keys work while one is replaced, no more")
	all, err := k.List(ctx, account, "ann")
	require.NoError(t, err)
	require.Equal(t, []string{one.ID, two.ID}, []string{all[0].ID, all[1].ID})

	requireKind(t, fault.NotFound, k.SetKeyActive(ctx, elsewhere, one.ID, false))
	require.NoError(t, k.SetKeyActive(ctx, account, one.ID, false))
	_, err = k.Lookup(ctx, one.ID)
	requireKind(t, fault.Denied, err)
	_, err = k.Lookup(ctx, two.ID)
	require.NoError(t, err)
	require.NoError(t, k.SetKeyActive(ctx, account, one.ID, true))
	_, err = k.Lookup(ctx, one.ID)
	require.NoError(t, err)

	require.NoError(t, k.DeleteUser(ctx, account, "ann"))
	for _, id := range []string{one.ID, two.ID} {
		_, err = k.Lookup(ctx, id)
		requireKind(t, fault.Denied, err)
	}
	none, err := k.List(ctx, account, "")
	require.NoError(t, err)
	require.Empty(t, none)
}

func TestLastUseIsNotedSparingly(t *testing.T) {
	k, c := ring(t)
	ctx := t.Context()
	key, err := k.Create(ctx, account, "ann", false)
	require.NoError(t, err)
	used := func() time.Time {
		all, err := k.List(ctx, account, "ann")
		require.NoError(t, err)
		return all[0].LastUsedAt
	}
	require.Zero(t, used())
	first := c.at
	for range 3 {
		require.NoError(t, k.Used(ctx, key.ID, "drs", "us-east-1"))
		require.Equal(t, first, used())
		c.at = c.at.Add(2 * time.Minute)
	}
	require.NoError(t, k.Used(ctx, key.ID, "mgn", "us-east-1"))
	require.Equal(t, c.at, used())
	require.NoError(t, k.Delete(ctx, account, key.ID))
	c.at = c.at.Add(time.Hour)
	require.NoError(t, k.Used(ctx, key.ID, "mgn", "us-east-1"), "a key that has gone meanwhile is no error")
	none, err := k.List(ctx, account, "")
	require.NoError(t, err)
	require.Empty(t, none, "nor does it come back")
}

func TestPoliciesCountAtOnce(t *testing.T) {
	k, _ := ring(t)
	ctx := t.Context()
	_, err := k.CreateUser(ctx, account, "ann", []string{"drills"})
	requireKind(t, fault.NotFound, err)
	_, err = k.PutPolicy(ctx, account, "drills", `{"Statement":{"Effect":"Allow","Action":"drs:StartRecovery","Resource":"*"}}`)
	require.NoError(t, err)
	_, err = k.PutPolicy(ctx, account, "drills", `{`)
	requireKind(t, fault.Invalid, err)
	_, err = k.PutPolicy(ctx, account, Operator, `{"Statement":{"Effect":"Allow","Action":"*","Resource":"*"}}`)
	requireKind(t, fault.Conflict, err)
	key, err := k.Create(ctx, account, "ann", false)
	require.NoError(t, err)
	_, err = k.SetUserPolicies(ctx, account, "ann", []string{"drills", ReadOnly})
	require.NoError(t, err)
	check := func(action string, want bool) {
		t.Helper()
		got, err := k.Lookup(ctx, key.ID)
		require.NoError(t, err)
		require.Equal(t, want, may(t, got.Principal, action))
	}
	check("drs:StartRecovery", true)
	check("drs:DescribeJobs", true)
	check("drs:StopReplication", false)
	_, err = k.PutPolicy(ctx, account, "drills", `{"Statement":{"Effect":"Deny","Action":"drs:DescribeJobs","Resource":"*"}}`)
	require.NoError(t, err)
	check("drs:StartRecovery", false)
	check("drs:DescribeJobs", false)

	requireKind(t, fault.Conflict, k.DeletePolicy(ctx, account, "drills"))
	_, err = k.SetUserPolicies(ctx, account, "ann", nil)
	require.NoError(t, err)
	check("drs:DescribeJobs", false)
	_, err = k.PutRole(ctx, state.Role{Account: account, Name: "r", Policies: []string{"drills"}, Trust: []string{account}})
	require.NoError(t, err)
	requireKind(t, fault.Conflict, k.DeletePolicy(ctx, account, "drills"))
	require.NoError(t, k.DeleteRole(ctx, account, "r"))
	require.NoError(t, k.DeletePolicy(ctx, account, "drills"))
	requireKind(t, fault.NotFound, k.DeletePolicy(ctx, account, "drills"))

	many := make([]string, 11)
	for i := range many {
		many[i] = fmt.Sprint("p", i)
		_, err = k.PutPolicy(ctx, account, many[i], `{"Statement":{"Effect":"Allow","Action":"*","Resource":"*"}}`)
		require.NoError(t, err)
	}
	_, err = k.SetUserPolicies(ctx, account, "ann", many)
	require.ErrorIs(t, err, control.ErrQuota)
	_, err = k.SetUserPolicies(ctx, account, "ann", []string{"p1", "p1"})
	requireKind(t, fault.Invalid, err)
}

func TestSuspendedAccount(t *testing.T) {
	k, _ := ring(t)
	ctx := t.Context()
	key, err := k.Create(ctx, account, "ann", false)
	require.NoError(t, err)
	require.NoError(t, k.store.Update(ctx, func(tx state.Tx) error {
		return tx.PutAccount(ctx, state.Account{ID: account, Suspended: true})
	}))
	_, err = k.Lookup(ctx, key.ID)
	requireKind(t, fault.Denied, err)
}

func role(t *testing.T, k *Keys, trust ...string) string {
	t.Helper()
	_, err := k.PutRole(t.Context(), state.Role{Account: account, Name: "drill", Policies: []string{Operator}, Trust: trust, MaxSession: 2 * time.Hour})
	require.NoError(t, err)
	return RoleARN(account, "drill")
}

func TestAssumeRole(t *testing.T) {
	k, c := ring(t)
	ctx := t.Context()
	ann, err := k.Create(ctx, account, "ann", false)
	require.NoError(t, err)
	eve, err := k.Create(ctx, elsewhere, "eve", false)
	require.NoError(t, err)
	arn := role(t, k, account)

	key, err := k.AssumeRole(ctx, ann.Principal, Assume{RoleARN: arn, Name: "nightly"})
	require.NoError(t, err)
	require.Regexp(t, `^ASIA[A-Z2-7]{16}$`, key.ID)
	require.Equal(t, c.at.Add(time.Hour), key.Expires)
	got, err := k.Lookup(ctx, key.ID)
	require.NoError(t, err)
	require.Equal(t, key.Secret, got.Secret)
	require.Equal(t, key.Token, got.Token)
	require.NotEmpty(t, key.Token)
	require.Equal(t, "arn:aws:sts::"+account+":assumed-role/drill/nightly", got.Principal.ARN)
	require.Equal(t, arn, got.Principal.Role)
	require.Empty(t, got.User)
	require.True(t, may(t, got.Principal, "drs:StartRecovery"))

	_, err = k.AssumeRole(ctx, eve.Principal, Assume{RoleARN: arn, Name: "nightly"})
	requireKind(t, fault.Denied, err)
	unknown := err
	_, err = k.AssumeRole(ctx, eve.Principal, Assume{RoleARN: RoleARN(account, "none"), Name: "nightly"})
	requireKind(t, fault.Denied, err)
	require.Equal(t, strings.ReplaceAll(unknown.Error(), "role/drill", "role/none"), err.Error(), "nobody learns which roles there are")
	role(t, k, "arn:aws:iam::"+elsewhere+":user/e*")
	_, err = k.AssumeRole(ctx, eve.Principal, Assume{RoleARN: arn, Name: "nightly"})
	require.NoError(t, err)
	_, err = k.AssumeRole(ctx, ann.Principal, Assume{RoleARN: arn, Name: "nightly"})
	requireKind(t, fault.Denied, err)

	role(t, k, account)
	_, err = k.AssumeRole(ctx, ann.Principal, Assume{RoleARN: arn, Name: "n"})
	requireKind(t, fault.Invalid, err)
	_, err = k.AssumeRole(ctx, ann.Principal, Assume{RoleARN: "drill", Name: "nightly"})
	requireKind(t, fault.Invalid, err)
	_, err = k.AssumeRole(ctx, ann.Principal, Assume{RoleARN: arn, Name: "nightly", Policy: "{"})
	requireKind(t, fault.Invalid, err)
	for length, ok := range map[time.Duration]bool{14 * time.Minute: false, 15 * time.Minute: true, 2 * time.Hour: true, 2*time.Hour + 1: false} {
		_, err = k.AssumeRole(ctx, ann.Principal, Assume{RoleARN: arn, Name: "nightly", Length: length})
		require.Equal(t, ok, err == nil, "%v: %v", length, err)
	}
	_, err = k.AssumeRole(ctx, got.Principal, Assume{RoleARN: arn, Name: "nightly", Length: 2 * time.Hour})
	requireKind(t, fault.Invalid, err)
	_, err = k.AssumeRole(ctx, got.Principal, Assume{RoleARN: arn, Name: "nightly", Length: time.Hour})
	require.NoError(t, err, "one session may ask for another, of an hour at most")
}

func TestSessionPolicyNarrowsARole(t *testing.T) {
	k, _ := ring(t)
	ann, err := k.Create(t.Context(), account, "ann", false)
	require.NoError(t, err)
	key, err := k.AssumeRole(t.Context(), ann.Principal, Assume{RoleARN: role(t, k, account), Name: "nightly",
		Policy: `{"Statement":{"Effect":"Allow","Action":"drs:Describe*","Resource":"*"}}`})
	require.NoError(t, err)
	got, err := k.Lookup(t.Context(), key.ID)
	require.NoError(t, err)
	require.True(t, may(t, got.Principal, "drs:DescribeJobs"))
	require.False(t, may(t, got.Principal, "drs:StartRecovery"))
}

func TestSessionsEnd(t *testing.T) {
	k, c := ring(t)
	ctx := t.Context()
	ann, err := k.Create(ctx, account, "ann", false)
	require.NoError(t, err)
	arn := role(t, k, account)
	assume := func() string {
		key, err := k.AssumeRole(ctx, ann.Principal, Assume{RoleARN: arn, Name: "nightly"})
		require.NoError(t, err)
		_, err = k.Lookup(ctx, key.ID)
		require.NoError(t, err)
		return key.ID
	}
	ended := func(id, why string) {
		t.Helper()
		_, err := k.Lookup(ctx, id)
		require.Equal(t, fault.Denied, fault.KindOf(err), why)
	}
	id := assume()
	requireKind(t, fault.NotFound, k.RevokeSession(ctx, elsewhere, id))
	require.NoError(t, k.RevokeSession(ctx, account, id))
	ended(id, "revoked")

	id = assume()
	require.NoError(t, k.DeleteRole(ctx, account, "drill"))
	ended(id, "its role is gone")
	role(t, k, account)
	ended(id, "another role of the same name is another role")
	id = assume()
	require.NoError(t, k.store.Update(ctx, func(tx state.Tx) error { return tx.DeleteRole(ctx, account, "drill") }), "as if its sessions had been missed")
	role(t, k, account)
	ended(id, "also if the session was not taken away")

	id = assume()
	c.at = c.at.Add(2 * time.Hour)
	got, err := k.Lookup(ctx, id)
	require.NoError(t, err, "its holder is told that it has expired")
	require.True(t, got.Expires.Before(c.at))
	listed, err := k.Sessions(ctx, account)
	require.NoError(t, err)
	require.Empty(t, listed)
	c.at = c.at.Add(24 * time.Hour)
	other := assume()
	ended(id, "cleared away")
	listed, err = k.Sessions(ctx, account)
	require.NoError(t, err)
	require.Equal(t, other, listed[0].KeyID)
}

func TestSessionToken(t *testing.T) {
	k, c := ring(t)
	ctx := t.Context()
	ann, err := k.Create(ctx, account, "ann", true)
	require.NoError(t, err)
	key, err := k.SessionToken(ctx, ann.Principal, 0)
	require.NoError(t, err)
	require.Equal(t, c.at.Add(12*time.Hour), key.Expires)
	got, err := k.Lookup(ctx, key.ID)
	require.NoError(t, err)
	require.Equal(t, ann.Principal.ARN, got.Principal.ARN)
	require.True(t, got.Admin)
	_, err = k.SessionToken(ctx, got.Principal, 0)
	requireKind(t, fault.Denied, err)
	_, err = k.SessionToken(ctx, ann.Principal, time.Minute)
	requireKind(t, fault.Invalid, err)
	require.NoError(t, k.DeleteUser(ctx, account, "ann"))
	_, err = k.Lookup(ctx, key.ID)
	requireKind(t, fault.Denied, err)
}

func TestRefusedRoles(t *testing.T) {
	k, _ := ring(t)
	for _, r := range []state.Role{
		{Account: account, Name: "a b", Trust: []string{account}},
		{Account: account, Name: "r"},
		{Account: account, Name: "r", Trust: []string{"everybody"}},
		{Account: account, Name: "r", Trust: []string{account}, MaxSession: time.Minute},
		{Account: account, Name: "r", Trust: []string{account}, MaxSession: 13 * time.Hour},
	} {
		_, err := k.PutRole(t.Context(), r)
		requireKind(t, fault.Invalid, err)
	}
	_, err := k.PutRole(t.Context(), state.Role{Account: "999999999999", Name: "r", Trust: []string{account}})
	requireKind(t, fault.NotFound, err)
}

// A database from before there were users has keys that name one that has no record.
func TestAdministratorOfAnOlderDatabase(t *testing.T) {
	k, _ := ring(t)
	ctx := t.Context()
	old := state.AccessKey{ID: "AKIAOLDOLDOLDOLDOLD2", Account: account, User: Administrator, Admin: true, Sealed: k.sealSecret("AKIAOLDOLDOLDOLDOLD2", "hush")}
	require.NoError(t, k.store.Update(ctx, func(tx state.Tx) error { return tx.PutAccessKey(ctx, old) }))
	_, err := k.Lookup(ctx, old.ID)
	requireKind(t, fault.Denied, err)
	path := filepath.Join(t.TempDir(), "credentials")
	require.NoError(t, k.EnsureAdministrator(ctx, account, path))
	got, err := k.Lookup(ctx, old.ID)
	require.NoError(t, err)
	require.Equal(t, "hush", got.Secret)
	require.True(t, got.Admin)
}

func TestLockedOutAdministrator(t *testing.T) {
	k, _ := ring(t)
	ctx := t.Context()
	path := func() string { return filepath.Join(t.TempDir(), "credentials") }
	require.NoError(t, k.EnsureAdministrator(ctx, account, path()))
	_, err := k.CreateKey(ctx, account, Administrator)
	require.NoError(t, err)
	all, err := k.List(ctx, account, "")
	require.NoError(t, err)
	for _, v := range all {
		require.NoError(t, k.SetKeyActive(ctx, account, v.ID, false))
	}
	_, err = k.SetUserPolicies(ctx, account, Administrator, nil)
	require.NoError(t, err)
	require.NoError(t, k.EnsureAdministrator(ctx, account, path()), "a restart is the way back")
	all, err = k.List(ctx, account, "")
	require.NoError(t, err)
	got, err := k.Lookup(ctx, all[len(all)-1].ID)
	require.NoError(t, err)
	require.True(t, got.Admin)
}
