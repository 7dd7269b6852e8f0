package harness

import (
	"cmp"
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	awshttp "github.com/aws/aws-sdk-go-v2/aws/transport/http"
	"github.com/aws/aws-sdk-go-v2/config"
	"github.com/aws/aws-sdk-go-v2/service/drs"
	drstypes "github.com/aws/aws-sdk-go-v2/service/drs/types"
	"github.com/aws/aws-sdk-go-v2/service/mgn"
)

// Region and Account of the servers under test.
const (
	Region  = "us-east-1"
	Account = "123456789012"
)

// Server is an "understudy serve" under test.
type Server struct {
	*Process
	Binary   string
	Dir      string
	Endpoint string
	DataAddr string
	Metrics  string // host:port of /metrics
	Args     []string
	Extra    []string // environment of the server, beside the test's own
}

// NewServer picks free ports and starts "understudy serve" over a data directory of its own.
func NewServer(t T, dir string, args ...string) *Server {
	t.Helper()
	s := PrepareServer(t, dir, args...)
	s.Start(t)
	return s
}

// PrepareServer is NewServer without starting it.
func PrepareServer(t T, dir string, args ...string) *Server {
	t.Helper()
	return &Server{Binary: Binary(t), Dir: dir, Endpoint: "https://" + freeAddr(t), DataAddr: freeAddr(t), Metrics: freeAddr(t), Args: args}
}

// Start starts (again) and waits until the API answers.
func (s *Server) Start(t T) {
	t.Helper()
	args := append([]string{"serve", "--data-dir", s.Dir, "--listen", strings.TrimPrefix(s.Endpoint, "https://"),
		"--data-listen", s.DataAddr, "--metrics-listen", s.Metrics, "--region", Region, "--account-id", Account}, s.Args...)
	cmd := exec.Command(s.Binary, args...)
	cmd.Env = append(os.Environ(), s.Extra...)
	s.Process = Start(t, "understudy serve", cmd)
	Eventually(t, 2*time.Minute, "the server answers", func() (bool, string) {
		if s.Ended() {
			t.Fatalf("understudy serve ended: %v\n%s", s.Err(), s.Log())
		}
		roots, err := s.roots()
		if err != nil {
			return false, err.Error()
		}
		c, err := tls.Dial("tcp", strings.TrimPrefix(s.Endpoint, "https://"), &tls.Config{RootCAs: roots})
		if err != nil {
			return false, err.Error()
		}
		c.Close()
		return true, ""
	})
}

// CA is the file of the server's certificate authority.
func (s *Server) CA() string { return filepath.Join(s.Dir, "pki", "ca.pem") }

// Credentials is the AWS credentials file that the server wrote.
func (s *Server) Credentials() string { return filepath.Join(s.Dir, "credentials") }

// Env is what any AWS client needs to reach the server.
func (s *Server) Env() []string {
	return append(os.Environ(), "AWS_SHARED_CREDENTIALS_FILE="+s.Credentials(), "AWS_PROFILE=understudy", "AWS_REGION="+Region,
		"AWS_DEFAULT_REGION="+Region, "AWS_CA_BUNDLE="+s.CA(), "AWS_ENDPOINT_URL="+s.Endpoint, "AWS_PAGER=", "AWS_CONFIG_FILE=/dev/null")
}

