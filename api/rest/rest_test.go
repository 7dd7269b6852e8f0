package rest_test

import (
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/understudy-dr/understudy/api/drs"
	"github.com/understudy-dr/understudy/api/mgn"
	"github.com/understudy-dr/understudy/api/rest"
)

func decode[I any](t *testing.T, service *rest.Service, op string, req rest.Request) (*I, *rest.Detail) {
	t.Helper()
	for _, ep := range service.Endpoints {
		if ep.Name == op {
			in := ep.New().(*I)
			return in, ep.Decode(req, in)
		}
	}
	t.Fatalf("no operation %s", op)
	return nil, nil
}

func mgnService() *rest.Service { return mgn.New(mgn.Unavailable{}) }
func drsService() *rest.Service { return drs.New(drs.Unavailable{}) }

func TestDecodeKeepsAbsentAndEmptyApart(t *testing.T) {
	in, bad := decode[mgn.UpdateReplicationConfigurationInput](t, mgnService(), "UpdateReplicationConfiguration",
		rest.Request{Body: []byte(`{"sourceServerID":"s-0123456789abcdef0","stagingAreaTags":{},"replicatedDisks":[],
			"bandwidthThrottling":0,"createPublicIP":false,"name":null,"newerMember":{"a":[1]}}`)})
	require.Nil(t, bad)
	require.NotNil(t, in.StagingAreaTags)
	require.NotNil(t, in.ReplicatedDisks)
	require.Equal(t, new(int64(0)), in.BandwidthThrottling)
	require.Equal(t, new(false), in.CreatePublicIP)
	require.Nil(t, in.Name)
	require.Nil(t, in.ReplicationServersSecurityGroupsIDs)
	require.Nil(t, in.UseFipsEndpoint)
}

func TestDecodeNamesEveryBadField(t *testing.T) {
	_, bad := decode[mgn.DescribeSourceServersInput](t, mgnService(), "DescribeSourceServers", rest.Request{Body: []byte(`{
		"maxResults": 0, "accountID": "12", "nextToken": "` + strings.Repeat("é", 2049) + `",
		"filters": {"sourceServerIDs": ["s-0123456789abcdef0", "server"], "lifeCycleStates": ["READY"], "isArchived": true}}`)})
	require.NotNil(t, bad)
	require.Equal(t, rest.ReasonFieldValidation, bad.Reason)
	var names []string
	for _, f := range bad.Fields {
		names = append(names, f.Name)
	}
	require.ElementsMatch(t, []string{
		"maxResults", "accountID", "accountID", "nextToken",
		"filters.sourceServerIDs.2.member", "filters.sourceServerIDs.2.member", "filters.lifeCycleStates.1.member",
	}, names)
	require.True(t, strings.HasPrefix(bad.Message, "7 validation errors detected: Value '12' at 'accountID' failed to satisfy constraint: "), bad.Message)
	require.Contains(t, bad.Message, "Value '0' at 'maxResults' failed to satisfy constraint: Member must have value greater than or equal to 1")
	require.Contains(t, bad.Message, "Member must satisfy enum value set: [STOPPED, ")
}

func TestDecodeCountsCharactersNotBytes(t *testing.T) {
	token := func(s string) rest.Request {
		return rest.Request{Body: []byte(`{"nextToken":"` + s + `"}`)}
	}
	_, bad := decode[mgn.DescribeJobsInput](t, mgnService(), "DescribeJobs", token(strings.Repeat("é", 2048)))
	require.Nil(t, bad)
}

// Half of a UTF-16 pair, and bytes that are no UTF-8, are replaced wherever they come from: nothing behind this has to store them.
func TestDecodeReplacesWhatIsNoText(t *testing.T) {
	in, bad := decode[drs.TagResourceInput](t, drsService(), "TagResource", rest.Request{
		Label: "arn:aws:drs:r:1:source-server/s-1\xff", Body: []byte(`{"tags":{"a\udc00":"\ud800 x","b":"\ud83d\ude00","c":"` + "\xc3\x28" + `"}}`)})
	require.Nil(t, bad)
	require.Equal(t, "arn:aws:drs:r:1:source-server/s-1\uFFFD", in.ResourceArn)
	require.Equal(t, map[string]string{"a\uFFFD": "\uFFFD x", "b": "😀", "c": "\uFFFD("}, in.Tags)
	un, bad := decode[drs.UntagResourceInput](t, drsService(), "UntagResource", rest.Request{
		Label: "arn:aws:drs:r:1:source-server/s-1", Query: url.Values{"tagKeys": {"a\xed\xa0\x80", "b"}}})
	require.Nil(t, bad)
	require.Equal(t, []string{"a\uFFFD", "b"}, un.TagKeys)
}

