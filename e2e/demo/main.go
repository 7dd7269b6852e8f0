// Command demo is the main job, once, on this machine: two disks under load, a server, an agent; the disks of a second in
// the middle of the load are brought back, and the database on them must hold every transaction acknowledged by then and
// none begun later.
package main

import (
	"context"
	"crypto/rand"
	"encoding/binary"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	drstypes "github.com/aws/aws-sdk-go-v2/service/drs/types"

	"github.com/understudy-dr/understudy/e2e/harness"
	"github.com/understudy-dr/understudy/e2e/workload"
)

func main() {
	bin := flag.String("bin", "bin/understudy", "the understudy binary")
	load := flag.Duration("load", 20*time.Second, "how long the load goes on after replication is continuous")
	flag.Parse()
	if os.Geteuid() != 0 {
		fmt.Fprintln(os.Stderr, "the demo makes loop devices, mounts and loads BPF programs: run it as root")
		os.Exit(1)
	}
	path, err := filepath.Abs(*bin)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	if err := os.Setenv("UNDERSTUDY_BIN", path); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	l := newLab()
	defer l.cleanUp()
	run(l, *load)
}

func run(l *lab, load time.Duration) {
	var times table
	begin := time.Now()
	dir := l.TempDir()

	say("Two disks: ext4 with PostgreSQL, XFS with files coming and going")
	src := prepareSource(l, dir)

	say("understudy serve, and DRS initialised")
	server := harness.NewServer(l, filepath.Join(dir, "server"))
	server.InitializeDRS(l)

	say("understudy agent run: capture starts, the first copy goes on under load")
	start := time.Now()
	agent := server.NewAgent(l, "drs", filepath.Join(dir, "agent"), []string{src.ext4.Device, src.xfs.Device})
	id := agent.ServerID(l)
	fmt.Printf("  source server %s\n", id)
	p := newProgress(l, server, id)
	p.until(l, drstypes.DataReplicationStateContinuous, 2*time.Minute)
	times.add("agent started -> CONTINUOUS", time.Since(start))

	say("The load goes on; a second in its middle is chosen")
	at := chooseInstant(l, load)
	fmt.Printf("  at %s\n", at.Format("2006-01-02T15:04:05.000Z"))
	p.draw(p.ask(l))
	src.stopLoad(l)
	times.note("lag, write submitted -> durable", agentLag(l, server, agent))

	say("Both disks as they were at that second")
	fmt.Print(indent(server.CLI(l, "points", id)))
	start = time.Now()
	image := exportDisks(l, server, id, dir, at, src)
	times.add("both disks exported", time.Since(start))

	say("Mount them, start PostgreSQL on the copy, and count")
	start = time.Now()
	judge(l, dir, image, src, at)
	times.add("mounted, recovered and proven", time.Since(start))
	times.add("everything", time.Since(begin))
	times.print()
}

func say(text string) { fmt.Printf("\n== %s\n", text) }

func indent(s string) string {
	return "  " + strings.ReplaceAll(strings.TrimRight(s, "\n"), "\n", "\n  ") + "\n"
}

// source is the machine that is protected: its disks and what runs on them.
type source struct {
	ext4, xfs *harness.Disk
	pg        *workload.Postgres
	bench     *workload.Bench
	churn     *workload.Churn
	stopChurn context.CancelFunc
	churned   chan error
}

func prepareSource(l *lab, dir string) *source {
	s := &source{ext4: harness.NewDisk(l, dir, "ext4.img", 1<<30), xfs: harness.NewDisk(l, dir, "xfs.img", 512<<20)}
	s.ext4.Format(l, "ext4")
	s.xfs.Format(l, "xfs")
	pgMount := harness.Mount(l, s.ext4.Device, filepath.Join(dir, "pg"))
	files := harness.Mount(l, s.xfs.Device, filepath.Join(dir, "files"))

	s.pg = workload.NewPostgres(l, filepath.Join(pgMount, "data"), filepath.Join(dir, "pg-socket"))
	s.pg.Init(l)
	s.pg.Start(l)
	s.pg.Prepare(l)
	logs := filepath.Join(dir, "pgbench")
	if err := os.Mkdir(logs, 0o755); err != nil {
		l.Fatalf("%v", err)
	}
	s.bench = s.pg.Bench(l, logs, 4, 200)

	seed := randomSeed(l)
	fmt.Printf("  pgbench: 4 clients, 200 transactions/s; file churn with UNDERSTUDY_SEED=%d\n", seed)
	s.churn = workload.NewChurn(files, seed, 20*time.Millisecond)
	ctx, cancel := context.WithCancel(l.ctx)
	s.stopChurn, s.churned = cancel, make(chan error, 1)
	go func() { s.churned <- s.churn.Run(ctx) }()
	l.Cleanup(func() { s.endChurn() })
	return s
}

