# The project's commands; `make help` lists them. What is built lies where cargo puts it (CARGO_TARGET_DIR).

SHELL := /bin/sh
CARGO ?= cargo
MODEL ?=
# For `make bench`: flags of the bin `bench`, e.g. BENCH='--only zero --strict'.
BENCH ?=
PEER = $(HOME)/.cache/preannotate/langextract

# Without the fetched library DuckDB is built from its sources. Looked at when a recipe starts, after `library`.
FEATURES = $(shell [ -e .deps/duckdb/libduckdb.so ] || echo --features control/bundled-duckdb)

.PHONY: help deps library build check fmt lint deny test services services-down live demo bench bench-build bench-ground \
	bench-ground-peers bench-peers fuzz soak soak-million clean

help: ## What can be made
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 20

deps: ## Get DuckDB's library for this machine (a few seconds)
	@deploy/deps/duckdb.sh

library:
	@deploy/deps/duckdb.sh || echo "make: going on with DuckDB's sources: this takes 20 to 25 minutes, once" >&2

build: library ## Build everything
	@$(CARGO) build --workspace --all-targets $(FEATURES)

check: fmt lint deny ## Formatting, lints, licences, advisories and bans

fmt:
	@$(CARGO) fmt --all --check

lint: library
	@$(CARGO) clippy --workspace --all-targets --features e2e/live $(FEATURES) -- -D warnings

deny:
	@deploy/deps/cargo-deny.sh

test: build ## All tests
	@$(CARGO) test --workspace $(FEATURES)

services: ## Install and start the real services for live tests; .services/env says where they are
	@tests/live/services/up.sh

services-down: ## End what `make services` started
	@tests/live/services/down.sh

live: library ## The suites against the real services of `make services`, beside the doubles
	@[ -f .services/env ] || { echo "make: there is no .services/env: run \`make services\` first" >&2; exit 1; }
	@$(CARGO) build --workspace --bins --features e2e/live $(FEATURES)
	@set -a; . ./.services/env; set +a; rm -rf .services/tables; mkdir .services/tables; \
	 export LIVE_TABLES="$$PWD/.services/tables"; ended=0; \
	 $(CARGO) test --workspace --features e2e/live $(FEATURES) --test live -- --nocapture --test-threads=2 || ended=$$?; \
	 cat .services/tables/* 2>/dev/null; exit $$ended

demo: build ## The whole pilot on this machine: real OCR pages, rules or MODEL=name, a simulated reviewer
	@$(CARGO) run --quiet --bin demo $(FEATURES) -- $(if $(MODEL),--model "$(MODEL)")

bench-ground: library ## How right and how fast mentions are found: generated kinds, real OCR, odd pages, rules
	@$(CARGO) run --quiet --profile bench --package e2e --bin bench-ground $(FEATURES)

# The agent by itself, as it is released: together with the tests it would have their places to crash.
bench-build: library
	@$(CARGO) build --profile bench --package dgx-agent
	@$(CARGO) build --profile bench --package e2e --bin ollama-sim --bin bench --bin bench-ground

bench: bench-build ## What the agent reaches over a simulated Ollama, beside simple clients and wrk; then bench-ground
	@$(CARGO) run --quiet --profile bench --package e2e --bin bench -- $(BENCH)
	@$(if $(BENCH),,echo; $(CARGO) run --quiet --profile bench --package e2e --bin bench-ground)

bench-peers: bench-build ## The same server for langextract and distilabel; then bench-ground-peers
	@tests/peers/install.sh
	@$(CARGO) run --quiet --profile bench --package e2e --bin bench -- --only peers $(BENCH)
	@$(MAKE) --no-print-directory bench-ground-peers

bench-ground-peers: library ## The same cases through langextract's aligner (into a venv of the cache folder)
	@[ -x "$(PEER)/bin/python" ] || { python3 -m venv "$(PEER)" && "$(PEER)/bin/pip" install --quiet langextract==1.7.1; }
	@$(CARGO) build --quiet --profile bench --package e2e --bin bench-ground $(FEATURES)
	@$(CARGO) run --quiet --profile bench --package e2e --bin bench-ground $(FEATURES)
	@$(CARGO) run --quiet --profile bench --package e2e --bin bench-ground $(FEATURES) -- --cases | \
	 "$(PEER)/bin/python" tests/peers/ground_langextract.py

SECONDS ?= 600
FUZZ ?= parse ground chunk labelset
fuzz: ## libFuzzer on FUZZ="parse ground chunk labelset", SECONDS=600 of each; needs nightly Rust and cargo-fuzz
	@cd fuzz && for target in $(FUZZ); do mkdir -p corpus/$$target; \
	 $(CARGO) +nightly fuzz run --fuzz-dir . $$target -- -max_total_time=$(SECONDS) -timeout=30 -rss_limit_mb=4096 \
	 -max_len=8192 $$([ ! -e $$target.dict ] || echo -dict=$$target.dict) -print_final_stats=1 || exit 1; done

# The tests of the soaks as they are, over an agent and a simulator as they are released: an unoptimised agent is slow.
RELEASED = $$($(CARGO) metadata --no-deps --format-version 1 | sed -E 's/.*"target_directory":"([^"]*)".*/\1/')/release
SOAK = E2E_BINARIES="$(RELEASED)" $(CARGO) test --workspace --test it $(FEATURES) -- --ignored --nocapture --test-threads=1

soak: build bench-build ## What takes long: the commit protocol in every order, 500 faulty stores, 200 kills of one agent and of three
	@$(CARGO) test --workspace --lib $(FEATURES) -- --ignored --nocapture batch::model
	@$(SOAK) agent_store agent_share

soak-million: build bench-build ## 1,000,000 pages by the rules, 100,000 through a simulated model server: memory, and a kill in the middle
	@$(SOAK) agent_long

clean: ## Remove what the demo made
	@rm -rf .demo