func TestDecodeMatchesWholeStrings(t *testing.T) {
	for _, id := range []string{"xs-0123456789abcdef0", "s-0123456789abcdef0\n", "s-0123456789abcdef00"} {
		body, err := json.Marshal(map[string]string{"sourceServerID": id})
		require.NoError(t, err)
		_, bad := decode[drs.StopReplicationInput](t, drsService(), "StopReplication", rest.Request{Body: body})
		require.NotNil(t, bad, "%q", id)
	}
}

func TestPatternMatchesWholeStringsWithoutForbiddenPrefix(t *testing.T) {
	p := &rest.Pattern{Expr: `(?!aws:)(a|b:)*`, RE2: `(a|b:)*`, Not: "b:"}
	for s, want := range map[string]bool{"": true, "aab:": true, "xa": false, "ax": false, "a\n": false, "b:a": false} {
		require.Equal(t, want, p.Match(s), "%q", s)
	}
}

func TestDecodeHidesSensitiveValues(t *testing.T) {
	_, bad := decode[mgn.TagResourceInput](t, mgnService(), "TagResource", rest.Request{
		Label: "arn:aws:mgn:r:1:source-server/s-1", Body: []byte(`{"tags":{"k":"` + strings.Repeat("hush", 100) + `"}}`)})
	require.NotNil(t, bad)
	require.NotContains(t, bad.Message, "hush")
	require.Contains(t, bad.Message, "Value at 'tags.value' failed")
}

func TestDecodeRefusesWhatIsNoObject(t *testing.T) {
	for _, body := range []string{`{`, `[]`, `"x"`, `{} {}`, `{}x`, `nul`, `{"maxResults":"5"}`, `{"maxResults":1.5}`,
		`{"maxResults":9999999999}`, `{"filters":[]}`, `{"filters":{"sourceServerIDs":{}}}`, `{"filters":{"sourceServerIDs":[1]}}`, `null`} {
		_, bad := decode[drs.DescribeSourceServersInput](t, drsService(), "DescribeSourceServers", rest.Request{Body: []byte(body)})
		require.NotNil(t, bad, body)
		require.Equal(t, rest.ReasonCannotParse, bad.Reason, body)
	}
	for _, body := range []string{"", " ", `{}`} {
		_, bad := decode[drs.DescribeSourceServersInput](t, drsService(), "DescribeSourceServers", rest.Request{Body: []byte(body)})
		require.Nil(t, bad, body)
	}
}

func TestDecodeUnions(t *testing.T) {
	put := func(parameter string) *rest.Detail {
		_, bad := decode[mgn.PutTemplateActionInput](t, mgnService(), "PutTemplateAction", rest.Request{Body: []byte(`{
			"actionID":"a1","actionName":"n","documentIdentifier":"AWS-Doc","order":1001,
			"launchConfigurationTemplateID":"lct-0123456789abcdef0","externalParameters":{"p":` + parameter + `}}`)})
		return bad
	}
	require.Nil(t, put(`{"dynamicPath":"sourceServer.sourceServerID"}`))
	bad := put(`{}`)
	require.NotNil(t, bad)
	require.Equal(t, "externalParameters.p.member", bad.Fields[0].Name)
}

func TestDecodeBoundsTheAnswer(t *testing.T) {
	ids := `"x"` + strings.Repeat(`,"x"`, 5000)
	_, bad := decode[drs.DescribeSourceServersInput](t, drsService(), "DescribeSourceServers",
		rest.Request{Body: []byte(`{"filters":{"sourceServerIDs":[` + ids + `]}}`)})
	require.NotNil(t, bad)
	require.Len(t, bad.Fields, 100)
}

