package sink

import (
	"context"
	"time"

	"github.com/understudy-dr/understudy/internal/encryption"
	"github.com/understudy-dr/understudy/internal/fault"
	"github.com/understudy-dr/understudy/internal/journal"
	"github.com/understudy-dr/understudy/internal/vfs"
)

// wrappingKeys is a key provider that we may change the keys of. encryption.KeyFile is one; a key management service
// has its own ways.
type wrappingKeys interface {
	encryption.Provider
	Keys() ([]encryption.KeyInfo, error)
	Rotate(ctx context.Context) (keyID string, err error)
	Retire(ctx context.Context, keyID string) error
}

// KeyUse is a wrapping key and what hangs on it.
type KeyUse struct {
	ID       string
	Created  time.Time
	Current  bool
	Journals []string // source servers whose data keys it wraps
}

// Rotation is what a change of the wrapping key did.
type Rotation struct {
	Key     string
	Wrapped int // journals whose data key was wrapped anew
	Later   int // journals that are not open: theirs is when they are
}

func (s *Server) wrapping() (wrappingKeys, error) {
	k, ok := s.c.Journal.Keys.(wrappingKeys)
	if !ok {
		return nil, fault.New(fault.Unsupported, "sink: keys", "the key provider looks after its wrapping keys itself").
			WithHint("rotate there; journals take the new key when they are opened")
	}
	return k, nil
}

// Keys lists the wrapping keys, oldest first, with the journals that need them.
func (s *Server) Keys() ([]KeyUse, error) {
	k, err := s.wrapping()
	if err != nil {
		return nil, err
	}
	used, err := s.wrapped()
	if err != nil {
		return nil, err
	}
	infos, err := k.Keys()
	if err != nil {
		return nil, err
	}
	out := make([]KeyUse, len(infos))
	for i, info := range infos {
		out[i] = KeyUse{ID: info.ID, Created: info.Created, Current: info.Current, Journals: used[info.ID]}
	}
	return out, nil
}

// wrapped lists the journals of the staging area, open or not, by the wrapping key that they need.
func (s *Server) wrapped() (map[string][]string, error) {
	used := map[string][]string{}
	names, err := s.fs.List(s.c.Dir)
	if err = vfs.Fault("sink: list staging areas", err); fault.Is(err, fault.NotFound) {
		return used, nil
	}
	if err != nil {
		return nil, err
	}
	for _, id := range names {
		key, err := journal.WrappedBy(s.fs, s.dir(id))
		if fault.Is(err, fault.NotFound) {
			continue // no journal, or one of before there were keys
		}
		if err != nil {
			return nil, err
		}
		used[key] = append(used[key], id)
	}
	return used, nil
}

// RotateKey adds a wrapping key and wraps the data keys of all open journals with it. No data is rewritten. Whatever ends
// it early is made up for when a journal is opened next.
func (s *Server) RotateKey(ctx context.Context) (r Rotation, err error) {
	k, err := s.wrapping()
	if err != nil {
		return r, err
	}
	if r.Key, err = k.Rotate(ctx); err != nil {
		return r, err
	}
	for _, id := range s.Attached() {
		j, err := s.Journal(id)
		if err != nil {
			continue // detached just now
		}
		if _, err := j.Rewrap(ctx); err != nil && !j.Closed() {
			return r, err
		}
	}
	used, err := s.wrapped()
	for key, ids := range used {
		if key == r.Key {
			r.Wrapped += len(ids)
		} else {
			r.Later += len(ids)
		}
	}
	return r, err
}

// RetireKey removes a wrapping key that no journal needs any more.
func (s *Server) RetireKey(ctx context.Context, keyID string) error {
	k, err := s.wrapping()
	if err != nil {
		return err
	}
	used, err := s.wrapped()
	if err != nil {
		return err
	}
	if ids := used[keyID]; len(ids) > 0 {
		return fault.New(fault.Conflict, "sink: retire key", "key %s still wraps the data keys of %d journals, as of %s", keyID, len(ids), ids[0]).
			WithHint("start or resume their replication: a journal takes the current key when it is opened")
	}
	return k.Retire(ctx, keyID)
}

// refresh wraps the data key of a journal that was just opened with the current wrapping key. Failing at it is no reason not to
// open the journal: the old key is still there.
func (s *Server) refresh(ctx context.Context, serverID string, j *journal.Journal) {
	changed, err := j.Rewrap(ctx)
	if err != nil {
		s.log.Warn("sink: the data key of a journal stays wrapped by an old key", "server", serverID, "error", err)
	} else if changed {
		s.log.Info("sink: the data key of a journal is wrapped by the current key", "server", serverID)
	}
}
