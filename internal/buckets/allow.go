package buckets

import (
	"context"
	"slices"

	"github.com/understudy-dr/understudy/internal/fault"
)

// Allowed is a store that is reached with the credentials of one account, Home: that one may use every bucket, unless Of says
// which, and another one those that Of gives it. Without this every account could read and write whatever the
// credentials can.
type Allowed struct {
	Store Store
	Home  string
	Of    map[string][]string // buckets by account
}

func (a Allowed) check(op string, o Object) error {
	given, listed := a.Of[o.Account]
	if !listed && o.Account == a.Home || slices.Contains(given, o.Bucket) {
		return nil
	}
	return fault.New(fault.Denied, op, "account %s may not use bucket %s", o.Account, o.Bucket).
		WithHint("whoever runs this installation can give it to the account: serve --buckets 's3://?...&allow=" + o.Account + ":" + o.Bucket + "'")
}

// Get is the store's, of a bucket that the account may use.
func (a Allowed) Get(ctx context.Context, o Object, limit int64) ([]byte, error) {
	if err := a.check("buckets: get", o); err != nil {
		return nil, err
	}
	return a.Store.Get(ctx, o, limit)
}

// Put is the store's, of a bucket that the account may use.
func (a Allowed) Put(ctx context.Context, o Object, content []byte) error {
	if err := a.check("buckets: put", o); err != nil {
		return err
	}
	return a.Store.Put(ctx, o, content)
}
