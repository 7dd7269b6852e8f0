package awsapi_test

import (
	"io"
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/understudy-dr/understudy/api/conformance"
	"github.com/understudy-dr/understudy/api/drs"
	"github.com/understudy-dr/understudy/api/mgn"
	"github.com/understudy-dr/understudy/api/rest"
	"github.com/understudy-dr/understudy/internal/sigv4"
	"github.com/understudy-dr/understudy/internal/state"
)

// fixture makes what an operation needs and names it, so that a valid request can succeed. It runs before
// every valid request, and what it returns goes over the general fixture of the service.
type fixture func(t *testing.T, i *installation) conformance.Known

// conforming is what the conformance test knows of a service beside its shapes.
type conforming struct {
	name    state.Service
	service *rest.Service
	general fixture
	own     map[string]fixture
	// refused are operations of which no valid request succeeds here, and why.
	refused map[string]string
	// absent are the operations that are not there yet. The list only ever gets shorter.
	absent []string
}

func conformings() []conforming {
	return []conforming{
		{state.DRS, drs.New(drs.Unavailable{}), drsGeneral, drsFixtures, drsRefused, drsAbsent},
		{state.MGN, mgn.New(mgn.Unavailable{}), mgnGeneral, mgnFixtures, mgnRefused, mgnAbsent},
	}
}

// send asks as the administrator does, with a signature made by hand: the SDKs check constraints
// themselves, and would never send what breaks them.
func (i *installation) send(t *testing.T, service string, op *rest.Operation, c conformance.Case) conformance.Answer {
	t.Helper()
	method, path, body, err := conformance.HTTP(op, c)
	require.NoError(t, err)
	req, err := http.NewRequestWithContext(t.Context(), method, i.server.URL+path, strings.NewReader(body))
	require.NoError(t, err)
	resp, err := (&sigv4.Transport{Base: i.server.Client().Transport, Credentials: static(i.admin), Service: service, Region: region}).RoundTrip(req)
	require.NoError(t, err)
	defer resp.Body.Close()
	answer, err := io.ReadAll(resp.Body)
	require.NoError(t, err)
	require.NotEmpty(t, resp.Header.Get(rest.HeaderRequestID))
	return conformance.Answer{Status: resp.StatusCode, Header: resp.Header, Body: string(answer)}
}

const notImplemented = "NotImplementedException"

// Every operation, asked for the least and the most that its shapes allow, answers with a result or a
// declared error, and the answer is of its shape.
func TestConformanceOfValidRequests(t *testing.T) {
	for _, c := range conformings() {
		i := install(t)
		for _, ep := range c.service.Endpoints {
			t.Run(string(c.name)+"/"+ep.Name, func(t *testing.T) { c.valid(t, i, ep.Operation) })
		}
	}
}

func (c *conforming) valid(t *testing.T, i *installation, op *rest.Operation) {
	succeeded, last := 0, ""
	for n := range 2 {
		known := c.general(t, i)
		if own := c.own[op.Name]; own != nil {
			for k, v := range own(t, i) {
				known[k] = v
			}
		}
		request := conformance.Valid(op, known)[n]
		a := i.send(t, string(c.name), op, request)
		if a.Code() == notImplemented {
			require.Contains(t, c.absent, op.Name, "an operation that was there is not available")
			return
		}
		require.NotContains(t, c.absent, op.Name, "it is there now: take it off the list")
		if a.Code() == "" {
			succeeded++
			require.Empty(t, conformance.Result(op, a), "%s: %s", request, a.Body)
			continue
		}
		require.Empty(t, conformance.Exception(c.service, a), "%s: %s", request, a.Body)
		require.True(t, op.Declares(a.Code()), "%s is not declared: %s: %s", a.Code(), request, a.Body)
		require.NotEqual(t, "InternalServerException", a.Code(), "%s: %s", request, i.log)
		last = a.Body
	}
	why, refused := c.refused[op.Name]
	require.Equal(t, refused, succeeded == 0, "of two valid requests %d succeeded (reason on the list of the refused: %q): %s", succeeded, why, last)
}

// Every constraint of every member of every operation, broken alone, is answered with a ValidationException
// that names the member.
func TestConformanceOfBrokenRequests(t *testing.T) {
	total := 0
	for _, c := range conformings() {
		i := install(t)
		for _, ep := range c.service.Endpoints {
			t.Run(string(c.name)+"/"+ep.Name, func(t *testing.T) {
				for _, request := range conformance.Broken(ep.Operation) {
					total++
					a := i.send(t, string(c.name), ep.Operation, request)
					require.Equal(t, "ValidationException", a.Code(), "%s: %s", request.Name, a.Body)
					require.Empty(t, conformance.Exception(c.service, a), "%s: %s", request.Name, a.Body)
					reason, names := conformance.Fields(a)
					require.Equal(t, request.Reason, reason, "%s: %s", request.Name, a.Body)
					if reason == rest.ReasonFieldValidation {
						require.Equal(t, []string{request.Member}, slices.Compact(names), "%s: %s", request.Name, a.Body)
					} else {
						require.Contains(t, a.Body, request.Member, request.Name)
					}
				}
			})
		}
	}
	require.Greater(t, total, 2000, "constraints were broken")
}

// The lists name operations that exist, each once.
func TestConformanceListsAreTidy(t *testing.T) {
	for _, c := range conformings() {
		var all []string
		for _, ep := range c.service.Endpoints {
			all = append(all, ep.Name)
		}
		require.Subset(t, all, c.absent)
		require.True(t, slices.IsSorted(c.absent) && len(slices.Compact(slices.Clone(c.absent))) == len(c.absent))
		for name := range c.own {
			require.Contains(t, all, name)
		}
		for name, why := range c.refused {
			require.Contains(t, all, name)
			require.NotEmpty(t, why)
			require.NotContains(t, c.absent, name)
		}
	}
}
