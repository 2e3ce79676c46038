# make demo · test · bench · soak · kernels · setup · dist
SHELL := /bin/bash
CORAL_CACHE ?= $(HOME)/.cache/coral
export CORAL_CACHE
export CARGO_TARGET_DIR ?= $(CORAL_CACHE)/target
export CARGO_TERM_PROGRESS_WHEN ?= never
CARGO := cargo
BIN := $(CARGO_TARGET_DIR)/release

.PHONY: help setup build demo test lint unit e2e bench soak kernels dist accept install clean

help:
	@echo "make demo    build, start a colony, an agent and the sample shop under load, open coral"
	@echo "make test    everything: set-up, format, lints, unit, property, snapshots, fuzz corpora, end to end"
	@echo "make bench   figures against peers, in target/bench/figures.jsonl"
	@echo "make soak    the long rounds: 200 kill -9, 24 simulated hours, 20 minutes of 300 agents"
	@echo "make kernels what the agent sees on other kernels: boots Debian's, emulated (KERNELS=6.12 only that)"
	@echo "make setup   bring what a build needs (into $(CORAL_CACHE))"
	@echo "make install programs into \$$PREFIX/bin ($(HOME)/.local unless set)"
	@echo "make accept  write snapshots anew; read the difference before you commit it"
	@echo "make dist    an optimised build in target/dist"

setup:
	@tools/setup.sh

build: setup
	@$(CARGO) build --release --workspace --bins --locked

demo:
	@tools/demo.sh

test:
	@tools/test.sh

lint: setup
	$(CARGO) fmt --all --check
	$(CARGO) clippy --release --workspace --all-targets --locked -- -D warnings

unit: build
	@tools/apps.sh
	@tools/services.sh
	$(CARGO) test --release --workspace --locked --exclude coral-tests

e2e: build
	@tools/apps.sh
	@tools/services.sh
	$(CARGO) test --release --locked -p coral-tests -- --test-threads 2

bench: build
	@tools/bench.sh

soak: build
	@tools/apps.sh
	@tools/services.sh
	$(CARGO) test --release --locked -p coral-daemon --test day -- --ignored --nocapture soak
	$(CARGO) test --release --locked -p coral-tests -- --test-threads 1 --ignored --nocapture soak

kernels: build
	@tools/kernels.sh

accept: setup
	INSTA_UPDATE=always $(CARGO) test --release --locked -p coral-tui

dist: setup
	$(CARGO) build --profile dist --locked -p coral-tui -p coral-daemon -p coral-agent
	@tools/dist.sh

# Programs to $(PREFIX)/bin, the DuckDB library to $(PREFIX)/lib, where the daemon looks for it.
PREFIX ?= $(HOME)/.local
install: build
	install -d $(PREFIX)/bin $(PREFIX)/lib
	install -m 755 $(BIN)/coral $(BIN)/coral-daemon $(BIN)/coral-agent $(PREFIX)/bin/
	install -m 644 .deps/duckdb/libduckdb.* $(PREFIX)/lib/
	@echo "installed into $(PREFIX)/bin; next: coral"

clean:
	$(CARGO) clean
