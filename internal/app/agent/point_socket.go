package agent

import (
	"context"
	"encoding/json"
	"errors"
	"net"
	"os"
	"path/filepath"
	"sync"

	"github.com/understudy-dr/understudy/internal/consistency"
	"github.com/understudy-dr/understudy/internal/fault"
)

// pointAnswer is what a connection to the agent's socket is told: asking is connecting.
type pointAnswer struct {
	Point consistency.Point `json:"point"`
	Kind  string            `json:"kind,omitempty"` // of the error
	Error string            `json:"error,omitempty"`
}

// serve takes whoever asks on this machine until ctx ends. Only root reaches the socket.
func (p *pointmaker) serve(ctx context.Context) {
	if err := p.listen(ctx); err != nil && ctx.Err() == nil {
		p.cfg.Log.Warn("'understudy agent point' will not work", "error", err)
	}
}

func (p *pointmaker) listen(ctx context.Context) error {
	const op = "agent: socket"
	path := runFile(p.cfg.StateDir, "agent")
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return fault.New(fault.Unknown, op, "%w", err)
	}
	if err := os.Remove(path); err != nil && !errors.Is(err, os.ErrNotExist) { // an agent that was killed left it: the state directory's lock is ours
		return fault.New(fault.Unknown, op, "%w", err)
	}
	l, err := net.Listen("unix", path)
	if err != nil {
		return fault.New(fault.Unknown, op, "%w", err)
	}
	var group sync.WaitGroup
	defer group.Wait()
	defer context.AfterFunc(ctx, func() { l.Close() })()
	defer l.Close()
	if err := os.Chmod(path, 0o600); err != nil {
		return fault.New(fault.Unknown, op, "%w", err)
	}
	for {
		conn, err := l.Accept()
		if err != nil {
			return fault.New(fault.Unknown, op, "%w", err)
		}
		group.Go(func() {
			defer conn.Close()
			_ = json.NewEncoder(conn).Encode(p.answer(ctx)) // who asked may have gone
		})
	}
}

func (p *pointmaker) answer(ctx context.Context) pointAnswer {
	answer := make(chan AppPoint, 1)
	select {
	case p.asks <- ask{answer}:
	case <-ctx.Done():
		return pointAnswer{Kind: fault.Transient.String(), Error: "the agent stops"}
	}
	select {
	case st := <-answer:
		if st.Error != "" {
			return pointAnswer{Kind: st.kind.String(), Error: st.Error}
		}
		return pointAnswer{Point: st.Point}
	case <-ctx.Done():
		return pointAnswer{Kind: fault.Transient.String(), Error: "the agent stops"}
	}
}

// TakePoint has the agent with a state directory make an application-consistent point.
func TakePoint(ctx context.Context, stateDir string) (consistency.Point, error) {
	const op = "agent: point"
	var d net.Dialer
	conn, err := d.DialContext(ctx, "unix", runFile(stateDir, "agent"))
	if err != nil {
		return consistency.Point{}, fault.New(fault.NotFound, op, "no agent runs with %s: %w", stateDir, err).WithHint("give --state-dir, or start the agent")
	}
	defer conn.Close()
	defer context.AfterFunc(ctx, func() { conn.Close() })()
	var a pointAnswer
	if err := json.NewDecoder(conn).Decode(&a); err != nil {
		return consistency.Point{}, fault.New(fault.Transient, op, "the agent ended: %w", err)
	}
	if a.Error != "" {
		return consistency.Point{}, fault.New(fault.ParseKind(a.Kind), op, "%s", a.Error)
	}
	return a.Point, nil
}
