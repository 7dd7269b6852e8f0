package s3_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/understudy-dr/understudy/internal/blob"
	"github.com/understudy-dr/understudy/internal/blob/blobtest"
	"github.com/understudy-dr/understudy/internal/blob/s3"
	"github.com/understudy-dr/understudy/internal/blob/s3test"
)

func config(endpoint, prefix string) s3.Config {
	return s3.Config{
		Endpoint: endpoint, Region: s3test.Region, Bucket: s3test.Bucket, Prefix: prefix, PathStyle: true,
		AccessKeyID: s3test.AccessKey, SecretAccessKey: s3test.SecretKey,
		AttemptTimeout: 10 * time.Second, MaxBackoff: 20 * time.Millisecond,
	}
}

func open(t testing.TB, cfg s3.Config) *s3.Store {
	t.Helper()
	s, err := s3.New(t.Context(), cfg)
	require.NoError(t, err)
	return s
}

func TestSuite(t *testing.T) {
	server := s3test.Start(t)
	blobtest.Suite(t, func(t *testing.T) blob.Store { return open(t, config(server.Endpoint, "suite/"+t.Name())) }, 20<<20)
}
