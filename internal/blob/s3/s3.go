// Package s3 keeps blobs in a bucket of an S3-compatible service. Large objects go up in parts while they are written;
// everything is retried, with a deadline for each attempt, and what arrives is checksummed on the way.
//
// Whoever chooses where a journal's layers live imports it; nobody else knows the SDK's storage client.
package s3

import (
	"cmp"
	"context"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/google/uuid"

	"github.com/understudy-dr/understudy/internal/blob"
	"github.com/understudy-dr/understudy/internal/fault"
)

// Config says where a bucket is and how to reach it.
type Config struct {
	Endpoint  string // URL of the service; empty for AWS itself
	Region    string // needed for AWS; others mostly take any, and us-east-1 is assumed with an Endpoint
	Bucket    string
	Prefix    string // what every key begins with, without the slash between
	PathStyle bool   // bucket in the path instead of the host name: most services but AWS want it

	// Static credentials. Empty ones mean the SDK's default chain: environment, profile, instance role.
	AccessKeyID, SecretAccessKey, SessionToken string

	AttemptTimeout time.Duration // of one attempt without its payload, which gets time by its size; 30 s if zero
	MaxAttempts    int           // 6 if zero
	MaxBackoff     time.Duration // 10 s if zero
	StaleAfter     time.Duration // uploads this old are of a process that died; 24 h if zero
	Log            *slog.Logger  // discarded if nil
}

// Store implements blob.Store.
type Store struct {
	cfg    Config
	client *s3.Client
	prefix string // with a slash at the end, or empty

	unconditional atomic.Bool // the service does not know If-None-Match on writes

	sweepMu sync.Mutex
	sweepAt time.Time // when stale uploads are looked for again
}

// New prepares a store. It does not talk to the service, which may be unreachable for now; see Check.
func New(ctx context.Context, cfg Config) (*Store, error) {
	cfg, err := cfg.complete()
	if err != nil {
		return nil, err
	}
	client, err := newClient(ctx, cfg)
	if err != nil {
		return nil, err
	}
	s := &Store{cfg: cfg, client: client}
	if p := strings.Trim(cfg.Prefix, "/"); p != "" {
		s.prefix = p + "/"
	}
	return s, nil
}

func (c Config) complete() (Config, error) {
	const op = "s3: configuration"
	if c.Bucket == "" {
		return c, fault.New(fault.Invalid, op, "no bucket")
	}
	if (c.AccessKeyID == "") != (c.SecretAccessKey == "") {
		return c, fault.New(fault.Invalid, op, "an access key needs both its id and its secret")
	}
	if c.Region == "" && c.Endpoint != "" {
		c.Region = "us-east-1"
	}
	if len(c.Prefix) > 200 {
		return c, fault.New(fault.Invalid, op, "the prefix has %d bytes, at most 200", len(c.Prefix))
	}
	c.AttemptTimeout = cmp.Or(c.AttemptTimeout, 30*time.Second)
	c.MaxAttempts = cmp.Or(c.MaxAttempts, 6)
	c.MaxBackoff = cmp.Or(c.MaxBackoff, 10*time.Second)
	c.StaleAfter = cmp.Or(c.StaleAfter, 24*time.Hour)
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	return c, nil
}

// Check does once what the journal will do all the time: writes, lists, reads and deletes an object. Its error tells an
// operator what to correct.
func (s *Store) Check(ctx context.Context) error {
	name := "check-" + uuid.NewString()
	content := []byte("understudy was here")
	if err := blob.Put(ctx, s, name, content); err != nil {
		return err
	}
	infos, err := s.List(ctx, name)
	if err == nil && len(infos) != 1 {
		err = fault.New(fault.Unsupported, "s3: check", "an object that was just written is not listed").
			WithHint("use a service with strongly consistent listing")
	}
	if err == nil {
		_, err = blob.Get(ctx, s, name, 1<<10)
	}
	if deleted := s.Delete(ctx, name); err == nil {
		err = deleted
	}
	return err
}

func (s *Store) key(name string) *string { return aws.String(s.prefix + name) }

// Stat implements blob.Store.
func (s *Store) Stat(ctx context.Context, name string) (int64, error) {
	if err := blob.CheckName(name); err != nil {
		return 0, err
	}
	head, err := s.head(ctx, name)
	if err == nil {
		return aws.ToInt64(head.ContentLength), nil
	}
	err = s.fault("stat "+name, err)
	if fault.Is(err, fault.NotFound) {
		if missing := s.bucketMissing(ctx); missing != nil {
			return 0, missing
		}
	}
	return 0, err
}

func (s *Store) head(ctx context.Context, name string) (*s3.HeadObjectOutput, error) {
	return s.client.HeadObject(ctx, &s3.HeadObjectInput{Bucket: &s.cfg.Bucket, Key: s.key(name)}, s.attempt(0, nil))
}

// bucketMissing tells a missing object from a missing bucket, which a HEAD of the object cannot: it has no body. Nobody
// must take a mistyped bucket for an empty one.
func (s *Store) bucketMissing(ctx context.Context) error {
	_, err := s.client.HeadBucket(ctx, &s3.HeadBucketInput{Bucket: &s.cfg.Bucket}, s.attempt(0, nil))
	if status(err) == 404 {
		return s.noBucket("look for bucket", err)
	}
	return nil
}

// List implements blob.Store.
func (s *Store) List(ctx context.Context, prefix string) ([]blob.Info, error) {
	if err := blob.CheckPrefix(prefix); err != nil {
		return nil, err
	}
	var found []blob.Info
	pages := s3.NewListObjectsV2Paginator(s.client, &s3.ListObjectsV2Input{Bucket: &s.cfg.Bucket, Prefix: s.key(prefix)})
	for pages.HasMorePages() {
		page, err := pages.NextPage(ctx, s.attempt(0, nil))
		if err != nil {
			return nil, s.fault("list "+prefix, err)
		}
		for _, object := range page.Contents {
			name, below := strings.CutPrefix(aws.ToString(object.Key), s.prefix)
			if below && blob.CheckName(name) == nil {
				found = append(found, blob.Info{Name: name, Size: aws.ToInt64(object.Size)})
			}
		}
	}
	slices.SortFunc(found, func(a, b blob.Info) int { return cmp.Compare(a.Name, b.Name) })
	return found, nil
}

// Delete implements blob.Store.
func (s *Store) Delete(ctx context.Context, name string) error {
	if err := blob.CheckName(name); err != nil {
		return err
	}
	_, err := s.client.DeleteObject(ctx, &s3.DeleteObjectInput{Bucket: &s.cfg.Bucket, Key: s.key(name)}, s.attempt(0, nil))
	err = s.fault("delete "+name, err)
	if fault.Is(err, fault.NotFound) {
		return nil
	}
	return err
}
