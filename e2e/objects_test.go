package e2e

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/understudy-dr/understudy/e2e/harness"
	"github.com/understudy-dr/understudy/internal/blob/s3test"
)

// A replication server whose layers are in object storage loses the disk with its journals: what was in layers comes back
// from the bucket, old points included, and the agent sends again what was not.
func TestJournalComesBackFromObjectStorage(t *testing.T) {
	service := s3test.Start(t)
	o := prepareOne(t)
	o.server = harness.PrepareServer(t, filepath.Join(o.dir, "server"), "--flush-after", "2s", "--object-cache", "16MiB",
		"--object-store", fmt.Sprintf("s3://%s/dr?endpoint=%s&region=%s&path-style=true", s3test.Bucket, service.Endpoint, s3test.Region))
	o.server.Extra = []string{"AWS_ACCESS_KEY_ID=" + s3test.AccessKey, "AWS_SECRET_ACCESS_KEY=" + s3test.SecretKey}
	o.server.Start(t)
	o.server.InitializeDRS(t)
	o.start(t, "drs")
	o.continuous(t)
	o.settle(t)
	old := o.points(t).Latest
	before := o.export(t, "--position", fmt.Sprint(old.Position))
	require.NoError(t, harness.SameContent(o.disk.Device, before))
	harness.Mount(t, o.disk.Device, o.mount)

	harness.Eventually(t, time.Minute, "what was sent is in the bucket", func() (bool, string) {
		segments, err := filepath.Glob(filepath.Join(o.journal(), "seg-*.usj"))
		require.NoError(t, err)
		layers, err := filepath.Glob(filepath.Join(service.Root, s3test.Bucket, "dr", o.id, "layer-*"))
		require.NoError(t, err)
		return len(layers) > 0 && len(segments) <= 1, fmt.Sprintf("%d layers, %d segments", len(layers), len(segments))
	})
	o.server.Kill()
	<-o.server.Done()
	require.NoError(t, os.RemoveAll(filepath.Join(o.server.Dir, "journals")))
	require.NoError(t, os.RemoveAll(filepath.Join(o.server.Dir, "cache")))
	o.write(t, "while the server was away", 1<<20)
	o.server.Start(t)
	o.continuous(t)
	o.same(t)
	again := o.export(t, "--position", fmt.Sprint(old.Position))
	require.NoError(t, harness.SameContent(before, again), "an old point reads as it did")
}
