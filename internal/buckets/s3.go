package buckets

import (
	"bytes"
	"context"
	"errors"
	"io"
	"time"

	"github.com/aws/aws-sdk-go-v2/config"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/smithy-go"

	"github.com/understudy-dr/understudy/internal/fault"
)

// S3Config says where a service is.
type S3Config struct {
	Endpoint  string // URL; empty for AWS itself
	Region    string // us-east-1 with an Endpoint if empty
	PathStyle bool   // bucket in the path instead of the host name: most services but AWS want it

	// Static credentials. Empty ones mean the SDK's default chain: environment, profile, instance role.
	AccessKeyID, SecretAccessKey string
}

// callTimeout bounds one call with all its attempts: files are megabytes.
const callTimeout = 2 * time.Minute

// S3 is a Store in the buckets that its credentials reach. They are the installation's: Allowed says what its accounts may
// use of them.
type S3 struct{ client *s3.Client }

// NewS3 prepares a store. It does not talk to the service.
func NewS3(ctx context.Context, c S3Config) (*S3, error) {
	const op = "buckets: configuration"
	if c.Region == "" && c.Endpoint != "" {
		c.Region = "us-east-1"
	}
	var options []func(*config.LoadOptions) error
	if c.Region != "" {
		options = append(options, config.WithRegion(c.Region))
	}
	if c.AccessKeyID != "" {
		options = append(options, config.WithCredentialsProvider(credentials.NewStaticCredentialsProvider(c.AccessKeyID, c.SecretAccessKey, "")))
	}
	loaded, err := config.LoadDefaultConfig(ctx, options...)
	if err != nil {
		return nil, fault.New(fault.Invalid, op, "%w", err).WithHint("check the AWS configuration files and environment")
	}
	if loaded.Region == "" {
		return nil, fault.New(fault.Invalid, op, "no region").WithHint("name the buckets' region")
	}
	return &S3{s3.NewFromConfig(loaded, func(o *s3.Options) {
		o.UsePathStyle = c.PathStyle
		o.DisableLogOutputChecksumValidationSkipped = true // not every service sums
		if c.Endpoint != "" {
			o.BaseEndpoint = &c.Endpoint
		}
	})}, nil
}

// Get implements Store.
func (s *S3) Get(ctx context.Context, o Object, limit int64) ([]byte, error) {
	const op = "bucket: read"
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	out, err := s.client.GetObject(ctx, &s3.GetObjectInput{Bucket: &o.Bucket, Key: &o.Key, ExpectedBucketOwner: owner(o)})
	if err != nil {
		return nil, told(op, err)
	}
	defer out.Body.Close()
	content, err := io.ReadAll(io.LimitReader(out.Body, limit+1))
	switch {
	case err != nil:
		return nil, told(op, err)
	case int64(len(content)) > limit:
		return nil, tooLarge(op, o, limit)
	}
	return content, nil
}

// Put implements Store.
func (s *S3) Put(ctx context.Context, o Object, content []byte) error {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	_, err := s.client.PutObject(ctx, &s3.PutObjectInput{Bucket: &o.Bucket, Key: &o.Key, ExpectedBucketOwner: owner(o), Body: bytes.NewReader(content)})
	return told("bucket: write", err)
}

func owner(o Object) *string {
	if o.Owner == "" {
		return nil
	}
	return &o.Owner
}

// told gives a service's error its kind.
func told(op string, err error) error {
	if err == nil {
		return nil
	}
	kind := fault.Transient // what did not answer may do so later
	if refusal, ok := errors.AsType[smithy.APIError](err); ok {
		switch refusal.ErrorCode() {
		case "NoSuchKey", "NoSuchBucket", "NotFound":
			kind = fault.NotFound
		case "AccessDenied", "InvalidAccessKeyId", "SignatureDoesNotMatch", "ExpiredToken", "InvalidToken", "AllAccessDisabled", "RequestTimeTooSkewed":
			kind = fault.Denied
		case "InvalidBucketName", "PermanentRedirect", "AuthorizationHeaderMalformed", "KeyTooLongError":
			kind = fault.Invalid
		case "QuotaExceeded", "InsufficientStorage", "StorageFull":
			kind = fault.OutOfSpace
		}
	}
	return fault.New(kind, op, "%w", err)
}
