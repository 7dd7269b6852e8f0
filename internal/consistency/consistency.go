// Package consistency makes application-consistent points on a source server: it runs the administrator's scripts, freezes
// file systems for as long as reading one number takes, and sees to it that nothing stays frozen whoever dies. The agent's
// assembly imports it and hands it the cut to take; the command line gives it the process that is its guard.
//
// The rules are those of docs/design/2026-11-23-consistency.md.
package consistency

import (
	"context"
	"errors"
	"log/slog"
	"os"
	"time"

	"github.com/understudy-dr/understudy/internal/fault"
)

// The bounds of what may be configured.
const (
	DefaultDeadline      = 10 * time.Second // the longest that anything is frozen
	MaxDeadline          = 60 * time.Second
	DefaultScriptTimeout = 30 * time.Second
	MaxScriptTimeout     = 10 * time.Minute
	DefaultDir           = "/etc/understudy/hooks.d"

	syncAtMost     = 2 * time.Minute
	positionAtMost = 5 * time.Minute // from the cut until the source has streamed that far
	grace          = time.Second     // that the guard gets beyond the deadline to say so itself
)

// Cut is a place in the stream of captured writes.
type Cut interface {
	// Position waits until everything below the cut is on its way, and tells the last write among it.
	Position(ctx context.Context) (epoch, position uint64, err error)
}

// Config says what to do for a point. Fields from Deadline on have defaults.
type Config struct {
	Dir    string          // of the scripts; may be missing
	Freeze Selection       // which file systems
	Disks  func() []string // the replicated disks, as major:minor
	Ready  func() error    // whether a point could be made at all
	Guard  []string        // the command that calls Guard in a process of its own
	Note   string          // file on a tmpfs that tells the next agent what may be left frozen
	Log    *slog.Logger    //
	Cut    func(context.Context) (Cut, error)

	Deadline      time.Duration // of a hold
	ScriptTimeout time.Duration // of a script that names none
}

// Maker makes points, one at a time.
type Maker struct {
	cfg  Config
	busy chan struct{}
}

// New checks a configuration.
func New(c Config) (*Maker, error) {
	const op = "consistency: configuration"
	if c.Disks == nil || c.Cut == nil || c.Ready == nil || len(c.Guard) == 0 || c.Note == "" {
		return nil, fault.New(fault.Bug, op, "disks, a cut, a guard and a note are needed")
	}
	if c.Deadline == 0 {
		c.Deadline = DefaultDeadline
	}
	if c.ScriptTimeout == 0 {
		c.ScriptTimeout = DefaultScriptTimeout
	}
	if c.Deadline < 100*time.Millisecond || c.Deadline > MaxDeadline {
		return nil, fault.New(fault.Invalid, op, "nothing is frozen for %s: it is 100ms to %s", c.Deadline, MaxDeadline)
	}
	if c.ScriptTimeout < time.Second || c.ScriptTimeout > MaxScriptTimeout {
		return nil, fault.New(fault.Invalid, op, "a script gets 1s to %s, not %s", MaxScriptTimeout, c.ScriptTimeout)
	}
	if c.Dir == "" {
		c.Dir = DefaultDir
	}
	if c.Log == nil {
		c.Log = slog.Default()
	}
	return &Maker{cfg: c, busy: make(chan struct{}, 1)}, nil
}

// Point is an application-consistent point as its source server knows it.
type Point struct {
	ID          string        `json:"id"`
	Epoch       uint64        `json:"epoch"`
	Position    uint64        `json:"position"`
	At          time.Time     `json:"time"` // of the cut
	Held        time.Duration `json:"heldNanoseconds"`
	FileSystems []string      `json:"fileSystems"` // that were frozen
	Scripts     []string      `json:"scripts"`     // that were run before
	Warnings    []string      `json:"warnings,omitempty"`
}

// Make makes a point, or says why there is none. Whatever happens, nothing is frozen when it returns. fault.Conflict: one is
// being made, or none can be made now.
func (m *Maker) Make(ctx context.Context, id string) (Point, error) {
	const op = "consistency: point"
	select {
	case m.busy <- struct{}{}:
		defer func() { <-m.busy }()
	default:
		return Point{}, fault.New(fault.Conflict, op, "another point is being made").WithHint("try again when it is done")
	}
	if err := m.cfg.Ready(); err != nil {
		return Point{}, fault.Wrap(op, err)
	}
	r := &run{Maker: m, point: Point{ID: id}}
	cut, err := r.consistent(ctx)
	if err != nil {
		return Point{}, fault.Wrap(op, err)
	}
	ctx, cancel := context.WithTimeout(ctx, positionAtMost)
	defer cancel()
	r.point.Epoch, r.point.Position, err = cut.Position(ctx)
	return r.point, fault.Wrap(op, err)
}

