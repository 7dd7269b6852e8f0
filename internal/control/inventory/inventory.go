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

// conflicts collects what stands against one call on several resources.
type conflicts struct {
	kind string
	each []*control.ResourceError
}

func (c *conflicts) add(id string, why error) {
	c.each = append(c.each, &control.ResourceError{Type: c.kind, ID: id, Err: why})
}

// err is nil when nothing does. One conflict speaks for itself.
func (c *conflicts) err(op, message string) error {
	switch len(c.each) {
	case 0:
		return nil
	case 1:
		return fault.New(fault.Conflict, op, "%w", c.each[0])
	}
	return fault.New(fault.Conflict, op, "%w", &control.ResourceErrors{Message: message, Each: c.each})
}

// server reads a source server within the caller's transaction.
func server(ctx context.Context, r state.Reader, s state.Scope, id string) (state.Server, error) {
	v, err := r.Server(ctx, s, id)
	if fault.Is(err, fault.NotFound) {
		return v, control.Missing("inventory", control.SourceServer, id)
	}
	return v, err
}
