package harness

import (
	"context"
	"encoding/json"
	"fmt"
	"os/exec"
	"strings"
)

// AWSCLI is the distribution's AWS CLI, whose version 2.9 does not read AWS_ENDPOINT_URL.
const AWSCLI = "/usr/bin/aws"

// Shell runs a script in which "aws" reaches this server, the way its documentation tells people to type it.
func (s *Server) Shell(ctx context.Context, script string) (string, error) {
	cmd := exec.CommandContext(ctx, "bash", "-euo", "pipefail", "-c", `aws() { `+AWSCLI+` --endpoint-url "$AWS_ENDPOINT_URL" "$@"; }`+"\n"+script)
	cmd.Env = s.Env()
	out, err := cmd.CombinedOutput()
	if err != nil {
		return string(out), fmt.Errorf("%s: %w\n%s", script, err, out)
	}
	return string(out), nil
}

// AWS runs the AWS CLI against this server and decodes what it prints.
func (s *Server) AWS(t T, out any, args ...string) {
	t.Helper()
	printed, err := s.TryAWS(t.Context(), args...)
	if err != nil {
		t.Fatalf("%v", err)
	}
	if out == nil {
		return
	}
	if err := json.Unmarshal([]byte(printed), out); err != nil {
		t.Fatalf("aws %s printed no JSON: %v\n%s", strings.Join(args, " "), err, printed)
	}
}

// TryAWS is AWS whose failure is the caller's business.
func (s *Server) TryAWS(ctx context.Context, args ...string) (string, error) {
	cmd := exec.CommandContext(ctx, AWSCLI, append([]string{"--endpoint-url", s.Endpoint, "--output", "json"}, args...)...)
	cmd.Env = s.Env()
	out, err := cmd.CombinedOutput()
	if err != nil {
		return string(out), fmt.Errorf("aws %s: %w\n%s", strings.Join(args, " "), err, out)
	}
	return string(out), nil
}
