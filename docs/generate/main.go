// Command generate writes the pages of docs that are made from code: docs/state-machines.md from the tables in
// internal/control, docs/api-coverage.md from the services' shapes, the handlers and the notes beside this file. Run
// it with go generate; its test fails while a page is not what it would write.
package main

import (
	"fmt"
	"os"
	"path/filepath"
)

//go:generate go run . ../..

const usageStatus = 2

func main() {
	if len(os.Args) != 2 {
		fmt.Fprintln(os.Stderr, "usage: generate ROOT")
		os.Exit(usageStatus)
	}
	if err := write(os.Args[1]); err != nil {
		fmt.Fprintln(os.Stderr, "generate:", err)
		os.Exit(1)
	}
}

// pages are what is generated, by path under the root.
func pages(root string) (map[string]string, error) {
	coverage, err := coveragePage(root)
	if err != nil {
		return nil, err
	}
	return map[string]string{"docs/state-machines.md": machinesPage(), "docs/api-coverage.md": coverage}, nil
}

func write(root string) error {
	all, err := pages(root)
	if err != nil {
		return err
	}
	for name, content := range all {
		if err := os.WriteFile(filepath.Join(root, name), []byte(content), 0o644); err != nil {
			return err
		}
	}
	return nil
}
