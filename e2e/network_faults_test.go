package e2e

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/drs"
	drstypes "github.com/aws/aws-sdk-go-v2/service/drs/types"
	"github.com/stretchr/testify/require"

	"github.com/understudy-dr/understudy/e2e/harness"
)

// site is a replication server in a network namespace of its own, reached over two links: one for the control port, one for the
// data port. What breaks here are those links, and no process knows of it.
type site struct {
	*one
	ns            string
	control, data link
}

// link is a pair of interfaces: near is this side's, far the server's.
type link struct {
	near, far             string
	subnet, nearIP, farIP string
}

// subnet is four addresses of the range that RFC 2544 sets aside for tests; runs beside this one have others.
func subnet() netip.Prefix {
	n := make([]byte, 2)
	_, _ = rand.Read(n)
	return netip.PrefixFrom(netip.AddrFrom4([4]byte{198, 18 + n[0]>>7, n[0]<<1 | n[1]>>7, n[1] << 2}), 30).Masked()
}

func newSite(t *testing.T) *site {
	t.Helper()
	id := make([]byte, 4)
	_, _ = rand.Read(id)
	s := &site{one: prepareOne(t), ns: "us" + hex.EncodeToString(id)}
	harness.Run(t, "ip", "netns", "add", s.ns)
	t.Cleanup(func() { // its interfaces, and their other ends, go with it
		ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
		defer cancel()
		_, err := harness.Try(ctx, "ip", "netns", "delete", s.ns)
		require.NoError(t, err)
	})
	s.in(t, "ip", "link", "set", "lo", "up")
	s.control, s.data = s.join(t, "c"), s.join(t, "d")
	wrapper := filepath.Join(s.dir, "understudy")
	require.NoError(t, os.WriteFile(wrapper, []byte("#!/bin/sh\nexec "+strings.Join(s.inside(), " ")+" "+harness.Binary(t)+" \"$@\"\n"), 0o700))
	s.server = harness.PrepareServer(t, filepath.Join(s.dir, "server"))
	s.server.Binary, s.server.Endpoint, s.server.DataAddr = wrapper, "https://"+s.control.farIP+":8480", s.data.farIP+":1500"
	s.server.Start(t)
	s.server.InitializeDRS(t)
	return s
}

// slow skips what takes many minutes of waiting.
func slow(t *testing.T, minutes int) {
	t.Helper()
	if os.Getenv("UNDERSTUDY_SLOW") == "" {
		t.Skipf("waits for %d minutes; UNDERSTUDY_SLOW=1 runs it", minutes)
	}
}

// inside begins a command that is to run in the server's namespace. "ip netns exec" would give it mounts of its own as well, copies of all
// there are, and a file system that another test unmounts meanwhile would live on in them.
func (s *site) inside() []string { return []string{"nsenter", "--net=/run/netns/" + s.ns} }

// in runs a command in the server's namespace.
func (s *site) in(t *testing.T, args ...string) {
	t.Helper()
	in := append(s.inside(), args...)
	harness.Run(t, in[0], in[1:]...)
}

func (s *site) join(t *testing.T, kind string) link {
	t.Helper()
	p := subnet()
	near := p.Addr().Next()
	k := link{near: s.ns + kind + "0", far: s.ns + kind + "1", subnet: p.String(), nearIP: near.String(), farIP: near.Next().String()}
	harness.Run(t, "ip", "link", "add", k.near, "type", "veth", "peer", "name", k.far, "netns", s.ns)
	harness.Run(t, "ip", "addr", "add", k.nearIP+"/30", "dev", k.near)
	harness.Run(t, "ip", "link", "set", k.near, "up")
	s.in(t, "ip", "addr", "add", k.farIP+"/30", "dev", k.far)
	s.in(t, "ip", "link", "set", k.far, "up")
	return k
}

