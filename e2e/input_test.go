package e2e

import (
	"bytes"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/hex"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	v4 "github.com/aws/aws-sdk-go-v2/aws/signer/v4"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/drs"
	drstypes "github.com/aws/aws-sdk-go-v2/service/drs/types"
	"github.com/aws/smithy-go"
	"github.com/stretchr/testify/require"

	"github.com/understudy-dr/understudy/e2e/harness"
)

// signed is one request made and signed by hand; what a case leaves empty is right.
type signed struct {
	path, body, secret, key, region, service string
	at                                       time.Time
}

// do sends it and returns status, error code and message.
func (q signed) do(t *testing.T, s *harness.Server) (status int, code, message string) {
	t.Helper()
	cfg := s.Config(t)
	creds, err := cfg.Credentials.Retrieve(t.Context())
	require.NoError(t, err)
	or := func(v *string, otherwise string) {
		if *v == "" {
			*v = otherwise
		}
	}
	or(&q.path, "/DescribeSourceServers")
	or(&q.body, "{}")
	or(&q.region, harness.Region)
	or(&q.service, "drs")
	or(&q.key, creds.AccessKeyID)
	or(&q.secret, creds.SecretAccessKey)
	if q.at.IsZero() {
		q.at = time.Now()
	}
	r, err := http.NewRequestWithContext(t.Context(), http.MethodPost, s.Endpoint+q.path, strings.NewReader(q.body))
	require.NoError(t, err)
	r.Header.Set("Content-Type", "application/json")
	sum := sha256.Sum256([]byte(q.body))
	require.NoError(t, v4.NewSigner().SignHTTP(t.Context(), aws.Credentials{AccessKeyID: q.key, SecretAccessKey: q.secret}, r,
		hex.EncodeToString(sum[:]), q.service, q.region, q.at))
	resp, err := cfg.HTTPClient.Do(r)
	require.NoError(t, err)
	return answer(t, resp)
}

func answer(t *testing.T, resp *http.Response) (status int, code, message string) {
	t.Helper()
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	require.NoError(t, err)
	require.NotEmpty(t, resp.Header.Get("X-Amzn-Requestid"))
	t.Logf("%d %s %s", resp.StatusCode, resp.Header.Get("X-Amzn-Errortype"), b)
	return resp.StatusCode, resp.Header.Get("X-Amzn-Errortype"), string(b)
}

