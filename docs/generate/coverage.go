package main

import (
	"encoding/json"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/understudy-dr/understudy/api/drs"
	"github.com/understudy-dr/understudy/api/mgn"
	"github.com/understudy-dr/understudy/api/rest"
)

// covered is a service of the coverage page.
type covered struct {
	name, title string
	operations  []*rest.Operation
	handlers    string // where its operations are done
	notes       map[string]string
}

func services() []covered {
	return []covered{
		{"drs", "AWS Elastic Disaster Recovery (`drs`)", drs.Operations, "internal/awsapi/drsapi", drsNotes},
		{"mgn", "AWS Application Migration Service (`mgn`)", mgn.Operations, "internal/awsapi/mgnapi", mgnNotes},
	}
}

const coverageHead = `# API coverage

Every operation of both services: what it does here, and where it differs from the real service and why. This page is made
by ` + "`go generate ./docs/generate`" + ` from the services' shapes, the comments of the handlers and the notes beside the generator.

Of all operations: requests are validated against the services' own shapes; an error is one that the model declares for the
operation, with the service's status; lists have pages; times, durations, ids and ARNs have the services' forms. The
conformance test in ` + "`internal/awsapi`" + ` sends each the least and the most that its shapes allow, and breaks each constraint once.
What has no meaning on one's own hardware is refused with a declared error that says so; nothing pretends to succeed.
`

func coveragePage(root string) (string, error) {
	var b strings.Builder
	b.WriteString(coverageHead)
	lacks, err := newer(root)
	if err != nil {
		return "", err
	}
	for _, s := range services() {
		docs, err := handlerDocs(filepath.Join(root, s.handlers))
		if err != nil {
			return "", err
		}
		fmt.Fprintf(&b, "\n## %s\n\n%d operations, %d of them available.\n\n| operation | here | differs from the real service |\n|---|---|---|\n", s.title, len(s.operations), len(docs))
		for _, op := range s.operations {
			does, ok := docs[op.Name]
			if !ok {
				does = "Not available in this version."
			}
			fmt.Fprintf(&b, "| %s | %s | %s |\n", op.Name, does, s.notes[op.Name])
		}
		if names := lacks[s.name]; len(names) > 0 {
			fmt.Fprintf(&b, "\n%d of these are newer than AWS's JavaScript client in the version that the tests use, so that only the clients for Go call them: %s.\n",
				len(names), strings.Join(names, ", "))
		}
	}
	return b.String(), nil
}

// newer are the operations, by service, that the JavaScript clients of the tests do not have. The tests see that this is so.
func newer(root string) (lacks map[string][]string, err error) {
	b, err := os.ReadFile(filepath.Join(root, "e2e/javascript/lacks.json"))
	if err != nil {
		return nil, err
	}
	return lacks, json.Unmarshal(b, &lacks)
}

// handlerDocs reads what the methods of API in a package say of themselves, by name.
func handlerDocs(dir string) (map[string]string, error) {
	files := token.NewFileSet()
	all, err := filepath.Glob(filepath.Join(dir, "*.go"))
	if err != nil {
		return nil, err
	}
	if len(all) == 0 {
		return nil, fmt.Errorf("no Go files in %s: %w", dir, fs.ErrNotExist)
	}
	out := map[string]string{}
	for _, name := range all {
		if strings.HasSuffix(name, "_test.go") {
			continue
		}
		f, err := parser.ParseFile(files, name, nil, parser.ParseComments|parser.SkipObjectResolution)
		if err != nil {
			return nil, err
		}
		for _, d := range f.Decls {
			if m, ok := d.(*ast.FuncDecl); ok && m.Recv != nil && m.Name.IsExported() && m.Doc != nil {
				out[m.Name.Name] = sentence(m.Name.Name, m.Doc.Text())
			}
		}
	}
	return out, nil
}

// sentence is a comment without the name that it begins with.
func sentence(name, doc string) string {
	doc = strings.TrimPrefix(strings.Join(strings.Fields(doc), " "), name+" ")
	if doc == "" {
		return doc
	}
	return strings.ToUpper(doc[:1]) + doc[1:]
}
