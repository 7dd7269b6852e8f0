package policy

import (
	"errors"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/understudy-dr/understudy/internal/fault"
)

const server = "arn:aws:drs:us-east-1:111122223333:source-server/s-0123456789abcdef0"

func parse(t *testing.T, text string) *Document {
	t.Helper()
	d, err := Parse([]byte(text))
	require.NoError(t, err)
	return d
}

// values are a request's condition keys.
type values map[string][]string

func (v values) get(key string) ([]string, error) { return v[key], nil }

func decide(t *testing.T, text, action, resource string, v values) Decision {
	t.Helper()
	d, err := Set{Identity: []*Document{parse(t, text)}}.Decide(Request{Action: action, Resource: resource, Values: v.get})
	require.NoError(t, err)
	return d
}

func TestDecide(t *testing.T) {
	for _, c := range []struct {
		name, policy, action, resource string
		want                           Decision
	}{
		{"nothing allows", `{"Effect":"Allow","Action":"drs:ListTagsForResource","Resource":"*"}`, "drs:StartRecovery", server, ImplicitDeny},
		{"action, whatever its case", `{"Effect":"Allow","Action":"DRS:startrecovery","Resource":"*"}`, "drs:StartRecovery", server, Allow},
		{"wildcards", `{"Effect":"Allow","Action":["mgn:*","drs:Start?ecovery"],"Resource":"*"}`, "drs:StartRecovery", server, Allow},
		{"another service", `{"Effect":"Allow","Action":"mgn:*","Resource":"*"}`, "drs:StartRecovery", server, ImplicitDeny},
		{"all actions", `{"Effect":"Allow","Action":"*","Resource":"*"}`, "understudy:ReadVolume", server, Allow},
		{"resource", `{"Effect":"Allow","Action":"*","Resource":"` + server + `"}`, "drs:StartRecovery", server, Allow},
		{"resource's case counts", `{"Effect":"Allow","Action":"*","Resource":"` + strings.ToUpper(server[20:]) + `"}`, "", "", ImplicitDeny},
		{"resource with wildcards", `{"Effect":"Allow","Action":"*","Resource":"arn:aws:drs:*:*:source-server/s-*f?"}`, "drs:StartRecovery", server, Allow},
		{"resource of another account", `{"Effect":"Allow","Action":"*","Resource":"arn:aws:drs:*:444455556666:*"}`, "drs:StartRecovery", server, ImplicitDeny},
		{"no resource is no ARN", `{"Effect":"Allow","Action":"*","Resource":"arn:aws:drs:*:*:*"}`, "drs:DescribeJobs", Any, ImplicitDeny},
		{"all but", `{"Effect":"Allow","NotAction":"drs:Delete*","Resource":"*"}`, "drs:DeleteJob", server, ImplicitDeny},
		{"not the exception", `{"Effect":"Allow","NotAction":"drs:Delete*","Resource":"*"}`, "drs:StartRecovery", server, Allow},
		{"all resources but", `{"Effect":"Allow","Action":"*","NotResource":"` + server + `"}`, "drs:StartRecovery", server, ImplicitDeny},
		{"deny wins", `{"Effect":"Deny","Action":"drs:StartRecovery","Resource":"*"},{"Effect":"Allow","Action":"*","Resource":"*"}`, "drs:StartRecovery", server, ExplicitDeny},
		{"deny wins, order reversed", `{"Effect":"Allow","Action":"*","Resource":"*"},{"Effect":"Deny","Action":"drs:StartRecovery","Resource":"*"}`, "drs:StartRecovery", server, ExplicitDeny},
		{"deny of something else", `{"Effect":"Allow","Action":"*","Resource":"*"},{"Effect":"Deny","Action":"drs:StartRecovery","Resource":"*"}`, "drs:StopReplication", server, Allow},
	} {
		t.Run(c.name, func(t *testing.T) {
			if c.action == "" { // text that is no ARN is refused, so cannot match either
				_, err := Parse([]byte(`{"Statement":[` + c.policy + `]}`))
				require.True(t, fault.Is(err, fault.Invalid))
				return
			}
			require.Equal(t, c.want, decide(t, `{"Version":"2012-10-17","Statement":[`+c.policy+`]}`, c.action, c.resource, nil))
		})
	}
}