func TestBadRequests(t *testing.T) {
	t.Parallel()
	s := harness.NewServer(t, filepath.Join(t.TempDir(), "server"))
	s.InitializeDRS(t)
	for _, c := range []struct {
		name    string
		request signed
		status  int
		code    string
		message string
	}{
		{"nothing wrong", signed{}, 200, "", `"items"`},
		{"wrong secret", signed{secret: "wrong"}, 403, "InvalidSignatureException", "does not match"},
		{"unknown key", signed{key: "AKIA0000000000000000"}, 403, "UnrecognizedClientException", "security token"},
		{"expired", signed{at: time.Now().Add(-time.Hour)}, 403, "InvalidSignatureException", "Signature expired"},
		{"not yet valid", signed{at: time.Now().Add(time.Hour)}, 403, "InvalidSignatureException", "not yet current"},
		{"wrong region", signed{region: "eu-west-1"}, 403, "InvalidSignatureException", harness.Region},
		{"unknown service", signed{service: "sqs"}, 403, "InvalidSignatureException", "correct service"},
		{"unknown operation", signed{path: "/Nonsense"}, 404, "UnknownOperationException", "no such operation"},
		{"no JSON", signed{body: `{"filters":`}, 400, "ValidationException", "cannotParse"},
		{"wrong type", signed{body: `{"maxResults":"many"}`}, 400, "ValidationException", "maxResults"},
		{"wrong shape of an id", signed{path: "/StopReplication", body: `{"sourceServerID":"x"}`}, 400, "ValidationException", "sourceServerID"},
		{"member missing", signed{path: "/StopReplication"}, 400, "ValidationException", "sourceServerID"},
		{"unknown server", signed{path: "/StopReplication", body: `{"sourceServerID":"s-00000000000000000"}`}, 404, "ResourceNotFoundException", "s-00000000000000000"},
		{"forged page token", signed{body: `{"nextToken":"forged"}`}, 400, "ValidationException", "nextToken"},
		{"too large", signed{body: `{"filters":"` + strings.Repeat("x", 2<<20) + `"}`}, 413, "RequestEntityTooLargeException", "too large"},
		{"nothing to recover", signed{path: "/StartRecovery", body: `{"sourceServers":[{"sourceServerID":"s-00000000000000000"}]}`}, 409, "ConflictException", "does not exist"},
	} {
		t.Run(c.name, func(t *testing.T) {
			status, code, message := c.request.do(t, s)
			require.Equal(t, c.status, status)
			require.Equal(t, c.code, code)
			require.Contains(t, message, c.message)
		})
	}
	t.Run("not signed", func(t *testing.T) {
		resp, err := s.Config(t).HTTPClient.(interface {
			Do(*http.Request) (*http.Response, error)
		}).Do(must(http.NewRequestWithContext(t.Context(), http.MethodPost, s.Endpoint+"/DescribeSourceServers", strings.NewReader("{}"))))
		require.NoError(t, err)
		status, code, _ := answer(t, resp)
		require.Equal(t, 403, status)
		require.Equal(t, "MissingAuthenticationTokenException", code)
	})
	t.Run("the SDK with a wrong secret", func(t *testing.T) {
		c := s.DRS(t)
		_, err := c.DescribeSourceServers(t.Context(), &drs.DescribeSourceServersInput{}, func(o *drs.Options) {
			o.Credentials = credentials.NewStaticCredentialsProvider("AKIA0000000000000000", "wrong", "")
		})
		var api smithy.APIError
		require.ErrorAs(t, err, &api)
		require.Equal(t, "UnrecognizedClientException", api.ErrorCode())
	})
}

func must[V any](v V, err error) V {
	if err != nil {
		panic(err) // of a test's own constants
	}
	return v
}

