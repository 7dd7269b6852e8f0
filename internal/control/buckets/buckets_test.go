package buckets_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/understudy-dr/understudy/internal/control/buckets"
	"github.com/understudy-dr/understudy/internal/fault"
	"github.com/understudy-dr/understudy/internal/vfs"
)

const (
	account = "111122223333"
	other   = "444455556666"
)

func TestPutAndGet(t *testing.T) {
	root, ctx := filepath.Join(t.TempDir(), "buckets"), t.Context()
	d := buckets.New(vfs.OS, root)
	_, err := d.Get(ctx, account, "my-bucket", "a/b.csv", 10)
	require.True(t, fault.Is(err, fault.NotFound), "%v", err)
	for _, content := range []string{"first", "second"} {
		url, err := d.Put(ctx, account, "my-bucket", "a/b.csv", []byte(content))
		require.NoError(t, err)
		require.Equal(t, "s3://my-bucket/a/b.csv", url)
		got, err := d.Get(ctx, account, "my-bucket", "a/b.csv", 6)
		require.NoError(t, err)
		require.Equal(t, content, string(got))
	}
	onDisk, err := os.ReadFile(filepath.Join(root, account, "my-bucket", "a", "b.csv"))
	require.NoError(t, err)
	require.Equal(t, "second", string(onDisk))
	_, err = d.Get(ctx, account, "my-bucket", "a/b.csv", 5)
	require.True(t, fault.Is(err, fault.Invalid), "%v", err)
	for _, missing := range [][2]string{{other, "a/b.csv"}, {account, "a"}, {account, "a/b"}} {
		_, err = d.Get(ctx, missing[0], "my-bucket", missing[1], 10)
		require.True(t, fault.Is(err, fault.NotFound), "%v: %v", missing, err)
	}
}

func TestNothingLeadsOutOfABucket(t *testing.T) {
	root, ctx := t.TempDir(), t.Context()
	require.NoError(t, os.WriteFile(filepath.Join(root, "secret"), []byte("x"), 0o600))
	d := buckets.New(vfs.OS, filepath.Join(root, "buckets"))
	for _, c := range [][2]string{
		{"my-bucket", "../../../secret"}, {"my-bucket", "/etc/passwd"}, {"my-bucket", "a/../b"}, {"my-bucket", ""}, {"my-bucket", "."},
		{"my-bucket", "a//b"}, {"my-bucket", "a/"}, {"my-bucket", "a\x00b"}, {"my-bucket", strings.Repeat("k", 1025)},
		{"..", "key"}, {"a..b", "key"}, {"", "key"}, {"My", "key"}, {"a/b", "key"},
	} {
		_, err := d.Get(ctx, account, c[0], c[1], 10)
		require.True(t, fault.Is(err, fault.Invalid), "%q: %v", c, err)
		_, err = d.Put(ctx, account, c[0], c[1], nil)
		require.True(t, fault.Is(err, fault.Invalid), "%q: %v", c, err)
	}
}
