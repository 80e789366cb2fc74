# Assent. `make run` builds and starts everything; `make test` runs the tests.
# Each target does its own set-up; nothing is written into the tree but bin/ and data/.

GO      ?= go
CACHE   := $(or $(XDG_CACHE_HOME),$(HOME)/.cache)/assent
VERSION := $(shell git describe --tags --always --dirty 2>/dev/null || echo dev)
LDFLAGS := -s -w -X main.version=$(VERSION)

GOLANGCI_VERSION := v2.15.0
GOLANGCI         := $(CACHE)/tools/golangci-lint-$(GOLANGCI_VERSION)

.DEFAULT_GOAL := help
.PHONY: help build run test test-setup test-kafka sim soak mutants fuzz bench lint fmt generated clean

help: ## list the targets
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 14

build: ## build bin/assent, and fetch the ClickHouse library (178 MB, once per user)
	@command -v $(GO) >/dev/null || { echo "make: Go is not installed: see https://go.dev/doc/install (1.26 or later)"; exit 2; }
	CGO_ENABLED=0 $(GO) build -trimpath -ldflags '$(LDFLAGS)' -o bin/assent ./cmd/assent
	@deploy/libchdb/fetch.sh

run: build ## start the whole pipeline on embedded engines, data under ./data
	bin/assent up

test-setup: ## what the tests need beside Go: a C compiler, Chromium, Python, the ClickHouse library
	@deploy/setup/test.sh
	@deploy/libchdb/fetch.sh

test: test-setup ## all tests, with the race detector
	CGO_ENABLED=1 $(GO) test -race -shuffle=on -timeout 20m ./...

test-kafka: test-setup ## the integration tests on Apache Kafka, one broker and three (Java 17, Maven)
	@deploy/setup/kafka.sh
	@GO='$(GO)' deploy/kafka/test.sh

SIM ?= 1000
SEED ?= 0
sim: ## the model of the fold's protocol, whole, and SIM histories of the real processor in virtual time, from SEED on
	$(GO) test -count=1 ./internal/sim/model
	$(GO) test -count=1 ./processor -run TestSimulation -sim.runs $(SIM) -seed $(SEED) -timeout 60m

SOAK ?= 200
soak: test-setup ## kill -9, SOAK times: of processors, of `assent up` whole; and a tenth as often of Kafka brokers
	@deploy/setup/kafka.sh
	$(GO) test ./processor -count=1 -v -run 'TestSoak_(KillsOfOneOfThreeProcessors|AZombie)' -soak $(SOAK) -timeout 90m
	$(GO) test ./cmd/assent -count=1 -v -run TestUp_KillsLoseNothingThatWasAnswered202 -kills $(SOAK) -timeout 90m
	ASSENT_TEST_KAFKA=apache3 $(GO) test ./processor -count=1 -v -run TestSoak_KillsOfOneOfThreeBrokers -soak $$(( $(SOAK) / 10 )) -timeout 90m

mutants: ## switch each mechanism of docs/guarantees.md off, and see its test fail (WORDS=fold: those so named)
	@deploy/libchdb/fetch.sh
	$(GO) run ./internal/mutants $(WORDS)

FUZZTIME ?= 30s
fuzz: ## each fuzz target for FUZZTIME (default 30s)
	@deploy/setup/fuzz.sh $(FUZZTIME)

bench: test-setup ## figures: the whole, then its parts; ratios against a peer of the same run
	$(GO) test -run '^$$' -bench 'BenchmarkUp_' -benchtime 3s ./cmd/assent
	$(GO) test -run '^$$' -bench FoldAlone -cpu 1 -benchtime 1x ./processor
	$(GO) test -run '^$$' -bench . -skip FoldAlone ./consent ./schemas ./processor/... ./producer/... ./sink/... ./internal/kafka
	@deploy/setup/kafka.sh
	ASSENT_TEST_KAFKA=apache $(GO) test -run '^$$' -bench BesideABareProgram -benchtime 3x ./processor -bench.events 2000000
	ASSENT_TEST_KAFKA=apache $(GO) test -run '^$$' -bench ChangeVisible -benchtime 1x ./processor

lint: $(GOLANGCI) ## golangci-lint, and gofmt
	@test -z "$$(gofmt -l $$(git ls-files '*.go'))" || { echo "not gofmt'ed:"; gofmt -l $$(git ls-files '*.go'); exit 1; }
	$(GOLANGCI) run ./...

$(GOLANGCI):
	@mkdir -p $(CACHE)/tools
	GOBIN=$(CACHE)/tools/new $(GO) install github.com/golangci/golangci-lint/v2/cmd/golangci-lint@$(GOLANGCI_VERSION)
	@mv $(CACHE)/tools/new/golangci-lint $(GOLANGCI) && rmdir $(CACHE)/tools/new

fmt: ## gofmt
	gofmt -w $$(git ls-files '*.go')

generated: ## fail if go.mod, go.sum or a generated file is not up to date
	$(GO) mod tidy -diff
	$(GO) generate ./...
	@git diff --exit-code --stat || { echo "generated files were not up to date: commit what changed"; exit 1; }

clean: ## remove bin/ (data/ and caches stay)
	rm -rf bin
