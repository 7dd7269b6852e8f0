// Package s3test runs a real S3 service, versitygw, as a process of its own, and a proxy before it that does what
// networks and services do to a client: delay, cut, corrupt, refuse, and lose answers.
//
// Only tests import it.
package s3test

import (
	"bytes"
	"context"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// What every server is made with.
const (
	AccessKey = "understudy"
	SecretKey = "only-for-tests-on-loopback"
	Region    = "us-east-1"
	Bucket    = "layers"
)

const startTime = 30 * time.Second

// Server is a running S3 service with one bucket. Its objects are the files below Root/Bucket.
type Server struct {
	Endpoint string
	Root     string

	binary string
	port   string
	mu     sync.Mutex
	cmd    *exec.Cmd // nil while it does not run
	log    *bytes.Buffer
}

// Start runs a server until the test ends.
func Start(t testing.TB) *Server {
	t.Helper()
	s := &Server{Root: t.TempDir(), binary: binary(t), port: freePort(t)}
	s.Endpoint = "http://127.0.0.1:" + s.port
	require.NoError(t, os.Mkdir(filepath.Join(s.Root, Bucket), 0o700))
	t.Cleanup(func() {
		s.Kill(t)
		if t.Failed() {
			t.Logf("S3 service:\n%s", s.log)
		}
	})
	s.Run(t)
	return s
}

// binary finds what make test has installed.
func binary(t testing.TB) string {
	dir, err := os.Getwd()
	require.NoError(t, err)
	for dir != "/" {
		if _, err := os.Stat(filepath.Join(dir, "go.mod")); err == nil {
			break
		}
		dir = filepath.Dir(dir)
	}
	name := filepath.Join(dir, ".tools", "versitygw")
	_, err = os.Stat(name)
	require.NoError(t, err, "the S3 service for tests is missing: run 'make .tools/versitygw' with its whole path, or 'make test'")
	return name
}

func freePort(t testing.TB) string {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer l.Close()
	_, port, err := net.SplitHostPort(l.Addr().String())
	require.NoError(t, err)
	return port
}

// Run starts the process, if it does not run, and waits until it answers.
func (s *Server) Run(t testing.TB) {
	t.Helper()
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.cmd != nil {
		return
	}
	s.log = &bytes.Buffer{}
	s.cmd = exec.Command(s.binary, "--port", "127.0.0.1:"+s.port, "--access", AccessKey, "--secret", SecretKey,
		"--region", Region, "--health", "/health", "--keep-alive", "posix", s.Root)
	s.cmd.Stdout, s.cmd.Stderr = s.log, s.log
	s.cmd.Env = []string{"PATH=/usr/bin:/bin", "GOMAXPROCS=2"}
	s.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	require.NoError(t, s.cmd.Start())
	ctx, cancel := context.WithTimeout(context.Background(), startTime)
	defer cancel()
	ticker := time.NewTicker(20 * time.Millisecond)
	defer ticker.Stop()
	for {
		if err := s.healthy(ctx); err == nil {
			return
		}
		select {
		case <-ticker.C:
		case <-ctx.Done():
			require.Fail(t, "the S3 service does not answer", "%s", s.log)
		}
	}
}

func (s *Server) healthy(ctx context.Context) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, s.Endpoint+"/health", nil)
	if err != nil {
		return err
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("health: %s", resp.Status)
	}
	return nil
}

// Kill ends the process at once, as a crash would. Run starts it again with what it had.
func (s *Server) Kill(t testing.TB) {
	t.Helper()
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.cmd == nil {
		return
	}
	require.NoError(t, s.cmd.Process.Kill())
	_ = s.cmd.Wait() // "signal: killed"
	s.cmd = nil
}
