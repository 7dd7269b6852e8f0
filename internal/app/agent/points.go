package agent

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"github.com/understudy-dr/understudy/internal/agentapi/agentpb"
	"github.com/understudy-dr/understudy/internal/consistency"
	"github.com/understudy-dr/understudy/internal/fault"
	"github.com/understudy-dr/understudy/internal/replicate/source"
)

// runDir is on a tmpfs, which no freeze concerns.
const runDir = "/run/understudy"

// runFile names a file of the agent with a state directory.
func runFile(stateDir, what string) string {
	sum := sha256.Sum256([]byte(stateDir))
	return filepath.Join(runDir, what+"-"+hex.EncodeToString(sum[:8]))
}

// thawLeftovers undoes what an agent left that died while file systems were frozen. It comes before anything is written,
// because that might be where it is written to.
func thawLeftovers(ctx context.Context, c Config) error {
	for _, note := range []string{runFile(c.StateDir, "point"), runFile(c.StateDir, "hold")} {
		if err := consistency.Recover(ctx, note, c.Log); err != nil {
			return err
		}
	}
	return nil
}

// guardCommand starts this program's other half. The path works when the program was replaced meanwhile.
var guardCommand = []string{"/proc/self/exe", "agent", "guard"}

// maxReports is how many points wait for the service; the oldest go first.
const maxReports = 16

// pointmaker makes application-consistent points: by schedule, because the service asks, or somebody on this machine.
type pointmaker struct {
	cfg   Config
	maker *consistency.Maker
	rep   *replicator
	asks  chan ask      // from this machine
	wake  chan struct{} // wanted has changed

	mu      sync.Mutex
	wanted  string // the service's request that is to be answered
	seen    string // the last that was begun
	reports []*agentpb.ConsistentPoint
	last    *AppPoint
}

// ask is somebody who waits for a point.
type ask struct{ answer chan<- AppPoint }

// AppPoint is what became of the newest application-consistent point.
type AppPoint struct {
	consistency.Point
	Tried time.Time `json:"tried"`
	Error string    `json:"error,omitempty"`
	kind  fault.Kind
}

func newPointmaker(c Config, rep *replicator) (*pointmaker, error) {
	p := &pointmaker{cfg: c, rep: rep, asks: make(chan ask), wake: make(chan struct{}, 1)}
	freeze, err := consistency.ParseSelection(c.Freeze)
	if err != nil {
		return nil, err
	}
	p.maker, err = consistency.New(consistency.Config{Dir: c.HooksDir, Freeze: freeze, Disks: rep.disks.numbers, Ready: p.ready, Cut: p.cut,
		Guard: guardCommand, Note: runFile(c.StateDir, "point"), Deadline: c.FreezeAtMost, ScriptTimeout: c.ScriptTimeout, Log: c.Log})
	return p, err
}

// ready tells whether a point made now could be recovered.
func (p *pointmaker) ready() error {
	now := p.rep.live.Load()
	if now == nil {
		return fault.New(fault.Conflict, "", "replication does not run")
	}
	st := now.source.Status()
	if now.cutter == nil && (!st.Connected || !st.Complete) || st.Phase == source.PhaseInitialSync {
		return fault.New(fault.Conflict, "", "nothing is recoverable now: replication is %s", st.Phase).WithHint("wait until it is continuous")
	}
	return nil
}

// cut is called while everything is still.
func (p *pointmaker) cut(ctx context.Context) (consistency.Cut, error) {
	now := p.rep.live.Load()
	if now == nil {
		return nil, fault.New(fault.Conflict, "", "replication was stopped")
	}
	if now.cutter != nil { // only what is read while it is still is a point
		if err := now.cutter.Take(ctx); err != nil {
			return nil, err
		}
	}
	return now.source.Cut(ctx)
}

// run makes points until ctx ends.
func (p *pointmaker) run(ctx context.Context) {
	var due <-chan time.Time
	if p.cfg.PointsEvery > 0 {
		t := time.NewTicker(p.cfg.PointsEvery)
		defer t.Stop()
		due = t.C
	}
	for {
		select {
		case <-ctx.Done():
			return
		case <-due:
			p.make(ctx, "")
		case a := <-p.asks:
			a.answer <- p.make(ctx, "")
		case <-p.wake:
			if request := p.next(); request != "" {
				p.make(ctx, request)
			}
		}
	}
}

func (p *pointmaker) next() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.wanted == p.seen {
		return ""
	}
	p.seen = p.wanted
	return p.wanted
}

// make makes a point, and has it reported.
func (p *pointmaker) make(ctx context.Context, request string) AppPoint {
	st := AppPoint{Tried: time.Now().UTC()}
	var b [8]byte
	_, _ = rand.Read(b[:]) // never fails
	id := hex.EncodeToString(b[:])
	var err error
	if st.Point, err = p.maker.Make(ctx, id); err != nil {
		st.Error, st.kind = err.Error(), fault.KindOf(err)
		p.cfg.Log.Warn("no application-consistent point", "request", request, "error", err)
	} else {
		p.cfg.Log.Info("application-consistent point", "epoch", st.Epoch, "position", st.Position, "frozen", st.Held, "file-systems", st.FileSystems)
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.last = &st
	if err == nil || request != "" {
		p.reports = append(p.reports, &agentpb.ConsistentPoint{Id: id, RequestId: request, Epoch: st.Epoch, Position: st.Position,
			TimeNs: st.At.UnixNano(), Error: st.Error})
		p.reports = p.reports[max(0, len(p.reports)-maxReports):]
	}
	return st
}

// unsettled is what the service has to be told.
func (p *pointmaker) unsettled() []*agentpb.ConsistentPoint {
	p.mu.Lock()
	defer p.mu.Unlock()
	return slices.Clone(p.reports)
}

// told takes the service's answer.
func (p *pointmaker) told(m *agentpb.HandshakeResponse) {
	p.mu.Lock()
	p.reports = slices.DeleteFunc(p.reports, func(r *agentpb.ConsistentPoint) bool { return slices.Contains(m.PointsSettled, r.Id) })
	p.wanted = m.PointWanted
	p.mu.Unlock()
	if m.PointWanted != "" {
		select {
		case p.wake <- struct{}{}:
		default: // it is awake
		}
	}
}

// forget drops points of a journal that is going.
func (p *pointmaker) forget() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.reports = nil
}

func (p *pointmaker) newest() *AppPoint {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.last
}
