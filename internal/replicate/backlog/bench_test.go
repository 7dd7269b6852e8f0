package backlog

import (
	"testing"

	"github.com/understudy-dr/understudy/internal/capture"
)

// endless is a ring that holds the same record everywhere.
type endless struct {
	capture.Record
	consumer uint64
}

const endlessBytes = 48 + 4096

func (e *endless) Consumer() uint64      { return e.consumer }
func (e *endless) Release(offset uint64) { e.consumer = offset }

func (e *endless) Next(offset uint64, r *capture.Record) (bool, error) {
	*r = e.Record
	r.Start, r.End = offset, offset+endlessBytes
	return true, nil
}

func newEndless() *endless {
	return &endless{Record: capture.Record{Op: capture.Write, Bytes: 4096, Data: make([]byte, 4096)}}
}

// BenchmarkPassing is what a record costs while nothing waits.
func BenchmarkPassing(b *testing.B) {
	l := New(newEndless(), 256<<20)
	var r capture.Record
	for b.Loop() {
		_, _ = l.Next(r.End, &r)
	}
}

// BenchmarkWaiting is what a record costs that goes through memory: copied, read and released.
func BenchmarkWaiting(b *testing.B) {
	l := New(newEndless(), 256<<20)
	defer l.Close()
	const records = 1000
	b.SetBytes(records * 4096)
	var r capture.Record
	for b.Loop() {
		if err := l.Move(records*endlessBytes, nothing); err != nil {
			b.Fatal(err)
		}
		for range records {
			_, _ = l.Next(r.End, &r)
		}
		l.Release(r.End)
	}
}
