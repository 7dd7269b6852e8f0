package nbd

import (
	"context"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/understudy-dr/understudy/internal/fault"
)

func twoExports() Exports {
	return Static(
		Export{Name: "one", Description: "the first", Backend: newDisk(1 << 20)},
		Export{Name: "two", Backend: newDisk(2 << 20), ReadOnly: true},
	)
}

func TestHandshakeGo(t *testing.T) {
	w := dialWire(t, &Server{Exports: twoExports()})
	size, flags := w.enter("one")
	require.EqualValues(t, 1<<20, size)
	require.EqualValues(t, flagHasFlags|flagSendFlush|flagSendFUA|flagSendTrim|flagSendZeroes|flagSendDF|flagCanMultiConn, flags)

	w = dialWire(t, &Server{Exports: twoExports()})
	size, flags = w.enter("two")
	require.EqualValues(t, 2<<20, size)
	require.EqualValues(t, flagHasFlags|flagReadOnly|flagSendFlush|flagSendDF|flagCanMultiConn, flags)
	w.request(request{cmd: cmdDisc})
	require.NoError(t, w.gone())
}

func TestHandshakeExportName(t *testing.T) {
	w := dialSilent(t, &Server{Exports: twoExports()})
	w.take(18)
	w.say(be.AppendUint32(nil, flagFixedNewstyle)) // without NO_ZEROES
	w.option(optExportName, []byte("two"))
	b := w.take(10 + exportNameZeros)
	require.EqualValues(t, 2<<20, be.Uint64(b))
	require.Zero(t, be.Uint16(b[8:])&flagSendDF, "DF needs structured replies")
	require.Equal(t, make([]byte, exportNameZeros), b[10:])

	w = dialWire(t, &Server{Exports: twoExports()})
	w.option(optExportName, []byte("three"))
	require.ErrorContains(t, w.gone(), "no such export")
}

func TestHandshakeInfo(t *testing.T) {
	w := dialWire(t, &Server{Exports: twoExports()})
	w.option(optInfo, choice{"one", []uint16{infoBlockSize, infoDescription, infoName, 999}}.encode())
	got := map[uint16]string{}
	for {
		typ, data := w.answer(optInfo)
		if typ == repAck {
			break
		}
		require.EqualValues(t, repInfo, typ)
		got[be.Uint16(data)] = string(data[2:])
	}
	require.Equal(t, "one", got[infoName])
	require.Equal(t, "the first", got[infoDescription])
	require.Equal(t, "\x00\x00\x00\x01\x00\x00\x10\x00\x02\x00\x00\x00", got[infoBlockSize])
	require.Len(t, got[infoExport], 10)
	require.Len(t, got, 4)
	w.expect(optInfo, choice{name: "three"}.encode(), repErrUnknown)
	w.expect(optGo, choice{name: "three"}.encode(), repErrUnknown)
	w.enter("one") // a refusal does not end the haggling
}

func TestHandshakeList(t *testing.T) {
	srv := &Server{Exports: twoExports()}
	w := dialWire(t, srv)
	w.expect(optList, []byte("x"), repErrInvalid)
	require.Equal(t, "\x00\x00\x00\x03onethe first", string(w.expect(optList, nil, repServer)))
	_, data := w.answer(optList)
	require.Equal(t, "\x00\x00\x00\x03two", string(data))
	typ, _ := w.answer(optList)
	require.EqualValues(t, repAck, typ)
	w.expect(optAbort, nil, repAck)
	require.NoError(t, w.gone())
}

func TestHandshakeMalformed(t *testing.T) {
	long := strings.Repeat("n", maxString+1)
	for name, c := range map[string]struct {
		opt  uint32
		data string
		want uint32
	}{
		"unknown option":         {77, "anything", repErrUnsup},
		"TLS not offered":        {optStartTLS, "", repErrUnsup},
		"structured with data":   {optStructuredReply, "x", repErrInvalid},
		"go empty":               {optGo, "", repErrInvalid},
		"go name past the end":   {optGo, "\x00\x00\x00\x09one\x00\x00", repErrInvalid},
		"go huge name":           {optGo, "\xff\xff\xff\xffone\x00\x00", repErrInvalid},
		"go without infos":       {optGo, "\x00\x00\x00\x03one", repErrInvalid},
		"go fewer infos":         {optGo, "\x00\x00\x00\x03one\x00\x02\x00\x00", repErrInvalid},
		"go trailing":            {optGo, "\x00\x00\x00\x03one\x00\x00x", repErrInvalid},
		"go NUL in name":         {optGo, "\x00\x00\x00\x03o\x00e\x00\x00", repErrInvalid},
		"go not UTF-8":           {optGo, "\x00\x00\x00\x03o\xffe\x00\x00", repErrInvalid},
		"go long name":           {optGo, string(choice{name: long}.encode()), repErrInvalid},
		"meta before structured": {optSetMeta, string(metaQuery{"one", nil}.encode()), repErrInvalid},
		"meta query past end":    {optListMeta, "\x00\x00\x00\x03one\x00\x00\x00\x01\x00\x00\x00\x05base", repErrInvalid},
		"meta endless queries":   {optListMeta, "\x00\x00\x00\x03one\xff\xff\xff\xff", repErrInvalid},
		"meta unknown export":    {optListMeta, string(metaQuery{"three", nil}.encode()), repErrUnknown},
	} {
		t.Run(name, func(t *testing.T) {
			w := dialWire(t, &Server{Exports: twoExports()})
			w.expect(c.opt, []byte(c.data), c.want)
			w.enter("one")
		})
	}
}