func (s *Server) roots() (*x509.CertPool, error) {
	pem, err := os.ReadFile(s.CA())
	if err != nil {
		return nil, err
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(pem) {
		return nil, fmt.Errorf("no certificate in %s yet", s.CA())
	}
	return pool, nil
}

// Config is the AWS SDK's configuration for this server.
func (s *Server) Config(t T) aws.Config {
	t.Helper()
	roots, err := s.roots()
	if err != nil {
		t.Fatalf("%v", err)
	}
	cfg, err := config.LoadDefaultConfig(t.Context(), config.WithRegion(Region), config.WithBaseEndpoint(s.Endpoint),
		config.WithSharedCredentialsFiles([]string{s.Credentials()}), config.WithSharedConfigProfile("understudy"),
		config.WithHTTPClient(awshttp.NewBuildableClient().WithTransportOptions(func(tr *http.Transport) {
			tr.TLSClientConfig = &tls.Config{RootCAs: roots, MinVersion: tls.VersionTLS12}
		})))
	if err != nil {
		t.Fatalf("%v", err)
	}
	return cfg
}

// DRS is AWS's own client of the one service, MGN of the other.
func (s *Server) DRS(t T) *drs.Client { t.Helper(); return drs.NewFromConfig(s.Config(t)) }

// MGN is AWS's own client of the migration service.
func (s *Server) MGN(t T) *mgn.Client { t.Helper(); return mgn.NewFromConfig(s.Config(t)) }

// InitializeDRS prepares DRS as its documentation says: initialise, then make the replication template.
func (s *Server) InitializeDRS(t T) {
	t.Helper()
	c := s.DRS(t)
	if _, err := c.InitializeService(t.Context(), &drs.InitializeServiceInput{}); err != nil {
		t.Fatalf("InitializeService: %v", err)
	}
	_, err := c.CreateReplicationConfigurationTemplate(t.Context(), &drs.CreateReplicationConfigurationTemplateInput{
		AssociateDefaultSecurityGroup:       aws.Bool(true),
		BandwidthThrottling:                 0,
		CreatePublicIP:                      aws.Bool(false),
		DataPlaneRouting:                    drstypes.ReplicationConfigurationDataPlaneRoutingPrivateIp,
		DefaultLargeStagingDiskType:         drstypes.ReplicationConfigurationDefaultLargeStagingDiskTypeAuto,
		EbsEncryption:                       drstypes.ReplicationConfigurationEbsEncryptionDefault,
		ReplicationServerInstanceType:       aws.String("t3.small"),
		ReplicationServersSecurityGroupsIDs: []string{},
		StagingAreaSubnetId:                 aws.String("subnet-0123456789abcdef0"),
		StagingAreaTags:                     map[string]string{},
		UseDedicatedReplicationServer:       aws.Bool(false),
		PitPolicy: []drstypes.PITPolicyRule{
			{RuleID: 1, Units: drstypes.PITPolicyRuleUnitsMinute, Interval: aws.Int32(10), RetentionDuration: aws.Int32(60), Enabled: aws.Bool(true)},
			{RuleID: 2, Units: drstypes.PITPolicyRuleUnitsHour, Interval: aws.Int32(1), RetentionDuration: aws.Int32(24), Enabled: aws.Bool(true)},
			{RuleID: 3, Units: drstypes.PITPolicyRuleUnitsDay, Interval: aws.Int32(1), RetentionDuration: aws.Int32(7), Enabled: aws.Bool(true)},
		},
	})
	if err != nil {
		t.Fatalf("CreateReplicationConfigurationTemplate: %v", err)
	}
}

// CLI runs an operator's verb of the binary against this server.
func (s *Server) CLI(t T, args ...string) string {
	t.Helper()
	out, err := s.TryCLI(t.Context(), args...)
	if err != nil {
		t.Fatalf("%v", err)
	}
	return out
}

// TryCLI is CLI whose failure is the caller's business.
func (s *Server) TryCLI(ctx context.Context, args ...string) (string, error) {
	cmd := exec.CommandContext(ctx, s.Binary, args...)
	cmd.Env = s.Env()
	out, err := cmd.CombinedOutput()
	if err != nil {
		return string(out), fmt.Errorf("understudy %s: %w\n%s", strings.Join(args, " "), err, out)
	}
	return string(out), nil
}

// Agent is an "understudy agent run" under test.
type Agent struct {
	*Process
	server   *Server
	Binary   string // the server's where it is empty
	StateDir string
	Service  string
	Devices  []string
	Args     []string
	Env      []string // besides the server's, as NAME=VALUE
}

// NewAgent starts an agent for the devices; its capture is removed when the run ends.
func (s *Server) NewAgent(t T, service, stateDir string, devices []string, args ...string) *Agent {
	t.Helper()
	a := s.PrepareAgent(t, service, stateDir, devices, args...)
	a.Start(t)
	return a
}

// PrepareAgent is NewAgent that leaves the start to the caller.
func (s *Server) PrepareAgent(t T, service, stateDir string, devices []string, args ...string) *Agent {
	t.Helper()
	a := &Agent{server: s, StateDir: stateDir, Service: service, Devices: devices, Args: args}
	t.Cleanup(func() {
		ctx, cancel := cleanupContext()
		defer cancel()
		if _, err := Try(ctx, s.Binary, "agent", "uninstall", "--state-dir", stateDir); err != nil {
			t.Logf("cleanup: %v", err)
		}
	})
	return a
}

// Start starts the agent (again).
func (a *Agent) Start(t T) {
	t.Helper()
	args := append([]string{"agent", "run", "--service", a.Service, "--endpoint", a.server.Endpoint, "--ca-cert", a.server.CA(),
		"--state-dir", a.StateDir, "--devices", strings.Join(a.Devices, ","), "--region", Region, "--no-prompt"}, a.Args...)
	cmd := exec.Command(cmp.Or(a.Binary, a.server.Binary), args...)
	cmd.Env = append(a.server.Env(), a.Env...)
	a.Process = Start(t, "understudy agent", cmd)
}

// ServerID waits until the agent has registered and returns its source server id.
func (a *Agent) ServerID(t T) string {
	t.Helper()
	id := ""
	Eventually(t, 2*time.Minute, "the agent registers", func() (bool, string) {
		if a.Ended() {
			t.Fatalf("understudy agent ended: %v\n%s", a.Err(), a.Log())
		}
		out, err := Try(t.Context(), a.server.Binary, "agent", "status", "--state-dir", a.StateDir, "--id")
		if err != nil {
			return false, err.Error()
		}
		id = strings.TrimSpace(out)
		return strings.HasPrefix(id, "s-"), out
	})
	return id
}

// Describe asks the DRS API for one source server.
func (s *Server) Describe(t T, c *drs.Client, id string) (drstypes.SourceServer, error) {
	out, err := c.DescribeSourceServers(t.Context(), &drs.DescribeSourceServersInput{
		Filters: &drstypes.DescribeSourceServersRequestFilters{SourceServerIDs: []string{id}}})
	if err != nil {
		return drstypes.SourceServer{}, err
	}
	if len(out.Items) != 1 {
		return drstypes.SourceServer{}, fmt.Errorf("%d source servers with id %s", len(out.Items), id)
	}
	return out.Items[0], nil
}

// WaitState waits until a DRS server's data replication is in the given state.
func (s *Server) WaitState(t T, id string, state drstypes.DataReplicationState, limit time.Duration) drstypes.SourceServer {
	t.Helper()
	c := s.DRS(t)
	var got drstypes.SourceServer
	Eventually(t, limit, fmt.Sprintf("%s is %s", id, state), func() (bool, string) {
		var err error
		if got, err = s.Describe(t, c, id); err != nil {
			return false, err.Error()
		}
		info := got.DataReplicationInfo
		why := string(info.DataReplicationState)
		if e := info.DataReplicationError; e != nil {
			why += fmt.Sprintf(" %s: %s", e.Error, aws.ToString(e.RawError))
		}
		return info.DataReplicationState == state, why
	})
	return got
}

// freeAddr is a loopback address with a port that was free a moment ago. The kernel gives ports from 32768 on to whoever connects
// somewhere, while the server that is to come back to its own is away; so it is one below these.
func freeAddr(t T) string {
	t.Helper()
	const first, ports, tries = 20000, 12000, 100
	var err error
	for range tries {
		var l net.Listener
		if l, err = net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", first+rand.IntN(ports))); err == nil {
			defer l.Close()
			return l.Addr().String()
		}
	}
	t.Fatalf("no port is free: %v", err)
	return ""
}