// What an operator may get wrong is refused with an exit code for scripts and a message for people.
func TestOperatorsMistakes(t *testing.T) {
	t.Parallel()
	o := protectOne(t)
	o.continuous(t)
	out := filepath.Join(t.TempDir(), "out.raw")
	export := func(args ...string) []string {
		return append([]string{"export", "--server", o.id, "--device", o.disk.Device}, append(args, out)...)
	}
	from := o.points(t).Windows[0].From
	for _, c := range []struct {
		name    string
		args    []string
		code    int
		message string
	}{
		{"unknown device", []string{"export", "--server", o.id, "--device", "/dev/sdzz", "--latest", out}, 3, `has no disk "/dev/sdzz"`},
		{"unknown server", []string{"export", "--server", "s-00000000000000000", "--device", o.disk.Device, "--latest", out}, 3, "no source server s-00000000000000000"},
		{"no server's name", []string{"points", "../../etc"}, 3, "no source server"},
		{"in the future", export("--at", time.Now().Add(time.Hour).Format(time.RFC3339)), 6, "not replicated yet"},
		{"before the window", export("--at", from.Add(-time.Minute).Format(time.RFC3339Nano)), 3, "the nearest recoverable time is"},
		{"no instant", export("--at", "yesterday"), 2, "2026-01-02T03:04:05.678Z"},
		{"no choice", export(), 2, "--latest"},
		{"two choices", export("--latest", "--position", "7"), 2, "--position"},
		{"no such position", export("--position", "1"), 3, "position 1"},
		{"no such point", export("--point", "pit-00000000000000000"), 3, "pit-00000000000000000"},
		{"unknown format", export("--latest", "--format", "vhd"), 2, "qcow2"},
		{"no directory", []string{"export", "--server", o.id, "--device", o.disk.Device, "--latest", "/nonexistent/out.raw"}, 2, "/nonexistent"},
		{"file exists", []string{"export", "--server", o.id, "--device", o.disk.Device, "--latest", o.disk.File}, 4, "exists"},
		{"address in use", []string{"nbd", "serve", "--server", o.id, "--device", o.disk.Device, "--latest", "--listen", o.server.DataAddr}, 2, "in use"},
		{"unknown device over NBD", []string{"nbd", "serve", "--server", o.id, "--device", "/dev/sdzz", "--latest", "--listen", "127.0.0.1:0"}, 3, `has no disk "/dev/sdzz"`},
		{"journal in use", []string{"journal", "verify", o.journal()}, 4, "held by another process"},
		{"no journal", []string{"journal", "verify", o.dir}, 3, "no journal"},
		{"no agent", []string{"agent", "status", "--state-dir", "/nonexistent"}, 3, "no agent has run"},
		{"agent is running", []string{"agent", "uninstall", "--state-dir", o.agent.StateDir}, 4, "stop it first"},
		{"second server on the same data", []string{"serve", "--data-dir", o.server.Dir, "--listen", "127.0.0.1:0", "--data-listen", "127.0.0.1:0"}, 4, "in use"},
		{"no account", []string{"serve", "--data-dir", out, "--account-id", "12"}, 2, "twelve digits"},
		{"no address", []string{"serve", "--data-dir", out, "--listen", "8480"}, 2, "--listen"},
		{"plain HTTP for everybody", []string{"serve", "--data-dir", out, "--listen", "0.0.0.0:0", "--insecure-http"}, 2, "not a loopback address"},
		{"plain HTTP for others", []string{"serve", "--data-dir", out, "--listen", "192.0.2.1:8480", "--insecure-http"}, 2, "not a loopback address"},
		{"unknown verb", []string{"explode"}, 2, "explode"},
	} {
		t.Run(c.name, func(t *testing.T) {
			code, message := refusal(t, o.server, c.args...)
			require.Equal(t, c.code, code)
			require.Contains(t, message, c.message)
			require.NoFileExists(t, out)
			require.NoFileExists(t, out+".partial")
		})
	}
	t.Run("connections", func(t *testing.T) { o.badConnections(t) })
	o.same(t)
}

// badConnections are the ways not to reach the server.
func (o *one) badConnections(t *testing.T) {
	bare := []string{"PATH=" + os.Getenv("PATH"), "HOME=" + t.TempDir()}
	with := func(env ...string) []string { return append(append([]string{}, bare...), env...) }
	endpoint, ca := "AWS_ENDPOINT_URL="+o.server.Endpoint, "AWS_CA_BUNDLE="+o.server.CA()
	creds := []string{"AWS_SHARED_CREDENTIALS_FILE=" + o.server.Credentials(), "AWS_PROFILE=understudy", "AWS_REGION=" + harness.Region, "AWS_EC2_METADATA_DISABLED=true"}
	for _, c := range []struct {
		name    string
		env     []string
		code    int
		message string
	}{
		{"no endpoint", with(append(creds, ca)...), 2, "AWS_ENDPOINT_URL"},
		{"no region", with(creds[0], creds[1], endpoint, ca), 2, "AWS_REGION"},
		{"no credentials", with(endpoint, ca, creds[2], creds[3]), 5, "AWS_ACCESS_KEY_ID"},
		{"no CA", with(append(creds, endpoint)...), 6, "--ca-cert"},
		{"CA file is missing", with(append(creds, endpoint, "AWS_CA_BUNDLE=/nonexistent")...), 2, "pki/ca.pem"},
		{"nobody listens", with(append(creds, "AWS_ENDPOINT_URL=https://127.0.0.1:1", ca)...), 6, "is the server running"},
		{"wrong region", with(append(creds, endpoint, ca, "AWS_REGION=eu-west-1")...), 5, harness.Region},
		{"wrong key", with(endpoint, ca, creds[2], "AWS_ACCESS_KEY_ID=AKIA0000000000000000", "AWS_SECRET_ACCESS_KEY=wrong"), 5, "security token"},
	} {
		t.Run(c.name, func(t *testing.T) {
			code, message := refusalIn(t, c.env, o.server.Binary, "points", o.id)
			require.Equal(t, c.code, code)
			require.Contains(t, message, c.message)
		})
	}
}

