package state

import (
	"context"
	"time"
)

// TransferKind tells imports from exports.
type TransferKind string

// The kinds of transfer.
const (
	Import TransferKind = "import"
	Export TransferKind = "export"
)

// TransferStatus is the status of an import or export.
type TransferStatus string

// The statuses. Their transitions are a table in control/inventory/transfer.
const (
	TransferPending   TransferStatus = "PENDING"
	TransferStarted   TransferStatus = "STARTED"
	TransferFailed    TransferStatus = "FAILED"
	TransferSucceeded TransferStatus = "SUCCEEDED"
)

// TransferStatuses lists all of them.
var TransferStatuses = []TransferStatus{TransferPending, TransferStarted, TransferFailed, TransferSucceeded}

// Transfer is one import or export of the inventory.
type Transfer struct {
	ID          string
	Scope       Scope
	Kind        TransferKind
	ClientToken string // of an import; repeating it repeats the answer
	Bucket      string
	Key         string
	BucketOwner string
	Status      TransferStatus
	Progress    float64 // percent
	CreatedAt   time.Time
	EndedAt     time.Time
	Tags        map[string]string
	// What an import created and modified, what an export wrote.
	Waves, Applications, Servers TransferCount
}

// TransferCount counts the records of one kind in a transfer.
type TransferCount struct {
	Created, Modified int64 // of an import
	Written           int64 // of an export
}

// TransferError is one thing that went wrong in a transfer. Members that say nothing are empty.
type TransferError struct {
	TransferID    string
	Seq           int64 // given by the store: 1, 2, ... within a transfer
	At            time.Time
	Validation    bool  // of the file, not of the work on it
	Row           int64 // of the file; the header is row 1
	RawError      string
	ServerID      string
	ApplicationID string
	WaveID        string
	AccountID     string
}

// TransferReader reads transfers. It is part of Reader.
type TransferReader interface {
	Transfer(ctx context.Context, s Scope, k TransferKind, id string) (Transfer, error)
	// TransferByToken finds the import that a client token made.
	TransferByToken(ctx context.Context, s Scope, token string) (Transfer, error)
	// Transfers lists a scope's imports or exports, newest first; no ids mean all.
	Transfers(ctx context.Context, s Scope, k TransferKind, ids []string, p Page) (items []Transfer, next string, err error)
	// UnfinishedTransfers lists those of all scopes that are PENDING or STARTED, oldest first.
	UnfinishedTransfers(ctx context.Context, p Page) (items []Transfer, next string, err error)
	// TransferErrors lists what went wrong, in the order it was found.
	TransferErrors(ctx context.Context, id string, p Page) (items []TransferError, next string, err error)
}

// TransferTx writes transfers. It is part of Tx.
type TransferTx interface {
	PutTransfer(ctx context.Context, v Transfer) error
	AddTransferErrors(ctx context.Context, id string, list []TransferError) error
}
