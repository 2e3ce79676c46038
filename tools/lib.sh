# Shared by the scripts in this folder; sourced, not run.


CORAL_CACHE=${CORAL_CACHE:-$HOME/.cache/coral}
CARGO_TARGET_DIR=${CARGO_TARGET_DIR:-$CORAL_CACHE/target}
export CORAL_CACHE CARGO_TARGET_DIR

has() { command -v "$1" >/dev/null 2>&1; }
say() { printf '%s\n' "$*" >&2; }
fail() {
    say "coral: $*"
    exit 1
}

os() { uname -s | tr '[:upper:]' '[:lower:]'; }
arch() {
    case $(uname -m) in
    x86_64 | amd64) echo x64 ;;
    aarch64 | arm64) echo arm64 ;;
    *) fail "no prebuilt DuckDB for $(uname -m); build with --features bundled" ;;
    esac
}
libname() { if [ "$(os)" = darwin ]; then echo "lib$1.dylib"; else echo "lib$1.so"; fi; }

# Runs a function and says how long it took.
step() {
    local name=$1 started=$SECONDS
    shift
    printf '  %-40s' "$name" >&2
    local log
    log=$(mktemp)
    if "$@" >"$log" 2>&1; then
        printf 'ok %4ds\n' $((SECONDS - started)) >&2
        rm -f "$log"
    else
        printf 'failed\n' >&2
        cat "$log" >&2
        rm -f "$log"
        exit 1
    fi
}

as_root() {
    if [ "$(id -u)" -eq 0 ]; then
        "$@"
    else
        has sudo || fail "please run as root: $*"
        sudo "$@"
    fi
}

# Brings the lists of Debian's packages, unless they are of the last day: what older ones name may be gone.
apt_lists() {
    [ -n "$(find /var/lib/apt/lists -name '*_Packages*' -mmin -1440 -print -quit 2>/dev/null)" ] ||
        as_root apt-get update -qq
}

# Installs Debian packages that are missing, starting no services.
apt_install() {
    has apt-get || fail "please install: $*"
    apt_lists
    as_root env DEBIAN_FRONTEND=noninteractive RUNLEVEL=1 \
        apt-get install -y -qq --no-install-recommends "$@"
}