// Plain HTTP is taken on a loopback address when asked for; agents speak TLS even then.
func TestInsecureHTTP(t *testing.T) {
	t.Parallel()
	o := newOne(t, "--insecure-http")
	o.server.InitializeDRS(t)
	plain := "http://" + strings.TrimPrefix(o.server.Endpoint, "https://")
	out, err := o.server.DRS(t).DescribeSourceServers(t.Context(), &drs.DescribeSourceServersInput{}, func(c *drs.Options) { c.BaseEndpoint = &plain })
	require.NoError(t, err)
	require.Empty(t, out.Items)

	code, message := refusal(t, o.server, "agent", "run", "--endpoint", plain, "--ca-cert", o.server.CA(), "--devices", o.disk.Device,
		"--state-dir", filepath.Join(o.dir, "plain"), "--region", harness.Region, "--no-prompt")
	require.Equal(t, 2, code)
	require.Contains(t, message, "agents always speak TLS")
	o.start(t, "drs")
	o.continuous(t)
	require.Contains(t, o.server.CLI(t, "points", "--endpoint", plain, o.id), "any instant in")

	// The agents' own path is not served without TLS: no client certificate, no handshake.
	resp, err := http.Post(plain+"/understudy.agent.v1.AgentService/Handshake", "application/json", strings.NewReader(`{"sourceServerId":"`+o.id+`"}`))
	require.NoError(t, err)
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	require.NoError(t, err)
	require.Equal(t, http.StatusForbidden, resp.StatusCode, "%s", b)
}

// Without --insecure-http a plain request gets a plain answer, and garbage does no harm.
func TestGarbageOnThePorts(t *testing.T) {
	t.Parallel()
	o := protectOne(t)
	host := strings.TrimPrefix(o.server.Endpoint, "https://")
	resp, err := http.Get("http://" + host + "/")
	require.NoError(t, err)
	b, err := io.ReadAll(resp.Body)
	resp.Body.Close()
	require.NoError(t, err)
	require.Equal(t, 400, resp.StatusCode)
	require.Contains(t, string(b), "HTTPS")
	for _, addr := range []string{host, o.server.DataAddr} {
		c, err := net.Dial("tcp", addr)
		require.NoError(t, err)
		_, err = c.Write(bytes.Repeat([]byte("garbage\x00\xff"), 1000))
		require.NoError(t, err)
		require.NoError(t, c.Close())
	}
	// TLS without a client certificate, and with one that somebody else signed.
	pem, err := os.ReadFile(o.server.CA())
	require.NoError(t, err)
	roots := x509.NewCertPool()
	require.True(t, roots.AppendCertsFromPEM(pem))
	c, err := tls.Dial("tcp", o.server.DataAddr, &tls.Config{RootCAs: roots})
	if err == nil { // TLS 1.3 tells with the first read
		require.NoError(t, c.SetDeadline(time.Now().Add(10*time.Second)))
		_, err = c.Read(make([]byte, 1))
		_ = c.Close()
	}
	require.Error(t, err)
	o.continuous(t)
	o.same(t)
}

// agentRefused starts an agent that must end by itself, and returns its exit code and last words.
func agentRefused(t *testing.T, a *harness.Agent) (code int, message string) {
	t.Helper()
	a.Start(t)
	select {
	case <-a.Done():
	case <-time.After(30 * time.Second):
		t.Fatalf("the agent does not end:\n%s", a.Log())
	}
	t.Logf("exit %d: %s", a.Cmd.ProcessState.ExitCode(), a.Log())
	return a.Cmd.ProcessState.ExitCode(), a.Log()
}

