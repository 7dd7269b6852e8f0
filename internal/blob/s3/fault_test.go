package s3_test

import (
	"bytes"
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/understudy-dr/understudy/internal/blob"
	"github.com/understudy-dr/understudy/internal/blob/blobtest"
	"github.com/understudy-dr/understudy/internal/blob/s3"
	"github.com/understudy-dr/understudy/internal/blob/s3test"
	"github.com/understudy-dr/understudy/internal/fault"
)

// bench is a server, a proxy before it, and a store through each.
type bench struct {
	server          *s3test.Server
	proxy           *s3test.Proxy
	through, direct *s3.Store
}

func newBench(t *testing.T) *bench {
	t.Helper()
	b := &bench{server: s3test.Start(t)}
	b.proxy = s3test.NewProxy(t, b.server)
	b.through, b.direct = open(t, config(b.proxy.Endpoint, "p")), open(t, config(b.server.Endpoint, "p"))
	return b
}

// noUploads fails if an upload is left in the bucket, complete or not.
func (b *bench) noUploads(t *testing.T) {
	t.Helper()
	n, err := b.direct.AbortStale(t.Context(), -time.Hour)
	require.NoError(t, err)
	require.Zero(t, n, "an upload was left behind")
}

// What goes wrong once or twice is not noticed: the object is there, whole, and nothing else.
func TestPassingTroubleIsRetried(t *testing.T) {
	b := newBench(t)
	rng := blobtest.NewRand(t)
	small, large := blobtest.Bytes(rng, 300_000), blobtest.Bytes(rng, 18<<20)
	slow := s3test.Fault{Status: 503, Code: "SlowDown"}
	broken := s3test.Fault{Status: 500, Code: "InternalError"}
	for i, test := range []struct {
		op   string
		f    s3test.Fault
		data []byte
	}{
		{"", slow, small},
		{"", broken, small},
		{"", s3test.Fault{LoseRequest: true}, small},
		{"Head", slow, small},
		{"PutObject", s3test.Fault{CutRequest: 1}, small},
		{"PutObject", s3test.Fault{CutRequest: 200_000}, small},
		{"PutObject", s3test.Fault{FlipRequest: 5}, small},
		{"PutObject", s3test.Fault{FlipRequest: 299_999}, small},
		{"PutObject", s3test.Fault{LoseAnswer: true}, small},
		{"PutObject", s3test.Fault{LoseAnswer: true}, nil},
		{"GetObject", slow, small},
		{"GetObject", s3test.Fault{CutAnswer: 1}, small},
		{"GetObject", s3test.Fault{CutAnswer: 299_999}, small},
		{"GetObject", s3test.Fault{FlipAnswer: 299_999}, small},
		{"CreateMultipartUpload", slow, large},
		{"UploadPart", slow, large},
		{"UploadPart", s3test.Fault{CutRequest: 1 << 20}, large},
		{"UploadPart", s3test.Fault{FlipRequest: 1 << 20}, large},
		{"UploadPart", s3test.Fault{LoseAnswer: true}, large},
		{"CompleteMultipartUpload", broken, large},
		{"CompleteMultipartUpload", s3test.Fault{LoseRequest: true}, large},
		{"CompleteMultipartUpload", s3test.Fault{LoseAnswer: true}, large},
		{"GetObject", s3test.Fault{CutAnswer: 5 << 20}, large},
	} {
		t.Run(fmt.Sprintf("%d %s %s", i, test.op, test.f), func(t *testing.T) {
			name := fmt.Sprintf("o%d", i)
			done := 0
			test.f.Before = func() { done++ }
			b.proxy.Plan(s3test.Times(1, test.op, test.f))
			require.NoError(t, blob.Put(t.Context(), b.through, name, test.data))
			blobtest.RequireObject(t, b.through, name, test.data)
			require.Equal(t, 1, done, "the fault did not happen")
			b.proxy.Plan(nil)
			blobtest.RequireObject(t, b.direct, name, test.data)
			require.NoError(t, b.through.Delete(t.Context(), name))
			blobtest.RequireMissing(t, b.direct, name)
		})
	}
}

// An attempt that hangs ends at its own deadline, not at the caller's.
func TestHangingAttempts(t *testing.T) {
	b := newBench(t)
	cfg := config(b.proxy.Endpoint, "p")
	cfg.AttemptTimeout = 300 * time.Millisecond
	s := open(t, cfg)
	for _, op := range []string{"Head", "PutObject", "GetObject", "ListObjects", "DeleteObject"} {
		b.proxy.Plan(s3test.Times(1, op, s3test.Fault{Hang: true}))
		require.NoError(t, s.Check(t.Context()), op)
	}
	b.proxy.Plan(s3test.Times(1000, "", s3test.Fault{Hang: true}))
	cfg.MaxAttempts = 2
	_, err := open(t, cfg).Stat(t.Context(), "a")
	require.Equal(t, fault.Transient, fault.KindOf(err), "%v", err)
	require.Equal(t, 2, b.proxy.Count(), "attempts")
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	_, err = s.Stat(ctx, "a")
	require.ErrorIs(t, err, context.DeadlineExceeded)
}

