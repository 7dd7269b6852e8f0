package s3

import (
	"context"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"
)

// sweepEvery is how often stale uploads are looked for, sweepAgain how soon after it failed. The first commit of a
// process looks at once.
const (
	sweepEvery = 24 * time.Hour
	sweepAgain = 10 * time.Minute
)

// AbortStale aborts the uploads below the prefix that began more than olderThan ago, and tells how many: their parts
// are invisible but take room. A process that died left them, or one that could not reach the service.
func (s *Store) AbortStale(ctx context.Context, olderThan time.Duration) (int, error) {
	aborted := 0
	before := time.Now().Add(-olderThan)
	pages := s3.NewListMultipartUploadsPaginator(s.client, &s3.ListMultipartUploadsInput{Bucket: &s.cfg.Bucket, Prefix: &s.prefix})
	for pages.HasMorePages() {
		page, err := pages.NextPage(ctx, s.attempt(0, nil))
		if err != nil {
			return aborted, s.fault("list uploads", err)
		}
		for _, upload := range page.Uploads {
			if upload.Initiated == nil || upload.Initiated.After(before) {
				continue
			}
			if err := s.abort(ctx, upload.Key, upload.UploadId); err != nil {
				return aborted, s.fault("abort upload of "+aws.ToString(upload.Key), err)
			}
			aborted++
		}
	}
	return aborted, nil
}

func (s *Store) abort(ctx context.Context, key, id *string) error {
	_, err := s.client.AbortMultipartUpload(ctx, &s3.AbortMultipartUploadInput{
		Bucket: &s.cfg.Bucket, Key: key, UploadId: id,
	}, s.attempt(0, nil))
	if status(err) == 404 { // somebody else did, or it was completed
		return nil
	}
	return err
}

// sweep aborts stale uploads when it is time. That it could not is logged: nothing depends on it but room.
func (s *Store) sweep(ctx context.Context) {
	s.sweepMu.Lock()
	due := time.Now().After(s.sweepAt)
	if due {
		s.sweepAt = time.Now().Add(sweepEvery)
	}
	s.sweepMu.Unlock()
	if !due {
		return
	}
	n, err := s.AbortStale(ctx, s.cfg.StaleAfter)
	if err != nil {
		s.cfg.Log.Warn("stale uploads could not be removed; they take room in the bucket", "error", err)
		s.sweepMu.Lock()
		s.sweepAt = time.Now().Add(sweepAgain)
		s.sweepMu.Unlock()
	} else if n > 0 {
		s.cfg.Log.Info("stale uploads removed", "count", n)
	}
}
