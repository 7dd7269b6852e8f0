# The targets a newcomer needs are demo and test; both install what they use. Everything else serves developers and CI.

GO          ?= go
BIN         := bin
TOOLS       := $(CURDIR)/.tools
GOLANGCI    := $(TOOLS)/golangci-lint
GOLANGCI_VERSION := v2.15.0
VERSITYGW   := $(TOOLS)/versitygw
VERSITYGW_VERSION := v1.8.0
JAVASCRIPT  := $(TOOLS)/javascript/node_modules/.package-lock.json
TEST_FLAGS  ?=
LDFLAGS     := -X github.com/understudy-dr/understudy/internal/buildinfo.Version=$(shell git describe --tags --always --dirty 2>/dev/null || echo unknown)

.PHONY: help
help: ## this list
	@grep -hE '^[a-z0-9-]+:.*##' $(MAKEFILE_LIST) | awk -F':.*## ' '{printf "  %-12s %s\n", $$1, $$2}'

.PHONY: build
build: ## bin/understudy
	CGO_ENABLED=0 $(GO) build -trimpath -ldflags '$(LDFLAGS)' -o $(BIN)/understudy ./cmd/understudy

.PHONY: deps
deps: ## Debian packages that the demo and the tests use
	@./scripts/install-deps

$(VERSITYGW): # an S3 service, which the tests run as a process of its own
	GOBIN=$(TOOLS) $(GO) install github.com/versity/versitygw/cmd/versitygw@$(VERSITYGW_VERSION)

$(JAVASCRIPT): e2e/javascript/package.json e2e/javascript/package-lock.json # AWS's JavaScript clients, as e2e/javascript pins them
	mkdir -p $(TOOLS)/javascript
	cp $^ e2e/javascript/.npmrc $(TOOLS)/javascript
	npm ci --prefix $(TOOLS)/javascript --ignore-scripts --no-audit --no-fund --loglevel=error
	touch $@

.PHONY: javascript
javascript: $(JAVASCRIPT) ## AWS's JavaScript clients, which the tests use

.PHONY: demo
demo: deps build ## the main job, end to end, on this machine, in under five minutes (root)
	@$(GO) run ./e2e/demo -bin $(BIN)/understudy

.PHONY: test
test: deps $(VERSITYGW) $(JAVASCRIPT) build ## every test that fits 20 minutes on 2 cores (root)
	$(GO) build ./...
	$(GO) test -p 1 -timeout 20m $(TEST_FLAGS) ./... # one package at a time: they share disks, memory and two cores

# Where goroutines share state. What answers requests one by one, or parses, is left to the other tests.
RACE := $(addprefix ./internal/,agentapi agentapi/agentclient app/... blob/... capture consistency control/events control/points control/replication \
	journal/... metrics nbd replicate/... volume wire)

.PHONY: race
race: deps $(VERSITYGW) build ## the tests of what runs concurrently, under the race detector
	$(GO) test -p 1 -race -short -timeout 20m $(RACE)

.PHONY: e2e
e2e: build ## real machines: QEMU guests on Debian's stock kernels (root; docs/guests.md)
	@./scripts/install-deps guests
	UNDERSTUDY_GUESTS=1 $(GO) test -v -timeout 6h $(TEST_FLAGS) ./e2e/guests

.PHONY: bench
bench: deps build ## figures and ratios against peers, medians of alternating runs
	$(GO) test -run '^$$' -bench . -benchtime 1x -timeout 60m ./e2e/bench

SOAK ?= 1h
.PHONY: soak
soak: deps ## random faults against a busy PostgreSQL for SOAK (default 1h; 10m is the short form), the replica proven all the while (root)
	UNDERSTUDY_SOAK=$(SOAK) $(GO) test -run '^TestSoak$$' -count 1 -v -timeout 0 ./e2e/soak # every wait in it has a limit of its own; it builds what it tests

.PHONY: generate
generate: deps ## BPF object, API types, protobuf
	$(GO) generate ./...

.PHONY: generate-check
generate-check: generate ## fails when a generated file is not what the generator makes
	@git diff --exit-code --stat || { echo "generated files differ: run 'make generate' and commit"; exit 1; }
	@test -z "$$(git ls-files --others --exclude-standard)" || { git ls-files --others --exclude-standard; echo "the generator made files that are not committed"; exit 1; }

$(GOLANGCI):
	GOBIN=$(TOOLS) $(GO) install github.com/golangci/golangci-lint/v2/cmd/golangci-lint@$(GOLANGCI_VERSION)

.PHONY: lint
lint: $(GOLANGCI) ## gofmt, vet, and the rules of .golangci.yml, the arrows between packages among them
	$(GOLANGCI) run ./...

.PHONY: fuzz
fuzz: ## every fuzz target for FUZZTIME (default 30s) each
	@./scripts/fuzz $(or $(FUZZTIME),30s)

.PHONY: clean
clean: ## what the build made
	rm -rf $(BIN)
