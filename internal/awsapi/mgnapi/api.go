// Package mgnapi maps the MGN operations onto the domain in internal/control. It holds no rules of its
// own: what is allowed when is the domain's. internal/app/serve hands it to the endpoint in awsapi.
package mgnapi

import (
	"context"
	"time"

	"github.com/understudy-dr/understudy/api/mgn"
	"github.com/understudy-dr/understudy/internal/awsapi/wireform"
	"github.com/understudy-dr/understudy/internal/fault"
	"github.com/understudy-dr/understudy/internal/sigv4"
	"github.com/understudy-dr/understudy/internal/state"
)

// API implements mgn.Handler; operations that it does not define are not available.
type API struct {
	mgn.Unavailable
	d Domain
}

// New returns the operations over a domain.
func New(d Domain) *API {
	if d.Now == nil {
		d.Now = time.Now
	}
	return &API{d: d}
}

func (a *API) names(s state.Scope) wireform.Namer {
	return wireform.Namer{Service: string(s.Service), Region: a.d.Region, Account: s.Account}
}

// InitializeService prepares the account. It may be repeated.
func (a *API) InitializeService(ctx context.Context, _ *mgn.InitializeServiceInput) (*mgn.InitializeServiceOutput, error) {
	if caller, _ := sigv4.CallerFrom(ctx); !caller.Admin {
		return nil, fault.New(fault.Denied, "mgn: InitializeService", "Must be admin user")
	}
	return &mgn.InitializeServiceOutput{}, a.d.Accounts.Initialize(ctx, scope(ctx))
}