func TestStatementMayStandAlone(t *testing.T) {
	require.Equal(t, Allow, decide(t, `{"Statement":{"Effect":"Allow","Action":"*","Resource":"*"}}`, "drs:DescribeJobs", Any, nil))
}

func TestConditions(t *testing.T) {
	have := values{
		SourceIP: {"10.1.2.3"}, SecureTransport: {"true"}, CurrentTime: {"2026-11-22T10:00:00Z"}, Username: {"ann"},
		PrincipalARN: {"arn:aws:iam::111122223333:user/ann"}, ResourceTag + "Env": {"prod"}, RequestTag + "Team": {"db"},
		TagKeys: {"Team", "Cost"},
	}
	for condition, met := range map[string]bool{
		`{"StringEquals":{"aws:username":"ann"}}`:                                                          true,
		`{"StringEquals":{"AWS:UserName":"ann"}}`:                                                          true,
		`{"StringEquals":{"aws:username":"Ann"}}`:                                                          false,
		`{"StringEqualsIgnoreCase":{"aws:username":"ANN"}}`:                                                true,
		`{"StringEquals":{"aws:username":["bob","ann"]}}`:                                                  true,
		`{"StringEquals":{"aws:username":"a*"}}`:                                                           false,
		`{"StringLike":{"aws:username":"a*"}}`:                                                             true,
		`{"StringNotEquals":{"aws:username":["bob","ann"]}}`:                                               false,
		`{"StringNotEquals":{"aws:username":["bob","eve"]}}`:                                               true,
		`{"StringNotLike":{"aws:username":"a*"}}`:                                                          false,
		`{"ArnLike":{"aws:PrincipalArn":"arn:aws:iam::*:user/*"}}`:                                         true,
		`{"IpAddress":{"aws:SourceIp":"10.0.0.0/8"}}`:                                                      true,
		`{"IpAddress":{"aws:SourceIp":["192.168.0.0/16","10.1.2.3"]}}`:                                     true,
		`{"IpAddress":{"aws:SourceIp":"10.1.2.4"}}`:                                                        false,
		`{"NotIpAddress":{"aws:SourceIp":"10.0.0.0/8"}}`:                                                   false,
		`{"NotIpAddress":{"aws:SourceIp":"2001:db8::/32"}}`:                                                true,
		`{"Bool":{"aws:SecureTransport":true}}`:                                                            true,
		`{"Bool":{"aws:SecureTransport":"false"}}`:                                                         false,
		`{"DateGreaterThan":{"aws:CurrentTime":"2026-11-22T09:00:00Z"}}`:                                   true,
		`{"DateLessThan":{"aws:CurrentTime":"2026-11-22T09:00:00Z"}}`:                                      false,
		`{"DateLessThanEquals":{"aws:CurrentTime":"2026-11-22T10:00:00Z"}}`:                                true,
		`{"StringEquals":{"aws:ResourceTag/Env":"prod"}}`:                                                  true,
		`{"StringEquals":{"aws:ResourceTag/Env":"prod","aws:RequestTag/Team":"web"}}`:                      false,
		`{"StringEquals":{"aws:ResourceTag/Env":"prod"},"Bool":{"aws:SecureTransport":"true"}}`:            true,
		`{"StringEquals":{"aws:ResourceTag/None":"prod"}}`:                                                 false,
		`{"StringEqualsIfExists":{"aws:ResourceTag/None":"prod"}}`:                                         true,
		`{"StringNotEquals":{"aws:ResourceTag/None":"prod"}}`:                                              true,
		`{"Null":{"aws:ResourceTag/None":"true"}}`:                                                         true,
		`{"Null":{"aws:ResourceTag/Env":"true"}}`:                                                          false,
		`{"Null":{"aws:ResourceTag/Env":"false"}}`:                                                         true,
		`{"ForAllValues:StringEquals":{"aws:TagKeys":["Team","Cost","Env"]}}`:                              true,
		`{"ForAllValues:StringEquals":{"aws:TagKeys":["Team","Env"]}}`:                                     false,
		`{"ForAnyValue:StringEquals":{"aws:TagKeys":["Cost","Env"]}}`:                                      true,
		`{"ForAnyValue:StringEquals":{"aws:TagKeys":"Env"}}`:                                               false,
		`{"ForAnyValue:StringNotEquals":{"aws:TagKeys":"Team"}}`:                                           true,
		`{"ForAllValues:StringNotEquals":{"aws:TagKeys":"Team"}}`:                                          false,
		`{"StringLike":{"aws:PrincipalArn":"arn:aws:iam::111122223333:user/${aws:username}"}}`:             true,
		`{"StringEquals":{"aws:PrincipalArn":"arn:aws:iam::111122223333:user/${aws:username}"}}`:           true,
		`{"StringEquals":{"aws:PrincipalArn":"arn:aws:iam::111122223333:user/${aws:ResourceTag/None}"}}`:   false,
		`{"StringEqualsIgnoreCase":{"aws:PrincipalArn":"ARN:AWS:iam::111122223333:user/${aws:username}"}}`: true,
	} {
		text := `{"Version":"2012-10-17","Statement":{"Effect":"Allow","Action":"*","Resource":"*","Condition":` + condition + `}}`
		require.Equal(t, met, decide(t, text, "drs:DescribeJobs", Any, have) == Allow, condition)
	}
}

