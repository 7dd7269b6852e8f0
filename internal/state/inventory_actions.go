package state

import "context"

// PostLaunchAction is something that MGN does on a launched machine, of one source server or of a launch
// configuration template.
type PostLaunchAction struct {
	Owner       string // s- or lct-
	ID          string // the caller's choice; one per owner
	Order       int32  // one per owner
	Name        string
	Document    string // documentIdentifier
	Version     string // $DEFAULT, $LATEST or a number
	Active      bool
	Timeout     int32 // seconds
	MustSucceed bool  // FinalizeCutover waits for it
	Category    string
	Description string
	OS          string // linux or windows, of a template's action; empty: any
	Parameters  map[string][]StoreParameter
	External    map[string]string // parameter -> JMESPath on the source server
}

// StoreParameter is a value in the parameter store.
type StoreParameter struct {
	Name string
	Type string
}

// ActionReader reads post-launch actions. It is part of Reader.
type ActionReader interface {
	PostLaunchAction(ctx context.Context, owner, id string) (PostLaunchAction, error)
	// PostLaunchActions lists an owner's actions in their order; no ids mean all.
	PostLaunchActions(ctx context.Context, owner string, ids []string, p Page) (items []PostLaunchAction, next string, err error)
}

// ActionTx writes post-launch actions. It is part of Tx. They go with their owner.
type ActionTx interface {
	// PutPostLaunchAction refuses with fault.Conflict a second action of an owner in one order.
	PutPostLaunchAction(ctx context.Context, v PostLaunchAction) error
	DeletePostLaunchAction(ctx context.Context, owner, id string) error
}