func (s *source) endChurn() error {
	if s.stopChurn == nil {
		return nil
	}
	s.stopChurn()
	s.stopChurn = nil
	return <-s.churned
}

func (s *source) stopLoad(l *lab) {
	s.bench.Finish(l)
	if err := s.endChurn(); err != nil {
		l.Fatalf("file churn: %v", err)
	}
}

// chooseInstant lets the load run and returns the middle of that time, to the millisecond.
func chooseInstant(l *lab, load time.Duration) time.Time {
	begin := time.Now()
	select {
	case <-time.After(load):
	case <-l.ctx.Done():
		l.Fatalf("interrupted")
	}
	return begin.Add(load / 2).UTC().Truncate(time.Millisecond)
}

func agentLag(l *lab, server *harness.Server, agent *harness.Agent) string {
	return strings.TrimSpace(harness.Run(l, server.Binary, "agent", "status", "--state-dir", agent.StateDir, "--lag"))
}

type images struct{ ext4, xfs string }

func exportDisks(l *lab, server *harness.Server, id, dir string, at time.Time, src *source) images {
	out := images{ext4: filepath.Join(dir, "copy-ext4.raw"), xfs: filepath.Join(dir, "copy-xfs.raw")}
	for _, d := range []struct{ device, file string }{{src.ext4.Device, out.ext4}, {src.xfs.Device, out.xfs}} {
		fmt.Print(indent(server.CLI(l, "export", "--server", id, "--device", d.device, "--at", at.Format(time.RFC3339Nano), "--format", "raw", d.file)))
	}
	return out
}

func judge(l *lab, dir string, image images, src *source, at time.Time) {
	pgMount := harness.Mount(l, harness.Attach(l, image.ext4), filepath.Join(dir, "copy-pg"))
	files := harness.Mount(l, harness.Attach(l, image.xfs), filepath.Join(dir, "copy-files"), "nouuid")
	pg := workload.NewPostgres(l, filepath.Join(pgMount, "data"), filepath.Join(dir, "copy-socket"))
	if err := os.Remove(filepath.Join(pg.Data, "postmaster.pid")); err != nil && !os.IsNotExist(err) {
		l.Fatalf("%v", err) // the lock of the postmaster that ran on the source
	}
	pg.Start(l)
	v, err := pg.Judge(l, src.bench.Transactions(l), at)
	if err != nil {
		l.Fatalf("the copy is WRONG: %v", err)
	}
	fmt.Printf("  PostgreSQL: %d transactions acknowledged before the instant, all %d there; %d in flight, %d of them there; %d begun later, none there\n",
		v.Before, v.Before, v.Flight, v.Found-v.Before, v.After)
	n, err := src.churn.Judge(files, at)
	if err != nil {
		l.Fatalf("the copy is WRONG: %v", err)
	}
	fmt.Printf("  files: %d of %d written proven present with their content, or rightly absent; the rest were in flight\n", n, src.churn.Files())
	if v.Before == 0 || v.After == 0 {
		l.Fatalf("the instant was not in the middle of the load: %+v", v)
	}
}

func randomSeed(l *lab) uint64 {
	if s := os.Getenv("UNDERSTUDY_SEED"); s != "" {
		n, err := strconv.ParseUint(s, 10, 64)
		if err != nil {
			l.Fatalf("UNDERSTUDY_SEED: %v", err)
		}
		return n
	}
	var b [8]byte
	if _, err := rand.Read(b[:]); err != nil {
		l.Fatalf("%v", err)
	}
	return binary.LittleEndian.Uint64(b[:])
}

// table is what the demo measured.
type table [][2]string

func (t *table) add(what string, took time.Duration) {
	t.note(what, took.Round(10*time.Millisecond).String())
}

func (t *table) note(what, value string) { *t = append(*t, [2]string{what, value}) }

func (t table) print() {
	line := "+" + strings.Repeat("-", 36) + "+" + strings.Repeat("-", 42) + "+"
	fmt.Println("\n" + line)
	for _, r := range t {
		fmt.Printf("| %-34s | %-40s |\n", r[0], r[1])
	}
	fmt.Println(line)
	fmt.Println("Everything acknowledged before the instant is there, nothing begun after it is.")
}