// protect starts the agent on this side, which reaches the control port at an address of its own if one is given.
func (s *site) protect(t *testing.T, endpoint string, args ...string) {
	t.Helper()
	here := *s.server
	here.Binary = harness.Binary(t)
	if endpoint != "" {
		here.Endpoint = "https://" + endpoint
	}
	s.agent = here.NewAgent(t, "drs", filepath.Join(s.dir, "agent"), []string{s.disk.Device}, append([]string{"--ring-mib", "16"}, args...)...)
	s.id = s.agent.ServerID(t)
}

// cut loses everything that the server sends over a link, without a word to anybody; mend ends that.
func (s *site) cut(t *testing.T, k link) {
	t.Helper()
	s.in(t, "ip", "route", "add", "blackhole", k.nearIP+"/32")
}

func (s *site) mend(t *testing.T, k link) {
	t.Helper()
	s.in(t, "ip", "route", "delete", "blackhole", k.nearIP+"/32")
}

// becomes waits for a state, asking from beside the server: the way from here may be what is broken.
func (s *site) becomes(t *testing.T, want drstypes.DataReplicationState, limit time.Duration) (code, raw string) {
	t.Helper()
	harness.Eventually(t, limit, string(want), func() (bool, string) {
		cmd := exec.CommandContext(t.Context(), s.inside()[0], s.inside()[1], harness.AWSCLI, "--endpoint-url", s.server.Endpoint, "--output", "json",
			"drs", "describe-source-servers", "--filters", "sourceServerIDs="+s.id)
		cmd.Env = s.server.Env()
		out, err := cmd.Output()
		if err != nil {
			return false, err.Error()
		}
		var list struct {
			Items []struct {
				DataReplicationInfo struct {
					DataReplicationState drstypes.DataReplicationState
					DataReplicationError struct{ Error, RawError string }
				}
			}
		}
		if err := json.Unmarshal(out, &list); err != nil || len(list.Items) != 1 {
			return false, fmt.Sprintf("%v %s", err, out)
		}
		i := list.Items[0].DataReplicationInfo
		code, raw = i.DataReplicationError.Error, i.DataReplicationError.RawError
		return i.DataReplicationState == want, fmt.Sprint(i)
	})
	t.Logf("%s %s: %s", want, code, raw)
	return code, raw
}

// fails waits until replication is STALLED, and for nothing else.
func (s *site) fails(t *testing.T, want drstypes.DataReplicationErrorString, says string, limit time.Duration) {
	t.Helper()
	code, raw := s.becomes(t, drstypes.DataReplicationStateStalled, limit)
	require.EqualValues(t, want, code)
	require.Contains(t, raw, says)
}

// whole: replication is well again by itself, and the replica is the disk.
func (s *site) whole(t *testing.T, limit time.Duration) {
	t.Helper()
	s.server.WaitState(t, s.id, drstypes.DataReplicationStateContinuous, limit)
	s.same(t)
}

// The way to the control port is gone; the one for data is not.
func TestNetworkLosesTheControlPort(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	s.protect(t, "")
	s.continuous(t)
	s.cut(t, s.control)
	s.write(t, "meanwhile", 2<<20)
	s.fails(t, drstypes.DataReplicationErrorStringAgentNotSeen, "last seen at", 2*time.Minute)
	s.mend(t, s.control)
	s.whole(t, 2*time.Minute)
	require.Len(t, s.points(t).Windows, 1, "no order was given up")
}

// The link for data breaks again and again, each time for longer than a connection lives.
func TestNetworkIsUnstable(t *testing.T) {
	t.Parallel()
	slow(t, 8)
	s := newSite(t)
	s.protect(t, "")
	s.continuous(t)
	for range 5 {
		before := s.peers(t)
		s.cut(t, s.data)
		s.write(t, "while it is cut", 1<<20) // so that both sides notice
		wait(t, 20*time.Second)
		s.mend(t, s.data)
		harness.Eventually(t, time.Minute, "another connection", func() (bool, string) {
			now := s.peers(t)
			return slices.ContainsFunc(now, func(p string) bool { return !slices.Contains(before, p) }), fmt.Sprint(now)
		})
	}
	s.fails(t, drstypes.DataReplicationErrorStringUnstableNetwork, "the data connection broke 5 times", time.Minute)
	s.whole(t, 5*time.Minute)
}

