# Every command of the project; make alone lists them.

GO ?= go
FUZZTIME ?= 10s
TESTFLAGS ?=

# The released modules beside the root's.
RELEASED = ./cmd/pgtide/... ./pgtideconnect/... ./pgtidegrpc/... ./pgtideredis/... ./pgtideriver/...

.DEFAULT_GOAL := help
.PHONY: help demo test race lint bench fuzz tidy postgres clean

help: ## list these commands
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "  make %-9s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

demo: ## start a real replicating cluster and show what pgtide does on it
	@scripts/postgres.sh
	@$(GO) run ./cmd/pgtide demo

test: ## run the tests of all modules, on real PostgreSQL servers
	@scripts/postgres.sh
	@scripts/ps.sh
	@scripts/redis.sh
	@scripts/patroni.sh
	@scripts/pgbouncer.sh
	@$(GO) test $(TESTFLAGS) work

race: ## the same under the race detector (needs a C compiler)
	@scripts/postgres.sh
	@scripts/ps.sh
	@scripts/redis.sh
	@scripts/patroni.sh
	@scripts/pgbouncer.sh
	@$(GO) test -race $(TESTFLAGS) work

lint: ## check format, builds for all systems, vet, staticcheck, govulncheck, architecture
	@unformatted=$$(gofmt -l .) && { [ -z "$$unformatted" ] || { echo "run gofmt -w on:" $$unformatted; exit 1; }; }
	GOWORK=off $(GO) build ./...
	$(GO) vet work
	@for os in linux darwin windows; do \
		echo "GOOS=$$os $(GO) vet ./... $(RELEASED)"; \
		GOOS=$$os $(GO) vet ./... $(RELEASED) || exit 1; \
	done
	@echo staticcheck work
	@$$(GOWORK=off $(GO) -C tools tool -n staticcheck) work
	scripts/vulncheck.sh
	$(GO) test -run '^TestArch' .

bench: ## measure pgtide against the plain pool it replaces
	@scripts/postgres.sh
	@cd bench && for suite in core sql http failover balance testkit; do $(GO) run . -suite $$suite || exit 1; done

fuzz: ## run each fuzz target for FUZZTIME (10s)
	@scripts/fuzz.sh $(FUZZTIME)

tidy: ## run go mod tidy in every module
	@scripts/tidy.sh

postgres: ## find PostgreSQL's server programs, or install them
	@scripts/postgres.sh -v

clean: ## remove test binaries and profiles
	@find . -name .git -prune -o -type f \( -name '*.test' -o -name '*.prof' \) -exec rm -f {} +
