# Each target works alone. PREFIX, DESTDIR and SOURCE_DATE_EPOCH are respected.

PREFIX  ?= /usr/local
CARGO   ?= cargo
DENY    := 0.20.2

TRIPLE  := $(shell rustc -vV | sed -n 's/^host: //p')
VERSION := $(shell sed -n 's/^version = "\(.*\)"/\1/p' Cargo.toml)
RELEASE := $(or $(CARGO_TARGET_DIR),target)/$(TRIPLE)/release
DIST    := target/dist
SOURCES := $(shell git ls-files '*.sh' tests/setup tests/run tests/support/add-user tests/support/debian-base tests/vm/fetch-kernel examples/hello/demo .ci/run 2>/dev/null)

.DEFAULT_GOAL := help
.PHONY: help build demo test acceptance test-vm check lint fmt deny bench fuzz doc dist install clean

help: ## Show this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  %-10s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

build: ## Build the release programs: target/…/release/sandcrab and sandcrab-oci
	$(CARGO) build --locked --release --package sandcrab-executor --package sandcrab-shim --bins

demo: build ## Build examples/hello as an ordinary user and run it
	examples/hello/demo $(RELEASE)/sandcrab

test: ## Run all tests (as root: in three accounts; installs the peers they use)
	tests/run

acceptance: ## Build an image with many users without subordinate ids, and compare it with buildah's
	tests/setup test
	$(CARGO) build --locked --package sandcrab-executor --bins
	$(CARGO) test --locked --package sandcrab-tests --test e2e -- --ignored --show-output identity::acceptance

test-vm: ## Run what needs Debian's stock kernel and cgroup version 2, in a virtual machine
	tests/setup vm
	tests/vm/fetch-kernel
	$(CARGO) build --locked --package sandcrab-executor --package sandcrab-shim --package sandcrab-tests --bins
	$(CARGO) test --locked --package sandcrab-tests --test vm

check: lint doc deny ## Formatting, lints, docs and dependency rules; changes nothing

lint: ## Check formatting and lints
	$(CARGO) fmt --all --check
	$(CARGO) clippy --locked --workspace --all-targets -- --deny warnings
	for script in $(SOURCES); do sh -n $$script || exit 1; done

fmt: ## Format the source
	$(CARGO) fmt --all

doc: ## Build the internal documentation; warnings are errors
	RUSTDOCFLAGS='--deny warnings --allow rustdoc::private-intra-doc-links' $(CARGO) doc --locked --workspace --no-deps --document-private-items

deny: ## Check licences, bans and sources of dependencies; advisories where they can be fetched
	@$(CARGO) deny --version >/dev/null 2>&1 || { echo 'installing cargo-deny $(DENY)'; \
		$(CARGO) install --quiet --locked --version $(DENY) cargo-deny; }
	$(CARGO) deny --locked --log-level error check bans licenses sources
	@if timeout 15 git ls-remote --exit-code https://github.com/RustSec/advisory-db HEAD >/dev/null 2>&1; \
	then $(CARGO) deny --locked --log-level error check advisories; \
	else echo 'deny: advisories not checked: the advisory database cannot be reached'; fi

bench: build ## Measure against the peers on this machine, side by side
	tests/setup bench
	$(CARGO) build --locked --release --package sandcrab-tests --bin bench
	$(RELEASE)/bench $(RELEASE)/sandcrab

SECONDS ?= 60

fuzz: ## Throw changed documents at what reads them, for SECONDS (60)
	$(CARGO) build --locked --profile fuzz --package sandcrab-fuzz
	target/$(TRIPLE)/fuzz/fuzz config.json --seconds $(SECONDS)
	target/$(TRIPLE)/fuzz/fuzz Dockerfile --seconds $(SECONDS)

dist: build ## Put the stripped programs and their checksums into target/dist
	rm -rf $(DIST) && mkdir -p $(DIST)
	for program in sandcrab sandcrab-oci; do cp $(RELEASE)/$$program $(DIST)/$$program-$(VERSION)-$(TRIPLE); done
	cd $(DIST) && sha256sum sandcrab-* >SHA256SUMS && cat SHA256SUMS

install: build ## Install the programs into PREFIX/bin
	install -D -m 0755 $(RELEASE)/sandcrab $(DESTDIR)$(PREFIX)/bin/sandcrab
	install -D -m 0755 $(RELEASE)/sandcrab-oci $(DESTDIR)$(PREFIX)/bin/sandcrab-oci

clean: ## Remove what was built
	$(CARGO) clean
