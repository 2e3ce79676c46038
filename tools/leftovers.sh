#!/usr/bin/env bash
# Fails when a test run left a process of Coral, its shop or its services behind.
set -euo pipefail
cd "$(dirname "$0")/.."
. tools/lib.sh

# What runs from the build's own folder, and servers whose data lie in a test's temporary folder.
left=$(ps -eo pid=,args= | grep -E "$CARGO_TARGET_DIR/release/(coral|deps)|coral-(test|shop|demo)[-.]" |
    grep -vE 'grep|leftovers' || true)
[ -z "$left" ] || fail "still running:"$'\n'"$left"
