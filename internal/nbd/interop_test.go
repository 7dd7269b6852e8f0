package nbd

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/understudy-dr/understudy/internal/fault"
)

// tool skips the test unless an external program is there.
func tool(t *testing.T, name, pkg string) {
	t.Helper()
	if _, err := exec.LookPath(name); err != nil {
		t.Skipf("needs %s (Debian package %s)", name, pkg)
	}
}

// run runs a program to its end and returns what it printed.
func run(t *testing.T, name string, args ...string) string {
	t.Helper()
	out, err := command(t, name, args...).CombinedOutput()
	require.NoError(t, err, "%s %v\n%s", name, args, out)
	return string(out)
}

func command(t *testing.T, name string, args ...string) *exec.Cmd {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	t.Cleanup(cancel)
	return exec.CommandContext(ctx, name, args...)
}

// sparse is a disk with data, holes and an odd end.
func sparse(t *testing.T) *disk {
	d := newDisk(24<<20 + 512)
	d.fill(t, 11)
	return d
}

func uri(path, export string) string { return fmt.Sprintf("nbd+unix:///%s?socket=%s", export, path) }

func TestNbdinfo(t *testing.T) {
	tool(t, "nbdinfo", "libnbd-bin")
	d := sparse(t)
	path := listen(t, &Server{Exports: Static(
		Export{Name: "ro", Description: "a point in time", Backend: d, ReadOnly: true},
		Export{Name: "rw", Backend: d},
	)})
	var got struct {
		Protocol   string
		Structured bool
		Exports    []map[string]any
	}
	require.NoError(t, json.Unmarshal([]byte(run(t, "nbdinfo", "--json", "--list", uri(path, ""))), &got))
	require.Equal(t, "newstyle-fixed", got.Protocol)
	require.True(t, got.Structured)
	require.Len(t, got.Exports, 2)
	for i, want := range []map[string]any{
		{"export-name": "ro", "description": "a point in time", "is_read_only": true, "can_zero": false, "can_trim": false},
		{"export-name": "rw", "is_read_only": false, "can_zero": true, "can_trim": true, "can_fua": true},
	} {
		e := got.Exports[i]
		for k, v := range want {
			require.Equal(t, v, e[k], "%s of export %d", k, i)
		}
		require.EqualValues(t, d.Size(), e["export-size"])
		require.Equal(t, true, e["can_multi_conn"])
		require.Equal(t, true, e["can_df"])
		require.Equal(t, true, e["can_flush"])
		require.Equal(t, []any{contextAllocation}, e["contexts"])
		require.EqualValues(t, 1, e["block_size_minimum"])
		require.EqualValues(t, preferredSize, e["block_size_preferred"])
		require.EqualValues(t, maxPayload, e["block_size_maximum"])
	}

	var m []struct {
		Offset, Length int64
		Type           uint32
	}
	require.NoError(t, json.Unmarshal([]byte(run(t, "nbdinfo", "--json", "--map", uri(path, "ro"))), &m))
	var at int64
	for _, e := range m {
		require.Equal(t, at, e.Offset)
		for b := at / diskBlock; b <= (at+e.Length-1)/diskBlock; b++ {
			require.Equal(t, !d.used[b], e.Type == stateHole|stateZero)
		}
		at += e.Length
	}
	require.Equal(t, d.Size(), at)

	out, err := command(t, "nbdinfo", uri(path, "none")).CombinedOutput()
	require.Error(t, err)
	require.Contains(t, string(out), "No such file or directory for export")
}

func TestNbdcopy(t *testing.T) {
	tool(t, "nbdcopy", "libnbd-bin")
	source := sparse(t)
	from := listen(t, &Server{Exports: Static(Export{Backend: source, ReadOnly: true})})

	t.Run("out", func(t *testing.T) {
		file := filepath.Join(t.TempDir(), "disk.img")
		require.NoError(t, os.WriteFile(file, nil, 0o600))
		run(t, "nbdcopy", "--connections=4", "--requests=32", uri(from, ""), file)
		got, err := os.ReadFile(file)
		require.NoError(t, err)
		require.True(t, bytes.Equal(source.data, got))
	})
	t.Run("in", func(t *testing.T) {
		target := newDisk(source.Size())
		for i := range target.data {
			target.data[i] = 0xdd
		}
		to := listen(t, serverOf(target))
		run(t, "nbdcopy", "--connections=4", "--flush", uri(from, ""), uri(to, ""))
		target.holds(t, source, true)
		require.Positive(t, target.flushes.Load())
	})
	t.Run("TCP", func(t *testing.T) {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		require.NoError(t, err)
		target := newDisk(source.Size())
		serveOn(t, serverOf(target), l)
		run(t, "nbdcopy", "--synchronous", uri(from, ""), "nbd://"+l.Addr().String()+"/d")
		target.holds(t, source, false)
	})
	t.Run("TLS", func(t *testing.T) {
		p := newPKI(t)
		srv := &Server{Exports: Static(Export{Backend: source}), TLS: p.server}
		l, err := net.Listen("tcp", "127.0.0.1:0")
		require.NoError(t, err)
		serveOn(t, srv, l)
		target := newDisk(source.Size())
		url := fmt.Sprintf("nbds://%s/?tls-certificates=%s", l.Addr(), p.dir)
		run(t, "nbdcopy", url, uri(listen(t, serverOf(target)), ""))
		target.holds(t, source, false)
	})
}

