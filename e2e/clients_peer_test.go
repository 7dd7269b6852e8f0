package e2e

import (
	"bufio"
	"bytes"
	"encoding/json"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/understudy-dr/understudy/api/drs"
	"github.com/understudy-dr/understudy/api/mgn"
	"github.com/understudy-dr/understudy/api/rest"
	"github.com/understudy-dr/understudy/e2e/harness"
)

// peers are clients of both services that are not Go's, each in a process of its own. A line to it is a call, a line from
// it what came of the call; the first tells the operations that it knows.
var peers = map[string]func(t *testing.T, s *harness.Server) *exec.Cmd{
	// AWS's clients for JavaScript, in the versions that javascript/package-lock.json pins.
	"javascript": func(t *testing.T, s *harness.Server) *exec.Cmd {
		modules, err := filepath.Abs("../.tools/javascript/node_modules")
		require.NoError(t, err)
		require.DirExists(t, modules, "'make javascript' installs AWS's JavaScript clients")
		cmd := exec.CommandContext(t.Context(), "node", "javascript/client.js")
		cmd.Env = append(s.Env(), "NODE_PATH="+modules, "NODE_EXTRA_CA_CERTS="+s.CA())
		return cmd
	},
	// The distribution's AWS CLI.
	"awscli": func(t *testing.T, s *harness.Server) *exec.Cmd {
		cmd := exec.CommandContext(t.Context(), "/usr/bin/python3", "awscli/client.py")
		cmd.Env = s.Env()
		return cmd
	},
}

// object is a structure of the API as JSON has it.
type object = map[string]any

// failure is an error as the client gives it to its user.
type failure struct {
	Code     string `json:"code"`
	Message  string `json:"message"`
	Modelled bool   `json:"modelled"` // the client has a class for it, or its exit code says that the service refused
}

// walk is a way through one service with one client.
type walk struct {
	t       *testing.T
	service string
	to      io.WriteCloser
	from    *bufio.Reader
	stderr  *bytes.Buffer
	left    []string // operations that the client knows and that have not been called yet
}

func newWalk(t *testing.T, client, service string, s *harness.Server) *walk {
	t.Helper()
	w := &walk{t: t, service: service, stderr: &bytes.Buffer{}}
	cmd := peers[client](t, s)
	cmd.Stderr = w.stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	var err error
	w.to, err = cmd.StdinPipe()
	require.NoError(t, err)
	out, err := cmd.StdoutPipe()
	require.NoError(t, err)
	w.from = bufio.NewReader(out)
	require.NoError(t, cmd.Start())
	t.Cleanup(func() { _ = cmd.Wait() }) // the test's context has ended it
	var models map[string][]string
	w.answer(&models)
	w.left = models[service]
	if client == "javascript" {
		w.lacks()
	}
	require.NotEmpty(t, w.left)
	return w
}

func (w *walk) answer(into any) {
	w.t.Helper()
	line, err := w.from.ReadBytes('\n')
	require.NoError(w.t, err, "the client ended: %s", w.stderr)
	require.NoError(w.t, json.Unmarshal(line, into), "%s", line)
}

// call is one call of an operation, or the reading of a list to its end in pages of one.
func (w *walk) call(operation string, in object, paginate bool) (object, *failure) {
	w.t.Helper()
	w.left = slices.DeleteFunc(w.left, func(o string) bool { return o == operation })
	if in == nil {
		in = object{}
	}
	line, err := json.Marshal(object{"service": w.service, "operation": operation, "input": in, "paginate": paginate})
	require.NoError(w.t, err)
	_, err = w.to.Write(append(line, '\n'))
	require.NoError(w.t, err)
	var got struct {
		Output object   `json:"output"`
		Error  *failure `json:"error"`
	}
	w.answer(&got)
	return got.Output, got.Error
}

func (w *walk) ok(operation string, in object) object {
	w.t.Helper()
	out, failed := w.call(operation, in, false)
	require.Nil(w.t, failed, "%s: %+v", operation, failed)
	return out
}

// items are all of a list, which the client reads page by page.
func (w *walk) items(operation string, in object) []any {
	w.t.Helper()
	out, failed := w.call(operation, in, true)
	require.Nil(w.t, failed, "%s: %+v", operation, failed)
	items, _ := out["items"].([]any)
	return items
}

// refused requires an error that the client has a class for, and returns its message.
func (w *walk) refused(code, operation string, in object) string {
	w.t.Helper()
	out, failed := w.call(operation, in, false)
	require.NotNil(w.t, failed, "%s is not refused: %v", operation, out)
	require.Equal(w.t, code, failed.Code, "%s: %s", operation, failed.Message)
	require.True(w.t, failed.Modelled, "%s: %+v", operation, failed)
	require.NotEmpty(w.t, failed.Message, operation)
	return failed.Message
}

// lacks requires that the operations which the JavaScript client does not have are those that docs/api-coverage.md says so of.
func (w *walk) lacks() {
	w.t.Helper()
	var said map[string][]string
	b, err := os.ReadFile("javascript/lacks.json")
	require.NoError(w.t, err)
	require.NoError(w.t, json.Unmarshal(b, &said))
	var lacks []string
	for _, op := range map[string][]*rest.Operation{"drs": drs.Operations, "mgn": mgn.Operations}[w.service] {
		if !slices.Contains(w.left, op.Name) {
			lacks = append(lacks, op.Name)
		}
	}
	require.ElementsMatch(w.t, said[w.service], lacks)
}

// has reports whether the client knows an operation that was not called yet: older clients lack the newest.
func (w *walk) has(operation string) bool { return slices.Contains(w.left, operation) }

// whole requires that the client has nothing that was not called.
func (w *walk) whole() {
	w.t.Helper()
	require.Empty(w.t, w.left, "the walk leaves these operations of the client out")
}

// at is what a path of members and indexes leads to.
func at(t *testing.T, v any, path ...any) any {
	t.Helper()
	for i, step := range path {
		switch s := step.(type) {
		case string:
			o, ok := v.(object)
			require.True(t, ok, "%v of %v: %v is no structure", path[:i+1], path, v)
			v = o[s]
		case int:
			l, ok := v.([]any)
			require.True(t, ok && s < len(l), "%v of %v: %v is no list that long", path[:i+1], path, v)
			v = l[s]
		}
	}
	return v
}