// peers are who is connected to the data port; the server may not have noticed yet that one of them is not any more.
func (s *site) peers(t *testing.T) (out []string) {
	t.Helper()
	list := harness.Run(t, s.inside()[0], s.inside()[1], "ss", "-Htn", "state", "established", "src", s.server.DataAddr)
	for line := range strings.Lines(list) {
		out = append(out, strings.Fields(line)[3])
	}
	return out
}

// The data port is closed by something in between.
func TestNetworkBlocksTheDataPort(t *testing.T) {
	t.Parallel()
	slow(t, 7)
	s := newSite(t)
	s.cut(t, s.data)
	s.protect(t, "")
	s.fails(t, drstypes.DataReplicationErrorStringFailedToConnectAgentToReplicationServer, "did not connect to the replication server's data port", 7*time.Minute)
	s.mend(t, s.data)
	s.whole(t, 2*time.Minute)
}

// Both sides send jumbo frames, and something in between takes none: the connection is made, for its packets are small, and
// breaks as soon as there is data to send.
func TestNetworkLosesFullPackets(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	harness.Run(t, "ip", "link", "set", s.data.near, "mtu", "9000", "gso_max_segs", "1") // packets are packets
	s.in(t, "ip", "link", "set", s.data.far, "mtu", "4000")
	s.in(t, "ip", "route", "change", s.data.subnet, "dev", s.data.far, "src", s.data.farIP, "advmss", "8960") // it does not know of it
	s.protect(t, "")
	s.fails(t, drstypes.DataReplicationErrorStringUnstableNetwork, "the data connection broke 5 times", 4*time.Minute)
	s.in(t, "ip", "link", "set", s.data.far, "mtu", "9000")
	s.whole(t, 5*time.Minute)
}

// More is written than the link carries, for longer than memory lasts.
func TestNetworkIsTooSlow(t *testing.T) {
	t.Parallel()
	slow(t, 35)
	s := newSite(t)
	harness.Run(t, "tc", "qdisc", "add", "dev", s.data.near, "root", "tbf", "rate", "2mbit", "burst", "32kb", "latency", "400ms")
	s.protect(t, "", "--ring-mib", "1", "--backlog-mib", "1")
	ctx, stop := context.WithCancel(t.Context())
	var writing sync.WaitGroup
	writing.Go(func() {
		pace := time.NewTicker(time.Second) // sixteen times the link, and no more: it goes on for half an hour
		defer pace.Stop()
		for n := 0; ; n++ {
			if err := churn(filepath.Join(s.mount, "churn"), n); err != nil {
				t.Error(err)
				return
			}
			select {
			case <-ctx.Done():
				return
			case <-pace.C:
			}
		}
	})
	defer writing.Wait()
	defer stop()
	s.fails(t, drstypes.DataReplicationErrorStringNotConverging, "writes outran the link: the copy began anew", 45*time.Minute)
	stop()
	writing.Wait()
	harness.Run(t, "tc", "qdisc", "delete", "dev", s.data.near, "root")
	s.whole(t, 5*time.Minute)
}

// churn writes a few mebibytes that nothing can compress, past the page cache's patience.
func churn(path string, n int) error {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_WRONLY|syscall.O_DSYNC, 0o600)
	if err != nil {
		return err
	}
	defer f.Close()
	b := make([]byte, 4<<20)
	_, _ = rand.Read(b)
	_, err = f.WriteAt(b, int64(n%2)*int64(len(b)))
	return err
}

