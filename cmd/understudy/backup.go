package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/understudy-dr/understudy/internal/app/backup"
)

type backupCmd struct {
	File     string `arg:"" help:"File to make, or - for standard output. It holds private keys." type:"path"`
	DataDir  string `help:"Data directory of the installation, which may be running." type:"path" required:"" env:"UNDERSTUDY_DATA_DIR"`
	StateURL string `help:"PostgreSQL database of its records, where it is not the remembered one." placeholder:"URL" env:"UNDERSTUDY_STATE_URL" name:"state-url"`
}

func (c *backupCmd) Run(ctx context.Context) error {
	r, err := backup.Save(ctx, backup.Config{DataDir: c.DataDir, StateURL: c.StateURL}, c.File, os.Stdout)
	if err != nil {
		return err
	}
	printReport(os.Stderr, "saved", r)
	if len(r.LeftOut) > 0 {
		fmt.Fprintf(os.Stderr, "not in the backup: %s\n", strings.Join(r.LeftOut, ", "))
	}
	return nil
}

type restoreCmd struct {
	File     string `arg:"" help:"Backup, or - for standard input." type:"path"`
	DataDir  string `help:"Data directory to make; it must not exist or be empty." type:"path" required:"" env:"UNDERSTUDY_DATA_DIR"`
	StateURL string `help:"PostgreSQL database for the records, without any yet; SQLite in the data directory by default." placeholder:"URL" env:"UNDERSTUDY_STATE_URL" name:"state-url"`
}

func (c *restoreCmd) Run(ctx context.Context) error {
	r, err := backup.Restore(ctx, backup.Config{DataDir: c.DataDir, StateURL: c.StateURL}, c.File, os.Stdin)
	if err != nil {
		return err
	}
	printReport(os.Stderr, "restored", r)
	return nil
}

func printReport(w io.Writer, verb string, r backup.Report) {
	fmt.Fprintf(w, "%s %d records (%s) and %d files\n", verb, r.Records, r.State, r.Files)
}
