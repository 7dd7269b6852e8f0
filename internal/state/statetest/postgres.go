package statetest

import (
	"context"
	"fmt"
	"hash/fnv"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"
)

// Postgres is a private PostgreSQL server of Debian's package, reached by a Unix socket only and gone with its test.
type Postgres struct {
	t   testing.TB
	dir string // the cluster and its socket
	bin string
}

// StartPostgres makes a cluster and starts it. The test must run as root: the server runs as user postgres.
func StartPostgres(t testing.TB) *Postgres {
	t.Helper()
	bins, err := filepath.Glob("/usr/lib/postgresql/*/bin/pg_ctl")
	require.NoError(t, err)
	require.NotEmpty(t, bins, "PostgreSQL is not installed: make deps")
	slices.Sort(bins)
	dir, err := os.MkdirTemp("", "pg") // short: the path of a socket has 107 bytes
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, os.RemoveAll(dir)) })
	p := &Postgres{t: t, dir: dir, bin: filepath.Dir(bins[len(bins)-1])}
	p.run("chown", "postgres", dir)
	p.as("initdb", "-D", p.data(), "--auth=trust", "--encoding=UTF8", "--no-locale", "--no-sync")
	p.Start()
	t.Cleanup(func() { p.Stop("fast") })
	return p
}

func (p *Postgres) data() string { return filepath.Join(p.dir, "data") }

func (p *Postgres) as(name string, args ...string) {
	p.t.Helper()
	p.run("setpriv", append([]string{"--reuid=postgres", "--regid=postgres", "--init-groups", filepath.Join(p.bin, name)}, args...)...)
}

func (p *Postgres) run(name string, args ...string) {
	p.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute) // it also runs when the test's own context has ended
	defer cancel()
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.Dir = "/"
	out, err := cmd.CombinedOutput()
	require.NoError(p.t, err, "%s %v: %s", name, args, out)
}

// Start starts the server and waits until it takes connections. Without fsync it survives its own death, which Stop can cause, but
// not the machine's.
func (p *Postgres) Start() {
	p.t.Helper()
	opts := fmt.Sprintf("-c listen_addresses= -c unix_socket_directories=%s -c shared_buffers=64MB -c max_connections=200 -c fsync=off", p.dir)
	p.as("pg_ctl", "start", "-w", "-t", "50", "-D", p.data(), "-l", filepath.Join(p.dir, "log"), "-o", opts)
}

// Stop stops the server, if it runs: "fast" ends its sessions, "immediate" is a crash.
func (p *Postgres) Stop(mode string) {
	p.t.Helper()
	if _, err := os.Stat(filepath.Join(p.data(), "postmaster.pid")); err != nil {
		return
	}
	p.as("pg_ctl", "stop", "-w", "-m", mode, "-D", p.data())
}

// URL names a database of the server.
func (p *Postgres) URL(database string) string {
	return fmt.Sprintf("postgres:///%s?host=%s&user=postgres", database, p.dir)
}

// Dir is where the cluster and its socket are.
func (p *Postgres) Dir() string { return p.dir }

// Name is what the database that belongs to key is called.
func (p *Postgres) Name(key string) string {
	h := fnv.New64a()
	h.Write([]byte(key))
	return fmt.Sprintf("u%x", h.Sum64())
}

// Database is the URL of the database that belongs to key, made when it is first asked for.
func (p *Postgres) Database(key string) string { return p.create(key, "") }

// Copy is the URL of the database that belongs to key, made as a copy of another that nobody is connected to.
func (p *Postgres) Copy(from, key string) string { return p.create(key, " TEMPLATE "+p.Name(from)) }

func (p *Postgres) create(key, like string) string {
	p.t.Helper()
	name := p.Name(key)
	conn, err := pgx.Connect(p.t.Context(), p.URL("postgres"))
	require.NoError(p.t, err)
	defer conn.Close(context.Background())
	var found bool
	require.NoError(p.t, conn.QueryRow(p.t.Context(), `SELECT EXISTS (SELECT 1 FROM pg_database WHERE datname = $1)`, name).Scan(&found))
	if !found {
		_, err = conn.Exec(p.t.Context(), "CREATE DATABASE "+name+like)
		require.NoError(p.t, err)
	}
	return p.URL(name)
}

// Drop removes a database that nobody is connected to.
func (p *Postgres) Drop(key string) {
	p.t.Helper()
	conn, err := pgx.Connect(p.t.Context(), p.URL("postgres"))
	require.NoError(p.t, err)
	defer conn.Close(context.Background())
	_, err = conn.Exec(p.t.Context(), "DROP DATABASE "+p.Name(key))
	require.NoError(p.t, err)
}