func TestKeysThatAreAbsent(t *testing.T) {
	for condition, met := range map[string]bool{
		`{"ForAllValues:StringEquals":{"aws:TagKeys":"Team"}}`:    true, // of no values, all compare
		`{"ForAnyValue:StringEquals":{"aws:TagKeys":"Team"}}`:     false,
		`{"ForAnyValue:StringNotEquals":{"aws:TagKeys":"Team"}}`:  false,
		`{"ForAllValues:StringNotEquals":{"aws:TagKeys":"Team"}}`: true,
		`{"IpAddress":{"aws:SourceIp":"0.0.0.0/0"}}`:              false,
		`{"NotIpAddress":{"aws:SourceIp":"0.0.0.0/0"}}`:           true,
		`{"Bool":{"aws:SecureTransport":"false"}}`:                false,
		`{"BoolIfExists":{"aws:SecureTransport":"false"}}`:        true,
	} {
		text := `{"Version":"2012-10-17","Statement":{"Effect":"Allow","Action":"*","Resource":"*","Condition":` + condition + `}}`
		require.Equal(t, met, decide(t, text, "drs:DescribeJobs", Any, nil) == Allow, condition)
	}
}

func TestVariablesInResources(t *testing.T) {
	const statement = `"Statement":{"Effect":"Allow","Action":"*","Resource":"arn:aws:iam::111122223333:user/${aws:username}"}}`
	const ann = "arn:aws:iam::111122223333:user/ann"
	newer, older := `{"Version":"2012-10-17",`+statement, `{"Version":"2008-10-17",`+statement
	require.Equal(t, Allow, decide(t, newer, "understudy:CreateKeys", ann, values{Username: {"ann"}}))
	require.Equal(t, ImplicitDeny, decide(t, newer, "understudy:CreateKeys", ann, values{Username: {"bob"}}))
	require.Equal(t, ImplicitDeny, decide(t, newer, "understudy:CreateKeys", ann, nil))
	require.Equal(t, ImplicitDeny, decide(t, newer, "understudy:CreateKeys", ann, values{Username: {"*"}}), "a name's wildcard is a character")
	require.Equal(t, ImplicitDeny, decide(t, older, "understudy:CreateKeys", ann, values{Username: {"ann"}}))
	literal := `{"Version":"2012-10-17","Statement":{"Effect":"Allow","Action":"*","Resource":"arn:aws:iam::1:user/${*}${?}${$}"}}`
	require.Equal(t, Allow, decide(t, literal, "a:B", "arn:aws:iam::1:user/*?$", nil))
	require.Equal(t, ImplicitDeny, decide(t, literal, "a:B", "arn:aws:iam::1:user/abc", nil))
}