func TestHandshakeViolationsEndIt(t *testing.T) {
	t.Run("client flags", func(t *testing.T) {
		w := dialSilent(t, &Server{Exports: twoExports()})
		w.take(18)
		w.say([]byte{0, 0, 0, 4})
		require.Equal(t, fault.Corruption, fault.KindOf(w.gone()))
	})
	t.Run("option magic", func(t *testing.T) {
		w := dialWire(t, &Server{Exports: twoExports()})
		w.say(make([]byte, optionSize))
		require.Equal(t, fault.Corruption, fault.KindOf(w.gone()))
	})
	t.Run("oversized option", func(t *testing.T) {
		w := dialWire(t, &Server{Exports: twoExports()})
		b := be.AppendUint32(be.AppendUint64(nil, magicOption), optGo)
		w.say(be.AppendUint32(b, 1<<31))
		typ, _ := w.answer(optGo)
		require.EqualValues(t, uint32(repErrTooBig), typ)
		require.Equal(t, fault.Corruption, fault.KindOf(w.gone()))
	})
	t.Run("half an option", func(t *testing.T) {
		w := dialWire(t, &Server{Exports: twoExports()})
		w.say(be.AppendUint64(nil, magicOption))
		w.Close()
		require.Equal(t, fault.Transient, fault.KindOf(<-w.ended))
	})
	t.Run("leaving without a word", func(t *testing.T) {
		w := dialWire(t, &Server{Exports: twoExports()})
		w.Close()
		require.NoError(t, <-w.ended)
	})
}

func TestMetaContexts(t *testing.T) {
	query := func(q ...string) []byte { return metaQuery{"one", q}.encode() }
	w := dialWire(t, &Server{Exports: twoExports()})
	w.expect(optStructuredReply, nil, repAck)
	for _, q := range [][]string{nil, {"base:"}, {"x:y", "base:allocation"}} {
		require.Equal(t, "\x00\x00\x00\x00base:allocation", string(w.expect(optListMeta, query(q...), repMetaContext)))
		w.answer(optListMeta)
	}
	w.expect(optListMeta, query("qemu:"), repAck)
	for _, q := range [][]string{nil, {"base:"}, {"base:other", "x:y"}} {
		w.expect(optSetMeta, query(q...), repAck)
	}
	w.expect(optSetMeta, query(contextAllocation), repMetaContext)
	w.answer(optSetMeta)
	w.expect(optSetMeta, query("x:y"), repAck) // replaces the one before
	w.expect(optGo, choice{name: "one"}.encode(), repInfo)
	w.answer(optGo)
	w.request(request{cmd: cmdBlockStatus, length: 512})
	require.Equal(t, EINVAL, w.next(0).errno)
}

// A context selected for one export says nothing about another.
func TestMetaContextOfAnotherExport(t *testing.T) {
	w := dialWire(t, &Server{Exports: twoExports()})
	w.expect(optStructuredReply, nil, repAck)
	w.expect(optSetMeta, metaQuery{"one", []string{contextAllocation}}.encode(), repMetaContext)
	w.answer(optSetMeta)
	w.expect(optGo, choice{name: "two"}.encode(), repInfo)
	w.answer(optGo)
	w.request(request{cmd: cmdBlockStatus, length: 512})
	require.Equal(t, EINVAL, w.next(0).errno)
}

// counted counts how often its export is opened and released.
type counted struct {
	Exports
	opened, released atomic.Int64
	err              error
}

func (c *counted) Open(ctx context.Context, name string) (*Export, error) {
	if c.err != nil {
		return nil, c.err
	}
	e, err := c.Exports.Open(ctx, name)
	if err == nil {
		c.opened.Add(1)
		e.Release = func() { c.released.Add(1) }
	}
	return e, err
}

func TestExportsAreReleased(t *testing.T) {
	c := &counted{Exports: twoExports()}
	w := dialWire(t, &Server{Exports: c})
	w.expect(optInfo, choice{name: "two"}.encode(), repInfo)
	w.answer(optInfo)
	w.enter("one")
	require.EqualValues(t, 2, c.opened.Load(), "one export asked about three times is opened once")
	require.EqualValues(t, 1, c.released.Load())
	w.request(request{cmd: cmdDisc})
	require.NoError(t, w.gone())
	require.EqualValues(t, 2, c.released.Load())
}

func TestOpenFailures(t *testing.T) {
	for kind, want := range map[fault.Kind]uint32{
		fault.NotFound: repErrUnknown, fault.Denied: repErrPolicy,
		fault.Invalid: repErrInvalid, fault.Unsupported: repErrPlatform,
	} {
		w := dialWire(t, &Server{Exports: &counted{err: fault.New(kind, "test", "no")}})
		w.expect(optGo, choice{name: "one"}.encode(), want)
	}
	// What may pass is answered by hanging up: the client tries again.
	w := dialWire(t, &Server{Exports: &counted{err: fault.New(fault.Transient, "test", "busy")}})
	w.option(optGo, choice{name: "one"}.encode())
	require.ErrorContains(t, w.gone(), "busy")
}

func TestHandshakeTimesOut(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := dialWire(t, &Server{Exports: twoExports(), HandshakeTimeout: 5 * time.Second})
		began := time.Now()
		require.ErrorContains(t, w.gone(), "timeout")
		require.Equal(t, 5*time.Second, time.Since(began))
	})
}

func TestTooManyConnections(t *testing.T) {
	srv := &Server{Exports: twoExports(), MaxConns: 1}
	first := dialWire(t, srv)
	second := dialSilent(t, srv)
	require.ErrorContains(t, second.gone(), "connections are open")
	first.Close()
	require.NoError(t, <-first.ended)
	dialWire(t, srv).enter("one")
}
