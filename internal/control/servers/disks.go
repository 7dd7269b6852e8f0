package servers

import (
	"context"
	"reflect"

	"github.com/understudy-dr/understudy/internal/control"
	"github.com/understudy-dr/understudy/internal/fault"
	"github.com/understudy-dr/understudy/internal/state"
)

// Devices takes over which disks of its machine a server's agent replicates now, and returns the server. A disk that has
// come gets a number; one that has gone keeps its own.
func (v *Servers) Devices(ctx context.Context, x state.Server, devices []Device) (_ state.Server, changed bool, err error) {
	const op = "servers: devices"
	var bad []control.Field
	for _, message := range wrongDevices(devices) {
		bad = append(bad, control.Field{Name: "devices", Message: message})
	}
	if len(bad) > 0 {
		return x, false, fault.New(fault.Invalid, op, "%w", &control.FieldError{Fields: bad})
	}
	same := func(x state.Server) ([]state.Disk, bool, error) {
		disks, err := assign(x.Disks, devices)
		return disks, reflect.DeepEqual(disks, x.Disks), err
	}
	if _, ok, err := same(x); err != nil || ok {
		return x, false, fault.Wrap(op, err)
	}
	x, err = v.change(ctx, x.Scope, x.ID, func(_ state.Reader, x *state.Server) error {
		disks, _, err := same(*x)
		if err == nil {
			x.Disks = disks
			x.Config.Disks = configure(x.Config.Disks, x.Replicated())
		}
		return err
	})
	return x, err == nil, fault.Wrap(op, err)
}
