package conformance

import (
	"io"
	"net/http"
)

// Client is an HTTP client for AWS's SDK in tests whose endpoint is in the same process: a copy of c with
// a request body that the SDK can close early.
//
// The SDK closes a request's body as soon as the answer's header is there. Its body is an io.WriterTo that
// fails with io.EOF from then on, where its Read says an orderly end. net/http asks a body for more after
// its last byte, to see that nothing follows; an endpoint this near has often answered by then, net/http
// takes the io.EOF for a failed write and closes the connection, and who reads the answer finds "use of
// closed network connection". The SDK repeats such a request by itself, which a test that counts attempts,
// or calls what succeeds only once, cannot have. So the body keeps its Read and loses its WriteTo.
func Client(c *http.Client) *http.Client {
	own := *c
	own.Transport = orderly{c.Transport}
	return &own
}

type orderly struct{ base http.RoundTripper }

func (o orderly) RoundTrip(r *http.Request) (*http.Response, error) {
	if r.Body != nil && r.Body != http.NoBody {
		r = r.Clone(r.Context())
		r.Body = struct{ io.ReadCloser }{r.Body}
	}
	return o.base.RoundTrip(r)
}