func TestQemuImg(t *testing.T) {
	tool(t, "qemu-img", "qemu-utils")
	source := sparse(t)
	from := uri(listen(t, &Server{Exports: Static(Export{Name: "v", Backend: source, ReadOnly: true})}), "v")
	file := filepath.Join(t.TempDir(), "disk.qcow2")
	run(t, "qemu-img", "convert", "-f", "raw", "-O", "qcow2", from, file)
	run(t, "qemu-img", "compare", "-f", "raw", "-F", "qcow2", from, file)

	target := newDisk(source.Size())
	to := uri(listen(t, serverOf(target)), "d")
	run(t, "qemu-img", "convert", "-n", "-f", "qcow2", "-O", "raw", file, to)
	target.holds(t, source, false)
	require.NoError(t, target.WriteAt(context.Background(), []byte{0}, 1920<<10))
	out, err := command(t, "qemu-img", "compare", "-f", "raw", "-F", "qcow2", to, file).CombinedOutput()
	require.Error(t, err)
	require.Contains(t, string(out), "Content mismatch")

	var m []struct {
		Start, Length int64
		Zero, Data    bool
	}
	require.NoError(t, json.Unmarshal([]byte(run(t, "qemu-img", "map", "--output=json", "-f", "raw", from)), &m))
	var at int64
	for _, e := range m {
		require.Equal(t, at, e.Start)
		require.NotEqual(t, e.Zero, e.Data)
		require.Equal(t, source.used[at/diskBlock], e.Data)
		at += e.Length
	}
	require.Equal(t, source.Size(), at)
}

func TestQemuIO(t *testing.T) {
	tool(t, "qemu-io", "qemu-utils")
	d := newDisk(8 << 20)
	run(t, "qemu-io", "-f", "raw", "-t", "none", "-c", "write -f -P 7 1M 3M", "-c", "write -z 2M 64k",
		"-c", "write -zu 3M 64k", "-c", "discard 1M 64k", "-c", "flush", "-c", "read -P 7 1152k 64k",
		"-c", "read -P 0 2M 64k", uri(listen(t, serverOf(d)), "d"))
	require.EqualValues(t, 1, d.trims.Load())
	require.EqualValues(t, 1, d.kept.Load(), "write zeroes without unmap keeps the space")
	require.Positive(t, d.flushes.Load())
	require.EqualValues(t, 7, d.at(4<<20-1))
	require.Zero(t, d.at(3<<20))
}

// background starts a server of somebody else's and waits until its socket answers.
func background(t *testing.T, socket, name string, args ...string) {
	t.Helper()
	var out bytes.Buffer
	cmd := exec.Command(name, args...)
	cmd.Stdout, cmd.Stderr = &out, &out
	require.NoError(t, cmd.Start())
	t.Cleanup(func() {
		cmd.Process.Kill()
		cmd.Wait()
	})
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for range 1000 {
		if nc, err := net.Dial("unix", socket); err == nil {
			nc.Close()
			return
		}
		<-tick.C
	}
	require.FailNow(t, "server did not come up", "%s: %s", name, out.String())
}

func nbdkit(t *testing.T, args ...string) string {
	tool(t, "nbdkit", "nbdkit")
	socket := filepath.Join(t.TempDir(), "kit.sock")
	background(t, socket, "nbdkit", append([]string{"--foreground", "--unix", socket}, args...)...)
	return socket
}

