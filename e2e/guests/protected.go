package guests

import (
	"encoding/json"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	drstypes "github.com/aws/aws-sdk-go-v2/service/drs/types"
	"github.com/stretchr/testify/require"

	"github.com/understudy-dr/understudy/e2e/harness"
	"github.com/understudy-dr/understudy/internal/app/agent"
	"github.com/understudy-dr/understudy/internal/consistency"
	"github.com/understudy-dr/understudy/internal/operatorapi/schema"
)

// Protected is a guest whose agent replicates to a server on this machine.
type Protected struct {
	*Guest
	Server *harness.Server
	ID     string
	port   string // of the server's data
}

// syncLimit is how long a first copy of some hundred MiB may take: TLS alone costs an emulated processor 0.1 s a MiB.
const syncLimit = 45 * time.Minute

// pollEvery is how often a guest or its server is asked for news.
const pollEvery = 2 * time.Second

// patience is how long anything may take that is not a copy.
const patience = 20 * time.Minute

// Serve starts a server that guests reach.
func Serve(t *testing.T) *harness.Server {
	t.Helper()
	s := harness.PrepareServer(t, filepath.Join(t.TempDir(), "server"))
	_, port, err := net.SplitHostPort(s.DataAddr)
	require.NoError(t, err)
	s.Args = []string{"--advertise", net.JoinHostPort(HostAddress, port)}
	s.Start(t)
	s.InitializeDRS(t)
	return s
}

// Meet lets a guest know a server, and examines it with the doctor.
func Meet(t *testing.T, g *Guest, s *harness.Server) *Protected {
	t.Helper()
	ca, err := os.ReadFile(s.CA())
	require.NoError(t, err)
	g.Put(t, "/root/ca.pem", ca)
	_, port, err := net.SplitHostPort(s.DataAddr)
	require.NoError(t, err)
	return &Protected{Guest: g, Server: s, port: port}
}

// reach is the flags that lead to the server.
func (p *Protected) reach() string {
	return strings.Replace(" --endpoint "+p.Server.Endpoint+" --ca-cert /root/ca.pem --data-address "+HostAddress+":"+p.port+" --ring-mib 32", "127.0.0.1", HostAddress, 1)
}

// Doctor examines the guest.
func (p *Protected) Doctor(t *testing.T, flags string) map[string]agent.Check {
	t.Helper()
	var d agent.Diagnosis
	p.JSON(t, &d, Program+" agent doctor --json"+p.reach()+" "+flags)
	found := map[string]agent.Check{}
	for _, c := range d.Checks {
		t.Logf("doctor: %-8s %s: %s", c.Verdict, c.Name, c.Found)
		found[c.Name] = c
	}
	return found
}

// Install installs the agent as the documentation says.
func (p *Protected) Install(t *testing.T, flags string) {
	t.Helper()
	credentials, err := os.ReadFile(p.Server.Credentials())
	require.NoError(t, err)
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("the agent's log:\n%s", p.Journal(t))
		}
	})
	began := time.Now()
	p.Put(t, "/run/aws-credentials", credentials)
	out := p.Run(t, "export AWS_SHARED_CREDENTIALS_FILE=/run/aws-credentials AWS_PROFILE=understudy\n"+
		Program+" agent install --no-prompt --region "+harness.Region+p.reach()+" "+flags)
	p.Run(t, "rm /run/aws-credentials") // registering is over
	p.ID = regexp.MustCompile(`s-[0-9a-f]{17}`).FindString(out)
	require.NotEmpty(t, p.ID, out)
	t.Logf("installed in %s", time.Since(began).Round(time.Second))
}

// milestones prints when the running agent came to what, counted from its start, until it was first connected.
const milestones = `of=understudy-agent; began=$(systemctl show -P ExecMainStartTimestampMonotonic $of)
journalctl _SYSTEMD_INVOCATION_ID=$(systemctl show -P InvocationID $of) -o short-monotonic --no-pager |
	awk -v began=$began 'match($0, /msg=("[^"]*"|[^ ]*)/) && !found {
		what = substr($0, RSTART + 4, RLENGTH - 4); sub(/^\[ */, ""); printf "%s %.1f s, ", what, $1 - began / 1e6; found = what == "connected"
	} END {exit !found}'
`

