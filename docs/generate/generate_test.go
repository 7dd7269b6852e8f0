package main

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/understudy-dr/understudy/internal/state"
)

const root = "../.."

func TestPagesAreUpToDate(t *testing.T) {
	all, err := pages(root)
	require.NoError(t, err)
	for name, want := range all {
		have, err := os.ReadFile(filepath.Join(root, name))
		require.NoError(t, err)
		require.Equal(t, want, string(have), "%s: run go generate ./docs/generate", name)
	}
}

// Every operation is on the page, and every note is of an operation.
func TestCoverageIsWhole(t *testing.T) {
	page, err := coveragePage(root)
	require.NoError(t, err)
	total := 0
	for _, s := range services() {
		names := map[string]bool{}
		for _, op := range s.operations {
			total++
			names[op.Name] = true
			require.Contains(t, page, "| "+op.Name+" | ")
		}
		for name, note := range s.notes {
			require.True(t, names[name], "%s has no operation %s", s.name, name)
			require.True(t, strings.HasSuffix(note, "."), note)
		}
	}
	require.Equal(t, 145, total)
	require.NotContains(t, page, "|  |  |", "every handler says what it does")
}

// The pictures hold nothing that Mermaid cannot read: arrows between declared names.
func TestPicturesAreWellFormed(t *testing.T) {
	line := regexp.MustCompile(`^    (state "[^"]+" as [A-Za-z_]+|(\[\*\]|[A-Za-z_]+) --> [A-Za-z_]+(: [^:]+)?)$`)
	for _, m := range machines() {
		for _, g := range m.groups {
			require.NotEmpty(t, g.rows, m.name)
			body := strings.Split(strings.TrimSuffix(picture(m.start, g.rows), "```\n"), "\n")
			require.Equal(t, []string{"```mermaid", "stateDiagram-v2"}, body[:2])
			declared := map[string]bool{"[*]": true}
			for _, l := range body[2 : len(body)-1] {
				require.Regexp(t, line, l)
				fields := strings.Fields(strings.SplitN(l, ":", 2)[0])
				if fields[0] == "state" {
					require.False(t, declared[fields[len(fields)-1]], "two states of one name: %s", l)
					declared[fields[len(fields)-1]] = true
					continue
				}
				require.True(t, declared[fields[0]] && declared[fields[2]], l)
			}
		}
	}
}

// Every value that the models have is on the page, and every test that is named there exists.
func TestFailuresAreWhole(t *testing.T) {
	var tests strings.Builder
	for _, dir := range []string{"e2e", "internal/control/replication"} {
		names, err := filepath.Glob(filepath.Join(root, dir, "*_test.go"))
		require.NoError(t, err)
		for _, name := range names {
			b, err := os.ReadFile(name)
			require.NoError(t, err)
			tests.Write(b)
		}
	}
	var codes []string
	for _, f := range failures {
		codes = append(codes, f.code)
		for _, name := range regexp.MustCompile(`Test\w+`).FindAllString(f.caused, -1) {
			require.Contains(t, tests.String(), "func "+name+"(t *testing.T)", f.code)
		}
	}
	want := []string{"UNSUPPORTED_VM_CONFIGURATION", "LAST_SNAPSHOT_JOB_FAILED"}
	for _, c := range []state.ErrorCode{state.AgentNotSeen, state.SnapshotsFailure, state.NotConverging, state.UnstableNetwork} {
		want = append(want, string(c))
	}
	for _, s := range state.StepNames[1:] { // to wait for one's turn cannot fail
		want = append(want, "FAILED_TO_"+string(s))
	}
	require.ElementsMatch(t, want, codes)
}
