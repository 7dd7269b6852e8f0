package main

import (
	"context"
	"time"

	"github.com/understudy-dr/understudy/internal/app/operator"
	"github.com/understudy-dr/understudy/internal/fault"
)

// connection holds the flags of every verb that calls the server. What is not given comes from the AWS environment
// variables and profiles.
type connection struct {
	Endpoint string `help:"The server, as https://host:8480 (or AWS_ENDPOINT_URL)." env:"UNDERSTUDY_ENDPOINT"`
	CACert   string `help:"PEM file of the server's CA, DATA-DIR/pki/ca.pem there (or AWS_CA_BUNDLE)." name:"ca-cert" type:"path" env:"UNDERSTUDY_CA_CERT"`
	Region   string `help:"Region of the server (or AWS_REGION)."`
	Profile  string `help:"Profile of the AWS configuration files (or AWS_PROFILE)."`
}

func (c connection) client(ctx context.Context) (*operator.Client, error) {
	return operator.NewClient(ctx, operator.Options{Endpoint: c.Endpoint, CACert: c.CACert, Region: c.Region, Profile: c.Profile})
}

// instant holds the flags that choose a moment; exactly one is given.
type instant struct {
	At       string `help:"An instant, as 2026-01-02T03:04:05.678Z." placeholder:"TIME" group:"Which instant (exactly one of):" xor:"instant" required:""`
	Point    string `help:"A recovery point." placeholder:"pit-..." group:"Which instant (exactly one of):" xor:"instant" required:""`
	Position uint64 `help:"A position, as 'understudy points' prints it." placeholder:"NUMBER" group:"Which instant (exactly one of):" xor:"instant" required:""`
	Latest   bool   `help:"The newest recoverable instant." group:"Which instant (exactly one of):" xor:"instant" required:""`
}

func (i instant) choice() (operator.Choice, error) {
	c := operator.Choice{Point: i.Point, Position: i.Position, Latest: i.Latest}
	if i.At != "" {
		t, err := time.Parse(time.RFC3339Nano, i.At)
		if err != nil {
			return c, fault.New(fault.Invalid, "--at", "%q is no instant", i.At).WithHint("it looks like 2026-01-02T03:04:05.678Z")
		}
		c.At = t
	}
	return c, nil
}
