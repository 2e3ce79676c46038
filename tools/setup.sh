#!/usr/bin/env bash
# Brings what a build needs and the machine has not: a C compiler, the DuckDB library, what compiles
# eBPF programs.
# Idempotent, quick when nothing is missing. Keeps everything in $CORAL_CACHE (~/.cache/coral).
set -euo pipefail
cd "$(dirname "$0")/.."
. tools/lib.sh

duckdb_version=1.5.6
duckdb_package="@duckdb/node-bindings-$(os)-$(arch)@${duckdb_version}-r.1"
duckdb_dir="$CORAL_CACHE/duckdb-$duckdb_version"

install_compiler() {
    if has cargo; then :; else
        fail "no cargo: install Rust 1.95 or newer (https://rustup.rs), then run this again"
    fi
    has cc || apt_install gcc libc6-dev
}

# A library that is already there → npm → the crate's own download.
install_duckdb() {
    if [ -n "${DUCKDB_LIB_DIR:-}" ] && [ -e "$DUCKDB_LIB_DIR/$(libname duckdb)" ]; then
        ln -sfn "$DUCKDB_LIB_DIR" .deps/duckdb
        return
    fi
    if [ ! -e "$duckdb_dir/$(libname duckdb)" ]; then
        has npm || apt_install nodejs npm
        local work
        work=$(mktemp -d)
        (cd "$work" && npm pack --silent "$duckdb_package" >/dev/null) ||
            fail "could not get $duckdb_package from npm. Put $(libname duckdb) $duckdb_version into a folder and set DUCKDB_LIB_DIR to it"
        mkdir -p "$duckdb_dir"
        tar -xzf "$work"/*.tgz -C "$work"
        install -m 644 "$work/package/LICENSE" "$duckdb_dir/LICENSE"
        # Renamed into place last, so that an interrupted set-up is repeated.
        install -m 644 "$work/package/$(libname duckdb)" "$duckdb_dir/.partial"
        mv "$duckdb_dir/.partial" "$duckdb_dir/$(libname duckdb)"
        rm -rf "$work"
    fi
    ln -sfn "$duckdb_dir" .deps/duckdb
}

# A compiler with the sources of its standard library, and a linker for eBPF. With rustup: its nightly and
# rust-src, where they are there or can be had; else Debian's compiler, which does not get in the way.
bpf_linker_version=0.13.0
has_core() { [ -e "$1/lib/rustlib/src/rust/library/core/Cargo.toml" ]; }
install_bpf() {
    [ "$(os)" = linux ] || return 0
    local nightly
    nightly=$(has rustup && rustup which --toolchain nightly rustc 2>/dev/null || true)
    if [ -n "$nightly" ] && has_core "$("$nightly" --print sysroot)"; then
        :
    elif has_core /usr || has_core /usr/lib; then
        :
    elif has apt-get; then
        apt_install rustc-web cargo-web rust-web-src
    elif has rustup; then
        rustup toolchain install nightly --profile minimal --component rust-src
    fi
    has bpf-linker || [ -x "$CORAL_CACHE/bpf-linker/bin/bpf-linker" ] && return 0
    # Linked against the compiler's own LLVM version.
    has apt-get && apt_install llvm-22-dev libpolly-22-dev zlib1g-dev libzstd-dev
    LLVM_PREFIX=/usr/lib/llvm-22 LLVM_SYS_221_PREFIX=/usr/lib/llvm-22 CARGO_TARGET_DIR=$CORAL_CACHE/bpf-linker-target \
        cargo install bpf-linker --version "$bpf_linker_version" --locked --no-default-features \
        --features llvm-22 --root "$CORAL_CACHE/bpf-linker"
    rm -rf "$CORAL_CACHE/bpf-linker-target"
}

# Without it everything else is built, and the agent says what it cannot see; `required` is for tests and releases.
bring_bpf() {
    if install_bpf; then return; fi
    if [ "${CORAL_BPF:-}" = required ]; then
        fail "no eBPF compiler; see docs/senses.md"
    fi
    say "no eBPF compiler: the agent is built without eBPF programs"
}

# Clones share $CARGO_TARGET_DIR, and cargo takes what one built for the other's where the times of their
# files allow it: with the other's paths in it, or its code. What is built next is built from this one.
own_products() {
    [ "$(cat "$CARGO_TARGET_DIR/.clone" 2>/dev/null)" != "$PWD" ] || return 0
    find . -path ./.git -prune -o \( -name '*.rs' -o -name '*.proto' \) -exec touch {} +
    mkdir -p "$CARGO_TARGET_DIR"
    echo "$PWD" >"$CARGO_TARGET_DIR/.clone"
}

mkdir -p .deps "$CORAL_CACHE"
step "compiler" install_compiler
step "DuckDB $duckdb_version" install_duckdb
[ "${CORAL_BPF:-}" = off ] || step "eBPF compiler" bring_bpf
own_products
