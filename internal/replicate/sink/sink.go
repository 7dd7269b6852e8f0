// Package sink is the replication server: it listens on the data port, tells agents apart by their certificates,
// verifies what they send, appends it to their journals and acknowledges what is durable.
//
// The server's assembly imports it, and hands it to the control plane behind the control plane's own interface.
package sink

import (
	"crypto/tls"
	"crypto/x509"
	"log/slog"
	"net"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"github.com/understudy-dr/understudy/internal/blob"
	"github.com/understudy-dr/understudy/internal/fault"
	"github.com/understudy-dr/understudy/internal/journal"
	"github.com/understudy-dr/understudy/internal/vfs"
	"github.com/understudy-dr/understudy/internal/wire"
)

// Config of a replication server.
type Config struct {
	FS        vfs.FS         // default vfs.OS
	Dir       string         // staging area: one journal per source server, in a directory of its name
	Listen    string         // host:port; port 0 picks one
	Advertise string         // host:port that agents dial; default where it listens
	TLS       *tls.Config    // its certificate, and ClientCAs that agents' certificates must verify against
	Roots     *x509.CertPool // what its own certificate must verify against
	// Identify names the source server that a verified client certificate belongs to.
	Identify func(*tls.ConnectionState) (serverID string, err error)

	ReserveBytes int64         // refuse frames before less than this is free; default a hundredth of it all, 64 MiB to 1 GiB
	SlowBytes    int64         // acknowledge more slowly when less than this is free; default a twentieth above the reserve, 15 times it at most
	IdleTimeout  time.Duration // end a connection that is silent for so long; default 60 s
	Journal      journal.Options
	Blobs        blob.Store // object storage for layers; nil keeps them in the staging area
	Maintenance  Maintenance
	Synced       func(time.Duration) // is told what each sync of ingest took; nil tells nobody
	Log          *slog.Logger        // default slog.Default
}

const (
	defaultIdle      = 60 * time.Second
	handshakeTimeout = 10 * time.Second
	lingerTimeout    = 2 * time.Second
)

// Server is a replication server. Run serves; everything else may be called at any time from any goroutine.
type Server struct {
	c   Config
	tls *tls.Config
	fs  vfs.FS
	log *slog.Logger

	care     *caretaker
	waits    waits
	upkeepOf func(*journal.Journal) upkeep

	mu       sync.Mutex
	listener net.Listener
	launched chan struct{} // closed by Launch
	running  bool
	stopped  bool
	replicas map[string]*replica
}

// New checks the configuration.
func New(c Config) (*Server, error) {
	switch {
	case c.Dir == "" || c.Listen == "":
		return nil, fault.New(fault.Invalid, "sink: new", "a directory and an address to listen on are needed")
	case c.TLS == nil || c.TLS.ClientCAs == nil || c.Identify == nil:
		return nil, fault.New(fault.Invalid, "sink: new", "a certificate, client CAs and a way to identify agents are needed")
	}
	if c.FS == nil {
		c.FS = vfs.OS
	}
	if c.Log == nil {
		c.Log = slog.Default()
	}
	if c.Journal.Log == nil {
		c.Journal.Log = c.Log
	}
	if c.Synced == nil {
		c.Synced = func(time.Duration) {}
	}
	if c.IdleTimeout <= 0 {
		c.IdleTimeout = defaultIdle
	}
	t := c.TLS.Clone()
	t.MinVersion, t.ClientAuth, t.NextProtos = tls.VersionTLS13, tls.RequireAndVerifyClientCert, []string{wire.ALPN}
	s := &Server{
		c: c, tls: t, fs: c.FS, log: c.Log, launched: make(chan struct{}), replicas: map[string]*replica{},
		care: newCaretaker(c.Maintenance, c.Log), waits: defaultWaits, upkeepOf: func(j *journal.Journal) upkeep { return j },
	}
	s.care.wards, s.care.urgent, s.care.repair, s.care.rested = s.wards, s.short, s.ask, s.relieve
	return s, nil
}

// wards are the journals that are attached.
func (s *Server) wards() (all []*ward) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, r := range s.replicas {
		if w, _ := r.inCare(); w != nil {
			all = append(all, w)
		}
	}
	return all
}

// ask has damaged content read again by its source.
func (s *Server) ask(w *ward, lost []journal.Damage) error {
	var ranges []Range
	for _, d := range lost {
		if d.Sectors > 0 { // else a file of which not even that can be told
			ranges = append(ranges, Range{Disk: d.Disk, Sector: d.Sector, Sectors: d.Sectors})
		}
	}
	if len(ranges) == 0 {
		return nil
	}
	return s.Repair(w.id, ranges)
}

// replica finds or makes the record of a source server. The name becomes a directory, so it must look like one.
func (s *Server) replica(serverID string) (*replica, error) {
	if serverID == "" || serverID[0] == '.' || strings.ContainsAny(serverID, "/\\\x00") || len(serverID) > 200 {
		return nil, fault.New(fault.Invalid, "sink", "%q cannot name a source server", serverID)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	r := s.replicas[serverID]
	if r == nil {
		r = &replica{id: serverID}
		s.replicas[serverID] = r
	}
	return r, nil
}

func (s *Server) known(serverID string) *replica {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.replicas[serverID]
}

func (s *Server) dir(serverID string) string { return filepath.Join(s.c.Dir, serverID) }
