package capture

import (
	"bufio"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/understudy-dr/understudy/internal/blockdev"
	"github.com/understudy-dr/understudy/internal/fault"
)

// childOptions makes the test binary open a capture, take one record and wait to be killed.
const childOptions = "UNDERSTUDY_CAPTURE_CHILD"

func TestMain(m *testing.M) {
	if text := os.Getenv(childOptions); text != "" {
		child(text)
	}
	os.Exit(m.Run())
}

func child(text string) {
	var o Options
	if err := json.Unmarshal([]byte(text), &o); err != nil {
		panic(err)
	}
	c, err := Open(o)
	if err != nil {
		panic(err)
	}
	c.SetMeta(3, 42)
	c.Debt(o.Disks[0].Index).Set(1, 3)
	os.Stdout.WriteString("open\n")
	select {}
}

// writer writes random blocks until it is stopped.
func writer(t *testing.T, d Disk) (stop func()) {
	rng := seeded(t)
	stopping, stopped := make(chan struct{}), make(chan struct{})
	buffer := randomBuffer(rng, 256<<10)
	go func() {
		defer close(stopped)
		for {
			select {
			case <-stopping:
				return
			default:
				n := (1 + rng.Int64N(128)) << 9
				writeDirect(t, d, buffer[:n], rng.Int64N(int64(d.Bytes)-n)&^511)
			}
		}
	}()
	return func() { close(stopping); <-stopped }
}

// Closing and opening again, while writes go on, loses nothing.
func TestReopenLosesNothing(t *testing.T) {
	needKernel(t)
	d := testDisk(t, 6, 32<<20)
	o := testOptions(t, 64<<20, d)
	c := open(t, o)
	require.True(t, c.Fresh())
	id := c.ID()
	rep := newReplica(c, d)
	stop := writer(t, d)
	for range 5 {
		before := c.Producer()
		eventually(t, "writes go on", func() bool { return c.Producer() > before })
		require.NoError(t, rep.take(c))
		require.NoError(t, c.Close())
		c = open(t, o)
		require.False(t, c.Fresh())
		require.Equal(t, id, c.ID())
		require.Equal(t, rep.next, c.Consumer())
	}
	stop()
	require.NoError(t, rep.take(c))
	require.Zero(t, c.Drops())
	rep.requireSame(t, d)
}

// A killed agent loses nothing: the next one finds the ring, the cells and the debt as they were.
func TestKilledProcessLosesNothing(t *testing.T) {
	needKernel(t)
	d := testDisk(t, 6, 32<<20)
	o := testOptions(t, 64<<20, d)
	o.Log = nil
	text, err := json.Marshal(o)
	require.NoError(t, err)
	agent := exec.Command(os.Args[0])
	agent.Env = append(os.Environ(), childOptions+"="+string(text))
	agent.Stderr = t.Output()
	out, err := agent.StdoutPipe()
	require.NoError(t, err)
	require.NoError(t, agent.Start())
	t.Cleanup(func() { _ = agent.Process.Kill(); _ = agent.Wait() })
	line, err := bufio.NewReader(out).ReadString('\n')
	require.NoError(t, err)
	require.Equal(t, "open\n", line)

	_, err = Open(o)
	require.True(t, fault.Is(err, fault.Conflict), "a capture that another process has open: %v", err)
	require.True(t, fault.Is(Remove(o.PinDir), fault.Conflict))

	stop := writer(t, d)
	require.NoError(t, agent.Process.Kill())
	_ = agent.Wait()
	c := open(t, o)
	before := c.Producer()
	eventually(t, "writes go on", func() bool { return c.Producer() > before })
	stop()
	require.False(t, c.Fresh())
	require.EqualValues(t, 42, c.Meta(3))
	require.EqualValues(t, 2, c.Debt(6).Count())
	rep := newReplica(c, d)
	require.Zero(t, rep.next, "nobody has released anything")
	require.NoError(t, rep.take(c))
	require.Zero(t, c.Drops())
	rep.requireSame(t, d)
}

