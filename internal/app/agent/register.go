package agent

import (
	"context"
	"errors"
	"net/http"
	"net/url"
	"os"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/config"
	"github.com/aws/aws-sdk-go-v2/credentials"

	"github.com/understudy-dr/understudy/internal/agentapi/agentclient"
	"github.com/understudy-dr/understudy/internal/agentapi/agentpb"
	"github.com/understudy-dr/understudy/internal/agentapi/agentpb/agentpbconnect"
	"github.com/understudy-dr/understudy/internal/buildinfo"
	"github.com/understudy-dr/understudy/internal/fault"
	"github.com/understudy-dr/understudy/internal/operatorapi/schema"
	"github.com/understudy-dr/understudy/internal/pki"
	"github.com/understudy-dr/understudy/internal/sigv4"
	"github.com/understudy-dr/understudy/internal/wire"
)

// awsConfig resolves credentials and region as AWS's installer and SDKs do: flags, environment, shared files.
func awsConfig(ctx context.Context, c Config) (aws.Config, error) {
	var o []func(*config.LoadOptions) error
	if c.Region != "" {
		o = append(o, config.WithRegion(c.Region))
	}
	if c.AccessKeyID != "" {
		o = append(o, config.WithCredentialsProvider(credentials.NewStaticCredentialsProvider(c.AccessKeyID, c.SecretAccessKey, c.SessionToken)))
	}
	cfg, err := config.LoadDefaultConfig(ctx, o...)
	if err != nil {
		return cfg, fault.New(fault.Invalid, "agent: configuration", "%w", err)
	}
	if cfg.Region == "" {
		return cfg, fault.New(fault.Invalid, "agent: configuration", "no region").WithHint("give --region or set AWS_REGION")
	}
	return cfg, nil
}

func checkEndpoint(raw string) error {
	u, err := url.Parse(raw)
	if err != nil || u.Host == "" || u.Scheme != "https" {
		return fault.New(fault.Invalid, "agent: --endpoint", "%q is no https:// address", raw).
			WithHint("agents always speak TLS; it looks like https://server:8480")
	}
	return nil
}

// register enrols this machine. It may be repeated: the same machine is the same source server.
func register(ctx context.Context, c Config, disks diskSet, mode *choice) (*identity, error) {
	cfg, err := awsConfig(ctx, c)
	if err != nil {
		return nil, err
	}
	ca, err := os.ReadFile(c.CACert)
	if err != nil {
		return nil, fault.New(fault.Invalid, "agent: --ca-cert", "%w", err).WithHint("copy DATA-DIR/pki/ca.pem from the server")
	}
	tlsConfig, err := pki.ClientTLS(ca, nil, nil)
	if err != nil {
		return nil, err
	}
	proxy, err := proxyOf(c.ProxyAddress)
	if err != nil {
		return nil, err
	}
	key, csr, err := pki.NewAgentKey()
	if err != nil {
		return nil, err
	}
	req, err := registration(ctx, c, disks, mode)
	if err != nil {
		return nil, err
	}
	req.CsrPem = csr
	transport := agentclient.Transport(tlsConfig, proxy)
	defer transport.CloseIdleConnections()
	signed := &sigv4.Transport{Base: transport,
		Credentials: cfg.Credentials, Service: schema.Service, Region: cfg.Region}
	client := agentpbconnect.NewAgentServiceClient(&http.Client{Transport: signed}, c.Endpoint)
	m, err := client.Register(ctx, req)
	if err != nil {
		return nil, called("agent: register at "+c.Endpoint, err)
	}
	if len(m.CaPem) > 0 {
		ca = m.CaPem
	}
	id := &identity{Service: c.Service, ServerID: m.SourceServerId, ARN: m.Arn, Endpoint: c.Endpoint,
		key: key, certificate: m.CertificatePem, ca: ca}
	for _, d := range disks {
		id.Devices, id.Bytes = append(id.Devices, d.path), append(id.Bytes, d.bytes)
	}
	return id, id.save(c.StateDir)
}

func registration(ctx context.Context, c Config, disks diskSet, mode *choice) (*agentpb.RegisterRequest, error) {
	here, err := presence()
	if err != nil {
		return nil, err
	}
	facts := sourceProperties(ctx, disks, mode)
	return &agentpb.RegisterRequest{
		Service: c.Service, MachineIdentity: here.MachineIdentity, Presence: here, UserProvidedId: c.UserProvidedID, Hostname: facts.Hostname,
		AgentVersion: buildinfo.Version, WireVersions: wire.Versions, Capture: mode.String(), Tags: c.Tags, NoReplication: c.NoReplication,
		Properties: facts, Devices: disks.devices(),
	}, nil
}

// called classifies what a call of the control plane returned.
func called(op string, err error) error {
	err = agentpb.Fault(op, err)
	if f, ok := errors.AsType[*fault.Error](err); ok && f.Kind == fault.Transient && fault.HintOf(f) == "" {
		return f.WithHint("is the server running, and does --ca-cert name its DATA-DIR/pki/ca.pem?")
	}
	return err
}
