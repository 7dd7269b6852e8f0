package s3

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/aws/ratelimit"
	"github.com/aws/aws-sdk-go-v2/aws/retry"
	awshttp "github.com/aws/aws-sdk-go-v2/aws/transport/http"
	"github.com/aws/aws-sdk-go-v2/config"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/smithy-go"
	"github.com/aws/smithy-go/logging"
	"github.com/aws/smithy-go/middleware"

	"github.com/understudy-dr/understudy/internal/fault"
)

// minRate is what a connection must carry, in bytes a second, for its attempt to be given time.
const minRate = 128 << 10

// damaged are the codes by which a service says that what arrived is not what was sent: worth sending again.
var damaged = map[string]struct{}{
	"BadDigest": {}, "InvalidDigest": {}, "XAmzContentSHA256Mismatch": {}, "XAmzContentChecksumMismatch": {}, "IncompleteBody": {},
}

func newClient(ctx context.Context, cfg Config) (*s3.Client, error) {
	options := []func(*config.LoadOptions) error{
		config.WithHTTPClient(awshttp.NewBuildableClient().WithTransportOptions(func(t *http.Transport) {
			t.MaxIdleConnsPerHost = 32
		})),
		config.WithLogger(logging.LoggerFunc(func(_ logging.Classification, format string, v ...any) {
			cfg.Log.Debug("object storage client", "message", fmt.Sprintf(format, v...))
		})),
	}
	if cfg.Region != "" {
		options = append(options, config.WithRegion(cfg.Region))
	}
	if cfg.AccessKeyID != "" {
		options = append(options, config.WithCredentialsProvider(
			credentials.NewStaticCredentialsProvider(cfg.AccessKeyID, cfg.SecretAccessKey, cfg.SessionToken)))
	}
	loaded, err := config.LoadDefaultConfig(ctx, options...)
	if err != nil {
		return nil, fault.New(fault.Invalid, "s3: configuration", "%w", err).WithHint("check the AWS configuration files and environment")
	}
	if loaded.Region == "" {
		return nil, fault.New(fault.Invalid, "s3: configuration", "no region").WithHint("name the bucket's region")
	}
	return s3.NewFromConfig(loaded, func(o *s3.Options) {
		o.UsePathStyle = cfg.PathStyle
		o.DisableLogOutputChecksumValidationSkipped = true // ranges have no checksum; see Store.ReadAt
		o.Retryer = newRetryer(cfg)
		if cfg.Endpoint != "" {
			o.BaseEndpoint = &cfg.Endpoint
		}
	}), nil
}

// newRetryer is the SDK's own, with its jitter, for the errors that it knows and for damage on the way. It has no quota:
// after an outage the first requests deserve their attempts as much as any.
func newRetryer(cfg Config) aws.Retryer {
	return retry.NewStandard(func(o *retry.StandardOptions) {
		o.MaxAttempts = cfg.MaxAttempts
		o.MaxBackoff = cfg.MaxBackoff
		o.RateLimiter = ratelimit.None
		o.Retryables = append(o.Retryables, retry.RetryableErrorCode{Codes: damaged})
	})
}

// attempt puts a step below the SDK's retries: every attempt has a deadline of its own, which grows with its payload,
// and consume, if any, takes the response within it, so that a body that breaks off is retried as well.
func (s *Store) attempt(payload int, consume func(result any) error) func(*s3.Options) {
	timeout := s.cfg.AttemptTimeout + time.Duration(payload)*time.Second/minRate
	step := middleware.FinalizeMiddlewareFunc("UnderstudyAttempt", func(
		ctx context.Context, in middleware.FinalizeInput, next middleware.FinalizeHandler,
	) (middleware.FinalizeOutput, middleware.Metadata, error) {
		within, cancel := context.WithTimeout(ctx, timeout)
		defer cancel()
		out, metadata, err := next.HandleFinalize(within, in)
		if err == nil && consume != nil {
			err = consume(out.Result)
		}
		if err != nil && ctx.Err() == nil && (within.Err() != nil || garbled(err)) {
			err = &again{kind: fault.Transient, err: err}
		}
		return out, metadata, err
	})
	return func(o *s3.Options) {
		o.APIOptions = append(o.APIOptions, func(stack *middleware.Stack) error {
			return stack.Finalize.Insert(step, "Retry", middleware.After)
		})
	}
}

func garbled(err error) bool {
	_, ok := errors.AsType[*smithy.DeserializationError](err)
	return ok
}

// again is an error that is worth another attempt, and its kind when attempts have run out. It hides its cause: that an
// attempt's time was up must not look as if the caller's were.
type again struct {
	kind fault.Kind
	err  error
}

func (e *again) Error() string        { return e.err.Error() }
func (e *again) RetryableError() bool { return true }
