package serve

import (
	"context"
	"net/url"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/understudy-dr/understudy/internal/blob"
	"github.com/understudy-dr/understudy/internal/blob/cache"
	"github.com/understudy-dr/understudy/internal/blob/s3"
	"github.com/understudy-dr/understudy/internal/fault"
	"github.com/understudy-dr/understudy/internal/vfs"
)

// objectStore reads s3://BUCKET/PREFIX?endpoint=URL&region=REGION&path-style=true. Credentials come from where the AWS SDKs
// look for them: environment, shared configuration, instance role.
func objectStore(address string) (s3.Config, error) {
	const op = "--object-store"
	u, err := url.Parse(address)
	if err != nil || u.Scheme != "s3" || u.Host == "" {
		return s3.Config{}, fault.New(fault.Invalid, op, "%q is not s3://BUCKET/PREFIX", address)
	}
	c := s3.Config{Bucket: u.Host, Prefix: strings.Trim(u.Path, "/")}
	for name, values := range u.Query() {
		value := values[len(values)-1]
		switch name {
		case "endpoint":
			c.Endpoint = value
		case "region":
			c.Region = value
		case "path-style":
			if c.PathStyle, err = strconv.ParseBool(value); err != nil {
				return c, fault.New(fault.Invalid, op, "path-style=%q is neither true nor false", value)
			}
		default:
			return c, fault.New(fault.Invalid, op, "%q is not one of endpoint, region, path-style", name)
		}
	}
	return c, nil
}

// flushAfter bounds what a replication server can lose with its disk, where layers are elsewhere.
func (c Config) flushAfter() time.Duration {
	if c.FlushAfter == 0 && c.ObjectStore != "" {
		return time.Minute
	}
	return c.FlushAfter
}

// openObjects opens the bucket that layers go to, with a local cache of what is read from it. It returns nil when layers stay in the
// data directory. A bucket that does not answer now is no reason not to start: what comes is kept until it does.
func (s *server) openObjects(ctx context.Context) (blob.Store, error) {
	c := s.cfg
	if c.ObjectStore == "" {
		return nil, nil //nolint:nilnil // no store is a choice
	}
	sc, err := objectStore(c.ObjectStore)
	if err != nil {
		return nil, err
	}
	sc.Log = c.Log
	bucket, err := s3.New(ctx, sc)
	if err != nil {
		return nil, err
	}
	if err := bucket.Check(ctx); err != nil {
		if !fault.Is(err, fault.Transient) {
			return nil, err
		}
		c.Log.Warn("object storage does not answer; layers wait until it does", "store", c.ObjectStore, "error", err)
	}
	cached, err := cache.New(bucket, cache.Config{FS: vfs.OS, Dir: filepath.Join(c.DataDir, "cache"), Bytes: c.ObjectCache, KeepFree: c.SlowBelow, Log: c.Log})
	if err != nil {
		return nil, err
	}
	s.objects = cached
	return cached, nil
}
