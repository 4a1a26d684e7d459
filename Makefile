# Everything that a contributor types. Build tags that a part needs are set here.
TAGS    := duckdb_arrow
VERSION := $(shell git describe --tags --always --dirty 2>/dev/null || echo development)
BIN     := bin/lockstep
GOFLAGS += -buildvcs=false
export GOFLAGS

# Tier 1 is every package but apptest; tier 2 is apptest with the real binary; tier 3 (tag
# stack) runs it on the real engines, which deploy/ installs and starts.
PACKAGES = $(shell go list -tags $(TAGS) ./... | grep -v -e /apptest -e /node_modules/)

.PHONY: build run test test-unit test-e2e test-stack stack stack-down bench lint clean

build:
	go build -tags $(TAGS) -ldflags "-X main.version=$(VERSION)" -o $(BIN) ./cmd/lockstep

run: build
	$(BIN) run

test: lint test-unit test-e2e

test-unit:
	go test -tags $(TAGS) $(TESTFLAGS) $(PACKAGES)

test-e2e: build
	go test -tags $(TAGS) -count 1 -timeout 60m $(TESTFLAGS) ./apptest/...

# One package at a time: two cores do not carry two stacks.
test-stack: build
	go run ./deploy install core spark monitoring airflow superset
	LOCKSTEP_BIN=$(CURDIR)/$(BIN) go test -tags "$(TAGS) stack" -count 1 -p 1 -timeout 80m $(TESTFLAGS) ./engine/spark/... ./apptest/stack/...

# The whole stack on this machine, without docker: engines, Lockstep itself and what
# stands around them. STACK="--replay '--scale 0.02'" fills it; STACK_DIR is its folder.
STACK_DIR ?= .lockstep-stack

stack: build
	go run ./deploy up --dir $(STACK_DIR) --parts all --lockstep $(BIN) $(STACK)

stack-down:
	go run ./deploy down --dir $(STACK_DIR)

# Each figure stands beside its floor or peer; FIGURES="-only steps -history 1,10" chooses.
bench: build
	go run -tags $(TAGS) ./bench/figures -binary $(BIN) $(FIGURES)
	go test -tags $(TAGS) -run '^$$' -bench . -timeout 60m ./ingest ./lake ./store

lint:
	@files=$$(git ls-files -co --exclude-standard '*.go' | xargs gofmt -l); if [ -n "$$files" ]; then echo "run gofmt -w on:"; echo "$$files"; exit 1; fi
	go vet -tags $(TAGS) $(PACKAGES) ./apptest/...
	go vet -tags "$(TAGS) stack" ./engine/spark/... ./apptest/stack/...

clean:
	rm -rf bin
