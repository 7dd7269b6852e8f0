package bench

import (
	"fmt"
	"io"
	"io/fs"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/understudy-dr/understudy/e2e/harness"
)

// halfFill puts files into a file system until that many bytes are used, two thirds of them files of this machine's system, one
// third such as nothing compresses. It returns how much is used in the end.
func halfFill(b *testing.B, mount string, bytes int64) int64 {
	b.Helper()
	for _, from := range []string{"/usr/share", "/usr/bin", "/usr/lib"} {
		copyFiles(b, from, filepath.Join(mount, filepath.Base(from)), func() bool { return inUse(b, mount) < bytes*2/3 })
	}
	content := rand.NewChaCha8([32]byte{7})
	for i := 0; inUse(b, mount) < bytes; i++ {
		f, err := os.Create(filepath.Join(mount, fmt.Sprintf("photograph-%d", i)))
		require.NoError(b, err)
		_, err = io.CopyN(f, content, 4<<20)
		require.NoError(b, err)
		require.NoError(b, f.Sync()) // blocks are counted when they are allocated
		require.NoError(b, f.Close())
	}
	return inUse(b, mount)
}

func inUse(b *testing.B, mount string) int64 {
	b.Helper()
	var st unix.Statfs_t
	require.NoError(b, unix.Statfs(mount, &st))
	return int64(st.Blocks-st.Bfree) * st.Bsize
}

// copyFiles copies regular files for as long as there is room.
func copyFiles(b *testing.B, from, to string, room func() bool) {
	b.Helper()
	err := filepath.WalkDir(from, func(path string, e fs.DirEntry, err error) error {
		if err != nil || !e.Type().IsRegular() {
			return err
		}
		if !room() {
			return fs.SkipAll
		}
		rel, err := filepath.Rel(from, path)
		if err != nil {
			return err
		}
		content, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		name := filepath.Join(to, rel)
		if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
			return err
		}
		return os.WriteFile(name, content, 0o644)
	})
	require.NoError(b, err)
}

// receiveTLS writes into a file what one TLS connection brings, and ends.
func receiveTLS(b *testing.B, dir string, file *os.File) (_ *harness.Process, address string) {
	b.Helper()
	key, certificate := filepath.Join(dir, "peer.key"), filepath.Join(dir, "peer.pem")
	harness.Run(b, "openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-subj", "/CN=localhost", "-days", "2",
		"-keyout", key, "-out", certificate)
	host, port := freePort(b)
	cmd := exec.Command("bash", "-c", `exec openssl s_server -accept "$0" -naccept 1 -quiet -tls1_3 -key "$1" -cert "$2" >&"$3"`, host+":"+port, key, certificate, "3")
	cmd.ExtraFiles = []*os.File{file}
	stdin, err := cmd.StdinPipe() // open, or it would end
	require.NoError(b, err)
	b.Cleanup(func() { stdin.Close() })
	p := harness.Start(b, "openssl s_server", cmd)
	// Connecting would count as the one connection, so look whether somebody listens.
	harness.Eventually(b, 30*time.Second, "openssl listens", func() (bool, string) {
		out, err := exec.CommandContext(b.Context(), "ss", "-Hltn", "sport = :"+port).Output()
		return err == nil && len(out) > 0, fmt.Sprintf("%s %v", out, err)
	})
	return p, host + ":" + port
}

// qemuNBDOver is qemuNBD on another kind of socket, which the arguments name.
func qemuNBDOver(b *testing.B, network, address, image string, args ...string) *harness.Process {
	b.Helper()
	p := harness.Start(b, "qemu-nbd", exec.Command("qemu-nbd", append(append([]string{"--persistent", "--shared=16"}, args...), image)...))
	harness.Eventually(b, time.Minute, address+" answers", func() (bool, string) {
		if p.Ended() {
			b.Fatalf("it has ended: %v\n%s", p.Err(), p.Log())
		}
		c, err := net.Dial(network, address)
		if err != nil {
			return false, err.Error()
		}
		c.Close()
		return true, ""
	})
	return p
}

// freePort was free a moment ago.
func freePort(b *testing.B) (host, port string) {
	b.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(b, err)
	defer l.Close()
	host, port, err = net.SplitHostPort(l.Addr().String())
	require.NoError(b, err)
	return host, port
}

// command runs a program to its end.
func command(b *testing.B, name string, args ...string) *exec.Cmd {
	b.Helper()
	cmd := exec.CommandContext(b.Context(), name, args...)
	out, err := cmd.CombinedOutput()
	require.NoError(b, err, "%s: %s", name, out)
	return cmd
}

// used is what a program that has ended, and those it waited for, took of the processors.
func used(cmd *exec.Cmd) time.Duration {
	return cmd.ProcessState.UserTime() + cmd.ProcessState.SystemTime()
}
