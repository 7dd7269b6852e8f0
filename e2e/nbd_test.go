package e2e

import (
	"encoding/json"
	"errors"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sync/errgroup"

	"github.com/understudy-dr/understudy/e2e/harness"
)

// serveNBD runs "understudy nbd serve" and returns its process and the URI it prints.
func (o *one) serveNBD(t *testing.T, args ...string) (p *harness.Process, uri string) {
	t.Helper()
	cmd := exec.Command(o.server.Binary, append([]string{"nbd", "serve", "--server", o.id, "--device", o.disk.Device}, args...)...)
	cmd.Env = o.server.Env()
	p = harness.Start(t, "understudy nbd serve", cmd)
	harness.Eventually(t, 20*time.Second, "the disk is served", func() (bool, string) {
		if p.Ended() {
			t.Fatalf("understudy nbd serve ended: %v\n%s", p.Err(), p.Log())
		}
		_, rest, ok := strings.Cut(p.Log(), "is served at ")
		uri, _, _ = strings.Cut(rest, "\n")
		return ok && strings.HasSuffix(rest, "\n"), p.Log()
	})
	return p, uri
}

// nbdInfo is what nbdinfo --json prints.
type nbdInfo struct {
	Protocol string `json:"protocol"`
	Exports  []struct {
		Description string `json:"description"`
		Size        int64  `json:"export-size"`
		ReadOnly    bool   `json:"is_read_only"`
		MultiConn   bool   `json:"can_multi_conn"`
		Structured  bool   `json:"structured"`
	} `json:"exports"`
}

// Any NBD client reads the disk as it was, as often as it likes.
func TestNBD(t *testing.T) {
	t.Parallel()
	o := protectOne(t)
	o.continuous(t)
	o.write(t, "second", 6<<20)
	o.settle(t)
	raw := o.export(t, "--latest")
	require.NoError(t, harness.SameContent(o.disk.Device, raw))

	p, uri := o.serveNBD(t, "--latest", "--listen", "127.0.0.1:0")
	var info nbdInfo
	require.NoError(t, json.Unmarshal([]byte(harness.Run(t, "nbdinfo", "--json", uri)), &info))
	require.Equal(t, "newstyle-fixed", info.Protocol)
	require.Len(t, info.Exports, 1)
	require.EqualValues(t, smallDisk, info.Exports[0].Size)
	require.True(t, info.Exports[0].ReadOnly)
	require.True(t, info.Exports[0].MultiConn)
	require.Equal(t, o.disk.Device, info.Exports[0].Description)
	_, err := harness.Try(t.Context(), "nbdcopy", raw, uri)
	require.Error(t, err, "it is read-only")

	copied := filepath.Join(o.dir, "nbdcopy.raw")
	harness.Run(t, "nbdcopy", "--connections=4", "--requests=16", uri, copied)
	require.NoError(t, harness.SameContent(o.disk.Device, copied))
	require.Less(t, blocks(t, copied), int64(smallDisk)*3/4, "holes stay holes")
	converted := filepath.Join(o.dir, "converted.qcow2")
	harness.Run(t, "qemu-img", "convert", "-f", "raw", "-O", "qcow2", uri, converted)
	harness.Run(t, "qemu-img", "compare", "-f", "raw", "-F", "qcow2", raw, converted)
	harness.Run(t, "qemu-img", "compare", "-f", "raw", "-F", "raw", raw, uri)
	o.checkCopy(t, copied)
	o.checkQCOW2(t, raw)
	o.manyReaders(t, uri, raw)

	// The source goes on: what is served does not.
	harness.Mount(t, o.disk.Device, o.mount)
	o.write(t, "third", 1<<20)
	o.settle(t)
	harness.Run(t, "qemu-img", "compare", "-f", "raw", "-F", "raw", raw, uri)
	require.Error(t, harness.SameContent(o.disk.Device, raw))
	o.stopped(t, p)
}

