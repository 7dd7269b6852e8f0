package nbd

import (
	"context"
	"crypto/tls"
	"errors"
	"io"
	"math"
	"math/bits"
	"net"

	"github.com/understudy-dr/understudy/internal/fault"
)

// clientHaggle is the client's side of the handshake.
type clientHaggle struct {
	nc       net.Conn
	noZeroes bool
	info     exportInfo
}

// refusedOption is a server's error reply to an option.
type refusedOption struct {
	reply uint32
	text  string
}

func (r refusedOption) Error() string {
	name, ok := refusalNames[r.reply]
	if !ok {
		name = "refused"
	}
	if r.text != "" {
		return name + ": " + r.text
	}
	return name
}

var refusalNames = map[uint32]string{
	repErrUnsup:    "not supported by the server",
	repErrPolicy:   "not allowed by the server",
	repErrInvalid:  "invalid to the server",
	repErrPlatform: "not possible at the server",
	repErrTLSReqd:  "the server requires TLS",
	repErrUnknown:  "no such export",
	repErrShutdown: "the server is shutting down",
	repErrTooBig:   "too big for the server",
}

var refusalKinds = map[uint32]fault.Kind{
	repErrUnsup:    fault.Unsupported,
	repErrPolicy:   fault.Denied,
	repErrPlatform: fault.Unsupported,
	repErrTLSReqd:  fault.Denied,
	repErrUnknown:  fault.NotFound,
	repErrShutdown: fault.Transient,
}

// classified gives a refusal its kind and leaves other errors alone.
func classified(err error) error {
	r, ok := errors.AsType[refusedOption](err)
	if !ok {
		return err
	}
	kind, ok := refusalKinds[r.reply]
	if !ok {
		kind = fault.Invalid
	}
	return fault.New(kind, opConnect, "%w", err)
}

// start greets the server and secures the connection if that is wanted.
func (h *clientHaggle) start(ctx context.Context, tlsConfig *tls.Config) error {
	var hello [18]byte
	if _, err := io.ReadFull(h.nc, hello[:]); err != nil {
		return disconnected(opConnect, err)
	}
	if be.Uint64(hello[:]) != magicServer {
		return fault.New(fault.Invalid, opConnect, "the peer is no NBD server")
	}
	flags := be.Uint16(hello[16:])
	if be.Uint64(hello[8:]) != magicOption || flags&flagFixedNewstyle == 0 {
		return fault.New(fault.Unsupported, opConnect, "the server does not speak fixed newstyle NBD")
	}
	h.noZeroes = flags&flagNoZeroes != 0
	if _, err := h.nc.Write(be.AppendUint32(nil, uint32(flags&(flagFixedNewstyle|flagNoZeroes)))); err != nil {
		return disconnected(opConnect, err)
	}
	if tlsConfig == nil {
		return nil
	}
	if err := h.ask(optStartTLS, nil, nil); err != nil {
		return classified(err)
	}
	tc := tls.Client(h.nc, tlsConfig)
	if err := tc.HandshakeContext(ctx); err != nil {
		return fault.New(fault.Denied, opConnect, "TLS: %w", err)
	}
	h.nc = tc
	return nil
}

// choose goes all the way to transmission.
func (h *clientHaggle) choose(ctx context.Context, cfg ClientConfig) error {
	if len(cfg.Export) > maxString {
		return fault.New(fault.Invalid, opConnect, "an export name of %d bytes", len(cfg.Export))
	}
	if err := h.start(ctx, cfg.TLS); err != nil {
		return err
	}
	h.info = exportInfo{minBlock: 1, maxPayload: maxPayload}
	if err := h.negotiate(cfg); err != nil {
		return classified(err)
	}
	// The margin keeps rounding up to a block from overflowing.
	if h.info.size > math.MaxInt64-1<<16 {
		return fault.New(fault.Unsupported, opConnect, "an export of %d bytes", h.info.size)
	}
	return nil
}

func (h *clientHaggle) negotiate(cfg ClientConfig) error {
	switch err := h.ask(optStructuredReply, nil, nil); {
	case err == nil:
		h.info.structured = true
		if err := h.setContexts(cfg); err != nil {
			return err
		}
	case !refusedWith(err, repErrUnsup):
		return err
	}
	c := choice{name: cfg.Export, infos: []uint16{infoBlockSize}}
	described := false
	err := h.ask(optGo, c.encode(), func(typ uint32, data []byte) error {
		if typ != repInfo || len(data) < 2 {
			return violation(opConnect, "reply %d to GO", typ)
		}
		described = described || be.Uint16(data) == infoExport
		return h.learn(be.Uint16(data), data[2:])
	})
	switch {
	case refusedWith(err, repErrUnsup):
		return h.exportName(cfg.Export)
	case err == nil && !described:
		return violation(opConnect, "the server accepted but did not describe the export")
	}
	return err
}

