package awsapi

import (
	"context"
	"errors"
	"log/slog"
	"net/http/httptest"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/understudy-dr/understudy/api/drs"
	"github.com/understudy-dr/understudy/api/mgn"
	"github.com/understudy-dr/understudy/api/rest"
	"github.com/understudy-dr/understudy/internal/control"
	"github.com/understudy-dr/understudy/internal/fault"
)

func operation(t *testing.T, list []*rest.Operation, name string) *rest.Operation {
	t.Helper()
	i := slices.IndexFunc(list, func(op *rest.Operation) bool { return op.Name == name })
	require.GreaterOrEqual(t, i, 0, name)
	return list[i]
}

// What clients get where the obvious code is not in the operation's model.
func TestTranslateFollowsTheModel(t *testing.T) {
	conflicting := fault.New(fault.Conflict, "x", "busy")
	missing := control.Missing("x", control.SourceServer, "s-1")
	wrong := fault.New(fault.Invalid, "x", "bad")
	full := fault.New(fault.Conflict, "x", "too many: %w", control.ErrQuota)
	for _, c := range []struct {
		service []*rest.Operation
		op      string
		err     error
		want    string
	}{
		{mgn.Operations, "StartReplication", conflicting, conflict},
		{mgn.Operations, "RetryDataReplication", conflicting, validation},
		{mgn.Operations, "StartTest", missing, validation},
		{mgn.Operations, "StartTest", full, conflict},
		{mgn.Operations, "StartReplication", full, quota},
		{mgn.Operations, "CreateWave", wrong, conflict},
		{mgn.Operations, "CreateReplicationConfigurationTemplate", full, quota},
		{drs.Operations, "StartReplication", wrong, conflict},
		{drs.Operations, "StartReplication", missing, notFound},
		{drs.Operations, "StartRecovery", missing, conflict},
		{drs.Operations, "DescribeRecoverySnapshots", missing, validation},
		{drs.Operations, "StopReplication", fault.New(fault.Denied, "x", "no"), accessDenied},
		{drs.Operations, "StopReplication", fault.New(fault.Corruption, "x", "rot"), internalServer},
		{drs.Operations, "StopReplication", errors.New("unclassified"), internalServer},
		{drs.Operations, "StopReplication", fault.Wrap("y", missing), notFound},
	} {
		code, _ := translate("drs", operation(t, c.service, c.op), c.err)
		require.Equal(t, c.want, code, "%s: %v", c.op, c.err)
	}
}

// A full quota tells its code where AWS publishes one, and its value where the service has a member for it.
func TestQuotaMembersOfBothServices(t *testing.T) {
	full := control.Full("x", control.SourceServer, "s-1", 300, "replicating source servers")
	cfg := &Config{Log: slog.New(slog.DiscardHandler)}
	x := (&service{Service: drs.New(drs.Unavailable{}), cfg: cfg}).exception(t.Context(), operation(t, drs.Operations, "CreateExtendedSourceServer"), full)
	d, ok := x.(*drs.ServiceQuotaExceededException)
	require.True(t, ok, "%v", x)
	require.Equal(t, drs.ServiceQuotaExceededException{Code: quota, Message: d.Message, QuotaCode: "L-C1D14A2B", ResourceId: "s-1", ResourceType: "SourceServer",
		ServiceCode: "drs"}, *d)
	x = (&service{Service: mgn.New(mgn.Unavailable{}), cfg: cfg}).exception(t.Context(), operation(t, mgn.Operations, "StartReplication"), full)
	m, ok := x.(*mgn.ServiceQuotaExceededException)
	require.True(t, ok, "%v", x)
	require.Equal(t, int32(300), *m.QuotaValue)
	require.Equal(t, "mgn", m.ServiceCode)
	require.Equal(t, 402, m.HTTPStatus())
}

// Whatever the domain says, the answer is in the model if any fitting code is.
func TestTranslatePrefersDeclaredCodes(t *testing.T) {
	for _, op := range slices.Concat(drs.Operations, mgn.Operations) {
		for kind, wanted := range codes {
			code, _ := translate("drs", op, fault.New(kind, "x", "y"))
			if slices.ContainsFunc(wanted, op.Declares) && code != accessDenied {
				require.True(t, op.Declares(code) || slices.Contains(unlisted[op.Name], code), "%s %v: %s", op.Name, kind, code)
			}
		}
	}
}

func TestTranslateTellsCauseAndNextStep(t *testing.T) {
	err := fault.Wrap("outer: do", control.Refuse("inner: do", control.SourceServer, "s-1", "is STOPPED").WithHint("start it"))
	_, d := translate("drs", operation(t, drs.Operations, "StopReplication"), err)
	require.Equal(t, "SourceServer s-1: is STOPPED (start it)", d.Message)
	require.Equal(t, "s-1", d.ResourceID)
	_, d = translate("drs", operation(t, drs.Operations, "StopReplication"), fault.New(fault.Transient, "x", "away"))
	require.Equal(t, retryAfter, d.RetryAfter)
}

// offender answers with an error that its operation's model does not list.
type offender struct{ drs.Unavailable }

func (offender) InitializeService(context.Context, *drs.InitializeServiceInput) (*drs.InitializeServiceOutput, error) {
	return nil, &drs.ConflictException{Message: "surprise"}
}

func TestUndeclaredErrorsAreReported(t *testing.T) {
	var reported []string
	s := &service{Service: drs.New(offender{}), cfg: &Config{Log: slog.New(slog.DiscardHandler),
		Undeclared: func(op *rest.Operation, code string) { reported = append(reported, op.Name+" "+code) }}}
	w := httptest.NewRecorder()
	s.ServeHTTP(w, httptest.NewRequest("POST", "/InitializeService", nil))
	require.Equal(t, []string{"InitializeService ConflictException"}, reported)
	require.Equal(t, 409, w.Code, "it is sent all the same")
}

func TestAClientThatHungUpIsNoError(t *testing.T) {
	ctx, hangUp := context.WithCancel(t.Context())
	require.Equal(t, slog.LevelError, troubleOf(ctx))
	hangUp()
	require.Equal(t, slog.LevelInfo, troubleOf(ctx))
}
