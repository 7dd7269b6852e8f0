package agent

import (
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/understudy-dr/understudy/internal/blockdev"
	"github.com/understudy-dr/understudy/internal/fault"
	"github.com/understudy-dr/understudy/internal/pki"
)

// verdict is the check of a name, which must be there.
func (d Diagnosis) verdict(t *testing.T, name string) Check {
	t.Helper()
	for _, c := range d.Checks {
		if c.Name == name {
			return c
		}
	}
	t.Fatalf("no check %q in %+v", name, d)
	return Check{}
}

func disksOf(named bool, infos ...blockdev.Info) *Diagnosis {
	d := &Diagnosis{}
	d.examineDisks(infos, named, blockdev.Dev{})
	return d
}

func TestEveryRefusedDiskIsTold(t *testing.T) {
	disk := func(change func(*blockdev.Info)) blockdev.Info {
		i := blockdev.Info{Path: "/dev/sdx", Name: "sdx", Dev: blockdev.Dev{Major: 4000}, Disk: blockdev.Dev{Major: 4000}, Bytes: 1 << 30, Serial: "s"}
		change(&i)
		return i
	}
	for name, v := range map[string]struct {
		disk blockdev.Info
		says string
	}{
		"zoned":     {disk(func(i *blockdev.Info) { i.Zoned = true }), "zoned"},
		"partition": {disk(func(i *blockdev.Info) { i.Dev.Minor = 1 }), "partition"},
		"tiny":      {disk(func(i *blockdev.Info) { i.Bytes = 512 }), "512 bytes"},
	} {
		c := disksOf(true, v.disk).verdict(t, "disk /dev/sdx")
		require.Equal(t, Failed, c.Verdict, name)
		require.Contains(t, c.Found, v.says, name)
		require.NotEmpty(t, c.Do, name)
		require.Equal(t, Warning, disksOf(false, v.disk).verdict(t, "disk /dev/sdx").Verdict, "nobody asked for it")
	}
	for name, says := range map[string]string{"dm-3": "device-mapper", "md0": "RAID", "loop7": "a file", "zram0": "memory"} {
		c := disksOf(true, disk(func(i *blockdev.Info) { i.Name = name })).verdict(t, "disk /dev/sdx")
		require.Equal(t, Warning, c.Verdict, name)
		require.Contains(t, c.Found, says)
	}
}

func TestDisksWithOneNameAreTold(t *testing.T) {
	a := blockdev.Info{Path: "/dev/sda", Bytes: 1 << 30, WWN: "naa.1", Serial: "one"}
	b := blockdev.Info{Path: "/dev/sdb", Bytes: 1 << 30, WWN: "naa.1", Serial: "two"}
	c := disksOf(true, a, b).verdict(t, "disk identities")
	require.Equal(t, Failed, c.Verdict)
	require.Contains(t, c.Found, "/dev/sda and /dev/sdb")
	b.WWN = "naa.2"
	require.Equal(t, Good, disksOf(true, a, b).verdict(t, "disk identities").Verdict)
	require.NoError(t, sameDisk([]blockdev.Info{{Path: "/dev/vda"}, {Path: "/dev/vdb"}}), "no name is nobody's name")
}

func TestOnlyFailuresFail(t *testing.T) {
	d := Diagnosis{}
	d.good("a", "x")
	d.add(Check{"b", Warning, "x", "y"})
	require.NoError(t, d.Err())
	var fine strings.Builder
	d.Print(&fine)
	require.Contains(t, fine.String(), "this machine can be replicated")
	d.check("c", "", fault.New(fault.Denied, "op", "why").WithHint("do this"))
	require.ErrorContains(t, d.Err(), "c")
	require.Equal(t, Check{"c", Failed, "why", "do this"}, d.Checks[2])
	var out strings.Builder
	d.Print(&out)
	require.Contains(t, out.String(), "-> do this")
	require.NotContains(t, out.String(), "can be replicated")
}

// controlPort answers with a clock that is off by ahead, under a CA whose file it returns.
func controlPort(t *testing.T, behind time.Duration) (endpoint, ca string) {
	t.Helper()
	dir := t.TempDir()
	authority, err := pki.Open(dir)
	require.NoError(t, err)
	pair, err := authority.Server()
	require.NoError(t, err)
	srv := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Date", time.Now().Add(-behind).UTC().Format(http.TimeFormat))
		w.WriteHeader(http.StatusForbidden)
	}))
	srv.TLS = authority.ServerTLS(pair)
	srv.StartTLS()
	t.Cleanup(srv.Close)
	ca = filepath.Join(dir, "trust.pem")
	require.NoError(t, os.WriteFile(ca, authority.CertificatePEM(), 0o600))
	return srv.URL, ca
}

func network(t *testing.T, e Examination) *Diagnosis {
	d := &Diagnosis{}
	d.network(t.Context(), e)
	return d
}

func TestPortsAndClock(t *testing.T) {
	for behind, want := range map[time.Duration]string{0: Good, 30 * time.Second: Warning, -time.Minute: Warning, time.Hour: Failed} {
		endpoint, ca := controlPort(t, behind)
		d := network(t, Examination{Endpoint: endpoint, CACert: ca, DataAddress: strings.TrimPrefix(endpoint, "https://")})
		require.Equal(t, Good, d.verdict(t, "control port").Verdict, "any answer is one")
		require.Equal(t, want, d.verdict(t, "clock").Verdict, "%s: %+v", behind, d.Checks)
	}
	endpoint, ca := controlPort(t, 0)
	_, other := controlPort(t, 0)
	c := network(t, Examination{Endpoint: endpoint, CACert: other}).verdict(t, "control port")
	require.Equal(t, Failed, c.Verdict)
	require.Contains(t, c.Do, "--ca-cert")

	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	closed := l.Addr().String()
	require.NoError(t, l.Close())
	c = network(t, Examination{Endpoint: endpoint, CACert: ca, DataAddress: closed}).verdict(t, "data port")
	require.Equal(t, Warning, c.Verdict, "it is opened for the first agent")
	c = network(t, Examination{Endpoint: endpoint, CACert: ca, DataAddress: "no-such-host.invalid:1500"}).verdict(t, "data port")
	require.Equal(t, Failed, c.Verdict)
	require.Contains(t, c.Do, "firewalls")
	c = network(t, Examination{Endpoint: "https://" + closed, CACert: ca}).verdict(t, "control port")
	require.Equal(t, Failed, c.Verdict)
	require.Equal(t, Failed, network(t, Examination{Endpoint: "http://x", CACert: ca}).verdict(t, "control port").Verdict)
}

func TestProxyAddress(t *testing.T) {
	for _, bad := range []string{"proxy:3128", "ftp://proxy/", "https://"} {
		_, err := proxyOf(bad)
		require.True(t, fault.Is(err, fault.Invalid), bad)
	}
	p, err := proxyOf("https://proxy:3128/")
	require.NoError(t, err)
	u, err := p(httptest.NewRequest(http.MethodGet, "https://server", nil))
	require.NoError(t, err)
	require.Equal(t, "proxy:3128", u.Host)
}

func TestExamineThisMachine(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("needs root: it loads BPF programs")
	}
	d := Examine(t.Context(), Examination{Devices: []string{"/dev/none"}, RingBytes: 1 << 20})
	require.Equal(t, Good, d.verdict(t, "kernel: capture programs").Verdict, "%+v", d.Checks)
	require.Equal(t, Failed, d.verdict(t, "disk /dev/none").Verdict)
	require.ErrorContains(t, d.Err(), "/dev/none")
}
