package conformance_test

import (
	"net/http"
	"net/http/httptest"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/understudy-dr/understudy/api/conformance"
	"github.com/understudy-dr/understudy/api/drs"
	"github.com/understudy-dr/understudy/api/rest"
)

func operation(t *testing.T, name string) *rest.Operation {
	t.Helper()
	for _, op := range drs.Operations {
		if op.Name == name {
			return op
		}
	}
	t.Fatalf("no operation %s", name)
	return nil
}

func answer(status int, body string, header ...string) conformance.Answer {
	h := http.Header{"Content-Type": {"application/json"}}
	for n := 0; n < len(header); n += 2 {
		h.Set(header[n], header[n+1])
	}
	return conformance.Answer{Status: status, Header: h, Body: body}
}

func TestResultsAreJudged(t *testing.T) {
	op := operation(t, "DescribeRecoverySnapshots")
	const good = `{"items":[{"snapshotID":"pit-00000000000000001","sourceServerID":"s-00000000000000001",
		"expectedTimestamp":"2026-11-22T10:00:00.123456Z","ebsSnapshots":["snap-00000000000000001"]}]}`
	require.Empty(t, conformance.Result(op, answer(200, good)))
	for body, want := range map[string]string{
		`{}`:                 "body.items: is missing",
		`{"items":null}`:     "body.items: is null",
		`{"items":{}}`:       "body.items: is no list",
		`{"items":[],"x":1}`: "body.x: is not in the model",
		`{"items":[{}]}`:     "body.items[0].expectedTimestamp: is missing",
		`{"items":[`:         "no JSON",
		good + `{}`:          "more than one",
		`{"items":[7]}`:      "body.items[0]: is no structure",
	} {
		wrong := conformance.Result(op, answer(200, body))
		require.NotEmpty(t, wrong, body)
		require.Contains(t, wrong[0], want)
	}
	require.NotEmpty(t, conformance.Result(op, answer(201, good)), "another status")
	require.NotEmpty(t, conformance.Result(operation(t, "InitializeService"), answer(204, "{}")), "a body where none belongs")
	require.NotEmpty(t, conformance.Result(op, conformance.Answer{Status: 200, Header: http.Header{}, Body: good}), "no content type")
}

func TestExceptionsAreJudged(t *testing.T) {
	s := drs.New(drs.Unavailable{})
	w := httptest.NewRecorder()
	require.NoError(t, rest.WriteError(w, s.Exception("ConflictException", rest.Detail{Message: "m", ResourceID: "s-1"})))
	good := conformance.Answer{Status: w.Code, Header: w.Header(), Body: w.Body.String()}
	require.Equal(t, "ConflictException", good.Code())
	require.Empty(t, conformance.Exception(s, good))

	bad := good
	bad.Status = 400
	require.NotEmpty(t, conformance.Exception(s, bad))
	require.NotEmpty(t, conformance.Exception(s, answer(409, `{"code":"x"}`, rest.HeaderErrorType, "ConflictException")), "no message")
	require.NotEmpty(t, conformance.Exception(s, answer(409, good.Body, rest.HeaderErrorType, "SurpriseException")))
	require.NotEmpty(t, conformance.Exception(s, answer(409, good.Body)))
}

func TestEachCaseBreaksOneConstraint(t *testing.T) {
	op := operation(t, "PutLaunchAction")
	names := map[string]bool{}
	for _, c := range conformance.Broken(op) {
		require.False(t, names[c.Name], "%s twice", c.Name)
		names[c.Name] = true
		require.NotEmpty(t, c.Member)
	}
	for _, want := range []string{"actionId missing", "actionId not of the pattern", "order too small", "order too large", "category not in the enumeration",
		"optional of the wrong type", "name too long", "parameters too large", "resourceId missing"} {
		require.True(t, names[want], "%s in %v", want, names)
	}
}

func TestKnownValues(t *testing.T) {
	op := operation(t, "DescribeSourceServers")
	full := conformance.Valid(op, conformance.Known{"SourceServerID": "s-00000000000000001"})[1]
	filters, ok := full.Values["filters"].(map[string]any)
	require.True(t, ok)
	require.Equal(t, []any{"s-00000000000000001"}, filters["sourceServerIDs"])
	method, path, body, err := conformance.HTTP(operation(t, "UntagResource"), conformance.Case{
		Values: map[string]any{"resourceArn": "arn:a/b", "tagKeys": []any{"x", "y z"}}})
	require.NoError(t, err)
	require.Equal(t, "DELETE /tags/arn:a%2Fb?tagKeys=x&tagKeys=y+z {}", method+" "+path+" "+body)
}
