// Package drsapi maps the DRS operations onto the domain in internal/control. It holds no rules of its
// own: what is allowed when is the domain's. internal/app/serve hands it to the endpoint in awsapi.
package drsapi

import (
	"context"
	"time"

	"github.com/understudy-dr/understudy/api/drs"
	"github.com/understudy-dr/understudy/internal/awsapi/wireform"
	"github.com/understudy-dr/understudy/internal/fault"
	"github.com/understudy-dr/understudy/internal/sigv4"
	"github.com/understudy-dr/understudy/internal/state"
)

// API implements drs.Handler; operations that it does not define are not available.
type API struct {
	drs.Unavailable
	d Domain
}

// New returns the operations over a domain.
func New(d Domain) *API {
	if d.Now == nil {
		d.Now = time.Now
	}
	return &API{d: d}
}

// scope is whose records a request is about: the caller's account in this service.
func scope(ctx context.Context) state.Scope {
	caller, _ := sigv4.CallerFrom(ctx)
	return state.Scope{Account: caller.AccountID, Service: state.DRS}
}

func (a *API) names(s state.Scope) wireform.Namer {
	return wireform.Namer{Service: string(s.Service), Region: a.d.Region, Account: s.Account}
}

// InitializeService prepares the account. It may be repeated.
func (a *API) InitializeService(ctx context.Context, _ *drs.InitializeServiceInput) (*drs.InitializeServiceOutput, error) {
	if caller, _ := sigv4.CallerFrom(ctx); !caller.Admin {
		return nil, fault.New(fault.Denied, "drs: InitializeService", "Must be admin user")
	}
	return &drs.InitializeServiceOutput{}, a.d.Accounts.Initialize(ctx, scope(ctx))
}
