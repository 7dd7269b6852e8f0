#!/bin/sh
# Regenerates agentpb from agent.proto. Needs protoc; its plugins are the module's own tools.
set -eu
cd "$(dirname "$0")"
bin=$(mktemp -d)
trap 'rm -rf "$bin"' EXIT
go build -o "$bin/" google.golang.org/protobuf/cmd/protoc-gen-go connectrpc.com/connect/cmd/protoc-gen-connect-go
module=github.com/understudy-dr/understudy
PATH="$bin:$PATH" protoc --proto_path=../.. \
	--go_out=../.. --go_opt=module=$module \
	--connect-go_out=../.. --connect-go_opt=module=$module,simple \
	../../internal/agentapi/agent.proto
