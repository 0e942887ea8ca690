# TMA: see `make help`.

SHELL := /bin/sh
.DELETE_ON_ERROR:

VERSION    ?= $(shell git describe --tags --always --dirty 2>/dev/null || echo unknown)
REVISION   := $(shell git rev-parse HEAD 2>/dev/null || echo unknown)
VERSIONPKG := github.com/prometheus/common/version
LDFLAGS    := -s -w -X $(VERSIONPKG).Version=$(VERSION) -X $(VERSIONPKG).Revision=$(REVISION)
GOBUILD     = CGO_ENABLED=0 go build -trimpath -ldflags '$(LDFLAGS)'

# What the tests need besides Go: the pinned compiler of the kernel program, the
# compiler of the wire format, what formats C, what checks metrics (promtool), and what
# judges the service (systemd-analyze).
TEST_PACKAGES := clang-19 llvm-19 clang-format-19 libbpf-dev linux-libc-dev protobuf-compiler prometheus systemd

DURATION ?=

.PHONY: help
help: ## This list
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/\1\t\2/p' $(MAKEFILE_LIST) | expand -t 16

.PHONY: demo
demo: check ## The lab with live heavy prefixes in the terminal; DURATION=30s ends by itself
	@$(MAKE) --no-print-directory build
	@bin/tma-lab demo $(if $(DURATION),--duration=$(DURATION))

.PHONY: lab
lab: check ## The lab's network alone; `bin/tma-lab down` removes it
	@bin/tma-lab up

.PHONY: build
build: lab-programs ## All programs, into bin/
	@$(GOBUILD) -o bin/tma-exporter ./exporter
	@$(GOBUILD) -o bin/tma-aggregator ./aggregator

.PHONY: lab-programs
lab-programs: go
	@$(GOBUILD) -o bin/tma-lab ./lab/cmd/tma-lab
	@$(GOBUILD) -o bin/tma-traffic ./lab/cmd/tma-traffic

# What package needs besides Go, and Debian's name of the architecture to build for.
PACKAGE_PACKAGES := debhelper
ARCH             ?= $(shell dpkg --print-architecture)

.PHONY: package
package: go ## The Debian package, into bin/; ARCH=arm64 is one for another architecture
	@.ci/need $(PACKAGE_PACKAGES)
	@GOARCH=$(ARCH) $(GOBUILD) -o bin/package/$(ARCH)/tma-exporter ./exporter
	@internal/packaging/deb exporter bin/package/$(ARCH)/tma-exporter $(ARCH) '$(VERSION)'

.PHONY: test
test: check test-packages ## All unit and integration tests
	@$(MAKE) --no-print-directory lint bin/generated build
	@# One package at a time: beside each other they would starve the captures.
	@go tool gotestsum --format=pkgname-and-test-fails -- -p=1 -timeout=15m ./...

.PHONY: soak
soak: root test-packages ## The long forms of the capture's tests: 5 million flows, 1 GB transfers, 5 million mutated packets, 10,000 epochs
	@TMA_SOAK=1 go test -timeout=60m -run='TestEveryPacketANewFlow|OnTheWire|TestMutatedPackets' -v ./exporter/capture
	@TMA_SOAK=1 go test -timeout=30m -run='TestMemoryIsFlat' -v ./benchmark/footprint

.PHONY: test-system
test-system: check test-kernels test-package ## The suites that need heavy packages or a whole machine
	@.ci/clean-clone

.PHONY: test-package
test-package: root go ## The Debian package, in a fresh Debian 12
	@.ci/need mmdebstrap lintian systemd-container iproute2 curl
	@.ci/package

# What test-kernels needs besides Go.
KERNEL_PACKAGES := qemu-system-x86 xz-utils debian-archive-keyring

.PHONY: test-kernels
test-kernels: kernel-programs ## The capture's tests on Debian's kernels, in virtual machines; KERNELS=6.1 is one of them
	@bin/kernels/kernels $(if $(KERNELS),'--only=$(KERNELS)')

.PHONY: kernel-support
kernel-support: kernel-programs ## The verifier's figures in docs/kernel-support.md
	@bin/kernels/kernels --update

.PHONY: kernel-programs
kernel-programs: go
	@.ci/need $(KERNEL_PACKAGES)
	@CGO_ENABLED=0 go build -o bin/kernels/init ./lab/kernels/init
	@CGO_ENABLED=0 go test -c -tags vm -ldflags '-s -w' -o bin/kernels/capture.test ./exporter/capture
	@$(GOBUILD) -o bin/kernels/tma-exporter ./exporter
	@go build -o bin/kernels/kernels ./lab/kernels

.PHONY: bench-capture
bench-capture: root go ## What the kernel program costs a packet, beside other stores of flows
	@$(GOBUILD) -o bin/bench-capture ./benchmark/capture
	@bin/bench-capture --json=bin/bench-capture.json

.PHONY: bench-fold
bench-fold: root go ## What user space costs, from the ring buffer to the last window
	@go test -run '^$$' -bench '^BenchmarkFold$$' -benchtime 30x ./exporter/capture
	@go test -run '^$$' -bench '^BenchmarkEpoch$$' -benchtime 10x ./internal/fold

.PHONY: bench-cardinality
bench-cardinality: go ## How right distinct counts, distinct peers and entropies are
	@go test -run '^$$' -bench '^Benchmark(Error|Recall)$$' -benchtime 1x ./internal/sketch/hll ./internal/sketch/pairs ./internal/sketch/entropy
.PHONY: bench-footprint
bench-footprint: root go ## What the whole exporter takes of processor and memory, under load and idle
	@$(GOBUILD) -o bin/tma-exporter ./exporter
	@$(GOBUILD) -o bin/bench-footprint ./benchmark/footprint
	@bin/bench-footprint --json=bin/bench-footprint.json

.PHONY: lint
lint: go test-packages ## Formatting and static analysis
	@unformatted=$$(gofmt -l $$(git ls-files '*.go')); test -z "$$unformatted" || \
		{ echo "not formatted by gofmt: $$unformatted" >&2; exit 1; }
	@go vet ./...
	@go vet -tags vm ./exporter/capture
	@go tool staticcheck ./...
	@go tool staticcheck -tags vm ./exporter/capture
	@clang-format-19 --dry-run -Werror $$(git ls-files '*.c' '*.h')

.PHONY: generate
generate: go test-packages ## The BPF object and the wire format's Go code
	@go generate ./bpf ./benchmark/... ./internal/epoch

.PHONY: docs
docs: go ## The generated parts of docs/, by the tests that compare them
	@TMA_WRITE_DOCS=1 go test -p=1 -count=1 -run='^TestDocumentation$$' ./exporter ./exporter/config ./aggregator ./aggregator/config

# Up to date if nothing changed since the comparison succeeded.
bin/generated: $(wildcard bpf/*) $(wildcard internal/epoch/*.proto internal/epoch/epochpb/*) | go test-packages
	@.ci/generated
	@mkdir -p bin && touch $@

.PHONY: clean
clean: ## Removes what was built
	@rm -rf bin

.PHONY: go
go:
	@command -v go >/dev/null || { echo 'go is missing: install Go 1.26 or later (https://go.dev/dl)' >&2; exit 1; }

# What the machine must have, before anything that takes time.
.PHONY: check
check: root lab-programs
	@bin/tma-lab check

.PHONY: root
root:
	@test "$$(id -u)" = 0 || { echo 'this needs root, for network namespaces and BPF: try sudo make $(MAKECMDGOALS)' >&2; exit 1; }

.PHONY: test-packages
test-packages:
	@.ci/need $(TEST_PACKAGES)
