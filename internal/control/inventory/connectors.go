package inventory

import (
	"context"
	"time"

	"github.com/understudy-dr/understudy/internal/control"
	"github.com/understudy-dr/understudy/internal/control/resource"
	"github.com/understudy-dr/understudy/internal/fault"
	"github.com/understudy-dr/understudy/internal/state"
)

// Connectors keeps the connectors of all accounts, as they are told: what runs on one is not ours.
type Connectors struct {
	resource.Keeper[state.Connector]
}

// NewConnectors returns the connectors in store.
func NewConnectors(store state.Store) *Connectors {
	return &Connectors{resource.Keeper[state.Connector]{Store: store, Kind: KindConnector,
		Read: state.Reader.Connector, Write: state.Tx.PutConnector, Tagged: func(v *state.Connector) *map[string]string { return &v.Tags }}}
}

// Create adds a connector.
func (c *Connectors) Create(ctx context.Context, s state.Scope, name, instanceID string, command *state.SSMCommand, tags map[string]string) (state.Connector, error) {
	const op = "connector: create"
	v := state.Connector{ID: control.NewID("connector-"), Scope: s, Name: name, SSMInstanceID: instanceID, Command: command, CreatedAt: time.Now().UTC()}
	if err := checkCommand(command); err != nil {
		return v, fault.Wrap(op, err)
	}
	var err error
	if v.Tags, err = control.AddTags(nil, tags); err != nil {
		return v, fault.Wrap(op, err)
	}
	return v, fault.Wrap(op, c.Store.Update(ctx, func(tx state.Tx) error { return tx.PutConnector(ctx, v) }))
}

// checkCommand checks what the API's shapes cannot.
func checkCommand(c *state.SSMCommand) error {
	if c != nil && c.S3Output && c.S3Bucket == "" {
		return control.Misfit("connector", "ssmCommandConfig.outputS3BucketName", "is required with s3OutputEnabled")
	}
	return nil
}

// Update changes what is not nil.
func (c *Connectors) Update(ctx context.Context, s state.Scope, id string, name *string, command *state.SSMCommand) (state.Connector, error) {
	return c.Change(ctx, s, id, func(_ state.Tx, v *state.Connector) error {
		if name != nil {
			v.Name = *name
		}
		if command != nil {
			v.Command = command
		}
		return checkCommand(command)
	})
}

// Delete forgets a connector.
func (c *Connectors) Delete(ctx context.Context, s state.Scope, id string) error {
	return c.Remove(ctx, s, id, nil, state.Tx.DeleteConnector)
}

// List returns the scope's connectors, or those of ids that exist, oldest first.
func (c *Connectors) List(ctx context.Context, s state.Scope, ids []string, p state.Page) (items []state.Connector, next string, err error) {
	err = c.Store.View(ctx, func(r state.Reader) error {
		items, next, err = r.Connectors(ctx, s, ids, p)
		return err
	})
	return items, next, fault.Wrap("connector: list", err)
}

// VcenterClients keeps the vCenter clients of all accounts. A client adds itself when it first reports.
type VcenterClients struct {
	resource.Keeper[state.VcenterClient]
}

// NewVcenterClients returns the vCenter clients in store.
func NewVcenterClients(store state.Store) *VcenterClients {
	return &VcenterClients{resource.Keeper[state.VcenterClient]{Store: store, Kind: KindVcenterClient,
		Read: state.Reader.VcenterClient, Write: state.Tx.PutVcenterClient, Tagged: func(v *state.VcenterClient) *map[string]string { return &v.Tags }}}
}

// Delete forgets a client; the servers that it found stay.
func (c *VcenterClients) Delete(ctx context.Context, s state.Scope, id string) error {
	return c.Remove(ctx, s, id, nil, state.Tx.DeleteVcenterClient)
}

// List returns the scope's clients, oldest first.
func (c *VcenterClients) List(ctx context.Context, s state.Scope, p state.Page) (items []state.VcenterClient, next string, err error) {
	err = c.Store.View(ctx, func(r state.Reader) error {
		items, next, err = r.VcenterClients(ctx, s, p)
		return err
	})
	return items, next, fault.Wrap("vcenterclient: list", err)
}
