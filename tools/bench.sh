#!/usr/bin/env bash
# make bench: brings the peers, measures. BENCH=<part of a name> measures only that.
set -euo pipefail
cd "$(dirname "$0")/.."
. tools/lib.sh

rotel_version=0.0.1a15
venv=$CORAL_CACHE/bench-venv
otelite_version=0.1.156
chdb_version=4.4.0
# Spans of the store that questions are asked of; a tenth of it is measured beside it.
spans=${CORAL_BENCH_SPANS:-100000000}
schema=$(sed -n 's/^pub const VERSION: i64 = \([0-9]*\);/\1/p' daemon/src/store/schema.rs)
store=$CORAL_CACHE/bench-store-$schema-$spans
tenth=$CORAL_CACHE/bench-store-$schema-$((spans / 10))

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

install_chdb() {
    has python3 || apt_install python3 python3-venv
    [ -x "$venv/bin/python" ] || python3 -m venv "$venv"
    "$venv/bin/pip" install --quiet "chdb==$chdb_version"
}
# Written once, through the store's own code; kept, since its day is always the same.
write_store() {
    [ -e "$2/facts.json" ] || "$CARGO_TARGET_DIR/release/examples/store" "$2" --spans "$1"
}

only=${BENCH:-}
wants() { case $1 in *"$only"*) return 0 ;; *) return 1 ;; esac; }
if wants accept; then step "peer: rotel (PyPI)" install_rotel; fi
if wants commit; then step "peer: otelite (crates.io)" install_otelite; fi
step "build" cargo build --release --workspace --bins --examples --locked
if wants store; then
    step "peer: chdb (PyPI)" install_chdb
    step "a store of $((spans / 10)) spans" write_store "$((spans / 10))" "$tenth"
    step "a store of $spans spans" write_store "$spans" "$store"
    export CORAL_BENCH_STORE=$store CORAL_BENCH_STORE_TENTH=$tenth CORAL_BENCH_CHDB=$venv/bin/python
fi
# Peers of the eyes, where Debian has them; without them their column stays empty.
install_tracers() { has bpftrace && has perf || apt_install bpftrace linux-perf || true; }
if wants eyes; then
    step "nginx, h2load" tools/services.sh
    step "peers: bpftrace, perf (Debian)" install_tracers
fi
[ ! -e "$venv/rotel" ] || export CORAL_BENCH_ROTEL=$venv/rotel
[ ! -e "$CORAL_CACHE/otelite/bin/otelite" ] ||
    export CORAL_BENCH_OTELITE=$CORAL_CACHE/otelite/bin/otelite
"$CARGO_TARGET_DIR/release/coral-bench" "${BENCH:-}"
