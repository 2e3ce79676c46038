#!/usr/bin/env bash
# Makes sure that the sample shop finds redis-server and PostgreSQL, and the tests a clock they may set
# (libfaketime), an nginx with somebody to ask it (ab, h2load, curl), a dnsmasq likewise (dig), openssl, and what makes hosts of network
# namespaces (ip, nft), and leaves no system service behind: the shop starts private ones of its own. Prints where
# they are. Run again, it only looks.
#
# Debian's redis-tools is enough: it holds the server's program under the name redis-check-rdb, and no service
# unit. Its redis-server package is a symbolic link to that, plus the unit; coral-shop makes the link itself.
set -euo pipefail
cd "$(dirname "$0")/.."
. tools/lib.sh

redis_server() { command -v redis-server || command -v redis-check-rdb; }

# Debian keeps PostgreSQL's servers out of PATH.
postgres_bin() {
    local newest
    newest=$(find /usr/lib/postgresql -mindepth 2 -maxdepth 2 -name bin 2>/dev/null | sort -V | tail -n 1)
    if [ -n "$newest" ] && [ -x "$newest/initdb" ] && [ -x "$newest/postgres" ]; then
        echo "$newest"
        return
    fi
    has initdb && dirname "$(readlink -f "$(command -v initdb)")"
}

# What tests preload to move one program's wall clock.
faketime() { find /usr/lib /usr/local/lib -path '*/faketime/libfaketimeMT.so.1' 2>/dev/null | head -n 1; }

install_missing() {
    local root=() made=()
    [ "$(id -u)" -eq 0 ] || root=(sudo)
    # No cluster is made and nothing is started: both would outlive us. What says so goes again afterwards.
    local policy=/usr/sbin/policy-rc.d cluster=/etc/postgresql-common/createcluster.conf
    if [ "$(id -u)" -eq 0 ] || has sudo; then
        if [ ! -e "$policy" ]; then
            printf '#!/bin/sh\nexit 101\n' | "${root[@]}" tee "$policy" >/dev/null
            "${root[@]}" chmod 755 "$policy"
            made+=("$policy")
        fi
        # This file stays: it is the package's own, and a person can change it.
        if [ ! -e "$cluster" ]; then
            "${root[@]}" mkdir -p "$(dirname "$cluster")"
            echo "create_main_cluster = false" | "${root[@]}" tee "$cluster" >/dev/null
        fi
    fi
    local outcome=0
    apt_install "$@" >&2 || outcome=$?
    [ ${#made[@]} -eq 0 ] || "${root[@]}" rm -f "${made[@]}"
    [ "$outcome" -eq 0 ] || fail "could not install $*: see above"
}

missing=()
redis_server >/dev/null && has redis-benchmark || missing+=(redis-tools)
postgres_bin >/dev/null || missing+=(postgresql)
has setpriv || missing+=(util-linux)
has openssl || missing+=(openssl)
has curl || missing+=(curl)
[ -x /usr/sbin/nginx ] || missing+=(nginx-light)
has ab || missing+=(apache2-utils)
has h2load || missing+=(nghttp2-client)
[ -x /usr/sbin/dnsmasq ] || missing+=(dnsmasq-base)
has dig || missing+=(bind9-dnsutils)
has ip || missing+=(iproute2)
has nft || missing+=(nftables)
[ -n "$(faketime)" ] || missing+=(libfaketime)
# Makes journal files for the test that follows one; journalctl itself reads them without any daemon.
journal_remote() { find /lib/systemd /usr/lib/systemd -maxdepth 1 -name systemd-journal-remote 2>/dev/null | head -n 1; }
[ -n "$(journal_remote)" ] && has journalctl || missing+=(systemd systemd-journal-remote)
[ ${#missing[@]} -eq 0 ] || install_missing "${missing[@]}"

redis=$(redis_server) || fail "redis-server is still missing"
postgres=$(postgres_bin) || fail "PostgreSQL is still missing"
faketime=$(faketime)
[ -n "$faketime" ] || fail "libfaketime is still missing"
say "redis-server $redis"
say "postgresql   $postgres"
say "libfaketime  $faketime"
[ -x /usr/sbin/nginx ] && has ab && has h2load || fail "nginx, ab or h2load is still missing"
say "nginx        /usr/sbin/nginx, $(command -v ab), $(command -v h2load)"
[ -x /usr/sbin/dnsmasq ] && has dig || fail "dnsmasq or dig is still missing"
say "dnsmasq      /usr/sbin/dnsmasq, $(command -v dig)"
has ip && has nft || fail "ip or nft is still missing"
say "namespaces   $(command -v ip), $(command -v nft)"
say "journal      $(command -v journalctl), $(journal_remote)"
