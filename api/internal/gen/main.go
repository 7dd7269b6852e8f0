// Command gen writes the packages api/drs and api/mgn from the service shapes. `go generate ./api/...`
// runs it; nobody imports it.
package main

import (
	"flag"
	"fmt"
	"os"
	"path/filepath"
)

// services are the packages to write and the shapes that they come from.
var services = []struct{ pkg, file string }{
	{"drs", "drs-2020-02-26.json"},
	{"mgn", "mgn-2020-02-26.json"},
}

func main() {
	shapes := flag.String("shapes", "shapes", "folder of the service shapes")
	out := flag.String("out", ".", "folder under which the packages are written")
	flag.Parse()
	for _, s := range services {
		if err := generate(filepath.Join(*shapes, s.file), s.pkg, filepath.Join(*out, s.pkg)); err != nil {
			fmt.Fprintf(os.Stderr, "gen: %s: %v\n", s.pkg, err)
			os.Exit(1)
		}
	}
}

// generate reads one service and writes its package.
func generate(shapes, pkg, dir string) error {
	files, err := render(shapes, pkg)
	if err != nil {
		return err
	}
	for name, src := range files {
		if err := os.WriteFile(filepath.Join(dir, name), src, 0o644); err != nil {
			return err
		}
	}
	return nil
}

// render is the content of the package's files by name, formatted.
func render(shapes, pkg string) (map[string][]byte, error) {
	m, err := load(shapes)
	if err != nil {
		return nil, err
	}
	m.pkg = pkg
	if err := m.check(); err != nil {
		return nil, err
	}
	files := map[string][]byte{}
	for name, write := range map[string]func(*model, *source) error{
		"doc.go":        writeDoc,
		"types.go":      writeTypes,
		"enums.go":      writeEnums,
		"shapes.go":     writeShapes,
		"operations.go": writeOperations,
		"handler.go":    writeHandler,
		"errors.go":     writeErrors,
	} {
		src := &source{}
		if err := write(m, src); err != nil {
			return nil, fmt.Errorf("%s: %w", name, err)
		}
		if files[name], err = src.format(pkg); err != nil {
			return nil, fmt.Errorf("%s: %w", name, err)
		}
	}
	return files, nil
}