// setContexts asks for metadata contexts. A server that knows none of them is good enough.
func (h *clientHaggle) setContexts(cfg ClientConfig) error {
	q := metaQuery{name: cfg.Export, queries: append([]string{contextAllocation}, cfg.Contexts...)}
	contexts := make(map[uint32]string)
	err := h.ask(optSetMeta, q.encode(), func(typ uint32, data []byte) error {
		if typ != repMetaContext || len(data) < 4 || !validString(data[4:]) || len(contexts) == len(q.queries) {
			return violation(opConnect, "reply %d to SET_META_CONTEXT", typ)
		}
		contexts[be.Uint32(data)] = string(data[4:])
		return nil
	})
	if err == nil {
		h.info.contexts = contexts
	} else if refusedWith(err, repErrUnsup) {
		err = nil
	}
	return err
}

func (h *clientHaggle) learn(info uint16, data []byte) error {
	switch info {
	case infoExport:
		if len(data) != 10 {
			return violation(opConnect, "export information of %d bytes", len(data))
		}
		h.info.size, h.info.flags = be.Uint64(data), be.Uint16(data[8:])
	case infoBlockSize:
		if len(data) != 12 {
			return violation(opConnect, "block size information of %d bytes", len(data))
		}
		least, most := be.Uint32(data), be.Uint32(data[8:])
		if bits.OnesCount32(least) != 1 || least > 1<<16 || most < least {
			return violation(opConnect, "block size %d, payload %d", least, most)
		}
		// A multiple of the block, so that long requests are cut where the server allows.
		h.info.minBlock, h.info.maxPayload = least, min(most, maxPayload)&^(least-1)
	}
	return nil
}

// exportName is the way into servers that do not know GO. They hang up if they do not like the name.
func (h *clientHaggle) exportName(name string) error {
	if err := h.send(optExportName, []byte(name)); err != nil {
		return err
	}
	n := 10
	if !h.noZeroes {
		n += exportNameZeros
	}
	b := make([]byte, n)
	if _, err := io.ReadFull(h.nc, b); err != nil {
		if errors.Is(err, io.EOF) {
			return fault.New(fault.NotFound, opConnect, "the server hung up on export %q", name)
		}
		return disconnected(opConnect, err)
	}
	return h.learn(infoExport, b[:10])
}

func (h *clientHaggle) list() ([]Listing, error) {
	var list []Listing
	err := h.ask(optList, nil, func(typ uint32, data []byte) error {
		f := fields{data: data}
		name := f.text(f.u32())
		if typ != repServer || f.bad {
			return violation(opConnect, "reply %d to LIST", typ)
		}
		list = append(list, Listing{Name: name, Description: clip(string(f.data), maxString)})
		return nil
	})
	if err != nil {
		return nil, classified(err)
	}
	_ = h.send(optAbort, nil) // a courtesy
	return list, nil
}

func refusedWith(err error, reply uint32) bool {
	r, ok := errors.AsType[refusedOption](err)
	return ok && r.reply == reply
}

func (h *clientHaggle) send(opt uint32, data []byte) error {
	b := be.AppendUint64(nil, magicOption)
	b = be.AppendUint32(b, opt)
	if _, err := h.nc.Write(append(be.AppendUint32(b, uint32(len(data))), data...)); err != nil {
		return disconnected(opConnect, err)
	}
	return nil
}

// maxReplies bounds what a server can answer to one option.
const maxReplies = 1 << 14

// ask sends an option and reads its replies up to the last one: nil for ACK, refusedOption for an error.
func (h *clientHaggle) ask(opt uint32, data []byte, each func(typ uint32, data []byte) error) error {
	if err := h.send(opt, data); err != nil {
		return err
	}
	for range maxReplies {
		typ, data, err := h.reply(opt)
		switch {
		case err != nil:
			return err
		case typ == repAck:
			return nil
		case typ&repErr != 0:
			return refusedOption{typ, clip(string(data), 512)}
		case each == nil:
			return violation(opConnect, "reply %d to option %d", typ, opt)
		}
		if err := each(typ, data); err != nil {
			return err
		}
	}
	return violation(opConnect, "endless replies to option %d", opt)
}

func (h *clientHaggle) reply(opt uint32) (uint32, []byte, error) {
	var hdr [optReplySize]byte
	if _, err := io.ReadFull(h.nc, hdr[:]); err != nil {
		return 0, nil, disconnected(opConnect, err)
	}
	if be.Uint64(hdr[:]) != magicOptReply || be.Uint32(hdr[8:]) != opt {
		return 0, nil, violation(opConnect, "reply to another option")
	}
	n := be.Uint32(hdr[16:])
	if n > maxOption {
		return 0, nil, violation(opConnect, "option reply of %d bytes", n)
	}
	data := make([]byte, n)
	if _, err := io.ReadFull(h.nc, data); err != nil {
		return 0, nil, disconnected(opConnect, err)
	}
	return be.Uint32(hdr[12:]), data, nil
}
