// Package inventory keeps what MGN organises a migration by: applications of source servers, waves of
// applications, connectors and vCenter clients, and what people say of a server that its agent cannot.
// internal/app assembles it for internal/awsapi; inventory/transfer writes through it.
package inventory

import (
	"context"

	"github.com/understudy-dr/understudy/internal/control"
	"github.com/understudy-dr/understudy/internal/fault"
	"github.com/understudy-dr/understudy/internal/state"
)

// Kinds of resources as errors name them.
const (
	KindApplication   = "Application"
	KindWave          = "Wave"
	KindConnector     = "Connector"
	KindVcenterClient = "VcenterClient"
)

// each turns ids into a set in the order they were given: naming one twice is naming it once.
func each(ids []string) []string {
	seen := map[string]bool{}
	var out []string
	for _, id := range ids {
		if !seen[id] {
			seen[id] = true
			out = append(out, id)
		}
	}
	return out
}

// server reads a source server within the caller's transaction.
func server(ctx context.Context, r state.Reader, s state.Scope, id string) (state.Server, error) {
	v, err := r.Server(ctx, s, id)
	if fault.Is(err, fault.NotFound) {
		return v, control.Missing("inventory", control.SourceServer, id)
	}
	return v, err
}
