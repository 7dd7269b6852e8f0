// Package workload makes loads whose every acknowledged effect is known afterwards: a PostgreSQL under pgbench and a tree of files
// under churn. A recovered copy is then judged by what it holds, not by what anybody says. Only e2e imports it.
package workload

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"sort"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/understudy-dr/understudy/e2e/harness"
)

// Postgres is a database cluster in a directory, owned by the distribution's postgres user and reached by a Unix socket only.
type Postgres struct {
	Data   string // the cluster's directory
	Socket string // directory of the socket
	bin    string
}

const port = "5432" // names the socket only: nothing listens on TCP

// NewPostgres describes a cluster at data; socket is a directory that the postgres user may write.
func NewPostgres(t harness.T, data, socket string) *Postgres {
	t.Helper()
	bins, err := filepath.Glob("/usr/lib/postgresql/*/bin/pg_ctl")
	if err != nil || len(bins) == 0 {
		t.Fatalf("PostgreSQL is not installed: make deps")
	}
	sort.Strings(bins)
	if err := os.MkdirAll(socket, 0o755); err != nil {
		t.Fatalf("%v", err)
	}
	harness.Run(t, "chown", "postgres", socket)
	return &Postgres{Data: data, Socket: socket, bin: filepath.Dir(bins[len(bins)-1])}
}

func (p *Postgres) as(name string, args ...string) []string {
	return append([]string{"--reuid=postgres", "--regid=postgres", "--init-groups", filepath.Join(p.bin, name)}, args...)
}

// Init makes the cluster.
func (p *Postgres) Init(t harness.T) {
	t.Helper()
	if err := os.MkdirAll(p.Data, 0o700); err != nil {
		t.Fatalf("%v", err)
	}
	harness.Run(t, "chown", "postgres", p.Data)
	harness.Run(t, "setpriv", p.as("initdb", "-D", p.Data, "--auth=trust", "--encoding=UTF8", "--no-locale", "--data-checksums")...)
}

// Start starts the server and waits until it takes connections; the run stops it.
func (p *Postgres) Start(t harness.T) {
	t.Helper()
	log := filepath.Join(p.Socket, "log")
	opts := fmt.Sprintf("-c listen_addresses= -c unix_socket_directories=%s -c port=%s -c shared_buffers=64MB -c max_wal_size=256MB", p.Socket, port)
	if out, err := harness.Try(t.Context(), "setpriv", p.as("pg_ctl", "start", "-w", "-t", "120", "-D", p.Data, "-l", log, "-o", opts)...); err != nil {
		server, _ := os.ReadFile(log)
		t.Fatalf("PostgreSQL does not start: %v\n%s\n%s", err, out, server)
	}
	t.Cleanup(func() { p.stop(t) })
}

// Stop stops the server.
func (p *Postgres) Stop(t harness.T) { t.Helper(); p.stop(t) }

func (p *Postgres) stop(t harness.T) {
	if _, err := os.Stat(filepath.Join(p.Data, "postmaster.pid")); err != nil {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), 4*time.Minute)
	defer cancel()
	if _, err := harness.Try(ctx, "setpriv", p.as("pg_ctl", "stop", "-w", "-t", "180", "-m", "fast", "-D", p.Data)...); err != nil {
		t.Logf("cleanup: %v", err)
	}
}

// Query runs SQL and returns its rows, columns parted by |.
func (p *Postgres) Query(t harness.T, sql string) []string {
	t.Helper()
	out := harness.Run(t, filepath.Join(p.bin, "psql"), "-h", p.Socket, "-p", port, "-U", "postgres", "-v", "ON_ERROR_STOP=1", "-qAt", "-c", sql)
	return strings.Fields(out)
}

// Bench is a running pgbench: TPC-B-like transactions that also enter a row in a ledger, by client, in order.
type Bench struct {
	*harness.Process
	dir     string
	clients int
}

const ledgerScript = `\set aid random(1, 100000 * :scale)
\set tid random(1, 10 * :scale)
\set delta random(-5000, 5000)
BEGIN;
UPDATE pgbench_accounts SET abalance = abalance + :delta WHERE aid = :aid;
UPDATE pgbench_tellers SET tbalance = tbalance + :delta WHERE tid = :tid;
UPDATE pgbench_branches SET bbalance = bbalance + :delta WHERE bid = 1;
INSERT INTO pgbench_history (tid, bid, aid, delta, mtime) VALUES (:tid, 1, :aid, :delta, CURRENT_TIMESTAMP);
INSERT INTO ledger (client) VALUES (:client_id);
COMMIT;
`

const longest = "86400" // seconds; Finish ends it before

// Prepare makes the tables.
func (p *Postgres) Prepare(t harness.T) {
	t.Helper()
	harness.Run(t, filepath.Join(p.bin, "pgbench"), "-h", p.Socket, "-p", port, "-U", "postgres", "-i", "-q", "-s", "1", "postgres")
	p.Query(t, "CREATE TABLE ledger (id bigserial PRIMARY KEY, client int NOT NULL)")
}

