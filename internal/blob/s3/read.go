package s3

import (
	"context"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"strconv"
	"strings"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"

	"github.com/understudy-dr/understudy/internal/blob"
	"github.com/understudy-dr/understudy/internal/fault"
)

// maxRange is the most that one request asks for: what a failed attempt costs.
const maxRange = 8 << 20

// sumKey is the metadata that holds the CRC-32C of an object that was written in one request. A service keeps
// checksums of its own, but returns them for whole objects only, if it knows them at all.
const sumKey = "understudy-crc32c"

// ReadAt implements blob.Store. An object that was written in one request and is read in one is verified; parts of
// objects are verified by those who know their format.
func (s *Store) ReadAt(ctx context.Context, name string, p []byte, off int64) error {
	if err := blob.CheckName(name); err != nil {
		return err
	}
	if err := blob.CheckRange(p, off); err != nil {
		return err
	}
	if len(p) == 0 { // no range says "nothing"
		size, err := s.Stat(ctx, name)
		if err == nil && size < off {
			err = short(size, off)
		}
		return s.fault("read "+name, err)
	}
	for len(p) > 0 {
		n := min(len(p), maxRange)
		if err := s.readRange(ctx, name, p[:n], off); err != nil {
			return s.fault("read "+name, err)
		}
		p, off = p[n:], off+int64(n)
	}
	return nil
}

func (s *Store) readRange(ctx context.Context, name string, p []byte, off int64) error {
	_, err := s.client.GetObject(ctx, &s3.GetObjectInput{
		Bucket: &s.cfg.Bucket,
		Key:    s.key(name),
		Range:  aws.String(fmt.Sprintf("bytes=%d-%d", off, off+int64(len(p))-1)),
	}, s.attempt(len(p), func(result any) error {
		out, ok := result.(*s3.GetObjectOutput)
		if !ok {
			return fault.New(fault.Bug, "", "the client returned %T", result)
		}
		return receive(out, p, off)
	}))
	return err
}

// receive takes the body of one attempt.
func receive(out *s3.GetObjectOutput, p []byte, off int64) error {
	defer out.Body.Close()
	size, err := sizeOf(out, off)
	if err != nil {
		return err
	}
	if end := off + int64(len(p)); size < end {
		return short(size, end)
	}
	if _, err := io.ReadFull(out.Body, p); err != nil {
		return &again{kind: fault.Transient, err: fmt.Errorf("the response broke off: %w", err)}
	}
	if off > 0 || size > int64(len(p)) {
		return nil
	}
	if want := out.Metadata[sumKey]; want != "" && want != sumText(crc32.Checksum(p, castagnoli)) {
		return &again{kind: fault.Corruption, err: errors.New("the object does not match its checksum")}
	}
	return nil
}

func short(size, end int64) error {
	return fault.New(fault.Corruption, "", "the object has %d bytes, %d were expected at least", size, end)
}

// sizeOf is the whole object's size by a response to a range that begins at off.
func sizeOf(out *s3.GetObjectOutput, off int64) (int64, error) {
	r := aws.ToString(out.ContentRange)
	if r == "" && off == 0 { // the whole object is a fair answer
		return aws.ToInt64(out.ContentLength), nil
	}
	first, rest, _ := strings.Cut(strings.TrimPrefix(r, "bytes "), "-")
	_, total, _ := strings.Cut(rest, "/")
	size, err := strconv.ParseInt(total, 10, 64)
	if err != nil || first != strconv.FormatInt(off, 10) {
		return 0, &again{kind: fault.Unsupported, err: fmt.Errorf("a range from %d was asked for, %q came", off, r)}
	}
	return size, nil
}

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

func sumText(sum uint32) string { return fmt.Sprintf("%08x", sum) }
