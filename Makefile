# Everything a person or a machine does with this repository. `make help` lists it.
SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help

# A check is a folder under plugins/ with its own crate: adding one needs no line here.
CHECKS := $(filter-out sdk templates,$(notdir $(patsubst %/,%,$(wildcard plugins/*/))))
# The lock file is law where nobody watches; at home a new folder under plugins/ may enter it.
LOCKED := $(if $(CI),--locked)
GUEST := target/wasm32-wasip2/guest
ENGINE ?= docker
IMAGE ?= picket

.PHONY: help
help: ## List the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  %-12s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

.PHONY: demo
demo: ## Build, then run a control plane, two agents and sample targets on loopback, with a live table
	@scripts/setup demo
	@$(MAKE) --no-print-directory build
	@target/debug/picket demo

.PHONY: test
test: ## Install what the tests need, build, run every test
	@scripts/setup test
	@$(MAKE) --no-print-directory plugins
	@scripts/test

.PHONY: soak
# ROW=P1,N11 runs only those rows, SEED=7 with that seed.
soak: ## Run every row of tests/faults in full, and the long forms of tests/hostile; an hour and a half
	@scripts/setup test
	@$(MAKE) --no-print-directory build
	@PICKET_SOAK=1 cargo test $(LOCKED) --workspace --test faults --test measured
	@[ -n "$(ROW)" ] || PICKET_SOAK=1 cargo test $(LOCKED) --workspace --test cases -- 'again and again'
	@[ -n "$(ROW)" ] || $(MAKE) --no-print-directory soak-hostile

.PHONY: soak-hostile
soak-hostile: ## Run the long forms of tests/hostile alone: 10,000 rebindings, 20,000 damaged components; some minutes
	@PICKET_SOAK=1 cargo test $(LOCKED) --workspace --test hostile -- --nocapture rebinding damaged

.PHONY: bench
# ROW="http spool" measures only rows with such a name, ARGS=--json prints JSON.
bench: plugins ## Measure against blackbox_exporter, a native floor and the targets: ratios of one run; ten minutes and an optimised build
	@scripts/setup bench
	@cargo build $(LOCKED) --release --workspace --bins --bench ratios
	@cargo bench $(LOCKED) --workspace --bench ratios -- $(ROW) $(ARGS)

.PHONY: build
# All of the workspace, so that dependencies get the features that the tests use and are not built twice.
build: plugins ## Build the checks as components and the binary (target/debug/picket)
	@cargo build $(LOCKED) --workspace --bins

.PHONY: plugins
plugins: ## Build the checks as components (target/plugins/NAME.wasm)
	@scripts/setup guest
	@cargo build $(LOCKED) --profile guest --target wasm32-wasip2 $(CHECKS:%=-p picket-check-%) -p picket-conformance-guest
	@mkdir -p target/plugins
	@for c in $(CHECKS); do install -m 644 -C $(GUEST)/picket_check_$${c//-/_}.wasm target/plugins/$$c.wasm; done

.PHONY: release
release: plugins ## Build the optimised binary (target/release/picket)
	@cargo build $(LOCKED) --release -p picket

.PHONY: image
image: ## Build the container image
	@$(ENGINE) build --network host -t $(IMAGE) .

.PHONY: image-test
image-test: image ## Build the image and run it as the README says: read-only, no capabilities, enrols and reports
	@scripts/image-test $(IMAGE)

.PHONY: lint
lint: ## Formatting, lints with warnings as errors, dependency policy when cargo-deny is there
	@cargo fmt --all --check
	@cargo clippy $(LOCKED) --workspace --all-targets -- -D warnings
	@if command -v cargo-deny >/dev/null; then cargo deny check licenses bans sources; fi

.PHONY: update
update: ## Rewrite the expected texts: OpenAPI document, help pages, pages of the checks
	@UPDATE=1 cargo test $(LOCKED) --workspace --lib -- the_openapi_document
	@UPDATE=1 cargo test $(LOCKED) --workspace --test help
	@$(MAKE) --no-print-directory plugins
	@UPDATE=1 cargo test $(LOCKED) --workspace --test plugin -- the_reference_pages

.PHONY: clean
clean: ## Remove what was built
	@cargo clean