// Another program has the data port.
func TestNetworkDataPortIsTaken(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	other := exec.Command(s.server.Binary, "serve", "--data-dir", filepath.Join(s.dir, "other"), "--listen", s.server.DataAddr, "--data-listen", "127.0.0.1:1500",
		"--metrics-listen", "", "--region", harness.Region, "--account-id", harness.Account)
	p := harness.Start(t, "another server", other)
	harness.Eventually(t, time.Minute, "it listens", func() (bool, string) {
		c, err := net.DialTimeout("tcp", s.server.DataAddr, time.Second)
		if err != nil {
			return false, err.Error() + p.Log()
		}
		c.Close()
		return true, ""
	})
	s.protect(t, "")
	s.fails(t, drstypes.DataReplicationErrorStringFailedToLaunchReplicationServer, "address already in use", time.Minute)
	p.Stop(t)
	s.retry(t)
	s.whole(t, 2*time.Minute)
}

// The server's machine cannot reach its own addresses.
func TestNetworkServerCannotReachItself(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	s.in(t, "ip", "link", "set", "lo", "down")
	s.protect(t, "")
	harness.Eventually(t, 2*time.Minute, "it stalls", func() (bool, string) {
		v, err := s.server.Describe(t, s.server.DRS(t), s.id)
		if err != nil {
			return false, err.Error()
		}
		e := v.DataReplicationInfo.DataReplicationError
		return e != nil && e.Error == drstypes.DataReplicationErrorStringFailedToBootReplicationServer, fmt.Sprint(v.DataReplicationInfo.DataReplicationState, e)
	})
	s.in(t, "ip", "link", "set", "lo", "up")
	s.retry(t)
	s.whole(t, 2*time.Minute)
}

// Something in between takes what the agent says to the control port and hands nothing back, so the agent is seen and learns
// nothing.
func TestNetworkSwallowsAnswers(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	m := newMute(t, strings.TrimPrefix(s.server.Endpoint, "https://"))
	s.protect(t, m.addr)
	s.continuous(t)
	_, err := s.server.DRS(t).StopReplication(t.Context(), &drs.StopReplicationInput{SourceServerID: &s.id})
	require.NoError(t, err)
	s.server.WaitState(t, s.id, drstypes.DataReplicationStateStopped, time.Minute)
	m.mute.Store(true)
	_, err = s.server.DRS(t).StartReplication(t.Context(), &drs.StartReplicationInput{SourceServerID: &s.id})
	require.NoError(t, err)
	s.fails(t, drstypes.DataReplicationErrorStringFailedToPairReplicationServerWithAgent, "did not confirm the replication server's address", 4*time.Minute)
	m.mute.Store(false)
	s.whole(t, 3*time.Minute)
}

// mute is a middlebox that can lose all that comes back.
type mute struct {
	addr string
	to   string
	mute atomic.Bool
	wg   sync.WaitGroup

	mu    sync.Mutex
	conns []net.Conn
}

func newMute(t *testing.T, to string) *mute {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	m := &mute{addr: l.Addr().String(), to: to}
	m.wg.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			m.wg.Go(func() { m.pass(c) })
		}
	})
	t.Cleanup(func() {
		l.Close()
		m.mu.Lock()
		for _, c := range m.conns {
			c.Close()
		}
		m.mu.Unlock()
		m.wg.Wait()
	})
	return m
}

func (m *mute) pass(in net.Conn) {
	defer in.Close()
	out, err := net.Dial("tcp", m.to)
	if err != nil {
		return
	}
	defer out.Close()
	m.mu.Lock()
	m.conns = append(m.conns, in, out)
	m.mu.Unlock()
	var both sync.WaitGroup
	both.Go(func() {
		defer out.Close()
		_, _ = io.Copy(out, in) // its end is no news
	})
	both.Go(func() {
		defer in.Close()
		buf := make([]byte, 64<<10)
		for {
			n, err := out.Read(buf)
			if err == nil && !m.mute.Load() {
				_, err = in.Write(buf[:n])
			}
			if err != nil {
				return
			}
		}
	})
	both.Wait()
}