// What differs from the pinned capture makes a new one, other disks excepted; so does a new format version.
func TestOpenMakesAnewWhatDiffers(t *testing.T) {
	needKernel(t)
	a, b := testDisk(t, 1, 4<<20), testDisk(t, 2, 4<<20)
	o := testOptions(t, 64<<10, a)
	c := open(t, o)
	id := c.ID()
	reopen := func(fresh bool) {
		t.Helper()
		require.NoError(t, c.Close())
		c = open(t, o)
		require.Equal(t, fresh, c.Fresh())
		require.Equal(t, fresh, c.ID() != id)
		id = c.ID()
	}
	reopen(false)
	o.Disks = []Disk{a, b}
	reopen(false)
	o.Disks[1].Index = 3
	reopen(false)
	o.RingBytes *= 2
	reopen(true)
	o.Owner = "s-another"
	reopen(true)
	c.SetMeta(0, 1)
	reopen(false)
	require.EqualValues(t, 1, c.Meta(0))
	c.control.complete = formatVersion + 1
	reopen(true)
	require.Zero(t, c.Meta(0))
}

// Remove leaves no pin behind and no program attached.
func TestRemove(t *testing.T) {
	needKernel(t)
	d := testDisk(t, 1, 4<<20)
	o := testOptions(t, 64<<10, d)
	require.NoError(t, Remove(o.PinDir), "nothing to remove")
	c := open(t, o)
	disks, err := c.disks.Clone()
	require.NoError(t, err)
	defer disks.Close()
	written := func() uint64 {
		writeDirect(t, d, blockdev.AlignedBuffer(4096), 0)
		var e diskEntry
		require.NoError(t, disks.Lookup(deviceKey(d.dev()), &e))
		return e.Written
	}
	require.EqualValues(t, 8, written())
	require.NoError(t, c.Close())
	require.EqualValues(t, 16, written(), "closing does not detach")
	require.NoError(t, Remove(o.PinDir))
	eventually(t, "the kernel has detached the program", func() bool {
		before := written()
		return written() == before
	})
	entries, err := os.ReadDir(filepath.Dir(o.PinDir))
	require.NoError(t, err)
	for _, e := range entries {
		require.Contains(t, e.Name(), ".debug", "the bpffs's own")
	}
	require.NoError(t, Remove(o.PinDir))
}

// Pins that lack anything, or the last step, are made anew.
func TestHalfMadePins(t *testing.T) {
	needKernel(t)
	d := testDisk(t, 1, 4<<20)
	o := testOptions(t, 64<<10, d)
	c := open(t, o)
	c.control.complete = 0
	require.NoError(t, c.Close())
	c = open(t, o)
	require.True(t, c.Fresh())
	for _, pin := range []string{"queue", "rq_complete_twin", "meta", "owner"} {
		require.NoError(t, c.Close())
		require.NoError(t, os.Remove(filepath.Join(o.PinDir, pin)))
		c = open(t, o)
		require.True(t, c.Fresh(), pin)
		writeDirect(t, d, blockdev.AlignedBuffer(4096), 0)
		require.Positive(t, c.Producer(), "%s: it captures", pin)
	}
}

// A disk that a sibling captures is refused, naming the sibling, until that is removed.
func TestConflictWithSibling(t *testing.T) {
	needKernel(t)
	shared, other := testDisk(t, 1, 4<<20), testDisk(t, 2, 4<<20)
	first := testOptions(t, 64<<10, shared)
	c := open(t, first)
	require.NoError(t, c.Close(), "it captures on")
	second := first
	second.PinDir, second.Owner, second.Disks = filepath.Join(filepath.Dir(first.PinDir), "second"), "s-second", []Disk{other, shared}
	_, err := Open(second)
	require.True(t, fault.Is(err, fault.Conflict), err)
	require.ErrorContains(t, err, first.PinDir)
	require.ErrorContains(t, err, first.Owner)

	was := owner{Disks: []ownedDisk{{Disk: shared, Sequence: 7}}}
	require.True(t, was.captures(ownedDisk{Disk: shared, Sequence: 7}))
	require.False(t, was.captures(ownedDisk{Disk: shared, Sequence: 8}), "another disk that got the device number")

	second.Disks = []Disk{other}
	open(t, second)
	require.NoError(t, Remove(first.PinDir))
	third := second
	third.PinDir, third.Disks = first.PinDir, []Disk{shared}
	open(t, third)
}
