package replication_test

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"log/slog"
	"net"
	"path/filepath"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/understudy-dr/understudy/internal/control"
	"github.com/understudy-dr/understudy/internal/control/accounts"
	"github.com/understudy-dr/understudy/internal/control/points"
	"github.com/understudy-dr/understudy/internal/control/replication"
	"github.com/understudy-dr/understudy/internal/encryption"
	"github.com/understudy-dr/understudy/internal/journal"
	"github.com/understudy-dr/understudy/internal/pki"
	"github.com/understudy-dr/understudy/internal/replicate/sink"
	"github.com/understudy-dr/understudy/internal/state"
	"github.com/understudy-dr/understudy/internal/state/sqlite"
	"github.com/understudy-dr/understudy/internal/vfs/vfstest"
)

// realServer is the replication server itself, as the control plane is given it.
type realServer struct {
	*sink.Server
	created func() // after staging was made
}

func (r realServer) CreateStaging(ctx context.Context, id string, disks []replication.StagingDisk) (bool, error) {
	list := make([]sink.StagingDisk, len(disks))
	for i, d := range disks {
		list[i] = sink.StagingDisk{Index: uint16(d.Index), Device: d.DeviceName, Bytes: d.Bytes}
	}
	reused, err := r.Server.CreateStaging(ctx, id, list)
	r.created()
	return reused, err
}

func (r realServer) Status(id string) replication.ReplicaStatus {
	s := r.Server.Status(id)
	return replication.ReplicaStatus{Attached: s.Attached, Connected: s.Connected, Err: s.Err}
}

// site is what a fault is made of.
type site struct {
	t       *testing.T
	config  sink.Config
	fs      *vfstest.MemFS
	server  state.Server
	created func()
}

// Each step that the control plane does itself fails of the fault that its error names, against the real replication
// server. What the agent has to do, and what happens to a connection, is tested in fake time beside this.
func TestRealFaults(t *testing.T) {
	for code, c := range map[state.ErrorCode]struct {
		says  string
		cause func(*site)
	}{
		"FAILED_TO_CREATE_SECURITY_GROUP": {"cannot name a source server", func(s *site) { s.server.ID = "../s-1" }}, // nobody can be let in under that name
		"FAILED_TO_LAUNCH_REPLICATION_SERVER": {"address already in use", func(s *site) {
			taken, err := net.Listen("tcp", "127.0.0.1:0")
			require.NoError(s.t, err)
			s.t.Cleanup(func() { require.NoError(s.t, taken.Close()) })
			s.config.Listen = taken.Addr().String()
		}},
		"FAILED_TO_BOOT_REPLICATION_SERVER": {"certificate", func(s *site) { // its certificate cannot be read
			s.config.TLS.Certificates = nil
			s.config.TLS.GetCertificate = func(*tls.ClientHelloInfo) (*tls.Certificate, error) { return nil, errors.New("no such file") }
		}},
		"FAILED_TO_AUTHENTICATE_WITH_SERVICE":     {"unknown authority", func(s *site) { s.config.Roots = x509.NewCertPool() }}, // another authority's certificate
		"FAILED_TO_DOWNLOAD_REPLICATION_SOFTWARE": {"version", func(s *site) { s.server.Agent.WireVersions = []uint32{99} }},
		"FAILED_TO_CREATE_STAGING_DISKS":          {"free", func(s *site) { s.fs.SetCapacity(1 << 20) }}, // no room
		"FAILED_TO_ATTACH_STAGING_DISKS": {"input/output error", func(s *site) { // the disk breaks when it has just been written
			var broken atomic.Bool
			s.created = func() { broken.Store(true) }
			s.fs.OnOp(func(vfstest.Op) error {
				if broken.Load() {
					return syscall.EIO
				}
				return nil
			})
		}},
	} {
		t.Run(string(code), func(t *testing.T) {
			s := newSite(t)
			c.cause(s)
			info := s.run()
			require.Equal(t, state.Stalled, info.State)
			require.Equal(t, code, info.Error.Code, "%s", info.Error.Raw)
			require.Contains(t, info.Error.Raw, c.says)
			for _, step := range info.Attempt.Steps {
				if "FAILED_TO_"+string(step.Name) == string(code) {
					require.Equal(t, state.Failed, step.Status)
				}
			}
		})
	}
}

func newSite(t *testing.T) *site {
	ca, err := pki.Open(filepath.Join(t.TempDir(), "pki"))
	require.NoError(t, err)
	certificate, err := ca.Server("127.0.0.1")
	require.NoError(t, err)
	keys, err := encryption.OpenKeyFile(filepath.Join(t.TempDir(), "keys.json"))
	require.NoError(t, err)
	s := &site{t: t, fs: vfstest.New(), created: func() {}}
	s.config = sink.Config{FS: s.fs, Dir: "journals", Listen: "127.0.0.1:0", TLS: ca.AgentsTLS(certificate), Roots: ca.Pool(),
		Identify: func(*tls.ConnectionState) (string, error) { return "", nil }, Journal: journal.Options{Keys: keys}, Log: slog.New(slog.DiscardHandler)}
	s.server = state.Server{ID: "s-00000000000000001", Scope: state.Scope{Account: "111122223333", Service: state.DRS}, Identity: "machine",
		CreatedAt: time.Now(), Agent: state.Agent{WireVersions: []uint32{1, 2, 3}}, Disks: []state.Disk{{DeviceName: "/dev/vda", Bytes: 1 << 30, Boot: true}}}
	return s
}

// run replicates until the server is stalled.
func (s *site) run() control.ReplicationInfo {
	t := s.t
	store, err := sqlite.Open(t.Context(), filepath.Join(t.TempDir(), "state.db"))
	require.NoError(t, err)
	defer func() { require.NoError(t, store.Close()) }()
	require.NoError(t, accounts.New(store).Initialize(t.Context(), s.server.Scope))
	require.NoError(t, store.Update(t.Context(), func(tx state.Tx) error {
		if err := tx.PutServer(t.Context(), s.server); err != nil {
			return err
		}
		return tx.PutReplication(t.Context(), replication.NewRecord(s.server, false, time.Now().UTC()))
	}))
	real, err := sink.New(s.config)
	require.NoError(t, err)
	engine := replication.New(store, realServer{real, s.created}, s.config.Log)
	ctx, cancel := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	wg.Go(func() { require.NoError(t, real.Run(ctx)) })
	wg.Go(func() { require.NoError(t, engine.Run(ctx, points.New(store, engine, engine.PointMade, s.config.Log))) })
	defer wg.Wait()
	defer cancel()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for end := time.Now().Add(30 * time.Second); ; <-tick.C {
		out, err := engine.Describe(ctx, []state.Server{s.server})
		require.NoError(t, err)
		if out[0].State == state.Stalled {
			return out[0]
		}
		require.True(t, time.Now().Before(end), "%s %+v", out[0].State, out[0].Attempt.Steps)
	}
}