func TestDecodeQuery(t *testing.T) {
	in, bad := decode[drs.UntagResourceInput](t, drsService(), "UntagResource", rest.Request{
		Label: "arn:aws:drs:r:1:source-server/s-1", Query: url.Values{"tagKeys": {"a", "b c"}}})
	require.Nil(t, bad)
	require.Equal(t, []string{"a", "b c"}, in.TagKeys)

	staging, bad := decode[drs.ListStagingAccountsInput](t, drsService(), "ListStagingAccounts", rest.Request{Query: url.Values{"maxResults": {"50"}}})
	require.Nil(t, bad)
	require.Equal(t, new(int32(50)), staging.MaxResults)
	for value, reason := range map[string]string{"51": rest.ReasonFieldValidation, "many": rest.ReasonCannotParse} {
		_, bad = decode[drs.ListStagingAccountsInput](t, drsService(), "ListStagingAccounts", rest.Request{Query: url.Values{"maxResults": {value}}})
		require.NotNil(t, bad)
		require.Equal(t, reason, bad.Reason)
	}
}

func TestRoutes(t *testing.T) {
	s := mgnService()
	arn := "arn:aws:mgn:us-east-1:000000000001:source-server/s-0123456789abcdef0"
	for _, path := range []string{"/tags/" + url.PathEscape(arn), "/tags/" + arn} {
		ep, label, ok := s.Route(http.MethodDelete, path)
		require.True(t, ok)
		require.Equal(t, "UntagResource", ep.Name)
		require.Equal(t, arn, label)
	}
	ep, _, ok := s.Route(http.MethodPost, "/network-migration/ListNetworkMigrationExecutions")
	require.True(t, ok)
	require.Equal(t, "ListNetworkMigrationExecutions", ep.Name)
	for _, line := range []string{"GET /StartTest", "POST /StartTest/", "POST /starttest", "PUT /tags/x", "GET /tags/", "GET /tags/%zz", "POST /"} {
		method, path, _ := strings.Cut(line, " ")
		_, _, ok := s.Route(method, path)
		require.False(t, ok, line)
	}
}

func TestEncodeOmitsAbsentAndKeepsEmpty(t *testing.T) {
	write := func(out any, op string) string {
		w := httptest.NewRecorder()
		for _, ep := range mgnService().Endpoints {
			if ep.Name == op {
				require.NoError(t, rest.WriteResult(w, ep.Operation, out))
			}
		}
		return w.Body.String()
	}
	require.Equal(t, `{"items":[]}`, write(&mgn.DescribeSourceServersOutput{}, "DescribeSourceServers"))
	require.Equal(t, `{"lifeCycle":{"lastTest":{}},"sourceServerID":"a\"\u003cé","tags":{}}`, write(&mgn.SourceServer{
		SourceServerID: new(`a"<é`), LifeCycle: &mgn.LifeCycle{LastTest: &mgn.LifeCycleLastTest{}}}, "StartReplication"))
	at := time.Date(2026, 1, 2, 3, 4, 5, 678_000_000, time.UTC)
	require.Contains(t, write(&mgn.NetworkMigrationDefinition{CreatedAt: &at}, "GetNetworkMigrationDefinition"), `"createdAt":1767323045.678`)
}

func TestRetryAfterTravelsInTheHeader(t *testing.T) {
	for _, code := range []string{"InternalServerException", "ThrottlingException"} {
		w := httptest.NewRecorder()
		x := drsService().Exception(code, rest.Detail{Message: "m", RetryAfter: 1500 * time.Millisecond})
		require.NoError(t, rest.WriteError(w, x))
		require.Equal(t, "2", w.Header().Get("Retry-After"))
		require.NotContains(t, w.Body.String(), "retryAfterSeconds")
		require.NotContains(t, w.Body.String(), "Retry-After")
	}
}

func FuzzDecode(f *testing.F) {
	f.Add([]byte(`{"sourceServers":[{"sourceServerID":"s-0123456789abcdef0"}],"isDrill":true,"tags":{"a":"b"}}`))
	f.Add([]byte(`{"sourceServers":[null],"tags":{"a":null}}`))
	s := drsService()
	f.Fuzz(func(t *testing.T, body []byte) {
		for _, ep := range s.Endpoints {
			if ep.Name == "StartRecovery" || ep.Name == "PutLaunchAction" {
				ep.Decode(rest.Request{Body: body}, ep.New())
			}
		}
	})
}
