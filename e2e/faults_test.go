package e2e

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/drs"
	drstypes "github.com/aws/aws-sdk-go-v2/service/drs/types"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/understudy-dr/understudy/e2e/harness"
)

// fill takes all of a file system but leave bytes, and returns what it filled it with.
func fill(t *testing.T, dir, name string, leave int64) string {
	t.Helper()
	var st unix.Statfs_t
	require.NoError(t, unix.Statfs(dir, &st))
	take := int64(st.Bavail)*st.Bsize - leave
	if take <= 0 {
		return ""
	}
	ballast := filepath.Join(dir, name)
	f, err := os.Create(ballast)
	require.NoError(t, err)
	defer f.Close()
	if err := unix.Fallocate(int(f.Fd()), 0, 0, take); err != nil {
		require.ErrorIs(t, err, unix.ENOSPC)
	}
	return ballast
}

// stalled waits for STALLED and returns why.
func (o *one) stalled(t *testing.T, limit time.Duration) (code drstypes.DataReplicationErrorString, raw string) {
	t.Helper()
	s := o.server.WaitState(t, o.id, drstypes.DataReplicationStateStalled, limit)
	e := s.DataReplicationInfo.DataReplicationError
	require.NotNil(t, e)
	t.Logf("%s: %s", e.Error, aws.ToString(e.RawError))
	return e.Error, aws.ToString(e.RawError)
}

// A full disk under the data directory stalls replication with its reason; room ends the stall by itself.
func TestFullDisk(t *testing.T) {
	t.Parallel()
	o := &one{dir: t.TempDir()}
	o.disk = harness.NewDisk(t, o.dir, "disk.img", smallDisk)
	o.disk.Format(t, "ext4")
	o.mount = harness.Mount(t, o.disk.Device, filepath.Join(o.dir, "mount"))
	staging := harness.NewDisk(t, o.dir, "staging.img", 384<<20)
	staging.Format(t, "ext4")
	room := harness.Mount(t, staging.Device, filepath.Join(o.dir, "staging"))
	o.server = harness.NewServer(t, filepath.Join(room, "server"))
	o.server.InitializeDRS(t)

	// No room to begin with: the step that makes the journal fails, and works once it is tried again.
	ballast := fill(t, room, "first", 80<<20)
	o.start(t, "drs")
	code, raw := o.stalled(t, 30*time.Second)
	require.Equal(t, drstypes.DataReplicationErrorStringFailedToCreateStagingDisks, code)
	require.Contains(t, raw, "bytes are free")
	require.NoError(t, os.Remove(ballast))
	o.retry(t)
	o.continuous(t)
	o.same(t)
	before := o.points(t).Latest

	// The disk fills under a running replication: the reserve is left for whatever else must be written.
	ballast = fill(t, room, "second", 60<<20)
	o.write(t, "on a full disk", 2<<20)
	code, raw = o.stalled(t, 30*time.Second)
	require.Equal(t, drstypes.DataReplicationErrorStringSnapshotsFailure, code)
	require.Contains(t, raw, "bytes are free")
	require.Contains(t, raw, "replication goes on by itself")
	o.export(t, "--position", fmt.Sprint(before.Position))

	// Even that is gone now: nothing can be stored at all, and the server still answers.
	last := fill(t, room, "third", 0)
	o.write(t, "on a disk without a byte", 2<<20)
	wait(t, 2*time.Second)
	require.False(t, o.server.Ended(), o.server.Log())
	s, err := o.server.Describe(t, o.server.DRS(t), o.id)
	require.NoError(t, err)
	require.Equal(t, drstypes.DataReplicationStateStalled, s.DataReplicationInfo.DataReplicationState)
	o.export(t, "--position", fmt.Sprint(before.Position))

	require.NoError(t, os.Remove(last))
	require.NoError(t, os.Remove(ballast))
	o.server.WaitState(t, o.id, drstypes.DataReplicationStateContinuous, 2*time.Minute)
	o.same(t)
}

func (o *one) retry(t *testing.T) {
	t.Helper()
	_, err := o.server.DRS(t).RetryDataReplication(t.Context(), &drs.RetryDataReplicationInput{SourceServerID: &o.id}) //nolint:staticcheck // deprecated by AWS, used by its clients
	require.NoError(t, err)
}

// An agent that is not seen for a minute stalls its server; when it is back nothing was lost and no order given up.
func TestAgentNotSeen(t *testing.T) {
	t.Parallel()
	o := protectOne(t)
	o.continuous(t)
	require.NoError(t, o.agent.Cmd.Process.Signal(syscall.SIGSTOP))
	t.Cleanup(func() { _ = o.agent.Cmd.Process.Signal(syscall.SIGCONT) }) // or it could not be stopped
	since := time.Now()
	o.write(t, "unseen", 2<<20)
	code, raw := o.stalled(t, 100*time.Second)
	require.Equal(t, drstypes.DataReplicationErrorStringAgentNotSeen, code)
	require.Contains(t, raw, "last seen at")
	require.Greater(t, time.Since(since), 45*time.Second, "a minute, less the idle interval of handshakes")
	require.NotNil(t, o.points(t).Latest, "what was replicated can be taken back all the while")
	require.NoError(t, o.agent.Cmd.Process.Signal(syscall.SIGCONT))
	o.continuous(t)
	o.same(t)
	require.Len(t, o.points(t).Windows, 1)
}

