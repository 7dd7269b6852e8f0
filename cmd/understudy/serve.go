package main

import (
	"context"
	"log/slog"
	"time"

	"github.com/understudy-dr/understudy/internal/app/serve"
)

type serveCmd struct {
	DataDir       string           `help:"Everything the server keeps." type:"path" required:"" env:"UNDERSTUDY_DATA_DIR"`
	StateURL      string           `help:"PostgreSQL database for the records, postgres://... Remembered; SQLite in the data directory by default." placeholder:"URL" env:"UNDERSTUDY_STATE_URL" name:"state-url"`
	Listen        string           `help:"Control port: the AWS APIs and the agents' handshakes." default:"127.0.0.1:8480"`
	DataListen    string           `help:"Data port: replication." default:"127.0.0.1:1500"`
	Advertise     string           `help:"What agents dial for the data port, where it differs from --data-listen." placeholder:"HOST:PORT"`
	Region        string           `help:"Region that clients sign for." default:"us-east-1"`
	AccountID     string           `help:"The account, twelve digits." default:"123456789012"`
	InsecureHTTP  bool             `help:"Also take plain HTTP on the control port; loopback addresses only." name:"insecure-http"`
	Quota         map[string]int64 `help:"A quota's value, as L-C1D14A2B=500;... 'understudy access quotas' lists them." placeholder:"CODE=VALUE;..."`
	Sizes         string           `help:"CSV file with instance sizes of one's own: name, processors, memory in MiB, architecture." type:"existingfile"`
	Networks      string           `help:"JSON file with the networks that machines can be attached to." type:"existingfile"`
	MetricsListen string           `help:"Where Prometheus finds /metrics, and others /healthz: plain HTTP without authentication. Empty for nowhere." default:"127.0.0.1:8482"`

	Buckets           string `help:"Where inventories are imported from and exported to: a directory with ACCOUNT/BUCKET/KEY, or s3://?endpoint=URL&region=REGION&path-style=true&allow=ACCOUNT:BUCKET with credentials as for the AWS CLI; accounts other than --account-id may use what is allowed them. 'buckets' in the data directory by default." placeholder:"DIR|URL" env:"UNDERSTUDY_BUCKETS" group:"Migration:"`
	ManagementAccount string `help:"Account that may act for the others of the installation in MGN, by accountID. None by default." placeholder:"ACCOUNT" group:"Migration:"`

	JournalWindow   span     `help:"Every second of this long can be recovered, of each source server that has no window of its own." default:"24h" group:"Journals:"`
	SpaceReserve    byteSize `help:"What stays free on the journals' file system; agents are refused before. A hundredth of it by default, 64MiB to 1GiB." placeholder:"SIZE" group:"Journals:"`
	SpaceSlow       byteSize `help:"Agents are slowed down with less free than this. A twentieth of the file system more than the reserve by default." placeholder:"SIZE" group:"Journals:"`
	MaintenanceRate byteSize `help:"What maintenance reads and writes in a second at most." default:"128MiB" group:"Journals:"`
	ScrubPeriod     span     `help:"Everything stored is read and verified again within this." default:"7d" group:"Journals:"`
	FlushAfter      span     `help:"What arrives is in layers, and in the bucket if there is one, at the latest after this; 10m by default, 1m with --object-store." group:"Journals:"`
	ObjectStore     string   `help:"Bucket that layers go to, s3://BUCKET/PREFIX?endpoint=URL&region=REGION&path-style=true; credentials as for the AWS CLI. The data directory by default." placeholder:"URL" env:"UNDERSTUDY_OBJECT_STORE" group:"Journals:"`
	ObjectCache     byteSize `help:"How much of what was read from the bucket is kept in the data directory." default:"4GiB" group:"Journals:"`
}

func (c *serveCmd) Run(ctx context.Context, log *slog.Logger) error {
	return serve.Run(ctx, serve.Config{
		DataDir: c.DataDir, StateURL: c.StateURL, Listen: c.Listen, DataListen: c.DataListen, Advertise: c.Advertise, Region: c.Region,
		AccountID: c.AccountID, InsecureHTTP: c.InsecureHTTP, Quotas: c.Quota, Sizes: c.Sizes, Networks: c.Networks, Log: log,
		MetricsListen: c.MetricsListen, Window: max(time.Duration(c.JournalWindow), 1), Reserve: int64(c.SpaceReserve), SlowBelow: int64(c.SpaceSlow),
		MaintenanceRate: int64(c.MaintenanceRate), ScrubPeriod: time.Duration(c.ScrubPeriod), FlushAfter: time.Duration(c.FlushAfter),
		ObjectStore: c.ObjectStore, ObjectCache: int64(c.ObjectCache), ManagementAccount: c.ManagementAccount, Buckets: c.Buckets,
	})
}
