package s3_test

import (
	"bytes"
	"context"
	"fmt"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/understudy-dr/understudy/internal/blob"
	"github.com/understudy-dr/understudy/internal/blob/blobtest"
	"github.com/understudy-dr/understudy/internal/blob/s3test"
	"github.com/understudy-dr/understudy/internal/fault"
)

// Our process dies in the middle of an upload: nothing is visible, the name is free, and a sweep frees the room.
func TestUploaderDies(t *testing.T) {
	b := newBench(t)
	rng := blobtest.NewRand(t)
	ctx, die := context.WithCancel(t.Context())
	w, err := b.through.Create(ctx, "layer")
	require.NoError(t, err)
	_, err = w.Write(blobtest.Bytes(rng, 20<<20))
	require.NoError(t, err)
	b.proxy.Plan(s3test.Times(1000, "", s3test.Fault{LoseRequest: true})) // the dead say nothing
	die()
	w.Abort()
	blobtest.RequireMissing(t, b.direct, "layer")
	n, err := b.direct.AbortStale(t.Context(), time.Hour)
	require.NoError(t, err)
	require.Zero(t, n, "it may be somebody's who lives")
	data := blobtest.Bytes(rng, 100)
	require.NoError(t, blob.Put(t.Context(), b.direct, "layer", data))

	other := open(t, config(b.server.Endpoint, "another"))
	n, err = other.AbortStale(t.Context(), -time.Hour)
	require.NoError(t, err)
	require.Zero(t, n, "what is not below our prefix is not ours")
	cfg := config(b.server.Endpoint, "p")
	cfg.StaleAfter = time.Nanosecond
	require.NoError(t, blob.Put(t.Context(), open(t, cfg), "next", data), "the first commit of the next process sweeps")
	b.noUploads(t)
	blobtest.RequireObject(t, b.direct, "layer", data)
}

// An aborted writer, and one whose commit failed, leave no parts.
func TestAbortFreesRoom(t *testing.T) {
	b := newBench(t)
	w, err := b.through.Create(t.Context(), "a")
	require.NoError(t, err)
	_, err = w.Write(make([]byte, 30<<20))
	require.NoError(t, err)
	w.Abort()
	b.noUploads(t)
	b.proxy.Plan(s3test.Times(1000, "UploadPart", s3test.Fault{Status: 403, Code: "QuotaExceeded"}))
	err = blob.Put(t.Context(), b.through, "a", make([]byte, 40<<20))
	require.Equal(t, fault.OutOfSpace, fault.KindOf(err), "%v", err)
	b.noUploads(t)
	blobtest.RequireMissing(t, b.direct, "a")
	b.proxy.Plan(nil)
	require.NoError(t, blob.Put(t.Context(), b.through, "a", make([]byte, 10<<20)))
}

// A service that was killed while it completed an upload may tell whoever asks again that it is complete, and have no object: so does
// the one used here.
func TestCompleteInWordsOnly(t *testing.T) {
	b := newBench(t)
	data := make([]byte, 10<<20)
	b.proxy.Plan(s3test.Times(1, "CompleteMultipartUpload", s3test.Fault{Status: 200,
		Body: `<CompleteMultipartUploadResult><ETag>"0-2"</ETag></CompleteMultipartUploadResult>`}))
	err := blob.Put(t.Context(), b.through, "a", data)
	require.Equal(t, fault.Transient, fault.KindOf(err), "%v", err)
	b.noUploads(t)
	blobtest.RequireMissing(t, b.direct, "a")
	require.NoError(t, blob.Put(t.Context(), b.through, "a", data))
	blobtest.RequireObject(t, b.direct, "a", data)
}

// The service dies in the middle of a part and comes back: the same writer goes on.
func TestServiceDiesMidway(t *testing.T) {
	b := newBench(t)
	data := blobtest.Bytes(blobtest.NewRand(t), 20<<20)
	for _, op := range []string{"UploadPart", "PutObject", "CompleteMultipartUpload"} {
		f := s3test.Fault{CutRequest: 100, Midway: func() {
			b.server.Kill(t)
			b.server.Run(t)
		}}
		b.proxy.Plan(s3test.Times(1, op, f))
		part := data
		if op == "PutObject" {
			part = data[:1<<20]
		}
		require.NoError(t, blob.Put(t.Context(), b.through, "during-"+fmt.Sprint(len(op)), part), op)
		blobtest.RequireObject(t, b.direct, "during-"+fmt.Sprint(len(op)), part)
	}
	b.noUploads(t)
}

