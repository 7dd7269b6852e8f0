package serve

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/understudy-dr/understudy/internal/buckets"
	"github.com/understudy-dr/understudy/internal/fault"
)

func TestBucketsAreGivenToAccounts(t *testing.T) {
	open := func(address string) (any, error) {
		s := &server{cfg: Config{DataDir: t.TempDir(), AccountID: "111122223333", Buckets: address}}
		return s.openBuckets(t.Context())
	}
	for _, address := range []string{"s3://?allow=444455556666", "s3://?allow=444455556666:", "s3://?allow=4:plans", "s3://?allowed=444455556666:plans", "s3://bucket?x=y"} {
		_, err := open(address)
		require.True(t, fault.Is(err, fault.Invalid), "%s: %v", address, err)
	}
	got, err := open("s3://?endpoint=http://127.0.0.1:1&allow=444455556666:plans&allow=444455556666:exports&allow=111122223333:own")
	require.NoError(t, err)
	allowed := got.(buckets.Allowed)
	require.Equal(t, "111122223333", allowed.Home)
	require.Equal(t, map[string][]string{"444455556666": {"plans", "exports"}, "111122223333": {"own"}}, allowed.Of)
	got, err = open("")
	require.NoError(t, err)
	require.NotNil(t, got, "a directory has one for each account")
}
