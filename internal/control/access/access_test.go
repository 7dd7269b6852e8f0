package access

import (
	"context"
	"os"
	"path/filepath"
	"regexp"
	"testing"

	"github.com/aws/aws-sdk-go-v2/config"
	"github.com/stretchr/testify/require"

	"github.com/understudy-dr/understudy/internal/fault"
	"github.com/understudy-dr/understudy/internal/state"
	"github.com/understudy-dr/understudy/internal/state/sqlite"
)

const account = "111122223333"

func setup(t *testing.T) (state.Store, string) {
	dir := t.TempDir()
	s, err := sqlite.Open(t.Context(), filepath.Join(dir, "state.db"))
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, s.Close()) })
	return s, dir
}

func TestCreateLookupDelete(t *testing.T) {
	s, dir := setup(t)
	k, err := Open(s, filepath.Join(dir, "keys"))
	require.NoError(t, err)
	key, err := k.Create(t.Context(), account, "ann", false)
	require.NoError(t, err)
	require.Regexp(t, regexp.MustCompile(`^AKIA[A-Z2-7]{16}$`), key.ID)
	require.Regexp(t, regexp.MustCompile(`^[A-Za-z0-9+/]{40}$`), key.Secret)
	again, err := Open(s, filepath.Join(dir, "keys"))
	require.NoError(t, err)
	got, err := again.Lookup(t.Context(), key.ID)
	require.NoError(t, err)
	require.Equal(t, key, got)
	require.Equal(t, "arn:aws:iam::"+account+":user/ann", got.Principal.ARN)
	require.False(t, got.Admin)

	require.NoError(t, k.Delete(t.Context(), "444455556666", key.ID))
	_, err = k.Lookup(t.Context(), key.ID)
	require.NoError(t, err, "another account must not delete it")
	require.NoError(t, k.Delete(t.Context(), account, key.ID))
	_, err = k.Lookup(t.Context(), key.ID)
	require.True(t, fault.Is(err, fault.Denied), "%v", err)
}

func TestSecretIsSealed(t *testing.T) {
	s, dir := setup(t)
	k, err := Open(s, filepath.Join(dir, "keys"))
	require.NoError(t, err)
	a, err := k.Create(t.Context(), account, "ann", false)
	require.NoError(t, err)
	b, err := k.Create(t.Context(), account, "bob", false)
	require.NoError(t, err)
	require.NoError(t, s.Update(t.Context(), func(tx state.Tx) error {
		ra, err := tx.AccessKey(t.Context(), a.ID)
		require.NoError(t, err)
		require.NotContains(t, string(ra.Sealed), a.Secret)
		rb, err := tx.AccessKey(t.Context(), b.ID)
		require.NoError(t, err)
		ra.Sealed = rb.Sealed
		return tx.PutAccessKey(t.Context(), ra)
	}))
	_, err = k.Lookup(t.Context(), a.ID)
	require.True(t, fault.Is(err, fault.Corruption), "a secret moved to another key: %v", err)

	other, err := Open(s, filepath.Join(dir, "other"))
	require.NoError(t, err)
	_, err = other.Lookup(t.Context(), b.ID)
	require.True(t, fault.Is(err, fault.Corruption), "another sealing key: %v", err)
	require.NotEmpty(t, fault.HintOf(err))
}

func TestAdministrator(t *testing.T) {
	s, dir := setup(t)
	k, err := Open(s, filepath.Join(dir, "keys"))
	require.NoError(t, err)
	path := filepath.Join(dir, "credentials")
	require.NoError(t, k.EnsureAdministrator(t.Context(), account, path))
	for _, f := range []string{path, filepath.Join(dir, "keys", "access.key")} {
		info, err := os.Stat(f)
		require.NoError(t, err)
		require.Equal(t, os.FileMode(0o600), info.Mode().Perm())
	}
	first, err := os.ReadFile(path)
	require.NoError(t, err)

	// The SDK that users have must read it.
	c, err := config.LoadSharedConfigProfile(context.Background(), Profile, func(o *config.LoadSharedConfigOptions) {
		o.CredentialsFiles, o.ConfigFiles = []string{path}, []string{}
	})
	require.NoError(t, err)
	key, err := k.Lookup(t.Context(), c.Credentials.AccessKeyID)
	require.NoError(t, err)
	require.Equal(t, key.Secret, c.Credentials.SecretAccessKey)
	require.True(t, key.Admin)

	require.NoError(t, os.Remove(path)) // as if a crash had come before it was written
	require.NoError(t, k.EnsureAdministrator(t.Context(), account, path))
	again, err := os.ReadFile(path)
	require.NoError(t, err)
	require.Equal(t, first, again, "the key must not change")

	require.NoError(t, os.WriteFile(path, []byte("mine"), 0o600))
	require.NoError(t, k.EnsureAdministrator(t.Context(), account, path))
	kept, err := os.ReadFile(path)
	require.NoError(t, err)
	require.Equal(t, "mine", string(kept))
	all, err := k.List(t.Context(), account, "")
	require.NoError(t, err)
	require.Len(t, all, 1)
	leftovers, err := filepath.Glob(filepath.Join(dir, ".*"))
	require.NoError(t, err)
	require.Empty(t, leftovers)
}
