package accounts

import (
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/understudy-dr/understudy/internal/control/quotas"
	"github.com/understudy-dr/understudy/internal/fault"
	"github.com/understudy-dr/understudy/internal/state"
	"github.com/understudy-dr/understudy/internal/state/sqlite"
)

const id = "111122223333"

func open(t *testing.T) *Accounts {
	t.Helper()
	s, err := sqlite.Open(t.Context(), filepath.Join(t.TempDir(), "state.db"))
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, s.Close()) })
	return New(s)
}

func requireKind(t *testing.T, kind fault.Kind, err error) {
	t.Helper()
	require.Error(t, err)
	require.Equal(t, kind, fault.KindOf(err), "%v", err)
}

func TestAccounts(t *testing.T) {
	a := open(t)
	ctx := t.Context()
	made, err := a.Create(ctx, id, "web team")
	require.NoError(t, err)
	_, err = a.Create(ctx, id, "")
	requireKind(t, fault.Conflict, err)
	for _, bad := range []string{"", "1", "12345678901a", "1234567890123"} {
		_, err = a.Create(ctx, bad, "")
		requireKind(t, fault.Invalid, err)
	}
	_, err = a.Create(ctx, "444455556666", strings.Repeat("x", 65))
	requireKind(t, fault.Invalid, err)
	got, err := a.Get(ctx, id)
	require.NoError(t, err)
	require.Equal(t, made, got)
	_, err = a.Get(ctx, "444455556666")
	requireKind(t, fault.NotFound, err)
	all, next, err := a.List(ctx, state.Page{})
	require.NoError(t, err)
	require.Equal(t, []state.Account{made}, all)
	require.Empty(t, next)
}

func TestChange(t *testing.T) {
	a := open(t)
	ctx := t.Context()
	_, err := a.Create(ctx, id, "web team")
	require.NoError(t, err)
	got, err := a.Change(ctx, id, Change{Suspended: new(true), Quotas: map[string]*int64{string(quotas.DRSReplicating): new(int64(5))}})
	require.NoError(t, err)
	require.True(t, got.Suspended)
	require.Equal(t, "web team", got.Name)
	require.Equal(t, map[string]int64{string(quotas.DRSReplicating): 5}, got.Quotas)
	got, err = a.Change(ctx, id, Change{Name: new("web"), Quotas: map[string]*int64{string(quotas.DRSReplicating): nil}})
	require.NoError(t, err)
	require.True(t, got.Suspended)
	require.Equal(t, "web", got.Name)
	require.Empty(t, got.Quotas)
	for code, kind := range map[string]fault.Kind{"L-NONE": fault.Invalid, string(quotas.DRSTemplates): fault.Invalid} {
		_, err = a.Change(ctx, id, Change{Quotas: map[string]*int64{code: new(int64(5))}})
		requireKind(t, kind, err)
	}
	_, err = a.Change(ctx, "444455556666", Change{})
	requireKind(t, fault.NotFound, err)
}
