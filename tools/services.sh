#!/usr/bin/env bash
# Makes sure that the sample shop finds redis-server and PostgreSQL, and leaves no system service behind:
# the shop starts its own private ones. Prints where the programs are. Run again, it only looks.
#
# redis-server comes from Debian's redis-tools, which holds the server's binary but no service unit:
# Debian's redis-server package is a symbolic link to redis-check-rdb, plus the unit.
set -euo pipefail

bin="$HOME/.cache/coral/services/bin"

redis_server() {
    local link="$bin/redis-server"
    command -v redis-server && return
    if [ ! -x "$link" ] && [ -x /usr/bin/redis-check-rdb ]; then
        mkdir -p "$bin"
        ln -sfn /usr/bin/redis-check-rdb "$link"
    fi
    if [ -x "$link" ] && "$link" --version >/dev/null 2>&1; then
        echo "$link"
        return
    fi
    return 1
}

postgres_bin() {
    local newest
    newest=$(ls -d /usr/lib/postgresql/*/bin 2>/dev/null | sort -V | tail -n 1)
    if [ -n "$newest" ] && [ -x "$newest/initdb" ] && [ -x "$newest/postgres" ]; then
        echo "$newest"
        return
    fi
    local found
    found=$(command -v initdb) || return 1
    dirname "$(readlink -f "$found")"
}

fetch() {
    if ! command -v apt-get >/dev/null; then
        echo "services.sh: $* missing, and there is no apt-get here: install redis-server and PostgreSQL yourself" >&2
        exit 1
    fi
    if [ "$(id -u)" != 0 ]; then
        echo "services.sh: $* missing. As root: tools/services.sh (or: apt-get install $*)" >&2
        exit 1
    fi
    # No cluster is made and nothing is started: both would outlive us. What we set for that, we take away again.
    local policy=/usr/sbin/policy-rc.d cluster=/etc/postgresql-common/createcluster.conf made_policy= made_cluster=
    if [ ! -e "$policy" ]; then
        printf '#!/bin/sh\nexit 101\n' >"$policy"
        chmod 755 "$policy"
        made_policy=$policy
    fi
    if [ ! -e "$cluster" ]; then
        mkdir -p "$(dirname "$cluster")"
        echo "create_main_cluster = false" >"$cluster"
        made_cluster=$cluster
    fi
    # shellcheck disable=SC2064  # the paths are known now
    trap "rm -f $made_policy" EXIT
    local options=(-y -q --no-install-recommends -o Dpkg::Options::=--force-confold)
    if ! DEBIAN_FRONTEND=noninteractive apt-get install "${options[@]}" "$@" >&2; then
        apt-get update -q >&2
        DEBIAN_FRONTEND=noninteractive apt-get install "${options[@]}" "$@" >&2
    fi
    [ -z "$made_policy" ] || rm -f "$made_policy"
    [ -z "$made_cluster" ] || echo "services.sh: $cluster now says that PostgreSQL makes no cluster by itself" >&2
    trap - EXIT
}

missing=()
redis_server >/dev/null || missing+=(redis-tools)
postgres_bin >/dev/null || missing+=(postgresql)
command -v setpriv >/dev/null || missing+=(util-linux)
[ ${#missing[@]} -eq 0 ] || fetch "${missing[@]}"

echo "redis-server $(redis_server)"
echo "postgresql   $(postgres_bin)"