// segments are a journal's segment files, oldest first; all but the last are sealed.
func (o *one) segments(t *testing.T) []string {
	t.Helper()
	names, err := filepath.Glob(filepath.Join(o.journal(), "seg-*.usj"))
	require.NoError(t, err)
	return names
}

// flip inverts one byte of a file.
func flip(t *testing.T, name string, at int64) {
	t.Helper()
	f, err := os.OpenFile(name, os.O_RDWR, 0)
	require.NoError(t, err)
	defer f.Close()
	b := make([]byte, 1)
	_, err = f.ReadAt(b, at)
	require.NoError(t, err)
	b[0] ^= 0xff
	_, err = f.WriteAt(b, at)
	require.NoError(t, err)
}

// Damaged bytes in a journal are reported, by file and range, and never served; the source server sends them again.
func TestDamagedLayer(t *testing.T) {
	t.Parallel()
	o := newOne(t, "--flush-after", "1s")
	o.server.InitializeDRS(t)
	o.start(t, "drs")
	o.continuous(t)
	harness.Eventually(t, time.Minute, "a layer holds the disk", func() (bool, string) {
		name, bytes := o.largestLayer(t)
		return bytes > 4<<20, fmt.Sprintf("%s has %d bytes", name, bytes)
	})
	o.settle(t)
	o.agent.Stop(t)
	o.server.Stop(t)
	require.Contains(t, o.server.CLI(t, "journal", "verify", o.journal()), "no damage found")
	layer, bytes := o.largestLayer(t)
	flip(t, layer, bytes/2)
	code, message := o.verify(t)
	require.Equal(t, 7, code)
	require.Contains(t, message, filepath.Base(layer))
	require.Contains(t, message, "disk 0, bytes")

	o.server.Start(t)
	o.agent.Start(t)
	o.continuous(t)
	o.server.CLI(t, "scrub", "start", o.id)
	harness.Eventually(t, 2*time.Minute, "the newest state is whole again", func() (bool, string) {
		out := filepath.Join(o.dir, "whole.raw")
		_ = os.Remove(out)
		message, err := o.server.TryCLI(t.Context(), "export", "--server", o.id, "--device", o.disk.Device, "--latest", out)
		return err == nil, message
	})
	o.same(t)
}

// largestLayer is where most of the disk is.
func (o *one) largestLayer(t *testing.T) (name string, bytes int64) {
	t.Helper()
	names, err := filepath.Glob(filepath.Join(o.journal(), "layers", "layer-*"))
	require.NoError(t, err)
	for _, n := range names {
		if info, err := os.Stat(n); err == nil && info.Size() > bytes { // it may be merged away meanwhile
			name, bytes = n, info.Size()
		}
	}
	return name, bytes
}

// The segment that was being written is damaged, too short, or gone. It is not taken for a torn tail: history ends before the damage,
// which is told, and the agent compares and sends what is missing.
func TestDamagedTail(t *testing.T) {
	t.Parallel()
	o := protectOne(t)
	o.continuous(t)
	for what, hit := range map[string]func(segment string){
		"damaged":   func(segment string) { flip(t, segment, size(t, segment)/2) },
		"too short": func(segment string) { require.NoError(t, os.Truncate(segment, size(t, segment)-1000)) },
		"gone":      func(segment string) { require.NoError(t, os.Remove(segment)) },
	} {
		o.write(t, what, 2<<20)
		o.settle(t)
		o.agent.Stop(t)
		o.server.Stop(t)
		segments := o.segments(t)
		tail := segments[len(segments)-1]
		hit(tail)
		code, message := o.verify(t)
		require.Equal(t, 7, code, what)
		require.Contains(t, message, filepath.Base(tail))
		o.server.Start(t)
		o.agent.Start(t)
		o.continuous(t)
		o.same(t)
		require.Contains(t, o.server.CLI(t, "scrub", "status", o.id), "history ended", what)
	}
	o.agent.Stop(t)
	o.server.Stop(t)
	require.Contains(t, o.server.CLI(t, "journal", "verify", o.journal()), "no damage found")
}

// verify runs "journal verify" on the damaged journal, with what it prints.
func (o *one) verify(t *testing.T) (code int, message string) {
	t.Helper()
	out, err := o.server.TryCLI(t.Context(), "journal", "verify", o.journal())
	require.Error(t, err)
	t.Logf("%s", out)
	code, _ = refusal(t, o.server, "journal", "verify", o.journal())
	return code, out
}

// What a killed server wrote and never acknowledged is cut off, and comes again from the ring.
func TestTornTail(t *testing.T) {
	t.Parallel()
	o := protectOne(t)
	o.continuous(t)
	o.write(t, "before", 4<<20)
	o.server.Kill()
	o.write(t, "meanwhile", 4<<20)
	segments := o.segments(t)
	tail := segments[len(segments)-1]
	f, err := os.OpenFile(tail, os.O_WRONLY|os.O_APPEND, 0)
	require.NoError(t, err)
	_, err = f.WriteString(strings.Repeat("torn", 1000))
	require.NoError(t, err)
	require.NoError(t, f.Close())
	out := o.server.CLI(t, "journal", "verify", o.journal())
	require.Contains(t, out, "bytes at the end are a torn write that was never acknowledged")
	require.Contains(t, out, "no damage found")
	o.server.Start(t)
	o.continuous(t)
	o.same(t)
	require.Len(t, o.points(t).Windows, 1)
	o.server.Stop(t)
	out = o.server.CLI(t, "journal", "verify", o.journal())
	require.NotContains(t, out, "torn")
}
