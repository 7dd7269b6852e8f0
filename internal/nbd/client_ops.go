package nbd

import (
	"context"

	"github.com/understudy-dr/understudy/internal/fault"
)

// ReadAt fills p from off.
func (c *Client) ReadAt(ctx context.Context, p []byte, off int64) error {
	if err := c.within(off, int64(len(p))); err != nil {
		return err
	}
	if lo, hi := c.align(off, int64(len(p))); lo != off || hi != off+int64(len(p)) {
		wide := make([]byte, hi-lo)
		if err := c.read(ctx, wide, lo); err != nil {
			return err
		}
		copy(p, wide[off-lo:])
		return nil
	}
	return c.read(ctx, p, off)
}

func (c *Client) read(ctx context.Context, p []byte, off int64) error {
	for len(p) > 0 {
		n := min(len(p), int(c.info.maxPayload))
		if _, err := c.do(ctx, request{cmd: cmdRead, off: uint64(off), length: uint32(n)}, p[:n], nil); err != nil {
			return err
		}
		p, off = p[n:], off+int64(n)
	}
	return nil
}

// maxEffect is the longest range a command without data is sent for: aligned to every block size.
const maxEffect = 1<<32 - 1<<16

// Extents says where the export reads as zero. A server that cannot tell is taken to hold data everywhere.
func (c *Client) Extents(ctx context.Context, off, length int64) ([]Extent, error) {
	if !c.HasContext(contextAllocation) {
		if err := c.within(off, length); err != nil {
			return nil, err
		}
		return []Extent{{Length: length}}, nil
	}
	statuses, err := c.Status(ctx, contextAllocation, off, length)
	if err != nil {
		return nil, err
	}
	extents := make([]Extent, len(statuses))
	for i, s := range statuses {
		extents[i] = Extent{Length: s.Length, Hole: s.Flags&stateZero != 0}
	}
	return extents, nil
}

// Status describes the export from off on, in the terms of a metadata context. It stops at or before
// off+length, where the server stopped, but not before the first extent.
func (c *Client) Status(ctx context.Context, name string, off, length int64) ([]Status, error) {
	if err := c.within(off, length); err != nil || length == 0 {
		return nil, err
	}
	id, ok := c.contextID(name)
	if !ok {
		return nil, fault.New(fault.Unsupported, opRequest, "the server did not grant %q", name)
	}
	lo, hi := c.align(off, length)
	hi = min(hi, lo+maxEffect)
	call, err := c.do(ctx, request{cmd: cmdBlockStatus, off: uint64(lo), length: uint32(hi - lo)}, nil, nil)
	if err != nil {
		return nil, err
	}
	statuses := clipStatuses(call.statuses[id], lo, off, min(hi, off+length))
	if len(statuses) == 0 {
		return nil, violation(opRequest, "status of less than a block")
	}
	return statuses, nil
}

// clipStatuses keeps what lies in [off, end) of statuses that start at lo <= off.
func clipStatuses(statuses []Status, lo, off, end int64) []Status {
	var out []Status
	for _, s := range statuses {
		a, b := max(lo, off), min(lo+s.Length, end)
		if a < b {
			out = append(out, Status{Length: b - a, Flags: s.Flags})
		}
		lo += s.Length
	}
	return out
}

func (c *Client) contextID(name string) (uint32, bool) {
	for id, n := range c.info.contexts {
		if n == name {
			return id, true
		}
	}
	return 0, false
}

// WriteAt writes p at off. It is durable after Flush.
func (c *Client) WriteAt(ctx context.Context, p []byte, off int64) error {
	if err := c.writable(off, int64(len(p))); err != nil {
		return err
	}
	for len(p) > 0 {
		n := min(len(p), int(c.info.maxPayload))
		if _, err := c.do(ctx, request{cmd: cmdWrite, off: uint64(off), length: uint32(n)}, nil, p[:n]); err != nil {
			return err
		}
		p, off = p[n:], off+int64(n)
	}
	return nil
}

// Zero makes a range read as zero, by writing zeros if the server knows no better.
func (c *Client) Zero(ctx context.Context, off, length int64, mayTrim bool) error {
	flags := uint16(cmdFlagNoHole)
	if mayTrim {
		flags = 0
	}
	if c.info.flags&flagSendZeroes != 0 {
		return c.effect(ctx, cmdWriteZeroes, flags, off, length)
	}
	if err := c.writable(off, length); err != nil {
		return err
	}
	zeros := make([]byte, min(length, pieceSize))
	for length > 0 {
		n := min(length, pieceSize)
		if err := c.WriteAt(ctx, zeros[:n], off); err != nil {
			return err
		}
		off, length = off+n, length-n
	}
	return nil
}

// Trim tells the server that a range is not needed. A server that does not care is not told.
func (c *Client) Trim(ctx context.Context, off, length int64) error {
	if c.info.flags&flagSendTrim == 0 {
		return c.writable(off, length)
	}
	return c.effect(ctx, cmdTrim, 0, off, length)
}

func (c *Client) effect(ctx context.Context, cmd, flags uint16, off, length int64) error {
	if err := c.writable(off, length); err != nil {
		return err
	}
	for length > 0 {
		n := min(length, maxEffect)
		if _, err := c.do(ctx, request{flags: flags, cmd: cmd, off: uint64(off), length: uint32(n)}, nil, nil); err != nil {
			return err
		}
		off, length = off+n, length-n
	}
	return nil
}

// Flush makes every change that returned before durable.
func (c *Client) Flush(ctx context.Context) error {
	if c.info.flags&flagSendFlush == 0 {
		if c.ReadOnly() {
			return nil
		}
		return fault.New(fault.Unsupported, opRequest, "the server cannot make writes durable")
	}
	_, err := c.do(ctx, request{cmd: cmdFlush}, nil, nil)
	return err
}

// within refuses ranges outside the export.
func (c *Client) within(off, length int64) error {
	if off < 0 || length < 0 || off > c.Size() || length > c.Size()-off {
		return fault.New(fault.Invalid, opRequest, "range %d+%d is outside an export of %d bytes", off, length, c.Size())
	}
	return nil
}

// writable refuses changes the server would refuse, and those that do not fit its blocks.
func (c *Client) writable(off, length int64) error {
	if c.ReadOnly() {
		return fault.New(fault.Denied, opRequest, "the export is read-only")
	}
	if err := c.within(off, length); err != nil {
		return err
	}
	if lo, hi := c.align(off, length); lo != off || hi != off+length {
		return fault.New(fault.Invalid, opRequest, "range %d+%d does not fit the server's blocks of %d bytes",
			off, length, c.info.minBlock)
	}
	return nil
}

// align widens a range inside the export to the server's smallest block.
func (c *Client) align(off, length int64) (lo, hi int64) {
	mask := int64(c.info.minBlock) - 1
	return off &^ mask, min((off+length+mask)&^mask, c.Size())
}
