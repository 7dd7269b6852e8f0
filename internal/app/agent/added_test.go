package agent

import (
	"context"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/understudy-dr/understudy/internal/agentapi/agentpb"
	"github.com/understudy-dr/understudy/internal/blockdev"
)

// shelf is the machine's disks as this test has them: two loop devices, of which one is plugged in later, and is hardware then.
type shelf struct {
	mu           sync.Mutex
	first, added string
	plugged      bool
}

func (s *shelf) plug() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.plugged = true
}

func (s *shelf) list() ([]blockdev.Info, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	all, err := blockdev.List()
	var out []blockdev.Info
	for _, i := range all {
		switch {
		case i.Path == s.first:
			out = append(out, i)
		case i.Path == s.added && s.plugged:
			i.Name, i.Backing, i.Hardware, i.Serial = "sdz", "", true, "just plugged in"
			out = append(out, i)
		}
	}
	return out, err
}

// A disk that is added to the machine is offered to the service within a minute where the policy says so, and by a look at the disks
// that are opened and claimed; where it does not, never, whatever the policy becomes later.
func TestAnAddedDiskIsPickedUpByThePolicyAlone(t *testing.T) {
	needRoot(t)
	for name, policy := range map[string]bool{"autoReplicateNewDisks": true, "not": false} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			s := &shelf{}
			s.first, _ = loopOn(t, filepath.Join(dir, "first"), 4<<20)
			s.added, _ = loopOn(t, filepath.Join(dir, "added"), 8<<20)
			var mu sync.Mutex
			auto, offered := policy, map[string]uint64{}
			a := sessionWith(dir, service{answer: func(_ context.Context, r *agentpb.HandshakeRequest) (*agentpb.HandshakeResponse, error) {
				mu.Lock()
				defer mu.Unlock()
				clear(offered)
				for _, d := range r.GetDevices() {
					offered[d.GetDeviceName()] = d.GetBytes()
				}
				return &agentpb.HandshakeResponse{Desired: agentpb.Desired_DESIRED_PAUSE, NextHandshakeSeconds: 10, AutoReplicateNewDisks: auto}, nil
			}})
			var err error
			a.disks, err = openListed(Config{StateDir: dir, Devices: []string{s.first}}, s.list)
			require.NoError(t, err)
			t.Cleanup(func() { require.NoError(t, a.disks.close()) })
			a.rep.disks = a.disks
			one := map[string]uint64{s.first: 4 << 20}
			two := map[string]uint64{s.first: 4 << 20, s.added: 8 << 20}
			duringOf(t, a, func(t *testing.T, _ func() bool) {
				sees := func(want map[string]uint64) {
					t.Helper()
					mu.Lock()
					defer mu.Unlock()
					require.Equal(t, want, offered)
				}
				after(time.Minute)
				sees(one)
				s.plug()
				after(time.Minute)
				if policy {
					sees(two)
					return
				}
				sees(one)
				mu.Lock()
				auto = true
				mu.Unlock()
				after(3 * time.Minute)
				sees(one)
			})
		})
	}
}
