package agent

import (
	"slices"
	"sync/atomic"

	"github.com/understudy-dr/understudy/internal/capture"
	"github.com/understudy-dr/understudy/internal/fault"
	"github.com/understudy-dr/understudy/internal/replicate/cut"
	"github.com/understudy-dr/understudy/internal/replicate/source"
)

// choice is the capture mode that is used, and why. Any goroutine may ask.
type choice struct {
	wish capture.Mode
	now  atomic.Pointer[capture.Choice]
}

// probe is a door for tests, which deny features.
var probe = capture.Probe

// chooseMode tries what this kernel can do.
func chooseMode(c Config) (*choice, error) {
	wish, err := capture.ParseMode(string(c.CaptureMode))
	if err != nil {
		return nil, err
	}
	best, err := capture.Choose(wish, probe())
	if err != nil {
		return nil, err
	}
	ch := &choice{wish: wish}
	ch.now.Store(&best)
	return ch, nil
}

func (c *choice) get() capture.Choice { return *c.now.Load() }

// String is what the service is told.
func (c *choice) String() string {
	now := c.get()
	if now.Mode == capture.ModePayload {
		return string(now.Mode)
	}
	return string(now.Mode) + ": " + now.Why
}

// start opens a capture. What only shows with the disks at hand may still make a mode impossible; then the next is taken,
// unless one was wished for.
func (c *choice) start(o capture.Options) (capture.Engine, error) {
	for {
		now := c.get()
		o.Mode = now.Mode
		e, err := capture.Start(o)
		if err == nil {
			return e, nil
		}
		next := slices.Index(capture.Modes, now.Mode) + 1
		if c.wish != capture.ModeAuto || !fault.Is(err, fault.Unsupported) || next == len(capture.Modes) {
			return nil, err
		}
		fallen := capture.Choice{Mode: capture.Modes[next], Why: "no " + string(now.Mode) + ": " + err.Error()}
		c.now.Store(&fallen)
		o.Log.Warn("capture mode", "mode", fallen.Mode, "why", fallen.Why)
	}
}

// sourceCapture is a capture with the bitmap type that source declares.
type sourceCapture struct{ capture.Engine }

func (c sourceCapture) Debt(disk uint16) source.Bitmap { return c.Engine.Debt(disk) }

// pace completes a source's configuration for the mode of its capture. The Cutter is nil with payloads.
func (r *replicator) pace(c *source.Config, e capture.Engine) (*cut.Cutter, error) {
	c.Capture, c.Coarse = sourceCapture{e}, e.Coarse
	if e.Mode() == capture.ModePayload {
		if !r.cfg.AllBlocks {
			c.Unused = newUnusedBlocks(c.Disks, r.log) // the other modes miss writes, or learn of them late
		}
		return nil, nil
	}
	if e.Mode() == capture.ModeScan {
		c.Verify.Every = 0 // every pass compares
	}
	hold, err := r.holder()
	if err != nil {
		return nil, err
	}
	cutter := cut.New(cut.Config{Every: r.cfg.PointInterval, HoldAtMost: r.cfg.HoldAtMost, Dirty: e.DirtyBytes, Hold: hold, Log: r.log})
	c.Pacer, c.Tracked = cutter, e.Mode() == capture.ModeBitmap
	return cutter, nil
}
