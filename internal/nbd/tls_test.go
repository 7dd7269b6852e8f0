package nbd

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"io"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/understudy-dr/understudy/internal/fault"
)

// pki is a self-signed certificate for localhost, as files and as configurations.
type pki struct {
	dir            string
	server, client *tls.Config
}

func newPKI(t *testing.T) pki {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	require.NoError(t, err)
	tmpl := &x509.Certificate{
		SerialNumber:          big.NewInt(1),
		Subject:               pkix.Name{CommonName: "localhost"},
		DNSNames:              []string{"localhost"},
		IPAddresses:           []net.IP{net.IPv4(127, 0, 0, 1)},
		NotBefore:             time.Now().Add(-time.Hour),
		NotAfter:              time.Now().Add(time.Hour),
		IsCA:                  true,
		BasicConstraintsValid: true,
		KeyUsage:              x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign,
		ExtKeyUsage:           []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	}
	der, err := x509.CreateCertificate(rand.Reader, tmpl, tmpl, &key.PublicKey, key)
	require.NoError(t, err)
	p := pki{dir: t.TempDir()}
	ca := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
	require.NoError(t, os.WriteFile(filepath.Join(p.dir, "ca-cert.pem"), ca, 0o600))
	pool := x509.NewCertPool()
	pool.AppendCertsFromPEM(ca)
	p.server = &tls.Config{Certificates: []tls.Certificate{{Certificate: [][]byte{der}, PrivateKey: key}}}
	p.client = &tls.Config{RootCAs: pool, ServerName: "localhost"}
	return p
}

func TestTLS(t *testing.T) {
	p := newPKI(t)
	d := newDisk(8 << 20)
	d.fill(t, 5)
	srv := serverOf(d)
	srv.TLS = p.server
	path := listen(t, srv)
	c := dial(t, path, ClientConfig{TLS: p.client})
	got := make([]byte, len(d.data))
	require.NoError(t, c.ReadAt(context.Background(), got, 0))
	require.Equal(t, d.data, got)
	require.NoError(t, c.WriteAt(context.Background(), []byte("over TLS"), 1<<20))
	require.Equal(t, "over TLS", string(d.data[1<<20:1<<20+8]))

	_, err := Dial(context.Background(), "unix", path, ClientConfig{})
	require.Equal(t, fault.Denied, fault.KindOf(err))
	require.ErrorContains(t, err, "requires TLS")
	_, err = Dial(context.Background(), "unix", path, ClientConfig{TLS: &tls.Config{ServerName: "localhost"}})
	require.Equal(t, fault.Denied, fault.KindOf(err), "a certificate nobody vouches for")

	// A client that wants TLS does not go on without.
	_, err = Dial(context.Background(), "unix", listen(t, serverOf(d)), ClientConfig{TLS: p.client})
	require.Equal(t, fault.Unsupported, fault.KindOf(err))
}

func TestTLSIsRequired(t *testing.T) {
	srv := &Server{Exports: twoExports(), TLS: newPKI(t).server}
	w := dialWire(t, srv)
	for _, opt := range []uint32{optList, optInfo, optGo, optStructuredReply, optListMeta, optSetMeta, 77} {
		w.expect(opt, nil, repErrTLSReqd)
	}
	w.expect(optStartTLS, []byte("x"), repErrInvalid)
	w.option(optExportName, []byte("one"))
	require.Equal(t, fault.Denied, fault.KindOf(w.gone()))
}

// What was sent ahead of the TLS handshake does not get into it.
func TestTLSTakesNoPlaintext(t *testing.T) {
	p := newPKI(t)
	w := dialWire(t, &Server{Exports: twoExports(), TLS: p.server})
	w.expect(optStartTLS, nil, repAck)
	tc := tls.Client(w.Conn, p.client)
	require.NoError(t, tc.Handshake())
	raw := w.Conn
	w.Conn = tc
	w.expect(optStartTLS, nil, repErrInvalid)
	w.expect(optSetMeta, metaQuery{"one", nil}.encode(), repErrInvalid)
	w.enter("one")
	w.Conn = raw

	w = dialWire(t, &Server{Exports: twoExports(), TLS: p.server})
	w.expect(optStartTLS, nil, repAck)
	go w.Write(be.AppendUint32(be.AppendUint64(nil, magicOption), optStructuredReply)) // into the handshake
	require.Equal(t, fault.Denied, fault.KindOf(<-w.ended))
}

// recorder keeps what is read through it.
type recorder struct {
	net.Conn
	read bytes.Buffer
}

func (r *recorder) Read(p []byte) (int, error) {
	n, err := r.Conn.Read(p)
	r.read.Write(p[:n])
	return n, err
}

// Over TLS the server says goodbye before it hangs up, so that the end cannot be forged.
func TestTLSGoodbye(t *testing.T) {
	p := newPKI(t)
	cfg := p.client.Clone()
	cfg.MaxVersion = tls.VersionTLS12 // there the type of an alert can be seen
	for name, leave := range map[string]func(*wire){
		"handshake":    func(w *wire) { w.expect(optAbort, nil, repAck) },
		"transmission": func(w *wire) { w.enter("one"); w.request(request{cmd: cmdDisc}) },
	} {
		t.Run(name, func(t *testing.T) {
			w := dialWire(t, &Server{Exports: twoExports(), TLS: p.server})
			w.expect(optStartTLS, nil, repAck)
			rec := &recorder{Conn: w.Conn}
			tc := tls.Client(rec, cfg)
			require.NoError(t, tc.Handshake())
			leave(&wire{t: t, Conn: tc})
			_, err := tc.Read(make([]byte, 1))
			require.ErrorIs(t, err, io.EOF)
			const alert = 21
			var last byte
			for b := rec.read.Bytes(); len(b) >= 5; b = b[5+int(be.Uint16(b[3:])):] {
				last = b[0]
			}
			require.EqualValues(t, alert, last)
		})
	}
}
