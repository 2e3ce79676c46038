#!/usr/bin/env bash
# make demo: builds, starts a colony, an agent and the sample shop under load, opens coral.
# Without a terminal: prints status, RED and topology once data have arrived, stops everything.
set -euo pipefail
cd "$(dirname "$0")/.."
. tools/lib.sh

seconds=${CORAL_DEMO_SECONDS:-0}
bin=$CARGO_TARGET_DIR/release
dir=$(mktemp -d "${TMPDIR:-/tmp}/coral-demo.XXXXXX")
# The demo's colony is its own: nothing of yours is touched.
export CORAL_SOCKET=$dir/colony.sock CORAL_DATA_DIR=$dir/data CORAL_COLONY=demo
# For another terminal: it finds the programs, this colony, this shop.
{
    printf 'export CORAL_SOCKET=%q CORAL_DATA_DIR=%q CORAL_COLONY=demo CORAL_SHOP_DIR=%q\n' \
        "$CORAL_SOCKET" "$CORAL_DATA_DIR" "$dir/shop"
    printf 'export PATH=%q:$PATH\n' "$bin"
} >"$dir/env"
shop_pid=
stop() {
    trap '' HUP
    trap - EXIT INT TERM
    [ -z "$shop_pid" ] || kill -TERM "$shop_pid" 2>/dev/null || true
    "$bin/coral" down >/dev/null 2>&1 || true
    [ -z "$shop_pid" ] || wait "$shop_pid" 2>/dev/null || true
    rm -rf "$dir"
    say "demo: stopped everything it started"
}

say "coral demo"
tools/setup.sh
step "PostgreSQL and Redis for the shop" tools/services.sh
step "build (minutes the first time)" cargo build --release --workspace --bins --locked
trap stop EXIT
trap 'exit 130' INT TERM HUP
step "colony and agent" "$bin/coral" up
endpoint=$("$bin/coral" up | sed -n 's/^OTEL_EXPORTER_OTLP_ENDPOINT=//p' | head -n 1)
[ -n "$endpoint" ] || fail "the agent does not say where it listens; see: coral doctor"
started=$SECONDS
"$bin/coral-shop" run --dir "$dir/shop" --otlp "$endpoint" --rps 20 >"$dir/shop.log" 2>&1 &
shop_pid=$!

# A condition, not a sleep: the last service of the chain has been seen.
arrived() {
    for _ in $(seq 600); do
        kill -0 "$shop_pid" 2>/dev/null || { cat "$dir/shop.log"; return 1; }
        "$bin/coral" query services --since 5m --json 2>/dev/null | grep -q '"service":"shipping"' &&
            "$bin/coral" query topology --since 5m --json 2>/dev/null | grep -q '"coral.topology.edge/1"' && return
        sleep 0.2
    done
    cat "$dir/shop.log"
    return 1
}
step "shop: first requests through all five" arrived

if [ -t 0 ] && [ -t 1 ]; then
    say ""
    say "  break something from another terminal:"
    say "    . $dir/env"
    say "    coral-shop fault payments latency 800"
    say "    coral-shop heal"
    say "  there, coral asks this demo's colony too: coral query red"
    say ""
    read -r -t 10 -p "  coral opens in 10 s; Enter opens it now " _ || echo
    "$bin/coral" || true
else
    # Enough for rates over a few buckets.
    [ "$seconds" -gt 0 ] && sleep "$seconds"
    say ""
    "$bin/coral" status
    echo
    "$bin/coral" query red --since 5m
    echo
    "$bin/coral" query topology --since 5m
    say ""
    say "  shop up and queried in $((SECONDS - started)) s"
fi