func TestSessionPolicyNarrows(t *testing.T) {
	all := parse(t, `{"Statement":{"Effect":"Allow","Action":"*","Resource":"*"}}`)
	read := parse(t, `{"Statement":{"Effect":"Allow","Action":"drs:Describe*","Resource":"*"}}`)
	deny := parse(t, `{"Statement":[{"Effect":"Allow","Action":"*","Resource":"*"},{"Effect":"Deny","Action":"drs:DescribeJobs","Resource":"*"}]}`)
	on := func(action string) Request { return Request{Action: action, Resource: Any, Values: values{}.get} }
	for _, c := range []struct {
		set    Set
		action string
		want   Decision
	}{
		{Set{Identity: []*Document{all}, Session: read}, "drs:DescribeJobs", Allow},
		{Set{Identity: []*Document{all}, Session: read}, "drs:StartRecovery", ImplicitDeny},
		{Set{Identity: []*Document{read}, Session: all}, "drs:StartRecovery", ImplicitDeny},
		{Set{Identity: []*Document{all}, Session: deny}, "drs:DescribeJobs", ExplicitDeny},
		{Set{Identity: []*Document{deny}, Session: all}, "drs:DescribeJobs", ExplicitDeny},
		{Set{Identity: []*Document{read, all}}, "drs:StartRecovery", Allow},
		{Set{}, "drs:DescribeJobs", ImplicitDeny},
	} {
		got, err := c.set.Decide(on(c.action))
		require.NoError(t, err)
		require.Equal(t, c.want, got, "%+v", c)
	}
	require.True(t, Set{Identity: []*Document{all}, Session: read}.Grants("drs:DescribeJobs"))
	require.False(t, Set{Identity: []*Document{all}, Session: read}.Grants("drs:StartRecovery"))
	require.False(t, Set{Session: all}.Grants("drs:StartRecovery"))
}

func TestAValueThatCannotBeHadAllowsNothing(t *testing.T) {
	broken := func(string) ([]string, error) { return nil, errors.New("the store is away") }
	for _, effect := range []string{"Allow", "Deny"} {
		d := parse(t, `{"Statement":[{"Effect":"`+effect+`","Action":"*","Resource":"*","Condition":{"StringEquals":{"aws:ResourceTag/a":"b"}}},
			{"Effect":"Allow","Action":"*","Resource":"*"}]}`)
		got, err := Set{Identity: []*Document{d}}.Decide(Request{Action: "drs:StartRecovery", Resource: server, Values: broken})
		require.Error(t, err)
		require.NotEqual(t, Allow, got)
	}
}

