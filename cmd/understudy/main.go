// Command understudy is every role of Understudy in one binary: the server, the agent, and the operator's verbs. One
// file per verb; what they do lives in internal/app.
package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/signal"
	"syscall"

	"github.com/alecthomas/kong"

	"github.com/understudy-dr/understudy/internal/buildinfo"
	"github.com/understudy-dr/understudy/internal/fault"
)

type cli struct {
	Serve    serveCmd    `cmd:"" help:"Run the control plane, the replication server and the journal."`
	Agent    agentCmd    `cmd:"" help:"The agent of a source server."`
	Points   pointsCmd   `cmd:"" help:"What of a source server can be recovered, and points that are more than crash consistent."`
	Export   exportCmd   `cmd:"" help:"Write a source server's disk at a chosen instant to an image file."`
	NBD      nbdCmd      `cmd:"" name:"nbd" help:"Hand out disks over NBD."`
	Journal  journalCmd  `cmd:"" help:"Examine journals offline."`
	Events   eventsCmd   `cmd:"" help:"Show what happened to source servers, or follow it."`
	Webhooks webhooksCmd `cmd:"" help:"Where events are sent."`
	Usage    usageCmd    `cmd:"" help:"Show what journals take, and in what condition they are."`
	Window   windowCmd   `cmd:"" help:"How far back every second can be recovered."`
	Quota    quotaCmd    `cmd:"" help:"What a journal may store."`
	Scrub    scrubCmd    `cmd:"" help:"Reading everything stored again, to know that it is intact."`
	Pins     pinsCmd     `cmd:"" help:"States that are in use, and are kept for as long as they are."`
	Key      keyCmd      `cmd:"" help:"The keys that wrap the journals' data keys."`
	Access   accessCmd   `cmd:"" help:"Who may do what: accounts, users, keys, policies, roles, sessions."`
	Simulate simulateCmd `cmd:"" help:"Fleets that are not there."`
	Backup   backupCmd   `cmd:"" help:"Save a running installation, without the replicated data, to a file."`
	Restore  restoreCmd  `cmd:"" help:"Make an installation of a backup."`

	LogFormat string           `help:"Log lines as text or json." enum:"text,json" default:"text" env:"UNDERSTUDY_LOG_FORMAT"`
	LogLevel  slog.Level       `help:"Lowest level logged: debug, info, warn, error." default:"info" env:"UNDERSTUDY_LOG_LEVEL"`
	Version   kong.VersionFlag `help:"Print the version."`
}

func main() {
	var c cli
	parser, err := kong.New(&c,
		kong.Name("understudy"),
		kong.Description("A running standby of every server: continuous block replication, any second recoverable, AWS DRS and MGN APIs."),
		kong.Vars{"version": buildinfo.Version},
		kong.UsageOnError(),
	)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(exitBug)
	}
	parsed, err := parser.Parse(os.Args[1:])
	if err != nil {
		parser.Errorf("%s", err)
		os.Exit(exitUsage)
	}
	log := logger(c)
	slog.SetDefault(log)
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	parsed.BindTo(ctx, (*context.Context)(nil))
	err = parsed.Run(log)
	if err != nil && errors.Is(err, context.Canceled) && ctx.Err() != nil {
		fmt.Fprintln(os.Stderr, "understudy: interrupted")
		os.Exit(exitInterrupted) //nolint:gocritic // the signal handler goes with the process
	}
	if err != nil {
		fmt.Fprintf(os.Stderr, "understudy: %v\n", err)
		os.Exit(exitCode(err)) //nolint:gocritic // the signal handler goes with the process
	}
}

// Logs go to stderr, so that what a verb prints can be piped.
func logger(c cli) *slog.Logger {
	o := &slog.HandlerOptions{Level: c.LogLevel}
	if c.LogFormat == "json" {
		return slog.New(slog.NewJSONHandler(os.Stderr, o))
	}
	return slog.New(slog.NewTextHandler(os.Stderr, o))
}

// Exit codes, for scripts.
const (
	exitFailure   = 1
	exitUsage     = 2
	exitNotFound  = 3
	exitConflict  = 4
	exitDenied    = 5
	exitTransient = 6
	exitCorrupt   = 7
	exitBug       = 70
	// exitInterrupted is what shells make of an interrupt: what was asked for was not done.
	exitInterrupted = 130
)

func exitCode(err error) int {
	switch fault.KindOf(err) {
	case fault.Invalid:
		return exitUsage
	case fault.NotFound:
		return exitNotFound
	case fault.Conflict, fault.Fenced:
		return exitConflict
	case fault.Denied:
		return exitDenied
	case fault.Transient, fault.OutOfSpace:
		return exitTransient
	case fault.Corruption:
		return exitCorrupt
	case fault.Bug:
		return exitBug
	}
	return exitFailure
}
