package agentpb

import (
	"context"
	"errors"
	"testing"

	"connectrpc.com/connect"
	"github.com/stretchr/testify/require"

	"github.com/understudy-dr/understudy/internal/fault"
)

func TestEveryRefusalComesBackAsItsKind(t *testing.T) {
	for kind := range codes {
		refusal, ok := Refusal(fault.New(kind, "there", "cause").WithHint("do this"))
		require.True(t, ok)
		got := Fault("here", refusal)
		require.Equal(t, kind, fault.KindOf(got))
		require.EqualError(t, got, "here: there: cause (do this)")
	}
	for _, kind := range []fault.Kind{fault.Unknown, fault.Bug, fault.Corruption} {
		_, ok := Refusal(fault.New(kind, "there", "secret"))
		require.False(t, ok)
	}
}

func TestFaultsThatAreNoRefusal(t *testing.T) {
	require.NoError(t, Fault("here", nil))
	for _, c := range []struct {
		err  error
		kind fault.Kind
	}{
		{connect.NewError(connect.CodeUnknown, fault.New(fault.Denied, "sigv4", "no credentials")), fault.Denied},
		{connect.NewError(connect.CodePermissionDenied, errors.New("the security token is invalid")), fault.Denied},
		{connect.NewError(connect.CodeUnavailable, errors.New("connection refused")), fault.Transient},
		{connect.NewError(connect.CodeInternal, errors.New("internal error")), fault.Transient},
		{connect.NewError(connect.CodeCanceled, context.Canceled), fault.Transient},
		{errors.New("no connect error"), fault.Transient},
	} {
		got := Fault("here", c.err)
		require.Equal(t, c.kind, fault.KindOf(got), "%v", c.err)
	}
	require.ErrorIs(t, Fault("here", connect.NewError(connect.CodeCanceled, context.Canceled)), context.Canceled)
}