// Devices that cannot be replicated are refused before anything is registered.
func TestDevicesThatCannotBeReplicated(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	s := harness.NewServer(t, filepath.Join(dir, "server"))
	s.InitializeDRS(t)
	good := harness.NewDisk(t, dir, "good.img", 8<<20)
	tiny := harness.NewDisk(t, dir, "tiny.img", 512<<10)
	parted := harness.NewDisk(t, dir, "parted.img", 16<<20)
	onePartition(t, parted)
	for _, c := range []struct {
		name    string
		devices []string
		code    int
		message string
	}{
		{"no such device", []string{"/dev/sdzz"}, 3, "/dev/sdzz"},
		{"a file", []string{good.File}, 2, "not a block device"},
		{"a character device", []string{"/dev/null"}, 2, "not a block device"},
		{"a partition", []string{parted.Device + "p1"}, 1, "is a partition of disk"},
		{"below 1 MiB", []string{tiny.Device}, 1, "1 MiB"},
		{"one of several", []string{good.Device, "/dev/sdzz"}, 3, "/dev/sdzz"},
		{"named twice", []string{good.Device, good.Device}, 2, "are the same disk"},
	} {
		t.Run(c.name, func(t *testing.T) {
			a := s.PrepareAgent(t, "drs", filepath.Join(t.TempDir(), "agent"), c.devices)
			code, message := agentRefused(t, a)
			require.Equal(t, c.code, code)
			require.Contains(t, message, c.message)
		})
	}
	out, err := s.DRS(t).DescribeSourceServers(t.Context(), &drs.DescribeSourceServersInput{})
	require.NoError(t, err)
	require.Empty(t, out.Items, "a refused agent leaves no source server behind")
}

// onePartition writes a partition table of one entry and makes the kernel read it.
func onePartition(t *testing.T, d *harness.Disk) {
	t.Helper()
	var mbr [512]byte
	copy(mbr[446:], []byte{0, 0, 2, 0, 0x83, 0xff, 0xff, 0xff, 0, 8, 0, 0, 0, 64, 0, 0}) // 16384 sectors from 2048 on
	mbr[510], mbr[511] = 0x55, 0xaa
	f, err := os.OpenFile(d.Device, os.O_WRONLY|os.O_SYNC, 0)
	require.NoError(t, err)
	_, err = f.WriteAt(mbr[:], 0)
	require.NoError(t, err)
	require.NoError(t, f.Close())
	harness.Run(t, "partx", "--add", d.Device)
	t.Cleanup(func() { _ = exec.Command("partx", "--delete", d.Device).Run() }) // the device goes away next
}

// machineID makes another machine of the agents that are given it.
func machineID(t *testing.T) string {
	t.Helper()
	name := filepath.Join(t.TempDir(), "machine-id")
	sum := sha256.Sum256([]byte(fmt.Sprint(t.Name(), time.Now().UnixNano())))
	require.NoError(t, os.WriteFile(name, []byte(hex.EncodeToString(sum[:16])+"\n"), 0o600))
	return "UNDERSTUDY_MACHINE_ID_FILE=" + name
}

