package serve

import (
	"context"
	"errors"
	"net/http"
	"os"

	"connectrpc.com/connect"

	"github.com/understudy-dr/understudy/internal/agentapi/agentpb"
	"github.com/understudy-dr/understudy/internal/awsapi"
	"github.com/understudy-dr/understudy/internal/awsapi/ec2api"
	"github.com/understudy-dr/understudy/internal/awsapi/stsapi"
	"github.com/understudy-dr/understudy/internal/control"
	"github.com/understudy-dr/understudy/internal/control/hostnets"
	"github.com/understudy-dr/understudy/internal/control/launchtemplates"
	"github.com/understudy-dr/understudy/internal/control/quotas"
	"github.com/understudy-dr/understudy/internal/control/sizes"
	"github.com/understudy-dr/understudy/internal/fault"
	"github.com/understudy-dr/understudy/internal/operatorapi"
	"github.com/understudy-dr/understudy/internal/operatorapi/schema"
)

// facilities are what this installation offers: how much of everything, and what machines can be.
type facilities struct {
	limits    *quotas.Limits
	sizes     *sizes.Catalogue
	networks  *hostnets.Catalogue
	templates *launchtemplates.Templates
}

// openFacilities reads the configuration of this installation.
func (s *server) openFacilities() (err error) {
	f := &s.facilities
	values := map[quotas.Code]int64{}
	for code, v := range s.cfg.Quotas {
		values[quotas.Code(code)] = v
	}
	if f.limits, err = quotas.New(values); err != nil {
		return fault.Wrap("--quota", err)
	}
	if f.sizes, err = openSizes(s.cfg.Sizes); err != nil {
		return fault.Wrap("--sizes", err)
	}
	if f.networks, err = openNetworks(s.cfg.Networks); err != nil {
		return fault.Wrap("--networks", err)
	}
	f.templates = launchtemplates.New(s.store, f.sizes)
	return nil
}

func openSizes(path string) (*sizes.Catalogue, error) {
	c, err := sizes.Default()
	if err != nil || path == "" {
		return c, err
	}
	file, err := os.Open(path)
	if err != nil {
		return nil, fault.New(fault.Invalid, "", "%w", err)
	}
	defer file.Close()
	return c.With(file)
}

func openNetworks(path string) (*hostnets.Catalogue, error) {
	if path == "" {
		return hostnets.Default()
	}
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, fault.New(fault.Invalid, "", "%w", err)
	}
	return hostnets.Parse(text)
}

// endpoint is the endpoint of everything that is signed, with the services that DRS's and MGN's clients
// go on to.
func (s *server) endpoint() *awsapi.Handler {
	rates := awsapi.Rates{}
	for _, class := range []quotas.Code{quotas.ReadRate, quotas.WriteRate, quotas.LaunchRate, quotas.RegisterRate} {
		rates[class] = s.facilities.limits.Value(class)
	}
	h := awsapi.New(awsapi.Config{Region: s.cfg.Region, Access: s.keys, Accounts: s.accounts, Rates: rates, Audit: s.audit, Log: s.cfg.Log})
	h.Mount(stsapi.Name, &stsapi.API{Credentials: s.keys, Authorize: h.Authorize, Log: s.cfg.Log})
	h.Mount(ec2api.Name, &ec2api.API{Templates: s.facilities.templates, Sizes: s.facilities.sizes, Networks: s.facilities.networks,
		Authorize: h.Authorize, Region: s.cfg.Region, Log: s.cfg.Log})
	return h
}

// access is what operators manage accounts with.
func (s *server) access(h *awsapi.Handler) operatorapi.Access {
	return operatorapi.Access{Keys: s.keys, Accounts: s.accounts, Quotas: s.facilities.limits, Home: s.cfg.AccountID, Region: s.cfg.Region,
		Authorize: h.Authorize,
		Simulate: func(ctx context.Context, p control.Principal, action, resource string) (string, error) {
			d, err := h.Simulate(ctx, p, action, resource)
			return d.String(), err
		}}
}

// mayRegister lets those register agents who may.
func (s *server) mayRegister(authorize control.Authorize, agents http.Handler) http.Handler {
	write := connect.NewErrorWriter()
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		err := authorize(r.Context(), schema.Service+":RegisterAgent")
		if err == nil {
			agents.ServeHTTP(w, r)
			return
		}
		refusal, ok := agentpb.Refusal(err)
		if !ok {
			s.cfg.Log.Error("a registration could not be authorised", "error", err)
			refusal = connect.NewError(connect.CodeInternal, errors.New("internal error; see the control plane's log"))
		}
		_ = write.Write(w, r, refusal) // the peer may have gone
	})
}