func TestRefusedDocuments(t *testing.T) {
	for _, text := range []string{
		``, `[]`, `null`, `{}`, `{"Statement":[]}`, `{"Statement":null}`,
		`{"Version":"2026-01-01","Statement":{"Effect":"Allow","Action":"*","Resource":"*"}}`,
		`{"Statement":{"Effect":"allow","Action":"*","Resource":"*"}}`,
		`{"Statement":{"Action":"*","Resource":"*"}}`,
		`{"Statement":{"Effect":"Allow","Resource":"*"}}`,
		`{"Statement":{"Effect":"Allow","Action":"*"}}`,
		`{"Statement":{"Effect":"Allow","Action":"*","NotAction":"drs:*","Resource":"*"}}`,
		`{"Statement":{"Effect":"Allow","Action":"StartRecovery","Resource":"*"}}`,
		`{"Statement":{"Effect":"Allow","Action":"drs:","Resource":"*"}}`,
		`{"Statement":{"Effect":"Allow","Action":"*","Resource":"s-1"}}`,
		`{"Statement":{"Effect":"Allow","Action":"*","Resource":"arn:aws:drs"}}`,
		`{"Statement":{"Effect":"Allow","Action":"*","Resource":"*","Principal":"*"}}`,
		`{"Statement":{"Effect":"Allow","Action":"*","Action":"drs:*","Resource":"*"}}`,
		`{"Statement":{"Effect":"Allow","Action":"*","action":"drs:*","Resource":"*"}}`,
		`{"Statement":{"Effect":"Allow","Action":"*","Resource":"*"}} {}`,
		`{"Statement":{"Effect":"Allow","Action":"*","Resource":"*","Condition":{"StringIs":{"aws:username":"a"}}}}`,
		`{"Statement":{"Effect":"Allow","Action":"*","Resource":"*","Condition":{"StringEquals":{"aws:MultiFactorAuthAge":"a"}}}}`,
		`{"Statement":{"Effect":"Allow","Action":"*","Resource":"*","Condition":{"StringEquals":{"aws:ResourceTag/":"a"}}}}`,
		`{"Statement":{"Effect":"Allow","Action":"*","Resource":"*","Condition":{"StringEquals":{"aws:TagKeys":"a"}}}}`,
		`{"Statement":{"Effect":"Allow","Action":"*","Resource":"*","Condition":{"ForAnyValue:StringEquals":{"aws:username":"a"}}}}`,
		`{"Statement":{"Effect":"Allow","Action":"*","Resource":"*","Condition":{"IpAddress":{"aws:SourceIp":"10.0.0.0/33"}}}}`,
		`{"Statement":{"Effect":"Allow","Action":"*","Resource":"*","Condition":{"Bool":{"aws:SecureTransport":"perhaps"}}}}`,
		`{"Statement":{"Effect":"Allow","Action":"*","Resource":"*","Condition":{"DateLessThan":{"aws:CurrentTime":"soon"}}}}`,
		`{"Statement":{"Effect":"Allow","Action":"*","Resource":"*","Condition":{"StringEquals":{"aws:username":[]}}}}`,
		`{"Statement":{"Effect":"Allow","Action":"*","Resource":"*","Condition":{"StringEquals":{"aws:username":{"a":1}}}}}`,
		`{"Statement":{"Effect":"Allow","Action":"*","Resource":"*","Condition":{"NullIfExists":{"aws:username":"true"}}}}`,
		`{"Version":"2012-10-17","Statement":{"Effect":"Allow","Action":"*","Resource":"arn:aws:iam::1:user/${aws:unknown}"}}`,
		`{"Version":"2012-10-17","Statement":{"Effect":"Allow","Action":"*","Resource":"arn:aws:iam::1:user/${aws:username"}}`,
		`{"Statement":` + strings.Repeat("[", 20) + strings.Repeat("]", 20) + `}`,
		`{"Statement":{"Effect":"Allow","Action":"*","Resource":"*"}}` + strings.Repeat(" ", MaxBytes),
	} {
		_, err := Parse([]byte(text))
		require.True(t, fault.Is(err, fault.Invalid), "%s: %v", text, err)
	}
}

// The matcher against regular expressions.
func TestPatternsAgainstRegexp(t *testing.T) {
	alphabet := rapid.SampledFrom([]rune("ab:/*?$\u00e9"))
	rapid.Check(t, func(t *rapid.T) {
		text := rapid.StringOfN(alphabet, 0, 12, -1).Draw(t, "pattern")
		s := rapid.StringOfN(alphabet, 0, 12, -1).Draw(t, "text")
		p, err := parsePattern(text, false)
		require.NoError(t, err)
		re := regexp.MustCompile(`(?s)^` + strings.NewReplacer(`\*`, `.*`, `\?`, `.`).Replace(regexp.QuoteMeta(text)) + `$`)
		require.Equal(t, re.MatchString(s), p.fits(s), "%q against %q", text, s)
	})
}

func FuzzParse(f *testing.F) {
	f.Add([]byte(`{"Version":"2012-10-17","Statement":[{"Sid":"a","Effect":"Deny","NotAction":["drs:*"],"Resource":"arn:aws:drs:*:*:${aws:username}/?",
		"Condition":{"ForAllValues:StringLike":{"aws:TagKeys":["a",1,true]},"NotIpAddressIfExists":{"aws:SourceIp":"::1"}}}]}`))
	f.Add([]byte(`{"Statement":{"Effect":"Allow","Action":"*","Resource":"*"}}`))
	f.Fuzz(func(t *testing.T, text []byte) {
		d, err := Parse(text)
		if err != nil {
			require.True(t, fault.Is(err, fault.Invalid), "%v", err)
			return
		}
		r := Request{Action: "drs:StartRecovery", Resource: server, Values: values{Username: {"ann"}, TagKeys: {"a", "b"}}.get}
		_, err = Set{Identity: []*Document{d}}.Decide(r)
		require.NoError(t, err)
	})
}
