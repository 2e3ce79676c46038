#!/usr/bin/env bash
# Sets up the applications of tests/apps: the official OpenTelemetry SDKs for Python and Node, at exact versions.
# Everything lies in $CORAL_CACHE under a hash of the pins, so a run that has it does nothing, and an interrupted
# one is repeated. Links to the newest are $CORAL_CACHE/apps/python and $CORAL_CACHE/apps/node.
set -euo pipefail
cd "$(dirname "$0")/.."
. tools/lib.sh

apps=$CORAL_CACHE/apps
hash_of() { cat "$@" | sha256sum | cut -c 1-12; }

# Puts a finished folder into place in one step; $1 link, $2 folder.
publish() { ln -sfn "$2" "$1.new" && mv -fT "$1.new" "$1"; }

python_app() {
    local pins=tests/apps/python/requirements.txt dir
    has python3 || apt_install python3 python3-venv
    dir=$apps/python-$(hash_of "$pins")-$(python3 -c 'import sys; print("%d.%d" % sys.version_info[:2])')
    if [ ! -e "$dir/.done" ] || ! "$dir/bin/python" -c 'import opentelemetry.sdk' 2>/dev/null; then
        rm -rf "$dir"
        # Debian splits ensurepip off into python3-venv.
        python3 -m venv "$dir" || { apt_install python3-venv && rm -rf "$dir" && python3 -m venv "$dir"; }
        "$dir/bin/pip" install --quiet --no-deps --requirement "$pins"
        "$dir/bin/pip" check
        touch "$dir/.done"
    fi
    publish "$apps/python" "$dir"
}

node_app() {
    local source=tests/apps/node dir
    has node && has npm || apt_install nodejs npm
    dir=$apps/node-$(hash_of "$source/package.json" "$source/package-lock.json")
    if [ ! -e "$dir/.done" ]; then
        rm -rf "$dir"
        mkdir -p "$dir"
        cp "$source/package.json" "$source/package-lock.json" "$dir/"
        (cd "$dir" && npm ci --ignore-scripts --no-audit --no-fund)
        touch "$dir/.done"
    fi
    # The program is always the one of this tree; Node finds its modules beside it.
    cp "$source/app.mjs" "$dir/app.mjs"
    publish "$apps/node" "$dir"
}

mkdir -p "$apps"
step "Python application" python_app
step "Node application" node_app