// What lasts is reported as what it is, with the service's request id and what to do.
func TestLastingTroubleIsNamed(t *testing.T) {
	b := newBench(t)
	for _, test := range []struct {
		status int
		code   string
		want   fault.Kind
		hint   string
	}{
		{503, "SlowDown", fault.Transient, "up and reachable"},
		{500, "InternalError", fault.Transient, "up and reachable"},
		{502, "", fault.Transient, "up and reachable"},
		{403, "AccessDenied", fault.Denied, "s3:GetObject"},
		{403, "SignatureDoesNotMatch", fault.Denied, "secret"},
		{403, "ExpiredToken", fault.Denied, "secret"},
		{403, "QuotaExceeded", fault.OutOfSpace, "room"},
		{507, "XMinioStorageFull", fault.OutOfSpace, "room"},
		{404, "NoSuchBucket", fault.Invalid, "bucket"},
		{301, "PermanentRedirect", fault.Invalid, "region"},
		{400, "AuthorizationHeaderMalformed", fault.Invalid, "region"},
		{409, "ConditionalRequestConflict", fault.Transient, ""},
		{400, "SomethingNew", fault.Invalid, ""},
	} {
		t.Run(fmt.Sprint(test.status, test.code), func(t *testing.T) {
			b.proxy.Plan(s3test.Times(1000, "PutObject", s3test.Fault{Status: test.status, Code: test.code}))
			err := blob.Put(t.Context(), b.through, "x", []byte("x"))
			require.Equal(t, test.want, fault.KindOf(err), "%v", err)
			require.Contains(t, fault.HintOf(err), test.hint)
			require.ErrorContains(t, err, "request-of-the-proxy")
			blobtest.RequireMissing(t, b.direct, "x")
		})
	}
}

func TestUnreachable(t *testing.T) {
	server := s3test.Start(t)
	s := open(t, config(server.Endpoint, "p"))
	require.NoError(t, s.Check(t.Context()))
	server.Kill(t)
	err := s.Check(t.Context())
	require.Equal(t, fault.Transient, fault.KindOf(err), "%v", err)
	server.Run(t)
	require.NoError(t, s.Check(t.Context()), "the same store goes on")
}

func TestWrongConfiguration(t *testing.T) {
	server := s3test.Start(t)
	cfg := config(server.Endpoint, "p")
	cfg.Bucket = "mistyped"
	_, err := open(t, cfg).Stat(t.Context(), "x")
	require.Equal(t, fault.Invalid, fault.KindOf(err), "a missing bucket must not look empty: %v", err)
	for _, err := range []error{
		open(t, cfg).Check(t.Context()),
		open(t, cfg).ReadAt(t.Context(), "x", make([]byte, 1), 0),
		func() error { _, err := open(t, cfg).List(t.Context(), ""); return err }(),
	} {
		require.Equal(t, fault.Invalid, fault.KindOf(err), "%v", err)
		require.Contains(t, fault.HintOf(err), "bucket")
	}
	cfg = config(server.Endpoint, "p")
	cfg.SecretAccessKey = "wrong"
	err = open(t, cfg).Check(t.Context())
	require.Equal(t, fault.Denied, fault.KindOf(err), "%v", err)
	for _, bad := range []s3.Config{
		{Region: "x"}, {Bucket: "b", Region: "x", AccessKeyID: "only"}, {Bucket: "b", Region: "x", Prefix: string(bytes.Repeat([]byte("p"), 300))},
	} {
		_, err := s3.New(t.Context(), bad)
		require.Equal(t, fault.Invalid, fault.KindOf(err))
	}
}

// Somebody commits the same name between our look and our commit.
func TestCommitDoesNotReplace(t *testing.T) {
	b := newBench(t)
	for op, size := range map[string]int{"PutObject": 100, "CompleteMultipartUpload": 9 << 20} {
		name := "race-" + fmt.Sprint(size)
		b.proxy.Plan(s3test.Times(1, op, s3test.Fault{Before: func() {
			require.NoError(t, blob.Put(context.Background(), b.direct, name, []byte("theirs")))
		}}))
		err := blob.Put(t.Context(), b.through, name, make([]byte, size))
		require.Equal(t, fault.Conflict, fault.KindOf(err), "%v", err)
		blobtest.RequireObject(t, b.direct, name, []byte("theirs"))
	}
	b.noUploads(t)
}

// A service without conditional writes is used without, and an object that exists is still not replaced.
func TestServiceWithoutConditions(t *testing.T) {
	b := newBench(t)
	refused := 0
	b.proxy.Plan(func(r s3test.Request) s3test.Fault {
		if r.Header.Get("If-None-Match") == "" {
			return s3test.Fault{}
		}
		refused++
		return s3test.Fault{Status: 501, Code: "NotImplemented"}
	})
	for _, name := range []string{"a", "b"} {
		require.NoError(t, blob.Put(t.Context(), b.through, name, []byte(name)))
	}
	require.NoError(t, blob.Put(t.Context(), b.through, "large", make([]byte, 9<<20)))
	require.Equal(t, 1, refused, "it is learnt once")
	err := blob.Put(t.Context(), b.through, "a", []byte("other"))
	require.Equal(t, fault.Conflict, fault.KindOf(err))
	blobtest.RequireObject(t, b.direct, "a", []byte("a"))
}