func TestClientOfNbdkit(t *testing.T) {
	ctx := context.Background()
	t.Run("pattern", func(t *testing.T) {
		c := dial(t, nbdkit(t, "pattern", "size=4M"), ClientConfig{})
		require.True(t, c.ReadOnly())
		buf := make([]byte, 4<<20)
		require.NoError(t, c.ReadAt(ctx, buf, 0))
		for off := 0; off < len(buf); off += 8 {
			require.EqualValues(t, off, be.Uint64(buf[off:]))
		}
	})
	t.Run("memory", func(t *testing.T) {
		c := dial(t, nbdkit(t, "memory", "size=64M"), ClientConfig{})
		data := make([]byte, 3<<20)
		fillRandom(1, data)
		require.NoError(t, c.WriteAt(ctx, data, 10<<20))
		require.NoError(t, c.Zero(ctx, 11<<20, 1<<20, true))
		clear(data[1<<20 : 2<<20])
		require.NoError(t, c.Trim(ctx, 0, 1<<20))
		require.NoError(t, c.Flush(ctx))
		got := make([]byte, len(data))
		require.NoError(t, c.ReadAt(ctx, got, 10<<20))
		require.True(t, bytes.Equal(data, got))
		extents, err := c.Extents(ctx, 0, 64<<20)
		require.NoError(t, err)
		require.Equal(t, []Extent{{10 << 20, true}, {1 << 20, false}, {1 << 20, true}, {1 << 20, false}, {51 << 20, true}}, extents)
	})
	t.Run("errors", func(t *testing.T) {
		c := dial(t, nbdkit(t, "--filter=error", "memory", "size=1M", "error-pread=ENOSPC", "error-pread-rate=100%"), ClientConfig{})
		err := c.ReadAt(ctx, make([]byte, 512), 0)
		require.ErrorIs(t, err, ENOSPC)
		require.Equal(t, fault.OutOfSpace, fault.KindOf(err))
		require.NoError(t, c.WriteAt(ctx, make([]byte, 512), 0))
	})
	t.Run("without write zeroes", func(t *testing.T) {
		c := dial(t, nbdkit(t, "--filter=nozero", "memory", "size=8M", "zeromode=none"), ClientConfig{})
		require.Zero(t, c.info.flags&flagSendZeroes)
		data := bytes.Repeat([]byte{9}, 8<<20)
		require.NoError(t, c.WriteAt(ctx, data, 0))
		require.NoError(t, c.Zero(ctx, 1000, 3<<20, true))
		clear(data[1000 : 1000+3<<20])
		got := make([]byte, len(data))
		require.NoError(t, c.ReadAt(ctx, got, 0))
		require.True(t, bytes.Equal(data, got))
	})
	t.Run("without structured replies", func(t *testing.T) {
		c := dial(t, nbdkit(t, "--no-sr", "pattern", "size=1M"), ClientConfig{})
		require.False(t, c.Structured())
		buf := make([]byte, 16)
		require.NoError(t, c.ReadAt(ctx, buf, 800))
		require.EqualValues(t, 808, be.Uint64(buf[8:]))
		extents, err := c.Extents(ctx, 100, 1000)
		require.NoError(t, err)
		require.Equal(t, []Extent{{Length: 1000}}, extents)
	})
	t.Run("through our server", func(t *testing.T) {
		c := dial(t, nbdkit(t, "memory", "size=4M"), ClientConfig{})
		front := dial(t, listen(t, serverOf(c)), ClientConfig{})
		require.NoError(t, front.WriteAt(ctx, []byte("twice"), 4096))
		extents, err := front.Extents(ctx, 0, 4<<20)
		require.NoError(t, err)
		require.True(t, extents[0].Hole || extents[1].Hole)
		got := make([]byte, 5)
		require.NoError(t, front.ReadAt(ctx, got, 4096))
		require.Equal(t, "twice", string(got))
	})
}

// The dirty bitmaps of QEMU are what agentless replication pulls by.
func TestClientOfQemuDirtyBitmap(t *testing.T) {
	tool(t, "qemu-nbd", "qemu-utils")
	ctx := context.Background()
	file := filepath.Join(t.TempDir(), "disk.qcow2")
	run(t, "qemu-img", "create", "-q", "-f", "qcow2", file, "8M")
	run(t, "qemu-img", "bitmap", "--add", "-g", "64k", file, "cp0")
	run(t, "qemu-io", "-c", "write -P 3 1M 64k", "-c", "write -P 4 2M 128k", file)
	socket := filepath.Join(t.TempDir(), "q.sock")
	background(t, socket, "qemu-nbd", "--persistent", "--read-only", "-f", "qcow2", "--socket", socket, "--bitmap", "cp0", "--shared=4", file)

	const dirty = "qemu:dirty-bitmap:cp0"
	c := dial(t, socket, ClientConfig{Contexts: []string{dirty, "qemu:dirty-bitmap:other"}})
	require.True(t, c.HasContext(dirty))
	require.False(t, c.HasContext("qemu:dirty-bitmap:other"))
	got, err := c.Status(ctx, dirty, 0, 8<<20)
	require.NoError(t, err)
	require.Equal(t, []Status{{1 << 20, 0}, {64 << 10, 1}, {960 << 10, 0}, {128 << 10, 1}, {6<<20 - 128<<10, 0}}, got)
	buf := make([]byte, 64<<10)
	require.NoError(t, c.ReadAt(ctx, buf, 2<<20))
	require.Empty(t, strings.Trim(string(buf), "\x04"))
	extents, err := c.Extents(ctx, 2<<20, 1<<20)
	require.NoError(t, err)
	require.Equal(t, []Extent{{128 << 10, false}, {896 << 10, true}}, extents)
}
