package buckets

import (
	"bytes"
	"os"
	"path/filepath"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/understudy-dr/understudy/internal/blob/s3test"
	"github.com/understudy-dr/understudy/internal/fault"
)

const account = "111122223333"

// suite is what every store promises. bucket makes one.
func suite(t *testing.T, s Store, bucket func(name string)) {
	ctx := t.Context()
	o := Object{Account: account, Bucket: "inventory", Key: "a folder/of/files.csv"}
	_, err := s.Get(ctx, o, 100)
	require.True(t, fault.Is(err, fault.NotFound), "no bucket: %v", err)
	require.True(t, fault.Is(s.Put(ctx, o, nil), fault.NotFound))
	bucket("inventory")
	_, err = s.Get(ctx, o, 100)
	require.True(t, fault.Is(err, fault.NotFound), "no object: %v", err)
	for _, content := range [][]byte{[]byte("first"), {}, bytes.Repeat([]byte("x"), 100)} {
		require.NoError(t, s.Put(ctx, o, content))
		got, err := s.Get(ctx, o, 100)
		require.NoError(t, err)
		require.Equal(t, string(content), string(got))
	}
	_, err = s.Get(ctx, o, 99)
	require.True(t, fault.Is(err, fault.Invalid), "%v", err)
}

func TestDir(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "buckets")
	s := NewDir(dir)
	root := filepath.Join(dir, account, "inventory")
	suite(t, s, func(string) { require.NoError(t, os.MkdirAll(root, 0o700)) })
	ctx := t.Context()
	files, err := os.ReadDir(filepath.Join(root, "a folder", "of"))
	require.NoError(t, err)
	require.Len(t, files, 1, "no temporary file stays")

	_, err = s.Get(ctx, Object{Account: "444455556666", Bucket: "inventory", Key: "a folder/of/files.csv"}, 100)
	require.True(t, fault.Is(err, fault.NotFound), "another account's bucket")
	_, err = s.Get(ctx, Object{Account: account, Owner: "444455556666", Bucket: "inventory", Key: "a folder/of/files.csv"}, 100)
	require.True(t, fault.Is(err, fault.Denied))
	_, err = s.Get(ctx, Object{Account: account, Owner: account, Bucket: "inventory", Key: "a folder/of/files.csv"}, 100)
	require.NoError(t, err)

	require.NoError(t, os.WriteFile(filepath.Join(dir, "secret.csv"), []byte("no"), 0o600))
	require.NoError(t, os.Symlink(filepath.Join(dir, "secret.csv"), filepath.Join(root, "link.csv")))
	require.NoError(t, syscall.Mkfifo(filepath.Join(root, "pipe.csv"), 0o600))
	for key, kind := range map[string]fault.Kind{"../../secret.csv": fault.Invalid, "/etc/passwd": fault.Invalid, "a//b.csv": fault.Invalid,
		"link.csv": fault.Denied, "a folder": fault.Invalid, "pipe.csv": fault.Invalid, "a folder/of/files.csv/x.csv": fault.Invalid} {
		_, err := s.Get(ctx, Object{Account: account, Bucket: "inventory", Key: key}, 100)
		require.Equal(t, kind, fault.KindOf(err), "%s: %v", key, err)
	}
	require.True(t, fault.Is(s.Put(ctx, Object{Account: account, Bucket: "..", Key: "x.csv"}, nil), fault.Invalid))
	require.Error(t, s.Put(ctx, Object{Account: account, Bucket: "inventory", Key: "a folder"}, nil))
}

func TestS3(t *testing.T) {
	server := s3test.Start(t)
	s, err := NewS3(t.Context(), S3Config{Endpoint: server.Endpoint, Region: s3test.Region, PathStyle: true,
		AccessKeyID: s3test.AccessKey, SecretAccessKey: s3test.SecretKey})
	require.NoError(t, err)
	suite(t, s, func(name string) { require.NoError(t, os.Mkdir(filepath.Join(server.Root, name), 0o755)) })
	wrong, err := NewS3(t.Context(), S3Config{Endpoint: server.Endpoint, PathStyle: true, AccessKeyID: s3test.AccessKey, SecretAccessKey: "wrong"})
	require.NoError(t, err)
	_, err = wrong.Get(t.Context(), Object{Account: account, Bucket: "inventory", Key: "x.csv"}, 1)
	require.True(t, fault.Is(err, fault.Denied), "%v", err)
}

func TestAllowed(t *testing.T) {
	dir := t.TempDir()
	const home, other, third = "111122223333", "444455556666", "777788889999"
	for _, a := range []string{home, other, third} {
		for _, b := range []string{"plans", "secrets"} {
			require.NoError(t, os.MkdirAll(filepath.Join(dir, a, b), 0o700))
		}
	}
	may := func(s Store, account, bucket string) bool {
		t.Helper()
		o := Object{Account: account, Bucket: bucket, Key: "a.csv"}
		put := s.Put(t.Context(), o, []byte("x"))
		_, get := s.Get(t.Context(), o, 10)
		require.Equal(t, put == nil, get == nil, "%v, %v", put, get)
		for _, err := range []error{put, get} {
			require.True(t, err == nil || fault.Is(err, fault.Denied) && fault.HintOf(err) != "", "%v", err)
		}
		return put == nil
	}
	s := Allowed{Store: NewDir(dir), Home: home, Of: map[string][]string{other: {"plans"}}}
	for account, want := range map[string][2]bool{home: {true, true}, other: {true, false}, third: {false, false}} {
		require.Equal(t, want, [2]bool{may(s, account, "plans"), may(s, account, "secrets")}, account)
	}
	s.Of[home] = []string{"secrets"}
	require.False(t, may(s, home, "plans"))
	require.True(t, may(s, home, "secrets"))
	require.False(t, may(s, "", "plans"))
}
