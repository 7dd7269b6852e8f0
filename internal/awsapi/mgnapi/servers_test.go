package mgnapi

import (
	"context"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/understudy-dr/understudy/api/mgn"
	"github.com/understudy-dr/understudy/internal/control"
	"github.com/understudy-dr/understudy/internal/state"
)

// becoming is a server that gets ready when its replication is looked at, after it was read itself.
type becoming struct {
	control.Servers
	control.Replication
	now   state.Server
	reads int
}

func (b *becoming) Get(context.Context, state.Scope, string) (state.Server, error) {
	b.reads++
	return b.now, nil
}

func (b *becoming) Describe(_ context.Context, servers []state.Server) ([]control.ReplicationInfo, error) {
	b.now.LifeCycle.State = state.ReadyForTest
	infos := make([]control.ReplicationInfo, len(servers))
	infos[0] = control.ReplicationInfo{State: state.Continuous, StoredAt: time.Now()}
	return infos, nil
}

// A life cycle that moves between the two reads is not shown behind the replication that moved it.
func TestLifeCycleIsNotBehindItsReplication(t *testing.T) {
	before := time.Now()
	v := state.Server{ID: "s-1111aaaa1111aaaa1", LifeCycle: state.LifeCycle{State: state.NotReady}}
	other := state.Server{ID: "s-2222bbbb2222bbbb2", LifeCycle: state.LifeCycle{State: state.NotReady}}
	b := &becoming{now: v}
	a := &API{d: Domain{Servers: b, Replication: b, Now: time.Now}}
	items, err := a.views(t.Context(), before, []state.Server{v, other})
	require.NoError(t, err)
	require.Equal(t, mgn.LifeCycleState("READY_FOR_TEST"), items[0].LifeCycle.State)
	require.Equal(t, 1, b.reads, "only what has changed is read again")
	require.Equal(t, other.ID, *items[1].SourceServerID)
}