// blocks is what a file takes on disk.
func blocks(t *testing.T, path string) int64 {
	t.Helper()
	out := harness.Run(t, "du", "--block-size=1", path)
	var n json.Number
	require.NoError(t, json.Unmarshal([]byte(strings.Fields(out)[0]), &n))
	v, err := n.Int64()
	require.NoError(t, err)
	return v
}

// checkCopy mounts a copied image, which replays nothing as it was unmounted, and compares its files.
func (o *one) checkCopy(t *testing.T, image string) {
	t.Helper()
	require.NoError(t, harness.Check(t, "ext4", image))
	copied := harness.Mount(t, image, filepath.Join(o.dir, "copy"), "loop")
	source := harness.Mount(t, o.disk.Device, o.mount, "ro")
	harness.Run(t, "diff", "--recursive", source, copied)
	harness.Unmount(t, copied)
	harness.Unmount(t, source)
}

// checkQCOW2 exports as qcow2 and converts it back.
func (o *one) checkQCOW2(t *testing.T, raw string) {
	t.Helper()
	image := o.export(t, "--latest", "--format", "qcow2")
	harness.Run(t, "qemu-img", "check", "-f", "qcow2", image)
	back := filepath.Join(o.dir, "back.raw")
	harness.Run(t, "qemu-img", "convert", "-f", "qcow2", "-O", "raw", image, back)
	require.NoError(t, harness.SameContent(o.disk.Device, back))
	require.Less(t, size(t, image), int64(smallDisk)*3/4)
}

// manyReaders copies with several clients at once.
func (o *one) manyReaders(t *testing.T, uri, raw string) {
	t.Helper()
	g, ctx := errgroup.WithContext(t.Context())
	for range 6 {
		g.Go(func() error {
			_, err := harness.Try(ctx, "qemu-img", "compare", "-f", "raw", "-F", "raw", raw, uri)
			return err
		})
	}
	require.NoError(t, g.Wait())
}

// stopped: the server ends, its clients are hung up on, and nothing hangs.
func (o *one) stopped(t *testing.T, p *harness.Process) {
	t.Helper()
	socket := filepath.Join(o.dir, "nbd.sock")
	q, uri := o.serveNBD(t, "--latest", "--listen", "unix:"+socket)
	fi, err := os.Stat(socket)
	require.NoError(t, err)
	require.EqualValues(t, 0o600, fi.Mode().Perm())
	client := greeted(t, socket)
	o.server.Stop(t)
	require.NoError(t, o.server.Err(), "open volumes do not keep the server from ending")
	hungUp(t, client)
	_, err = harness.Try(t.Context(), "nbdinfo", uri)
	require.Error(t, err)
	harness.Eventually(t, 20*time.Second, "nbd serve says why", func() (bool, string) {
		return strings.Contains(q.Log(), "connect to "+strings.TrimPrefix(o.server.Endpoint, "https://")), q.Log()
	})
	t.Logf("%s", q.Log())
	o.server.Start(t)
	o.recoverable(t, time.Time{})
	harness.Run(t, "nbdinfo", uri)

	client = greeted(t, socket)
	for _, serve := range []*harness.Process{p, q} {
		serve.Stop(t)
		require.NoError(t, serve.Err(), serve.Log())
		require.Contains(t, serve.Log(), "is not served any more")
	}
	require.NoFileExists(t, socket)
	hungUp(t, client)
}

// greeted is a connection that an NBD server has greeted.
func greeted(t *testing.T, socket string) net.Conn {
	t.Helper()
	c, err := net.Dial("unix", socket)
	require.NoError(t, err)
	t.Cleanup(func() { c.Close() })
	require.NoError(t, c.SetDeadline(time.Now().Add(20*time.Second)))
	greeting := make([]byte, 18)
	_, err = io.ReadFull(c, greeting)
	require.NoError(t, err)
	require.Equal(t, "NBDMAGICIHAVEOPT", string(greeting[:16]))
	return c
}

func hungUp(t *testing.T, c net.Conn) {
	t.Helper()
	_, err := c.Read(make([]byte, 1))
	require.True(t, errors.Is(err, io.EOF) || errors.Is(err, syscall.ECONNRESET), "%v", err)
}
