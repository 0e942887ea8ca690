# TMA: see `make help`.

SHELL := /bin/sh
.DELETE_ON_ERROR:

VERSION    ?= $(shell git describe --tags --always --dirty 2>/dev/null || echo unknown)
REVISION   := $(shell git rev-parse HEAD 2>/dev/null || echo unknown)
VERSIONPKG := github.com/prometheus/common/version
LDFLAGS    := -s -w -X $(VERSIONPKG).Version=$(VERSION) -X $(VERSIONPKG).Revision=$(REVISION)
GOBUILD     = CGO_ENABLED=0 go build -trimpath -ldflags '$(LDFLAGS)'

# What the tests need besides Go: the pinned compiler of the kernel program, the
# compiler of the wire format, and what formats C.
TEST_PACKAGES := clang-19 llvm-19 clang-format-19 libbpf-dev linux-libc-dev protobuf-compiler

DURATION ?=

.PHONY: help
help: ## This list
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/\1\t\2/p' $(MAKEFILE_LIST) | expand -t 16

.PHONY: demo
demo: root lab-programs ## The lab with live heavy prefixes in the terminal; DURATION=30s ends by itself
	@bin/tma-lab check
	@$(MAKE) --no-print-directory build
	@bin/tma-lab demo $(if $(DURATION),--duration=$(DURATION))

.PHONY: lab
lab: root lab-programs ## The lab's network alone; `bin/tma-lab down` removes it
	@bin/tma-lab check
	@bin/tma-lab up

.PHONY: build
build: lab-programs ## All programs, into bin/
	@$(GOBUILD) -o bin/tma-exporter ./exporter
	@$(GOBUILD) -o bin/tma-aggregator ./aggregator

.PHONY: lab-programs
lab-programs: go
	@$(GOBUILD) -o bin/tma-lab ./lab/cmd/tma-lab
	@$(GOBUILD) -o bin/tma-traffic ./lab/cmd/tma-traffic

.PHONY: test
test: root test-packages lint generated build ## All unit and integration tests
	@bin/tma-lab check
	@go tool gotestsum --format=pkgname-and-test-fails -- -timeout=15m ./...

.PHONY: test-system
test-system: root test-packages ## The suites that need heavy packages or a whole machine
	@.ci/clean-clone

.PHONY: bench-fold
bench-fold: root go ## What user space costs, from the ring buffer to the last window
	@go test -run '^$$' -bench '^BenchmarkFold$$' -benchtime 30x ./exporter/capture
	@go test -run '^$$' -bench '^BenchmarkEpoch$$' -benchtime 10x ./internal/fold

.PHONY: lint
lint: go test-packages ## Formatting and static analysis
	@unformatted=$$(gofmt -l $$(git ls-files '*.go')); test -z "$$unformatted" || \
		{ echo "not formatted by gofmt: $$unformatted" >&2; exit 1; }
	@go vet ./...
	@go tool staticcheck ./...
	@clang-format-19 --dry-run -Werror bpf/*.c bpf/*.h

.PHONY: generate
generate: go test-packages ## The BPF object and the wire format's Go code
	@go generate ./bpf ./internal/epoch

.PHONY: generated
generated: go test-packages
	@.ci/generated

.PHONY: clean
clean: ## Removes what was built
	@rm -rf bin

.PHONY: go
go:
	@command -v go >/dev/null || { echo 'go is missing: install Go 1.26 or later (https://go.dev/dl)' >&2; exit 1; }

.PHONY: root
root:
	@test "$$(id -u)" = 0 || { echo 'this needs root, for network namespaces and BPF: try sudo make $(MAKECMDGOALS)' >&2; exit 1; }

.PHONY: test-packages
test-packages:
	@.ci/need $(TEST_PACKAGES)