// run is one point in the making.
type run struct {
	*Maker
	point   Point
	targets []*Target
	scripts []script
}

// consistent does everything up to the last script.
func (r *run) consistent(ctx context.Context) (cut Cut, err error) {
	if err := r.plan(); err != nil {
		return nil, err
	}
	defer closeTargets(r.targets)
	n, err := writeNote(r.cfg.Note, note{ID: r.point.ID, Dir: r.cfg.Dir, Targets: r.targets})
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, n.remove()) }()
	// Once a script may have run, what undoes it runs too, even while the agent is being stopped.
	defer func() { r.after(context.WithoutCancel(ctx), outcome(err)) }()
	for _, s := range r.scripts {
		if err := s.run(ctx, r.environment(phasePre, "")); err != nil {
			return nil, err
		}
		r.point.Scripts = append(r.point.Scripts, s.name)
	}
	return r.freeze(ctx)
}

// plan finds out what to run and what to freeze, and touches neither.
func (r *run) plan() (err error) {
	if r.scripts, err = listScripts(r.cfg.Dir, phasePre, r.cfg.ScriptTimeout); err != nil {
		return err
	}
	if r.targets, err = r.cfg.Freeze.targets(r.cfg.Disks(), r.cfg.Log); err != nil {
		return err
	}
	if len(r.scripts) == 0 && len(r.targets) == 0 {
		return fault.New(fault.Invalid, "", "there is neither a script in %s/%s nor a file system to freeze", r.cfg.Dir, phasePre).
			WithHint("without either, a point is no more than any second of the window is: crash consistent")
	}
	if err := openTargets(r.targets); err != nil {
		return err
	}
	if err := noteOutside(r.cfg.Note, r.targets); err != nil {
		closeTargets(r.targets)
		return err
	}
	for _, t := range r.targets {
		r.point.FileSystems = append(r.point.FileSystems, t.Mount)
	}
	return nil
}

// freeze holds the targets while the cut is taken. Between frozen and thaw it touches no file, and so logs nothing.
func (r *run) freeze(ctx context.Context) (Cut, error) {
	if len(r.targets) == 0 {
		return r.cut(ctx)
	}
	h, err := r.startGuard(ctx)
	if err != nil {
		return nil, err
	}
	if err := h.freeze(); err != nil {
		return nil, errors.Join(err, h.end())
	}
	cut, err := r.cut(ctx)
	held, lost := h.thaw()
	r.point.Held = held
	if err := errors.Join(err, lost, h.end()); err != nil {
		return nil, err
	}
	return cut, nil
}

func (r *run) cut(ctx context.Context) (Cut, error) {
	ctx, cancel := context.WithTimeout(ctx, r.cfg.Deadline)
	defer cancel()
	r.point.At = time.Now().UTC()
	return r.cfg.Cut(ctx)
}

func outcome(err error) string {
	if err != nil {
		return resultFailed
	}
	return resultTaken
}

// after runs the scripts that undo. Their failures take nothing from the point.
func (r *run) after(ctx context.Context, result string) {
	warnings := runAfter(ctx, r.cfg, r.environment(phasePost, result))
	for _, err := range warnings {
		r.point.Warnings = append(r.point.Warnings, err.Error())
		r.cfg.Log.Warn("a script failed after an application-consistent point", "point", r.point.ID, "error", err)
	}
}

// Recover undoes what an agent left that died while it made a point: it thaws, then runs the scripts. It is called
// before the agent touches a disk, which might be frozen.
func Recover(ctx context.Context, noteFile string, log *slog.Logger) error {
	n, held, err := readNote(noteFile)
	if err != nil || held == nil {
		return err
	}
	defer held.Close()
	log.Warn("an agent died while it made an application-consistent point: thawing", "point", n.ID)
	for _, t := range n.Targets {
		thawed, err := t.thawLeft()
		switch {
		case err != nil:
			log.Error("a file system may still be frozen", "mount", t.Mount, "error", err)
		case thawed:
			log.Warn("thawed", "mount", t.Mount)
		}
	}
	if n.Dir != "" {
		env := environment(phasePost, n.ID, n.mounts(), resultAbandoned)
		for _, err := range runAfter(ctx, Config{Dir: n.Dir, ScriptTimeout: DefaultScriptTimeout}, env) {
			log.Warn("a script failed after an abandoned point", "error", err)
		}
	}
	if err := os.Remove(noteFile); err != nil {
		return fault.New(fault.Unknown, "consistency: note", "%w", err)
	}
	return nil
}