// Bench starts the load; rate is transactions a second over all clients.
func (p *Postgres) Bench(t harness.T, dir string, clients, rate int) *Bench {
	t.Helper()
	script := filepath.Join(dir, "ledger.sql")
	if err := os.WriteFile(script, []byte(ledgerScript), 0o644); err != nil {
		t.Fatalf("%v", err)
	}
	cmd := exec.Command(filepath.Join(p.bin, "pgbench"), "-h", p.Socket, "-p", port, "-U", "postgres", "-n", "-f", script, "-D", "scale=1",
		"-c", strconv.Itoa(clients), "-j", "1", "-T", longest, "-R", strconv.Itoa(rate), "-l", "--log-prefix", filepath.Join(dir, "tx"), "postgres")
	return &Bench{Process: harness.Start(t, "pgbench", cmd), dir: dir, clients: clients}
}

// Finish ends the load the way its own time limit would, so that pgbench writes out its log.
func (b *Bench) Finish(t harness.T) {
	t.Helper()
	if err := b.Cmd.Process.Signal(syscall.SIGALRM); err != nil {
		t.Fatalf("end pgbench: %v\n%s", err, b.Log())
	}
	select {
	case <-b.Done():
	case <-time.After(2 * time.Minute):
		t.Fatalf("pgbench does not end:\n%s", b.Log())
	}
	if b.Err() != nil {
		t.Fatalf("pgbench: %v\n%s", b.Err(), b.Log())
	}
}

// Transaction is one acknowledged transaction as its client saw it.
type Transaction struct {
	Client     int
	Begun, End time.Time
}

// Transactions reads what pgbench logged: every acknowledged transaction, per client in order.
func (b *Bench) Transactions(t harness.T) []Transaction {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(b.dir, "tx.*"))
	if err != nil || len(files) == 0 {
		t.Fatalf("pgbench left no log: %v", err)
	}
	var all []Transaction
	for _, name := range files {
		log, err := os.ReadFile(name)
		if err != nil {
			t.Fatalf("%v", err)
		}
		log = log[:bytes.LastIndexByte(log, '\n')+1] // pgbench writes it out by pages, while it runs
		for line := range strings.Lines(string(log)) {
			if tx, ok := parseTransaction(line); ok {
				all = append(all, tx)
			}
		}
	}
	return all
}

// parseTransaction reads "client number latency-us script seconds us [lag-us]". With -R the latency counts from the
// scheduled start, so the lag is taken off to get the real one.
func parseTransaction(line string) (Transaction, bool) {
	f := strings.Fields(line)
	if len(f) < 6 {
		return Transaction{}, false
	}
	var n [7]int64
	for i := range min(len(f), 7) {
		v, err := strconv.ParseInt(f[i], 10, 64)
		if err != nil {
			return Transaction{}, false
		}
		n[i] = v
	}
	end := time.Unix(n[4], n[5]*1000)
	return Transaction{Client: int(n[0]), Begun: end.Add(-time.Duration(n[2]-n[6]) * time.Microsecond), End: end}, true
}

// Verdict compares a recovered ledger with what was acknowledged.
type Verdict struct {
	Before int // acknowledged at or before the instant: all must be there
	After  int // begun after the instant: none may be there
	Flight int // begun before, acknowledged after: may be there or not
	Found  int
}

// Judge counts the recovered rows of each client against its transactions around the instant. A client's transactions
// are one after another, so its rows are its first ones.
func (p *Postgres) Judge(t harness.T, txs []Transaction, at time.Time) (Verdict, error) {
	t.Helper()
	return p.JudgeBetween(t, txs, at, at)
}

// JudgeBetween is Judge of a copy as of an instant that is known to lie between two.
func (p *Postgres) JudgeBetween(t harness.T, txs []Transaction, from, to time.Time) (Verdict, error) {
	t.Helper()
	found := map[int]int{}
	for _, row := range p.Query(t, "SELECT client, count(*) FROM ledger GROUP BY client") {
		var c, n int
		if _, err := fmt.Sscanf(row, "%d|%d", &c, &n); err != nil {
			return Verdict{}, err
		}
		found[c] = n
	}
	acked, begun := map[int]int{}, map[int]int{}
	var v Verdict
	for _, tx := range txs {
		switch {
		case !tx.End.After(from):
			acked[tx.Client]++
			v.Before++
		case !tx.Begun.After(to):
			v.Flight++
		default:
			v.After++
		}
		if !tx.Begun.After(to) {
			begun[tx.Client]++
		}
	}
	for c, n := range found {
		v.Found += n
		if n > begun[c] {
			return v, fmt.Errorf("client %d: %d transactions on the copy, only %d were begun by %s", c, n, begun[c], to)
		}
	}
	for c, n := range acked {
		if found[c] < n {
			return v, fmt.Errorf("client %d: %d transactions were acknowledged by %s, the copy has %d", c, n, from, found[c])
		}
	}
	return v, nil
}
