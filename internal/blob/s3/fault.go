package s3

import (
	"errors"
	"net/http"

	"github.com/aws/smithy-go"

	"github.com/understudy-dr/understudy/internal/fault"
)

// verdict is what an error code means to us and to an operator.
type verdict struct {
	kind fault.Kind
	hint string
}

const (
	hintKeys   = "check the access key, its secret and the clock of this machine"
	hintPolicy = "allow s3:GetObject, PutObject, DeleteObject, ListBucket, ListBucketMultipartUploads and AbortMultipartUpload on the bucket"
	hintRegion = "check the endpoint and the region of the bucket"
	hintBucket = "create the bucket, or correct its name and the endpoint"
	hintRoom   = "give the bucket more room, or shorten the retention"
)

var verdicts = map[string]verdict{
	"NoSuchKey":                          {fault.NotFound, ""},
	"NotFound":                           {fault.NotFound, ""}, // HEAD
	"NoSuchBucket":                       {fault.Invalid, hintBucket},
	"InvalidBucketName":                  {fault.Invalid, hintBucket},
	"InvalidAccessKeyId":                 {fault.Denied, hintKeys},
	"SignatureDoesNotMatch":              {fault.Denied, hintKeys},
	"RequestTimeTooSkewed":               {fault.Denied, hintKeys},
	"ExpiredToken":                       {fault.Denied, hintKeys},
	"InvalidToken":                       {fault.Denied, hintKeys},
	"AccessDenied":                       {fault.Denied, hintPolicy},
	"AllAccessDisabled":                  {fault.Denied, hintPolicy},
	"AuthorizationHeaderMalformed":       {fault.Invalid, hintRegion},
	"PermanentRedirect":                  {fault.Invalid, hintRegion},
	"IllegalLocationConstraintException": {fault.Invalid, hintRegion},
	"PreconditionFailed":                 {fault.Conflict, ""},
	"ConditionalRequestConflict":         {fault.Transient, ""},
	"OperationAborted":                   {fault.Transient, ""},
	"NoSuchUpload":                       {fault.Transient, "something removed an upload under way; look for other processes with the same prefix and for lifecycle rules"},
	"InvalidRange":                       {fault.Corruption, "the object is shorter than what was written; something else changed the bucket"},
	"NotImplemented":                     {fault.Unsupported, ""},
	"QuotaExceeded":                      {fault.OutOfSpace, hintRoom},
	"InsufficientStorage":                {fault.OutOfSpace, hintRoom},
	"StorageFull":                        {fault.OutOfSpace, hintRoom},
	"XMinioStorageFull":                  {fault.OutOfSpace, hintRoom},
	"XMinioAdminBucketQuotaExceeded":     {fault.OutOfSpace, hintRoom},
	"ServiceQuotaExceededException":      {fault.OutOfSpace, hintRoom},
}

func init() {
	for code := range damaged {
		verdicts[code] = verdict{fault.Transient, "look for what damages data between here and the object storage"}
	}
}

// byStatus judges codes that are not in the list, and answers without one.
func byStatus(status int) verdict {
	switch {
	case status == http.StatusNotFound:
		return verdict{fault.NotFound, ""}
	case status == http.StatusUnauthorized, status == http.StatusForbidden:
		return verdict{fault.Denied, hintPolicy}
	case status == http.StatusPreconditionFailed:
		return verdict{fault.Conflict, ""}
	case status == http.StatusRequestedRangeNotSatisfiable:
		return verdicts["InvalidRange"]
	case status == http.StatusNotImplemented, status == http.StatusMethodNotAllowed:
		return verdict{fault.Unsupported, ""}
	case status == http.StatusInsufficientStorage:
		return verdict{fault.OutOfSpace, hintRoom}
	case status == http.StatusTooManyRequests, status == http.StatusRequestTimeout, status == http.StatusConflict:
		return verdict{fault.Transient, ""}
	case status >= 300 && status < 400:
		return verdict{fault.Invalid, hintRegion}
	case status >= 400 && status < 500:
		return verdict{fault.Invalid, ""}
	}
	return verdict{fault.Transient, "check that the object storage is up and reachable"}
}

// fault classifies an error of the client. Its text has the service's request id, by which the service's own logs can
// be searched.
func (s *Store) fault(op string, err error) error {
	if err == nil {
		return nil
	}
	if _, classified := errors.AsType[*fault.Error](err); classified {
		return fault.Wrap("s3: "+op, err)
	}
	v := judge(err)
	return fault.New(v.kind, "s3: "+op, "bucket %s: %w", s.cfg.Bucket, err).WithHint(v.hint)
}

func judge(err error) verdict {
	if e, ok := errors.AsType[*fault.Error](err); ok {
		return verdict{e.Kind, e.Hint}
	}
	if e, ok := errors.AsType[*again](err); ok {
		return verdict{e.kind, "check that the object storage is up and reachable"}
	}
	if e, ok := errors.AsType[smithy.APIError](err); ok {
		if v, known := verdicts[e.ErrorCode()]; known {
			return v
		}
	}
	return byStatus(status(err))
}

// status is the HTTP status in err, or 0.
func status(err error) int {
	if e, ok := errors.AsType[interface {
		error
		HTTPStatusCode() int
	}](err); ok {
		return e.HTTPStatusCode()
	}
	return 0
}

func (s *Store) noBucket(op string, err error) error {
	return fault.New(fault.Invalid, "s3: "+op, "bucket %s does not exist: %w", s.cfg.Bucket, err).WithHint(hintBucket)
}
