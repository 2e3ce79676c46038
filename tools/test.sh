#!/usr/bin/env bash
# The whole truth. Every step runs, says how long it took, and stops the run when it fails.
set -euo pipefail
cd "$(dirname "$0")/.."
. tools/lib.sh
export CORAL_BPF=required INSTA_UPDATE=no CARGO_TERM_COLOR=never RUST_BACKTRACE=1

run() {
    local name=$1 started=$SECONDS
    shift
    say "── $name"
    "$@" || fail "$name failed: $*"
    say "   $name: $((SECONDS - started)) s"
}

run "set-up" tools/setup.sh
run "format" cargo fmt --all --check
run "format of eBPF programs" cargo fmt --manifest-path bpf/Cargo.toml --all --check
run "lints" cargo clippy --release --workspace --all-targets --locked -- -D warnings
run "build" cargo build --release --workspace --bins --examples --locked
run "applications" tools/apps.sh
run "services" tools/services.sh
# One selection of packages throughout: another one has other features, and compiles dependencies anew. Two at a
# time, because tests from outside start whole colonies. A run that fails says everything that fails.
run "unit, property, snapshots, fuzz corpora, end to end" \
    cargo test --release --workspace --locked --no-fail-fast -- --test-threads 2
# The same exactness as older kernels have it: where calls end, not in sockets.
run "requests where system calls end" env CORAL_HOOKS=calls \
    cargo test --release --workspace --locked --no-fail-fast --test requests --test redis --test dns -- --test-threads 2
run "nothing left behind" tools/leftovers.sh