// Continuous waits until replication is, and logs what it took.
func (p *Protected) Continuous(t *testing.T) drstypes.SourceServer {
	t.Helper()
	began := time.Now()
	v := p.Server.WaitState(t, p.ID, drstypes.DataReplicationStateContinuous, syncLimit)
	s := p.Status(t)
	t.Logf("continuous after %s: epoch %d (%s), %d KiB read or captured, %d KiB on the wire", time.Since(began).Round(time.Second),
		s.Epoch, s.Reason, s.RawBytes>>10, s.WireBytes>>10)
	if reached, err := p.Try(t, milestones); err == nil {
		t.Logf("  after the agent's start: %s", strings.TrimSuffix(strings.TrimSpace(reached), ","))
	}
	for _, d := range s.Disks {
		t.Logf("  %s: %d MiB, %d MiB unused, %d KiB the same", d.Device, d.Total>>20, d.Unused>>20, d.Same>>10)
	}
	return v
}

// Status is the agent's own.
func (p *Protected) Status(t *testing.T) agent.Status {
	t.Helper()
	var s agent.Status
	p.JSON(t, &s, Program+" agent status --json")
	return s
}

// Journal is what systemd has of the agent's log.
func (p *Protected) Journal(t *testing.T) string {
	t.Helper()
	if p.Ended() {
		return "the guest is off"
	}
	out, err := p.Try(t, "journalctl -u understudy-agent -o cat --no-pager | tail -n 40")
	if err != nil {
		return err.Error()
	}
	return out
}

// Point makes an application-consistent point on the guest, which holds all its file systems still.
func (p *Protected) Point(t *testing.T) consistency.Point {
	t.Helper()
	var out consistency.Point
	p.JSON(t, &out, Program+" agent point --json")
	t.Logf("point at %d: %v frozen for %s, warnings %q", out.Position, out.FileSystems, out.Held, out.Warnings)
	return out
}

// Points is what the server can recover.
func (p *Protected) Points(t *testing.T) schema.Points {
	t.Helper()
	var out schema.Points
	require.NoError(t, json.Unmarshal([]byte(p.Server.CLI(t, "points", "--json", p.ID)), &out))
	return out
}

// Kept waits until the server has made recovery points of so many that are application consistent, and returns them in their order.
func (p *Protected) Kept(t *testing.T, n int) (kept []schema.Point) {
	t.Helper()
	harness.EventuallyEvery(t, pollEvery, patience, fmt.Sprintf("%d application-consistent points are kept", n), func() (bool, string) {
		kept = slices.DeleteFunc(p.Points(t).Points, func(k schema.Point) bool { return k.Consistency != "application" })
		return len(kept) >= n, fmt.Sprintf("%d are", len(kept))
	})
	require.Len(t, kept, n)
	return kept
}

// Settled waits until what was written up to now, by the guest's clock, is recoverable.
func (p *Protected) Settled(t *testing.T) {
	t.Helper()
	now, err := time.Parse(time.RFC3339Nano, p.Run(t, "date -u +%Y-%m-%dT%H:%M:%S.%NZ"))
	require.NoError(t, err)
	harness.EventuallyEvery(t, pollEvery, patience, "what was written is recoverable", func() (bool, string) {
		latest := p.Points(t).Latest
		return latest != nil && latest.Time.After(now), fmt.Sprintf("latest %v, wanted after %s", latest, now)
	})
}

// Export writes a disk at a chosen instant to a file.
func (p *Protected) Export(t *testing.T, device string, choice ...string) string {
	t.Helper()
	out := filepath.Join(t.TempDir(), filepath.Base(device)+".raw")
	p.Server.CLI(t, append(append([]string{"export", "--server", p.ID, "--device", device}, choice...), out)...)
	return out
}
