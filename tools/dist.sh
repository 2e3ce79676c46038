#!/usr/bin/env bash
# Packs what `make dist` built: programs, the DuckDB library where they look for it, licences.
set -euo pipefail
cd "$(dirname "$0")/.."
. tools/lib.sh

version=$(sed -n 's/^version = "\(.*\)"/\1/p' Cargo.toml | head -n 1)
name=coral-$version-$(os)-$(arch)
out=target/dist/$name
rm -rf "$out"
install -d "$out/bin" "$out/lib"
install -m 755 "$CARGO_TARGET_DIR"/dist/{coral,coral-daemon,coral-agent} "$out/bin/"
install -m 644 .deps/duckdb/"$(libname duckdb)" "$out/lib/"
install -m 644 .deps/duckdb/LICENSE "$out/lib/LICENSE.duckdb"
install -m 644 LICENSE README.md CHANGELOG.md "$out/"
tar -C target/dist -czf "target/dist/$name.tar.gz" "$name"
say "target/dist/$name.tar.gz"
