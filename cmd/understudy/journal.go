package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"

	"github.com/understudy-dr/understudy/internal/encryption"
	"github.com/understudy-dr/understudy/internal/fault"
	"github.com/understudy-dr/understudy/internal/journal"
	"github.com/understudy-dr/understudy/internal/vfs"
)

type journalCmd struct {
	Verify journalVerifyCmd `cmd:"" help:"Read every byte of a journal that no server has open, and report what is damaged."`
}

type journalVerifyCmd struct {
	Dir     string `arg:"" help:"The journal, DATA-DIR/journals/s-..." type:"path"`
	KeyFile string `help:"The wrapping keys; default DATA-DIR/wrapping-keys.json." type:"path"`
}

func (c *journalVerifyCmd) Run(ctx context.Context) error {
	if c.KeyFile == "" {
		c.KeyFile = filepath.Join(filepath.Dir(filepath.Dir(c.Dir)), "wrapping-keys.json")
	}
	var o journal.VerifyOptions
	if _, err := os.Stat(c.KeyFile); err == nil { // opening would make one
		if o.Keys, err = encryption.OpenKeyFile(c.KeyFile); err != nil {
			return err
		}
	}
	r, err := journal.Verify(ctx, vfs.OS, c.Dir, o)
	if fault.Is(err, fault.NotFound) {
		return fault.New(fault.NotFound, "journal verify", "there is no journal in %s", c.Dir).WithHint("journals are DATA-DIR/journals/s-...")
	}
	if err != nil {
		return err
	}
	fmt.Printf("journal %s: %d segments, %d frames, %d extents, %d bytes\n", r.ID, r.Segments, r.Frames, r.Extents, r.Bytes)
	if r.TornBytes > 0 {
		fmt.Printf("%d bytes at the end are a torn write that was never acknowledged; the server cuts them off\n", r.TornBytes)
	}
	for _, p := range r.Problems {
		fmt.Println(p)
	}
	if n := len(r.Problems); n > 0 {
		return fault.New(fault.Corruption, "journal verify", "problems found: %d", n)
	}
	fmt.Println("no damage found")
	return nil
}
