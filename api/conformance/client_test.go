package conformance_test

import (
	"io"
	"net/http"
	"net/http/httptest"
	"net/http/httptrace"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/understudy-dr/understudy/api/conformance"
)

// closedEarly is the SDK's request body when the answer came before net/http asked for what follows the
// last byte: from then on Read says an orderly end and WriteTo an error.
type closedEarly struct{ *strings.Reader }

func (closedEarly) WriteTo(io.Writer) (int64, error) { return 0, io.EOF }
func (closedEarly) Close() error                     { return nil }

func TestClientAllowsABodyThatIsClosedEarly(t *testing.T) {
	server := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if _, err := io.Copy(w, r.Body); err != nil {
			w.WriteHeader(http.StatusBadRequest)
		}
	}))
	t.Cleanup(server.Close)
	// written is what net/http makes of the body; whether the answer gets through meanwhile is chance.
	written := func(c *http.Client) (answer string, err error) {
		wrote := make(chan error, 1)
		ctx := httptrace.WithClientTrace(t.Context(), &httptrace.ClientTrace{WroteRequest: func(i httptrace.WroteRequestInfo) { wrote <- i.Err }})
		body := closedEarly{strings.NewReader(`{"a":1}`)}
		r, err := http.NewRequestWithContext(ctx, http.MethodPost, server.URL, body)
		require.NoError(t, err)
		r.ContentLength = int64(body.Len())
		if resp, err := c.Do(r); err == nil {
			b, _ := io.ReadAll(resp.Body)
			resp.Body.Close()
			answer = string(b)
		}
		return answer, <-wrote
	}
	answer, err := written(conformance.Client(server.Client()))
	require.NoError(t, err)
	require.Equal(t, `{"a":1}`, answer)
	_, err = written(server.Client())
	require.ErrorIs(t, err, io.EOF, "net/http does without it by now: Client has nothing left to do")
}
