#!/usr/bin/env bash
# Brings what a build needs and the machine has not: a C compiler, the DuckDB library.
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

mkdir -p .deps "$CORAL_CACHE"
step "compiler" install_compiler
step "DuckDB $duckdb_version" install_duckdb
