package s3test

import (
	"cmp"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"
)

// Fault is what the proxy does to one request. Its zero value passes the request on.
type Fault struct {
	Status      int    // answer this instead, with Code as the error
	Code        string //
	Body        string // of that answer, in place of the error
	CutRequest  int64  // pass on so many bytes of the body, then cut both connections
	FlipRequest int64  // flip a bit in the byte of the body at this offset, from 1
	FlipAnswer  int64  // the same in the answer's body
	CutAnswer   int64  // pass on so many bytes of the answer's body, then cut
	LoseRequest bool   // cut without passing anything on
	LoseAnswer  bool   // the service does it, and the client never hears
	Hang        bool   // neither pass on nor answer, until the client gives up
	Before      func() // runs before the request is passed on
	Midway      func() // runs when CutRequest has passed on its bytes, instead of the cut
}

// String names the fault.
func (f Fault) String() string {
	for name, on := range map[string]bool{
		f.Code: f.Status != 0, "cut request": f.CutRequest > 0, "flip request": f.FlipRequest > 0, "flip answer": f.FlipAnswer > 0,
		"cut answer": f.CutAnswer > 0, "lose request": f.LoseRequest, "lose answer": f.LoseAnswer, "hang": f.Hang,
	} {
		if on {
			return name
		}
	}
	return "none"
}

// Request is what a plan decides by.
type Request struct {
	N      int // counts from 1
	Method string
	Key    string
	Query  url.Values
	Header http.Header
	Size   int64 // of the body
}

// Op names the request as the service's documentation does, as far as tests care.
func (r Request) Op() string {
	switch {
	case r.Method == http.MethodHead:
		return "Head"
	case r.Method == http.MethodDelete && r.Query.Has("uploadId"):
		return "AbortMultipartUpload"
	case r.Method == http.MethodDelete:
		return "DeleteObject"
	case r.Method == http.MethodPut && r.Query.Has("partNumber"):
		return "UploadPart"
	case r.Method == http.MethodPut:
		return "PutObject"
	case r.Method == http.MethodPost && r.Query.Has("uploads"):
		return "CreateMultipartUpload"
	case r.Method == http.MethodPost:
		return "CompleteMultipartUpload"
	case r.Query.Has("uploads"):
		return "ListMultipartUploads"
	case r.Query.Has("list-type"):
		return "ListObjects"
	}
	return "GetObject"
}

// Times is a plan that does f to the first n requests of an operation, "" for all.
func Times(n int, op string, f Fault) func(Request) Fault {
	return func(r Request) Fault {
		if n > 0 && (op == "" || op == r.Op()) {
			n--
			return f
		}
		return Fault{}
	}
}

// Proxy stands between a client and a server.
type Proxy struct {
	Endpoint string

	backend   *url.URL
	transport *http.Transport
	mu        sync.Mutex
	plan      func(Request) Fault
	count     int
}

// NewProxy starts a proxy before s. It passes everything on until Plan says otherwise.
func NewProxy(t testing.TB, s *Server) *Proxy {
	t.Helper()
	backend, err := url.Parse(s.Endpoint)
	require.NoError(t, err)
	p := &Proxy{backend: backend, transport: &http.Transport{DisableCompression: true, DisableKeepAlives: true}}
	front := httptest.NewServer(p)
	p.Endpoint = front.URL
	t.Cleanup(func() {
		front.CloseClientConnections()
		front.Close()
		p.transport.CloseIdleConnections()
	})
	return p
}

// Plan sets what happens to each request from now on; nil passes all on. Requests are counted anew.
func (p *Proxy) Plan(plan func(Request) Fault) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.plan, p.count = plan, 0
}

// Count is the number of requests since the plan was set.
func (p *Proxy) Count() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.count
}

func (p *Proxy) decide(r *http.Request) Fault {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.count++
	if p.plan == nil {
		return Fault{}
	}
	return p.plan(Request{N: p.count, Method: r.Method, Key: r.URL.Path, Query: r.URL.Query(), Header: r.Header, Size: r.ContentLength})
}

// ServeHTTP implements http.Handler.
func (p *Proxy) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	f := p.decide(r)
	if f.Before != nil {
		f.Before()
	}
	switch {
	case f.Status != 0:
		refuse(w, r, f)
		return
	case f.LoseRequest:
		cut(w)
		return
	case f.Hang:
		_, _ = io.Copy(io.Discard, r.Body) // so that the client's leaving is noticed
		<-r.Context().Done()
		return
	}
	resp, err := p.transport.RoundTrip(p.outgoing(r, f))
	if err != nil {
		cut(w)
		return
	}
	defer resp.Body.Close()
	if f.LoseAnswer {
		_, _ = io.Copy(io.Discard, resp.Body)
		cut(w)
		return
	}
	answer(w, resp, f)
}

func refuse(w http.ResponseWriter, r *http.Request, f Fault) {
	_, _ = io.Copy(io.Discard, r.Body)
	w.Header().Set("Content-Type", "application/xml")
	w.Header().Set("X-Amz-Request-Id", "request-of-the-proxy")
	w.WriteHeader(f.Status)
	if r.Method != http.MethodHead {
		_, _ = io.WriteString(w, cmp.Or(f.Body, "<Error><Code>"+f.Code+"</Code><Message>the proxy says so</Message></Error>"))
	}
}

func (p *Proxy) outgoing(r *http.Request, f Fault) *http.Request {
	out := r.Clone(r.Context())
	out.RequestURI = ""
	out.URL.Scheme, out.URL.Host = p.backend.Scheme, p.backend.Host // Host, which is signed, stays
	if r.ContentLength == 0 {
		out.Body = http.NoBody
		return out
	}
	out.Body = struct {
		io.Reader
		io.Closer
	}{&faulty{r: r.Body, cut: f.CutRequest, flip: f.FlipRequest, midway: f.Midway}, r.Body}
	return out
}

func answer(w http.ResponseWriter, resp *http.Response, f Fault) {
	for name, values := range resp.Header {
		w.Header()[name] = values
	}
	w.WriteHeader(resp.StatusCode)
	_, err := io.Copy(w, &faulty{r: resp.Body, cut: f.CutAnswer, flip: f.FlipAnswer})
	if err != nil {
		_ = http.NewResponseController(w).Flush()
		cut(w)
	}
}

// cut resets the client's connection.
func cut(w http.ResponseWriter) {
	conn, _, err := http.NewResponseController(w).Hijack()
	if err != nil {
		return
	}
	if tcp, ok := conn.(*net.TCPConn); ok {
		_ = tcp.SetLinger(0)
	}
	_ = conn.Close()
}

// faulty reads up to a cut and flips a bit on the way.
type faulty struct {
	r         io.Reader
	cut, flip int64
	midway    func()
	at        int64
}

// Read implements io.Reader.
func (f *faulty) Read(p []byte) (int, error) {
	if f.cut > 0 {
		left := f.cut - f.at
		if left <= 0 {
			if f.midway == nil {
				return 0, io.ErrUnexpectedEOF
			}
			f.midway()
			f.cut, left = 0, int64(len(p))
		}
		p = p[:min(int64(len(p)), left)]
	}
	n, err := f.r.Read(p)
	if i := f.flip - 1 - f.at; i >= 0 && i < int64(n) {
		p[i] ^= 0x10
	}
	f.at += int64(n)
	return n, err
}
