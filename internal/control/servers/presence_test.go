package servers

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/understudy-dr/understudy/internal/control/replication"
	"github.com/understudy-dr/understudy/internal/fault"
	"github.com/understudy-dr/understudy/internal/state"
)

// registered is a server whose machine has these disks and this boot.
func registered(p Presence) state.Server {
	return state.Server{ID: "s-1", Identity: "m", Machine: p.machine()}
}

func recogniser() *Servers { return New(nil) }

func TestACopyWithOtherHardwareIsRefused(t *testing.T) {
	one := registered(Presence{Disks: []string{"d1", "d2"}, Boot: "1"})
	for name, v := range map[string]struct {
		p    Presence
		copy bool
	}{
		"itself":             {Presence{Identity: "m", Disks: []string{"d1", "d2"}, Boot: "1"}, false},
		"a disk replaced":    {Presence{Identity: "m", Disks: []string{"d2", "d3"}, Boot: "1"}, false},
		"disks without name": {Presence{Identity: "m", Boot: "1"}, false},
		"another machine id": {Presence{Identity: "n", Disks: []string{"d1", "d2"}, Boot: "1"}, true},
		"other disks":        {Presence{Identity: "m", Disks: []string{"d3", "d4"}, Boot: "1"}, true},
		"nothing said":       {Presence{}, true},
	} {
		err := recogniser().recognise(one, v.p, time.Now())
		require.Equal(t, v.copy, fault.Is(err, fault.Fenced), "%s: %v", name, err)
		require.Equal(t, v.copy, err != nil, "%s: %v", name, err)
	}
	named := registered(Presence{})
	named.UserProvidedID, named.Identity = "web", "web\nm"
	require.NoError(t, recogniser().recognise(named, Presence{Identity: "m"}, time.Now()))
}

// Two machines that look the same in all but the start of their kernels: whichever comes second waits, and is refused
// as soon as the first is heard of again.
func TestACopyThatLooksTheSameNeverGetsIn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		v := recogniser()
		one := registered(Presence{Boot: "1"})
		begun := time.Now() // of the copy
		for range 20 {
			require.NoError(t, v.recognise(one, Presence{Identity: "m", Boot: "1", Up: time.Hour + time.Since(begun)}, time.Now()))
			v.seen.note(one.ID, time.Now())
			for range 3 {
				<-time.After(replication.HandshakeIdle / 4)
				err := v.recognise(one, Presence{Identity: "m", Boot: "2", Up: time.Since(begun)}, time.Now())
				require.Error(t, err)
				if time.Since(begun) > replication.HandshakeIdle+tolerance {
					requireKind(t, fault.Fenced, err)
				} else {
					require.Contains(t, []fault.Kind{fault.Transient, fault.Fenced}, fault.KindOf(err))
				}
			}
			<-time.After(replication.HandshakeIdle / 4)
		}
	})
}

func TestAMachineMayStartAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		v := recogniser()
		one := registered(Presence{Boot: "1"})
		v.seen.note(one.ID, time.Now())
		<-time.After(time.Second)
		begun := time.Now()
		again := func() error {
			return v.recognise(one, Presence{Identity: "m", Boot: "2", Up: time.Since(begun)}, time.Now())
		}
		<-time.After(3 * time.Second)
		requireKind(t, fault.Transient, again())
		<-time.After(quiet)
		require.NoError(t, again())
	})
}

// What was heard before this process started is not known to it; it believes nobody at once.
func TestAfterAServersRestartACopyWaits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		v := recogniser()
		<-time.After(time.Second)
		copied := Presence{Identity: "m", Boot: "2", Up: time.Hour}
		requireKind(t, fault.Transient, v.recognise(registered(Presence{Boot: "1"}), copied, time.Now()))
		<-time.After(quiet)
		require.NoError(t, v.recognise(registered(Presence{Boot: "1"}), copied, time.Now()))
	})
}

func TestACopyCannotRegisterInItsPlace(t *testing.T) {
	v, _ := ready(t)
	r := machine("/dev/vda")
	r.Presence = Presence{Boot: "1", Up: time.Hour}
	first, err := v.Register(t.Context(), drs, r)
	require.NoError(t, err)
	again, err := v.Register(t.Context(), drs, r)
	require.NoError(t, err, "the same machine may, as often as it likes")
	require.Equal(t, first.ID, again.ID)
	r.Presence.Boot = "2"
	_, err = v.Register(t.Context(), drs, r)
	requireKind(t, fault.Fenced, err)
	require.ErrorContains(t, err, first.ID)
	r.UserProvidedID = "the copy"
	other, err := v.Register(t.Context(), drs, r)
	require.NoError(t, err, "a name of its own makes it one of its own")
	require.NotEqual(t, first.ID, other.ID)
}

func TestAReportUpdatesWhatIsKnownOfTheMachine(t *testing.T) {
	v, _ := ready(t)
	r := machine("/dev/vda")
	v.Recommend(func(p state.SourceProperties) string { return map[uint64]string{8: "m5.large"}[p.RAMBytes] })
	x, err := v.Register(t.Context(), drs, r)
	require.NoError(t, err)
	p := Presence{Identity: r.Identity, Boot: "1", Disks: []string{"d"}}
	_, err = v.Present(t.Context(), drs, x.ID, p, &state.SourceProperties{RAMBytes: 8})
	require.NoError(t, err)
	got, err := v.Present(t.Context(), drs, x.ID, p, nil)
	require.NoError(t, err)
	require.Equal(t, "m5.large", got.Properties.RecommendedType)
	require.Equal(t, state.Machine{Disks: []string{"d"}, Boot: "1"}, got.Machine)
	require.False(t, got.Properties.UpdatedAt.Before(x.Properties.UpdatedAt))
	_, err = v.Present(t.Context(), drs, x.ID, p, &state.SourceProperties{CPUs: make([]state.CPU, maxCPUs+1)})
	requireKind(t, fault.Invalid, err)
	_, err = v.Present(t.Context(), drs, "s-none", p, nil)
	requireKind(t, fault.NotFound, err)
}
