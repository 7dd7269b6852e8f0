package main

import (
	"fmt"
	"os"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/drs"
	drstypes "github.com/aws/aws-sdk-go-v2/service/drs/types"

	"github.com/understudy-dr/understudy/e2e/harness"
)

// progress shows what the DRS API says of one server, until it says that a state is reached.
type progress struct {
	server   *harness.Server
	client   *drs.Client
	id       string
	terminal bool
	lines    int
	steps    int // initiation steps shown so far
	last     time.Time
	bytes    map[string]int64
}

func newProgress(l *lab, s *harness.Server, id string) *progress {
	fi, err := os.Stdout.Stat()
	return &progress{server: s, client: s.DRS(l), id: id, bytes: map[string]int64{},
		terminal: err == nil && fi.Mode()&os.ModeCharDevice != 0}
}

// until draws twice a second on a terminal, every two seconds elsewhere.
func (p *progress) until(l *lab, state drstypes.DataReplicationState, limit time.Duration) {
	every := 2 * time.Second
	if p.terminal {
		every = 500 * time.Millisecond
	}
	tick := time.NewTicker(every)
	defer tick.Stop()
	deadline := time.NewTimer(limit)
	defer deadline.Stop()
	for {
		info := p.ask(l)
		p.draw(info)
		if info.DataReplicationState == state {
			return
		}
		select {
		case <-tick.C:
		case <-deadline.C:
			l.Fatalf("not %s within %s", state, limit)
		case <-l.ctx.Done():
			l.Fatalf("interrupted")
		}
	}
}

func (p *progress) ask(l *lab) *drstypes.DataReplicationInfo {
	s, err := p.server.Describe(l, p.client, p.id)
	if err != nil {
		l.Fatalf("DescribeSourceServers: %v", err)
	}
	return s.DataReplicationInfo
}

func (p *progress) draw(info *drstypes.DataReplicationInfo) {
	if p.terminal && p.lines > 0 {
		fmt.Printf("\033[%dA\033[J", p.lines)
	}
	p.lines = 0
	p.drawSteps(info)
	now := time.Now()
	for _, d := range info.ReplicatedDisks {
		fmt.Println(p.bar(d, now))
		p.lines++
	}
	p.last = now
	lag, eta := aws.ToString(info.LagDuration), "-"
	if lag == "" {
		lag = "-"
	}
	if t, err := time.Parse(time.RFC3339Nano, aws.ToString(info.EtaDateTime)); err == nil {
		eta = time.Until(t).Round(time.Second).String()
	}
	fmt.Printf("  state %-18s lag %-16s time left %s\n", info.DataReplicationState, lag, eta)
	p.lines++
	if e := info.DataReplicationError; e != nil {
		fmt.Printf("  %s: %s\n", e.Error, aws.ToString(e.RawError))
		p.lines++
	}
}

// drawSteps prints each initiation step once, when it has ended; these lines stay.
func (p *progress) drawSteps(info *drstypes.DataReplicationInfo) {
	if info.DataReplicationInitiation == nil {
		return
	}
	for i, s := range info.DataReplicationInitiation.Steps {
		if i < p.steps || s.Status == drstypes.DataReplicationInitiationStepStatusNotStarted ||
			s.Status == drstypes.DataReplicationInitiationStepStatusInProgress {
			continue
		}
		fmt.Printf("  %-40s %s\n", strings.ToLower(strings.ReplaceAll(string(s.Name), "_", " ")), strings.ToLower(string(s.Status)))
		p.steps = i + 1
	}
}

func (p *progress) bar(d drstypes.DataReplicationInfoReplicatedDisk, now time.Time) string {
	const width = 30
	name, done, total := aws.ToString(d.DeviceName), d.ReplicatedStorageBytes, max(d.TotalStorageBytes, 1)
	rate := ""
	if before, ok := p.bytes[name]; ok && done > before {
		rate = fmt.Sprintf("%.0f MiB/s", float64(done-before)/(1<<20)/now.Sub(p.last).Seconds())
	}
	p.bytes[name] = done
	full := int(done * width / total)
	return fmt.Sprintf("  %-12s [%s%s] %3d%% of %4d MiB  %s", name, strings.Repeat("#", full), strings.Repeat(".", width-full),
		done*100/total, total>>20, rate)
}
