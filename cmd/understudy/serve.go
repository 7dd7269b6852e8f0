package main

import (
	"context"
	"log/slog"

	"github.com/understudy-dr/understudy/internal/app/serve"
)

type serveCmd struct {
	DataDir      string `help:"Everything the server keeps." type:"path" required:"" env:"UNDERSTUDY_DATA_DIR"`
	StateURL     string `help:"PostgreSQL database for the records, postgres://... Remembered; SQLite in the data directory by default." placeholder:"URL" env:"UNDERSTUDY_STATE_URL" name:"state-url"`
	Listen       string `help:"Control port: the AWS APIs and the agents' handshakes." default:"127.0.0.1:8480"`
	DataListen   string `help:"Data port: replication." default:"127.0.0.1:1500"`
	Advertise    string `help:"What agents dial for the data port, where it differs from --data-listen." placeholder:"HOST:PORT"`
	Region       string `help:"Region that clients sign for." default:"us-east-1"`
	AccountID    string `help:"The account, twelve digits." default:"123456789012"`
	InsecureHTTP bool   `help:"Also take plain HTTP on the control port; loopback addresses only." name:"insecure-http"`
}

func (c *serveCmd) Run(ctx context.Context, log *slog.Logger) error {
	return serve.Run(ctx, serve.Config{
		DataDir: c.DataDir, StateURL: c.StateURL, Listen: c.Listen, DataListen: c.DataListen, Advertise: c.Advertise, Region: c.Region,
		AccountID: c.AccountID, InsecureHTTP: c.InsecureHTTP, Log: log,
	})
}
