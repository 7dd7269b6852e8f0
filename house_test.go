// Package understudy has no code: its test keeps the rules of the house that no linter knows.
package understudy

import (
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// walk calls visit for every file of the tree that git would track.
func walk(t *testing.T, visit func(path string)) {
	t.Helper()
	require.NoError(t, filepath.WalkDir(".", func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.IsDir() {
			switch d.Name() {
			case ".git", ".tools", "bin", "node_modules", "testdata":
				return filepath.SkipDir
			}
			return nil
		}
		visit(path)
		return nil
	}))
}

func generated(source []byte) bool {
	return regexp.MustCompile(`(?m)^// Code generated .* DO NOT EDIT\.$`).Match(source)
}

func TestEveryPackageHasOnePackageComment(t *testing.T) {
	comments := map[string][]string{}
	dirs := map[string]bool{}
	walk(t, func(path string) {
		if !strings.HasSuffix(path, ".go") || strings.HasSuffix(path, "_test.go") {
			return
		}
		f, err := parser.ParseFile(token.NewFileSet(), path, nil, parser.PackageClauseOnly|parser.ParseComments)
		require.NoError(t, err)
		dirs[filepath.Dir(path)] = true
		if f.Doc != nil {
			comments[filepath.Dir(path)] = append(comments[filepath.Dir(path)], path)
		}
	})
	for dir := range dirs {
		require.Len(t, comments[dir], 1, "%s needs exactly one package comment: what it does and who should import it", dir)
	}
}

// A file past this size holds more than one idea; tests are lists, and may be longer.
const maxLines, maxTestLines = 520, 700

func TestNoFileGrowsPastUnderstanding(t *testing.T) {
	walk(t, func(path string) {
		switch filepath.Ext(path) {
		case ".go", ".c", ".h", ".ts", ".tsx":
		default:
			return
		}
		b, err := os.ReadFile(path)
		require.NoError(t, err)
		limit := maxLines
		if strings.HasSuffix(path, "_test.go") {
			limit = maxTestLines
		}
		if lines := strings.Count(string(b), "\n"); lines > limit && !generated(b) {
			t.Errorf("%s has %d lines: split it", path, lines)
		}
	})
}

func TestDocsCiteSymbolsNotLines(t *testing.T) {
	cite := regexp.MustCompile(`\.(go|c):[0-9]+`)
	walk(t, func(path string) {
		if filepath.Ext(path) != ".md" {
			return
		}
		b, err := os.ReadFile(path)
		require.NoError(t, err)
		require.Empty(t, cite.FindString(string(b)), "%s cites a line number, which goes stale: name the symbol", path)
	})
}

func TestEveryDirectDependencyHasAReason(t *testing.T) {
	mod, err := os.ReadFile("go.mod")
	require.NoError(t, err)
	reasons, err := os.ReadFile("docs/dependencies.md")
	require.NoError(t, err)
	direct := regexp.MustCompile(`(?m)^\t(\S+) v\S+$`)
	for _, m := range direct.FindAllStringSubmatch(string(mod), -1) {
		name := m[1]
		if strings.HasPrefix(name, "github.com/aws/aws-sdk-go-v2") {
			name = "github.com/aws/aws-sdk-go-v2"
		}
		require.Contains(t, string(reasons), name, "docs/dependencies.md says nothing of it")
	}
}

// The agent builds alone: no journal, no state, no control plane, no database.
func TestTheAgentLinksNothingOfTheServer(t *testing.T) {
	out, err := exec.CommandContext(t.Context(), "go", "list", "-deps", "./internal/app/agent").Output()
	require.NoError(t, err)
	for _, forbidden := range []string{"understudy/internal/journal", "understudy/internal/state", "understudy/internal/control",
		"understudy/internal/awsapi", "modernc.org/sqlite", "testing"} {
		for pkg := range strings.Lines(string(out)) {
			require.NotContains(t, "/"+strings.TrimSpace(pkg)+"/", "/"+forbidden+"/", "the agent links %s", strings.TrimSpace(pkg))
		}
	}
}
