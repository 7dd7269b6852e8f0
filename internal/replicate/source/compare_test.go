package source

import (
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/understudy-dr/understudy/internal/wire"
)

// comparing answers one connection's questions, as late as it likes and in any order, about the oldest state that the
// agent may be told of: the one that was durable when it asked for a base.
type comparing struct {
	s     *server
	conn  *wire.Conn
	j     *journal
	done  <-chan struct{}
	sizes []wire.Disk
	group sync.WaitGroup

	epoch uint64
	at    uint64 // position of the latest; 0 of a base
	d     *wire.Digester
	disks [][]byte
	open  int // questions without an answer
}

// asked takes a question; s.mu is held.
func (c *comparing) asked(f *wire.Frame) error {
	if c.s.version < wire.V3 {
		return fmt.Errorf("a question in protocol %d", c.s.version)
	}
	w := c.j.welcome()
	if f.Type == wire.TypeBase {
		return c.base(f, &w)
	}
	var a wire.Ask
	if err := f.Unmarshal(&a); err != nil {
		return err
	}
	if err := a.Check(); err != nil {
		return err
	}
	if c.d == nil || f.Epoch != c.epoch || w.BaselineDone && c.at == 0 && !c.s.ignorant {
		return errors.New("a question without a base, or in vain")
	}
	if c.open++; c.open > wire.MaxAsks {
		return errors.New("too many questions")
	}
	m, err := wire.Message(wire.TypeDigests, f.Epoch, 0, 0, 0, wire.Digests{ID: a.ID, Digests: c.digests(&a), Position: c.at})
	if err != nil {
		return err
	}
	c.s.asks += len(f.Bytes) + len(m)
	wait := time.Duration(c.s.rng.IntN(20)) * time.Millisecond
	c.group.Go(func() {
		t := time.NewTimer(wait)
		defer t.Stop()
		select {
		case <-c.done:
			return
		case <-t.C:
		}
		c.s.mu.Lock()
		c.open--
		c.s.mu.Unlock()
		if c.conn.Send(m) != nil {
			c.conn.Close()
		}
	})
	return nil
}

func (c *comparing) base(f *wire.Frame, w *wire.Welcome) (err error) {
	var b wire.Base
	if err := f.Unmarshal(&b); err != nil {
		return err
	}
	if c.d, err = wire.NewDigester(b.Key); err != nil {
		return err
	}
	if f.Epoch != w.Epoch || c.j.opened(f.Epoch) >= c.j.durable {
		return fmt.Errorf("a base of epoch %d, which is not durable", f.Epoch)
	}
	like := make([][]byte, len(c.sizes))
	for _, d := range c.sizes {
		like[d.Index] = make([]byte, d.Bytes)
	}
	position := w.First
	if c.at = 0; b.Latest && !c.s.ignorant {
		all := c.j.intervals()
		if len(all) == 0 || all[len(all)-1].epoch != f.Epoch {
			return fmt.Errorf("the latest of epoch %d, of which nothing is recoverable", f.Epoch)
		}
		if !c.j.toldMore() {
			return fmt.Errorf("the latest of epoch %d before a mark that follows its baseline", f.Epoch)
		}
		position = all[len(all)-1].last()
		c.at = position
	}
	c.epoch, c.disks = f.Epoch, c.j.disks(f.Epoch, position, like)
	return nil
}

// digests of what is damaged, or cannot be read for once, are unknown.
func (c *comparing) digests(a *wire.Ask) (out []byte) {
	for _, g := range a.Ranges {
		for end := g.Sector + g.Sectors; g.Sector < end; g.Sector += a.Piece {
			g.Sectors = min(a.Piece, end-g.Sector)
			if c.j.damaged(g) || c.s.chance(50) {
				out = wire.AppendUnknown(out)
				continue
			}
			out = c.d.Append(out, g.Disk, g.Sector, a.Piece, c.disks[g.Disk][g.Sector*512:(g.Sector+g.Sectors)*512])
		}
	}
	return out
}

// opened is the frame that opened an epoch.
func (j *journal) opened(epoch uint64) int {
	for i := range j.frames {
		if f := &j.frames[i]; f.Type == wire.TypeEpochOpen && f.Epoch == epoch {
			return i
		}
	}
	return len(j.frames)
}

// toldMore tells whether something that moves the watermark came after the newest BaselineDone.
func (j *journal) toldMore() bool {
	for i := j.durable - 1; i >= 0; i-- {
		switch f := &j.frames[i]; f.Type {
		case wire.TypeBaselineDone:
			return false
		case wire.TypeMark, wire.TypeData:
			return true
		}
	}
	return false
}

// damaged tells whether a part of g waits for a repair: no baseline since the answer is complete.
func (j *journal) damaged(g wire.Range) bool {
	for _, r := range j.repairs {
		at, ok := j.answered(r.ID)
		for i := at; ok && i < j.durable; i++ {
			ok = j.frames[i].Type != wire.TypeBaselineDone
		}
		if _, answered := j.answered(r.ID); answered && !ok {
			continue
		}
		for _, o := range r.Ranges {
			if o.Disk == g.Disk && o.Sector < g.Sector+g.Sectors && g.Sector < o.Sector+min(o.Sectors, 1<<40) {
				return true
			}
		}
	}
	return false
}
