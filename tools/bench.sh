#!/usr/bin/env bash
# make bench: brings the peers, measures. BENCH=<part of a name> measures only that.
set -euo pipefail
cd "$(dirname "$0")/.."
. tools/lib.sh

rotel_version=0.0.1a15
venv=$CORAL_CACHE/bench-venv
otelite_version=0.1.156

install_rotel() {
    [ -e "$venv/rotel" ] && return
    has python3 || apt_install python3 python3-venv
    python3 -m venv "$venv"
    "$venv/bin/pip" install --quiet "rotel==$rotel_version"
    # The wheel holds the program itself beside its Python wrapper.
    ln -sfn "$(find "$venv/lib" -name rotel-agent -type f | head -n 1)" "$venv/rotel"
}
install_otelite() {
    [ -x "$CORAL_CACHE/otelite/bin/otelite" ] ||
        cargo install --quiet --locked --root "$CORAL_CACHE/otelite" otelite --version "$otelite_version"
}

step "peer: rotel (PyPI)" install_rotel
step "peer: otelite (crates.io)" install_otelite
step "build" cargo build --release --workspace --bins --examples --locked
export CORAL_BENCH_ROTEL=$venv/rotel CORAL_BENCH_OTELITE=$CORAL_CACHE/otelite/bin/otelite
"$CARGO_TARGET_DIR/release/coral-bench" "${BENCH:-}"
