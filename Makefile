.DEFAULT_GOAL := help
SHELL         := bash
.SHELLFLAGS   := -eu -o pipefail -c

MODULES    := $(shell go list -m -f '{{.Dir}}')
BIN        := $(CURDIR)/bin
LINTER     := v2.15.0
LINT       := $(BIN)/tools/golangci-lint-$(LINTER)
FUZZTIME   ?= 10s
BENCHTIME  ?= 1s
BENCHCOUNT ?= 1

export GOTOOLCHAIN := local

.PHONY: help
help: ## Show this help
	@awk 'BEGIN {FS = ":.*## "} /^[a-z][a-z-]*:.*## / {printf "  %-16s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

.PHONY: build
build: ## Build every binary into ./bin (static)
	@mkdir -p $(BIN)
	CGO_ENABLED=0 go build -trimpath -ldflags="-s -w" -o $(BIN)/ work

.PHONY: demo
demo: build ## Play the whole sample on this machine and check what happens
	@$(BIN)/demo play

.PHONY: up
up: build ## Start the sample and leave it running until Ctrl-C
	@$(BIN)/demo up

.PHONY: test
test: ## Run every test that needs no network beyond this machine
	go test work

.PHONY: race
race: ## As test, with the race detector and in shuffled order
	go test -race -shuffle=on -count=1 work

.PHONY: fuzz
fuzz: ## Run each fuzz target for FUZZTIME (10s)
	@go list -f '{{$$d := .Dir}}{{range .TestGoFiles}}{{$$d}}/{{.}}{{"\n"}}{{end}}'\
	'{{range .XTestGoFiles}}{{$$d}}/{{.}}{{"\n"}}{{end}}' work \
	  | xargs grep -HoE '^func Fuzz[A-Za-z0-9_]+' | sort -u \
	  | while IFS=: read -r file func; do \
	      $(MAKE) --no-print-directory fuzz-one DIR="$$(dirname "$$file")" FUNC="$${func#func }" || exit 1; done

# Now and then "go test" reports its own deadline as a failure when the time is over. A real
# failure also names the input that it saved, or says what went wrong.
.PHONY: fuzz-one
fuzz-one:
	@echo "fuzz $(FUNC) in $(DIR)"; cd "$(DIR)"; \
	  if out=$$(go test -run '^$$' -fuzz '^$(FUNC)$$' -fuzztime $(FUZZTIME) . 2>&1); then \
	    tail -n 1 <<<"$$out"; exit 0; fi; \
	  echo "$$out"; \
	  grep -q '^ *context deadline exceeded$$' <<<"$$out" && \
	    ! grep -qE 'Failing input|panic|_test\.go:' <<<"$$out"

.PHONY: bench
bench: ## Run the benchmarks (BENCHTIME=1s BENCHCOUNT=1); writes nothing into the tree
	go test -run '^$$' -bench . -benchtime $(BENCHTIME) -count $(BENCHCOUNT) work

POOLS ?= 500
.PHONY: bench-pools
bench-pools: build ## Measure a controller with POOLS (500) pools on the embedded broker: start, memory, end
	POOLS=$(POOLS) go test -count=1 -v -run '^TestManyPools$$' ./services/controller

.PHONY: bench-growth
bench-growth: ## Fail if a hot path grows faster than its input, or is too slow beside its peer (UPDATE=1: docs)
	go run ./integration/growth $(if $(UPDATE),--update docs/performance.md)

# The packages with tests against LocalStack. They use the one that LOCALSTACK_ENDPOINT names, or start a container.
INTEGRATION := ./internal/queue/sqsqueue ./internal/blob/s3blob ./internal/cloud/ec2cloud \
  ./internal/backend/awsbackend ./services/controller/internal/awssetup \
  $(addprefix ./integration/,assumptions localstack metal suite walkthrough wire)

.PHONY: integration
integration: ## Run the tests that need LocalStack (Docker, or LOCALSTACK_ENDPOINT)
	@mkdir -p $(BIN)
	CGO_ENABLED=0 go build -trimpath -o $(BIN)/suite ./integration/suite
	@$(BIN)/suite $(INTEGRATION)

.PHONY: stories
stories: ## Play the stories on the fake of AWS, a part of make integration that needs no Docker
	CLOUDMASTER_STORIES=1 go test -count=1 -parallel 4 -run '^TestStory' ./integration/walkthrough

.PHONY: localstack-image
localstack-image: ## Build an image of LocalStack where none can be pulled (root, Docker)
	integration/localstack/build-image.sh

.PHONY: vet
vet: ## go vet over the workspace
	go vet work

.PHONY: lint-tool
lint-tool: $(LINT) ## Install the linter if it is missing

$(LINT):
	GOBIN=$(BIN)/tools go install github.com/golangci/golangci-lint/v2/cmd/golangci-lint@$(LINTER)
	mv $(BIN)/tools/golangci-lint $@

.PHONY: lint
lint: $(LINT) ## golangci-lint over every module in one run
	$(LINT) run $(addsuffix /...,$(MODULES))

.PHONY: fmt
fmt: $(LINT) ## Format every file
	$(LINT) fmt

.PHONY: fmt-check
fmt-check: $(LINT) ## Fail if a file is not formatted
	$(LINT) fmt --diff

.PHONY: tidy
tidy: ## go mod tidy in every module
	@for d in $(MODULES); do (cd $$d && go mod tidy) || exit 1; done

.PHONY: tidy-check
tidy-check: ## Fail if a go.mod or go.sum is not tidy
	@for d in $(MODULES); do (cd $$d && go mod tidy -diff) || exit 1; done

include deploy/ami/ami.mk

.PHONY: check
check: fmt-check vet lint tidy-check race ## Everything a commit must pass
