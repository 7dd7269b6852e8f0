package nbd

import (
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net"

	"github.com/understudy-dr/understudy/internal/fault"
)

// haggle is the server's side of the handshake. It reads the connection without a buffer, so that
// plaintext sent behind STARTTLS can only reach the TLS handshake, where it fails.
type haggle struct {
	srv *Server
	nc  net.Conn

	noZeroes   bool
	secure     bool
	structured bool
	metaFor    *string // the export that base:allocation was selected for

	openName string
	open     *Export // the export asked about last, kept because clients ask about one several times
}

// refusal is an option answered with an error; the haggling goes on.
type refusal struct {
	reply uint32
	text  string
}

func (r refusal) Error() string { return r.text }

var errInvalidOption = refusal{repErrInvalid, "malformed option"}

const opHandshake = "nbd: handshake"

// run returns true when the client has chosen h.open, false when it left.
func (h *haggle) run(ctx context.Context) (bool, error) {
	if err := h.greet(); err != nil {
		return false, err
	}
	for {
		var hdr [optionSize]byte
		if _, err := io.ReadFull(h.nc, hdr[:]); err != nil {
			return false, orderly(opHandshake, err)
		}
		if m := be.Uint64(hdr[:]); m != magicOption {
			return false, violation(opHandshake, "option magic %#x", m)
		}
		opt, n := be.Uint32(hdr[8:]), be.Uint32(hdr[12:])
		if n > maxOption {
			_ = h.reply(opt, repErrTooBig, nil) // a courtesy: the connection ends either way
			return false, violation(opHandshake, "option %d of %d bytes", opt, n)
		}
		data := make([]byte, n)
		if _, err := io.ReadFull(h.nc, data); err != nil {
			return false, disconnected(opHandshake, err)
		}
		done, chosen, err := h.option(ctx, opt, data)
		if r, ok := errors.AsType[refusal](err); ok {
			if err := h.reply(opt, r.reply, []byte(clip(r.text, maxString))); err != nil {
				return false, err
			}
			continue
		}
		if done || err != nil {
			return chosen && err == nil, err
		}
	}
}

func (h *haggle) greet() error {
	var hello [18]byte
	be.PutUint64(hello[0:], magicServer)
	be.PutUint64(hello[8:], magicOption)
	be.PutUint16(hello[16:], flagFixedNewstyle|flagNoZeroes)
	if _, err := h.nc.Write(hello[:]); err != nil {
		return disconnected(opHandshake, err)
	}
	var b [4]byte
	if _, err := io.ReadFull(h.nc, b[:]); err != nil {
		return orderly(opHandshake, err)
	}
	flags := be.Uint32(b[:])
	if flags&^(flagFixedNewstyle|flagNoZeroes) != 0 {
		return violation(opHandshake, "client flags %#x", flags)
	}
	h.noZeroes = flags&flagNoZeroes != 0
	return nil
}

// option answers one option. done ends the haggling; chosen enters transmission.
func (h *haggle) option(ctx context.Context, opt uint32, data []byte) (done, chosen bool, err error) {
	if h.srv.TLS != nil && !h.secure {
		switch opt {
		case optStartTLS, optAbort:
		case optExportName:
			return true, false, fault.New(fault.Denied, opHandshake, "client chose an export without TLS")
		default:
			return false, false, refusal{repErrTLSReqd, "start TLS first"}
		}
	}
	switch opt {
	case optExportName:
		return true, true, h.exportName(ctx, data)
	case optAbort:
		_ = h.reply(opt, repAck, nil) // the client may be gone already
		return true, false, nil
	case optList:
		return false, false, h.list(ctx, data)
	case optStartTLS:
		return false, false, h.startTLS(ctx, data)
	case optInfo:
		return false, false, h.info(ctx, opt, data)
	case optGo:
		err := h.info(ctx, opt, data)
		return err == nil, err == nil, err
	case optStructuredReply:
		return false, false, h.structuredReply(data)
	case optListMeta, optSetMeta:
		return false, false, h.meta(ctx, opt, data)
	default:
		return false, false, refusal{repErrUnsup, "unknown option"}
	}
}

func (h *haggle) reply(opt, typ uint32, data []byte) error {
	b := make([]byte, optReplySize, optReplySize+len(data))
	be.PutUint64(b[0:], magicOptReply)
	be.PutUint32(b[8:], opt)
	be.PutUint32(b[12:], typ)
	be.PutUint32(b[16:], uint32(len(data)))
	if _, err := h.nc.Write(append(b, data...)); err != nil {
		return disconnected(opHandshake, err)
	}
	return nil
}

func (h *haggle) startTLS(ctx context.Context, data []byte) error {
	if h.srv.TLS == nil {
		return refusal{repErrUnsup, "TLS is not offered here"}
	}
	if h.secure || len(data) != 0 {
		return errInvalidOption
	}
	if err := h.reply(optStartTLS, repAck, nil); err != nil {
		return err
	}
	tc := tls.Server(h.nc, h.srv.TLS)
	if err := tc.HandshakeContext(ctx); err != nil {
		return fault.New(fault.Denied, opHandshake, "TLS: %w", err)
	}
	// There is nothing to forget: in the clear, every option but this one was refused.
	h.nc, h.secure = tc, true
	return nil
}

func (h *haggle) structuredReply(data []byte) error {
	if len(data) != 0 {
		return errInvalidOption
	}
	h.structured = true
	return h.reply(optStructuredReply, repAck, nil)
}

// lookup opens the named export, or keeps it open if it was the last one asked for.
func (h *haggle) lookup(ctx context.Context, name string) (*Export, error) {
	if h.open != nil && h.openName == name {
		return h.open, nil
	}
	h.release()
	e, err := h.srv.Exports.Open(ctx, name)
	if err != nil {
		return nil, refusalOf(err)
	}
	h.open, h.openName = e, name
	if n := e.Backend.Size(); n < 0 {
		return nil, fault.New(fault.Bug, "nbd: open", "export %q has size %d", name, n)
	}
	return e, nil
}

func (h *haggle) release() {
	if h.open != nil && h.open.Release != nil {
		h.open.Release()
	}
	h.open = nil
}

// refusalOf tells the client what it can act on. Everything else ends the connection, and is logged there.
func refusalOf(err error) error {
	switch fault.KindOf(err) {
	case fault.NotFound:
		return refusal{repErrUnknown, "no such export"}
	case fault.Denied:
		return refusal{repErrPolicy, "not allowed"}
	case fault.Invalid:
		return refusal{repErrInvalid, err.Error()}
	case fault.Unsupported:
		return refusal{repErrPlatform, err.Error()}
	default:
		return fault.Wrap("nbd: open", err)
	}
}