// An agent that may not register says so and ends; one whose server is away waits for it.
func TestAgentsThatCannotRegister(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	s := harness.NewServer(t, filepath.Join(dir, "server"))
	disk := harness.NewDisk(t, dir, "disk.img", 8<<20)
	agent := func(env ...string) *harness.Agent {
		a := s.PrepareAgent(t, "drs", filepath.Join(t.TempDir(), "agent"), []string{disk.Device})
		a.Env = env
		return a
	}
	code, message := agentRefused(t, agent())
	require.Equal(t, 2, code)
	require.Contains(t, message, "aws drs initialize-service")
	_, err := s.DRS(t).InitializeService(t.Context(), &drs.InitializeServiceInput{})
	require.NoError(t, err)
	code, message = agentRefused(t, agent())
	require.Equal(t, 4, code)
	require.Contains(t, message, "aws drs create-replication-configuration-template")
	code, message = agentRefused(t, agent("AWS_PROFILE=", "AWS_ACCESS_KEY_ID=AKIA0000000000000000", "AWS_SECRET_ACCESS_KEY=wrong"))
	require.Equal(t, 5, code)
	require.Contains(t, message, "security token")
	code, message = agentRefused(t, agent("AWS_PROFILE=", "AWS_SHARED_CREDENTIALS_FILE=/dev/null", "AWS_EC2_METADATA_DISABLED=true"))
	require.Equal(t, 5, code)
	require.Contains(t, message, "AWS_ACCESS_KEY_ID")
	code, message = agentRefused(t, agent("UNDERSTUDY_MACHINE_ID_FILE=/nonexistent"))
	require.Equal(t, 1, code)
	require.Contains(t, message, "systemd-machine-id-setup")

	s.Stop(t)
	a := agent()
	a.Start(t)
	harness.Eventually(t, 10*time.Second, "the agent says that it waits", func() (bool, string) {
		return strings.Contains(a.Log(), "cannot register yet"), a.Log()
	})
	s.Start(t)
	harness.Eventually(t, 20*time.Second, "the agent gets its answer", func() (bool, string) { return a.Ended(), a.Log() })
	require.Contains(t, a.Log(), "create-replication-configuration-template")
}

// A disk has one owner: agents beside the first are refused, whatever they claim to be, and nothing is lost.
func TestADiskHasOneOwner(t *testing.T) {
	t.Parallel()
	o := protectOne(t)
	o.continuous(t)
	agent := func(dir string, env ...string) *harness.Agent {
		a := o.server.PrepareAgent(t, "drs", dir, []string{o.disk.Device}, "--ring-mib", "16")
		a.Env = env
		return a
	}
	code, message := agentRefused(t, agent(o.agent.StateDir))
	require.Equal(t, 4, code)
	require.Contains(t, message, "an agent runs with "+o.agent.StateDir)
	code, message = agentRefused(t, agent(filepath.Join(o.dir, "same machine")))
	require.Equal(t, 4, code)
	require.Contains(t, message, o.agent.StateDir)
	other := agent(filepath.Join(o.dir, "other machine"), machineID(t))
	code, message = agentRefused(t, other)
	require.Equal(t, 4, code)
	require.Contains(t, message, o.disk.Device+": ")
	require.Contains(t, message, o.agent.StateDir)
	out, err := o.server.DRS(t).DescribeSourceServers(t.Context(), &drs.DescribeSourceServersInput{})
	require.NoError(t, err)
	require.Len(t, out.Items, 1)

	// Only its pins are left of the first: they are its, and its writes are in them.
	o.agent.Kill()
	o.write(t, "without an agent", 1<<20)
	code, message = agentRefused(t, other)
	require.Equal(t, 4, code)
	require.Contains(t, message, "is already captured by \""+o.id+"\"")
	o.agent.Start(t)
	o.continuous(t)
	o.same(t)
	require.Len(t, o.points(t).Windows, 1)

	// The same machine after its state directory was lost: the same source server, the same capture.
	o.agent.Stop(t)
	o.write(t, "with no identity", 1<<20)
	o.agent.StateDir = filepath.Join(o.dir, "reinstalled")
	o.agent.Start(t)
	require.Equal(t, o.id, o.agent.ServerID(t))
	o.continuous(t)
	o.same(t)
	require.Len(t, o.points(t).Windows, 1)
}

