package nbd

import (
	"context"
	"slices"

	"github.com/understudy-dr/understudy/internal/fault"
)

// allocationID is the id of base:allocation on the wire. Any value would do.
const allocationID = 1

// exportName is the old way to choose: it can only succeed or hang up.
func (h *haggle) exportName(ctx context.Context, data []byte) error {
	if !validString(data) {
		return violation(opHandshake, "malformed export name")
	}
	e, err := h.lookup(ctx, string(data))
	if err != nil {
		// Not wrapped: a refusal cannot be sent in answer to this option.
		return fault.New(fault.Invalid, opHandshake, "export %q: %v", clip(string(data), 64), err)
	}
	b := h.exportInfo(nil, e)
	if !h.noZeroes {
		b = append(b, make([]byte, exportNameZeros)...)
	}
	if _, err := h.nc.Write(b); err != nil {
		return disconnected(opHandshake, err)
	}
	return nil
}

// exportInfo appends the size and the transmission flags.
func (h *haggle) exportInfo(b []byte, e *Export) []byte {
	b = be.AppendUint64(b, uint64(e.Backend.Size()))
	return be.AppendUint16(b, e.flags(h.structured))
}

// writer is nil for a read-only export.
func (e *Export) writer() Writer {
	if e.ReadOnly {
		return nil
	}
	w, _ := e.Backend.(Writer)
	return w
}

func (e *Export) flags(structured bool) uint16 {
	// One Backend stands behind all connections, so a flush on one covers them all.
	f := uint16(flagHasFlags | flagCanMultiConn | flagSendFlush)
	if e.writer() == nil {
		f |= flagReadOnly
	} else {
		f |= flagSendFUA | flagSendTrim | flagSendZeroes
	}
	if structured {
		f |= flagSendDF
	}
	if _, ok := e.Backend.(Cacher); ok {
		f |= flagSendCache
	}
	return f
}

func (h *haggle) list(ctx context.Context, data []byte) error {
	if len(data) != 0 {
		return errInvalidOption
	}
	list, err := h.srv.Exports.List(ctx)
	if err != nil {
		return refusalOf(err)
	}
	for _, e := range list {
		b := appendString(nil, clip(e.Name, maxString))
		b = append(b, clip(e.Description, maxString)...)
		if err := h.reply(optList, repServer, b); err != nil {
			return err
		}
	}
	return h.reply(optList, repAck, nil)
}

// info answers INFO and GO.
func (h *haggle) info(ctx context.Context, opt uint32, data []byte) error {
	c, ok := parseChoice(data)
	if !ok {
		return errInvalidOption
	}
	e, err := h.lookup(ctx, c.name)
	if err != nil {
		return err
	}
	replies := [][]byte{h.exportInfo(be.AppendUint16(nil, infoExport), e)}
	if slices.Contains(c.infos, infoName) {
		replies = append(replies, append(be.AppendUint16(nil, infoName), clip(e.Name, maxString)...))
	}
	if slices.Contains(c.infos, infoDescription) && e.Description != "" {
		replies = append(replies, append(be.AppendUint16(nil, infoDescription), clip(e.Description, maxString)...))
	}
	if slices.Contains(c.infos, infoBlockSize) {
		b := be.AppendUint16(nil, infoBlockSize)
		b = be.AppendUint32(b, 1)
		b = be.AppendUint32(b, preferredSize)
		replies = append(replies, be.AppendUint32(b, maxPayload))
	}
	for _, b := range replies {
		if err := h.reply(opt, repInfo, b); err != nil {
			return err
		}
	}
	return h.reply(opt, repAck, nil)
}

// meta answers LIST_META_CONTEXT and SET_META_CONTEXT.
func (h *haggle) meta(ctx context.Context, opt uint32, data []byte) error {
	set := opt == optSetMeta
	if set {
		h.metaFor = nil // even a request that fails replaces the last one
	}
	q, ok := parseMetaQuery(data)
	if !ok || set && !h.structured {
		return errInvalidOption
	}
	if _, err := h.lookup(ctx, q.name); err != nil {
		return err
	}
	if q.wants(!set) {
		id := uint32(0)
		if set {
			id, h.metaFor = allocationID, &q.name
		}
		b := append(be.AppendUint32(nil, id), contextAllocation...)
		if err := h.reply(opt, repMetaContext, b); err != nil {
			return err
		}
	}
	return h.reply(opt, repAck, nil)
}

// allocation reports whether base:allocation is in force for the export that was chosen.
func (h *haggle) allocation() bool { return h.metaFor != nil && *h.metaFor == h.openName }