// The service is killed again and again while objects are written, read and deleted: what was committed stays, whole,
// and what was not is not there or whole.
func TestServiceDiesAgainAndAgain(t *testing.T) {
	server := s3test.Start(t)
	rng := blobtest.NewRand(t)
	stop := make(chan struct{})
	var killer sync.WaitGroup
	var kills atomic.Int32
	killer.Go(func() {
		ticker := time.NewTicker(150 * time.Millisecond)
		defer ticker.Stop()
		for {
			select {
			case <-stop:
				return
			case <-ticker.C:
				server.Kill(t)
				server.Run(t)
				kills.Add(1)
			}
		}
	})
	h := &soak{t: t, rng: rng, store: open(t, config(server.Endpoint, "soak")), may: map[string][][]byte{}}
	for step := 0; step < 40 || kills.Load() < 5 && step < 2000; step++ {
		h.step(step)
	}
	close(stop)
	killer.Wait()
	t.Logf("killed %d times, %d operations failed", kills.Load(), h.failed)
	require.Positive(t, kills.Load())
	h.check(open(t, config(server.Endpoint, "soak")))
}

// Every kind of trouble, at random, to every kind of request.
func TestRandomTrouble(t *testing.T) {
	b := newBench(t)
	rng := blobtest.NewRand(t)
	dice := rand.New(rand.NewPCG(rng.Uint64(), 0))
	var mu sync.Mutex
	b.proxy.Plan(func(r s3test.Request) s3test.Fault {
		mu.Lock()
		defer mu.Unlock()
		at := 1 + dice.Int64N(max(1, min(r.Size, 1<<20)))
		switch dice.IntN(24) {
		case 0:
			return s3test.Fault{Status: 503, Code: "SlowDown"}
		case 1:
			return s3test.Fault{Status: 500, Code: "InternalError"}
		case 2:
			return s3test.Fault{LoseRequest: true}
		case 3:
			return s3test.Fault{LoseAnswer: true}
		case 4:
			return s3test.Fault{CutRequest: at}
		case 5:
			return s3test.Fault{CutAnswer: at}
		case 6:
			if r.Op() == "PutObject" || r.Op() == "UploadPart" { // what else has a body is not checksummed over plain HTTP
				return s3test.Fault{FlipRequest: at}
			}
		}
		return s3test.Fault{}
	})
	cfg := config(b.proxy.Endpoint, "p")
	cfg.MaxAttempts = 3 // so that some operations fail
	h := &soak{t: t, rng: rng, store: open(t, cfg), may: map[string][][]byte{}}
	for step := range 120 {
		h.step(step)
	}
	t.Logf("%d requests, %d operations succeeded, %d failed", b.proxy.Count(), h.succeeded, h.failed)
	require.Positive(t, h.succeeded)
	h.check(b.direct)
}

// soak runs random operations and knows what may be there after those that failed. nil stands for no object.
type soak struct {
	t         *testing.T
	rng       *rand.Rand
	store     blob.Store
	may       map[string][][]byte
	succeeded int
	failed    int
}

func (h *soak) step(step int) {
	name := fmt.Sprintf("o%d", h.rng.IntN(8))
	may := h.may[name]
	if may == nil {
		may = [][]byte{nil}
	}
	var err error
	switch {
	case len(may) == 1 && may[0] == nil:
		size := h.rng.IntN(100_000)
		if h.rng.IntN(8) == 0 {
			size = 9 << 20
		}
		data := blobtest.Bytes(h.rng, size)
		if err = blob.Put(h.t.Context(), h.store, name, data); err == nil {
			may = nil
		}
		may = append(may, data)
	case len(may) == 1 && h.rng.IntN(2) == 0:
		var got []byte
		if got, err = blob.Get(h.t.Context(), h.store, name, 1<<30); err == nil {
			require.True(h.t, bytes.Equal(may[0], got), "step %d: %s", step, name)
		}
	default:
		if err = h.store.Delete(h.t.Context(), name); err == nil {
			may = nil
		}
		may = append(may, nil)
	}
	h.may[name] = may
	if err == nil {
		h.succeeded++
		return
	}
	h.failed++
	require.Equal(h.t, fault.Transient, fault.KindOf(err), "step %d: %s: %v", step, name, err)
}

func (h *soak) check(s blob.Store) {
	for name, may := range h.may {
		got, err := blob.Get(h.t.Context(), s, name, 1<<30)
		if err != nil {
			require.Equal(h.t, fault.NotFound, fault.KindOf(err), "%s: %v", name, err)
			got = nil
		} else if got == nil {
			got = []byte{}
		}
		found := false
		for _, want := range may {
			found = found || (want == nil) == (err != nil) && bytes.Equal(want, got)
		}
		require.True(h.t, found, "%s: %d bytes (%v) of %d possibilities", name, len(got), err, len(may))
	}
}
