package layer

import (
	"sync"

	"github.com/klauspost/compress/zstd"

	"github.com/understudy-dr/understudy/internal/fault"
)

// Cipher seals and opens the blocks of one file, with a key that no other file has and random nonces inside.
type Cipher interface {
	Overhead() int
	Seal(dst, plaintext, aad []byte) []byte
	Open(dst, sealed, aad []byte) ([]byte, error)
}

var decoders = sync.Pool{New: func() any {
	d, err := zstd.NewReader(nil, zstd.WithDecoderConcurrency(1), zstd.WithDecoderLowmem(true),
		zstd.WithDecoderMaxMemory(maxIndexRaw), zstd.WithDecodeAllCapLimit(true))
	if err != nil {
		return err
	}
	return d
}}

// decompress fills dst exactly.
func decompress(dst, src []byte) error {
	v := decoders.Get()
	d, ok := v.(*zstd.Decoder)
	if !ok {
		return fault.New(fault.Bug, "layer: decompress", "%v", v)
	}
	defer decoders.Put(d)
	out, err := d.DecodeAll(src, dst[:0:len(dst)])
	if err != nil || len(out) != len(dst) {
		return fault.New(fault.Corruption, "layer: decompress", "%d bytes of %d: %w", len(out), len(dst), err)
	}
	return nil
}

var encoders [zstd.SpeedBestCompression + 1]sync.Pool

func takeEncoder(level zstd.EncoderLevel) (*zstd.Encoder, error) {
	if level <= 0 || int(level) >= len(encoders) {
		return nil, fault.New(fault.Invalid, "layer: write", "no compression level %d", level)
	}
	if e, ok := encoders[level].Get().(*zstd.Encoder); ok {
		return e, nil
	}
	e, err := zstd.NewWriter(nil, zstd.WithEncoderLevel(level), zstd.WithEncoderConcurrency(1), zstd.WithWindowSize(maxBlock),
		zstd.WithEncoderCRC(false), zstd.WithSingleSegment(true), zstd.WithLowerEncoderMem(true))
	if err != nil {
		return nil, fault.New(fault.Bug, "layer: write", "%w", err)
	}
	return e, nil
}

// compress appends what b is stored as: itself, if compressing saves less than a sixteenth.
func compress(e *zstd.Encoder, dst, b []byte) (out []byte, compressed bool) {
	out = e.EncodeAll(b, dst[:0])
	return out, len(out) <= len(b)-len(b)/16
}

// scratch is what opening a block needs for a moment.
type scratch struct {
	aad    []byte
	sealed []byte
	plain  []byte
}

var scratches = sync.Pool{New: func() any { return new(scratch) }}

func takeScratch() *scratch {
	if s, ok := scratches.Get().(*scratch); ok {
		return s
	}
	return new(scratch)
}

// grow is a slice of n bytes, of b's memory if it suffices.
func grow(b []byte, n int) []byte {
	if cap(b) >= n {
		return b[:n]
	}
	return make([]byte, n)
}