// clone starts the agent of another machine that was cloned from this one: the same identity, a disk of the same name
// with other content. A mount namespace stands for the other machine's own /run, /dev and /sys.
func (o *one) clone(t *testing.T, disk *harness.Disk) *harness.Process {
	t.Helper()
	// The other machine mounts none of our disks: a file system is unmounted only when the last copy of its mount is gone.
	script := `sed -n 's,^/dev/loop[^ ]* \([^ ]*\) .*,\1,p' /proc/self/mounts | xargs -r umount --lazy; mount -t tmpfs none /run && mount -t bpf none /sys/fs/bpf && mount --bind "$0" "$1" && shift && exec "$@"`
	cmd := exec.Command("unshare", "--mount", "sh", "-ec", script, disk.Device, o.disk.Device, o.server.Binary, "agent", "run",
		"--service", "drs", "--endpoint", o.server.Endpoint, "--ca-cert", o.server.CA(), "--state-dir", filepath.Join(o.dir, "clone"),
		"--devices", o.disk.Device, "--region", harness.Region, "--ring-mib", "16", "--no-prompt")
	cmd.Env = o.server.Env()
	return harness.Start(t, "understudy agent of the clone", cmd)
}

// Two machines with one identity: the later wins, the earlier says so and ends, and what it had replicated stays.
func TestAClonedMachineFencesTheFirst(t *testing.T) {
	t.Parallel()
	o := protectOne(t)
	o.continuous(t)
	o.settle(t)
	before := o.points(t).Latest
	other := harness.NewDisk(t, o.dir, "clone.img", smallDisk)
	other.Format(t, "ext4")

	clone := o.clone(t, other)
	select {
	case <-o.agent.Done():
	case <-time.After(30 * time.Second):
		t.Fatalf("the first agent does not end:\n%s\n%s", o.agent.Log(), clone.Log())
	}
	t.Logf("%s", o.agent.Log())
	require.Equal(t, 4, o.agent.Cmd.ProcessState.ExitCode())
	require.Contains(t, o.agent.Log(), "has taken over")
	require.Contains(t, o.agent.Log(), "only one agent runs with this identity")
	harness.Eventually(t, time.Minute, "the clone is replicated", func() (bool, string) {
		w := o.points(t).Windows
		return len(w) == 2, fmt.Sprintf("%v\n%s", w, clone.Log())
	})
	require.NoError(t, harness.SameContent(other.Device, o.export(t, "--latest")))
	require.NoError(t, harness.SameContent(o.disk.Device, o.export(t, "--position", fmt.Sprint(before.Position))))
	require.False(t, clone.Ended())

	// The first is started again and is the later one now; its disk is read again, for nothing can tell what happened.
	o.agent.Start(t)
	select {
	case <-clone.Done():
	case <-time.After(30 * time.Second):
		t.Fatalf("the clone's agent does not end:\n%s", clone.Log())
	}
	o.continuous(t)
	o.same(t)
}

// Whoever starts the agent with other --devices replicates those. What was replicated of a disk that is no longer named stays,
// and named again it is the same disk.
func TestDevicesChanged(t *testing.T) {
	t.Parallel()
	o := protectOne(t)
	o.continuous(t)
	o.settle(t)
	before := o.points(t).Latest
	second := harness.NewDisk(t, o.dir, "second.img", 16<<20)
	second.Format(t, "ext4")
	for _, devices := range [][]string{{o.disk.Device, second.Device}, {second.Device}, {o.disk.Device}} {
		o.agent.Stop(t)
		o.agent.Devices = devices
		o.agent.Start(t)
		require.Equal(t, o.id, o.agent.ServerID(t))
		harness.Eventually(t, 2*time.Minute, fmt.Sprintf("replicates %v", devices), func() (bool, string) {
			s, err := o.server.Describe(t, o.server.DRS(t), o.id)
			require.NoError(t, err)
			var names []string
			for _, d := range s.DataReplicationInfo.ReplicatedDisks {
				names = append(names, *d.DeviceName)
			}
			state := s.DataReplicationInfo.DataReplicationState
			return slices.Equal(names, devices) && state == drstypes.DataReplicationStateContinuous, fmt.Sprint(names, state)
		})
		require.NoError(t, harness.SameContent(o.disk.Device, o.export(t, "--position", fmt.Sprint(before.Position))))
	}
	o.same(t)
}
