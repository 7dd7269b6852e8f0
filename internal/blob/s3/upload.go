package s3

import (
	"bytes"
	"cmp"
	"context"
	"encoding/base64"
	"encoding/binary"
	"hash/crc32"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/s3/types"
	"golang.org/x/sync/errgroup"

	"github.com/understudy-dr/understudy/internal/fault"
)

// Parts of an upload.
const (
	firstPart   = 8 << 20 // size of the first parts; what is smaller goes in one request
	partsOfSize = 1000    // after so many parts the size doubles, so that 10,000 parts hold the largest object there may be
	inFlight    = 2       // parts on their way while another is filled
	maxParts    = 10_000
	tokenKey    = "understudy-writer" // metadata that tells one writer's object from another's
)

// partSize is the size of the n-th part, from 0.
func partSize(n int) int { return firstPart << (n / partsOfSize) }

// upload is a multipart upload under way. Its goroutines are waited for by complete and abandon.
type upload struct {
	store   *Store
	key, id *string
	parts   []*types.CompletedPart // each filled in by the goroutine that sends it
	sums    []uint32               // of the parts, CRC-32C
	group   *errgroup.Group
	ctx     context.Context // of the group
	free    chan []byte     // buffers that were sent
}

// begin starts an upload. The parts run under ctx.
func (s *Store) begin(ctx context.Context, name, token string) (*upload, error) {
	out, err := s.client.CreateMultipartUpload(ctx, &s3.CreateMultipartUploadInput{
		Bucket: &s.cfg.Bucket, Key: s.key(name), Metadata: map[string]string{tokenKey: token},
		ChecksumAlgorithm: types.ChecksumAlgorithmCrc32c, ContentType: aws.String("application/octet-stream"),
	}, s.attempt(0, nil))
	if err != nil {
		return nil, err
	}
	u := &upload{store: s, key: s.key(name), id: out.UploadId, free: make(chan []byte, inFlight)}
	u.group, u.ctx = errgroup.WithContext(ctx)
	u.group.SetLimit(inFlight)
	return u, nil
}

// send uploads data as the next part, when one of those in flight is done, and returns a buffer for the one after.
func (u *upload) send(data []byte) (buffer []byte, err error) {
	if u.ctx.Err() != nil {
		return nil, cmp.Or(u.group.Wait(), context.Cause(u.ctx))
	}
	if len(u.parts) == maxParts {
		return nil, fault.New(fault.Unsupported, "", "an object of more than %d parts", maxParts)
	}
	part, sum := &types.CompletedPart{}, crc32.Checksum(data, castagnoli)
	u.parts, u.sums = append(u.parts, part), append(u.sums, sum)
	number := aws.Int32(int32(len(u.parts)))
	u.group.Go(func() error {
		out, err := u.store.client.UploadPart(u.ctx, &s3.UploadPartInput{
			Bucket: &u.store.cfg.Bucket, Key: u.key, UploadId: u.id, PartNumber: number,
			Body: bytes.NewReader(data), ChecksumCRC32C: base64Sum(sum),
		}, u.store.attempt(len(data), func(result any) error {
			out, ok := result.(*s3.UploadPartOutput)
			if ok && out.ChecksumCRC32C != nil && *out.ChecksumCRC32C != *base64Sum(sum) {
				return &again{kind: fault.Corruption, err: errMismatch}
			}
			return nil
		}))
		if err != nil {
			return err
		}
		*part = types.CompletedPart{PartNumber: number, ETag: out.ETag, ChecksumCRC32C: out.ChecksumCRC32C}
		select {
		case u.free <- data[:0]:
		default:
		}
		return nil
	})
	select {
	case buffer = <-u.free:
	default:
	}
	return buffer, nil
}

// complete makes the parts an object, unless there is one.
func (u *upload) complete(ctx context.Context, ifNoneMatch *string) error {
	if err := u.group.Wait(); err != nil {
		return err
	}
	parts := make([]types.CompletedPart, len(u.parts))
	for i, p := range u.parts {
		parts[i] = *p
	}
	_, err := u.store.client.CompleteMultipartUpload(ctx, &s3.CompleteMultipartUploadInput{
		Bucket: &u.store.cfg.Bucket, Key: u.key, UploadId: u.id, IfNoneMatch: ifNoneMatch,
		MultipartUpload: &types.CompletedMultipartUpload{Parts: parts},
	}, u.store.attempt(0, nil))
	return err
}

// abandon waits for what is in flight and removes the parts.
func (u *upload) abandon(ctx context.Context) error {
	_ = u.group.Wait() // why it is abandoned is known to who abandons it
	ctx, cancel := context.WithTimeout(ctx, cleanupTime)
	defer cancel()
	return u.store.abort(ctx, u.key, u.id)
}

func base64Sum(sum uint32) *string {
	return aws.String(base64.StdEncoding.EncodeToString(binary.BigEndian.AppendUint32(nil, sum)))
}
