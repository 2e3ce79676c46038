#!/usr/bin/env bash
# make kernels: boots the kernels that Debian offers, emulated, which needs neither KVM nor root; in each the agent loads
# its eBPF programs, requests of every kind are run, and Coral is asked what it saw. Ends with a table. Fails when a kernel
# does not show every one of them and how processes ended, or refuses a program that it needs.
# KERNELS="6.1 6.12" boots only those; CORAL_KERNEL_SECONDS is how long each may take.
#
# What is booted is the kernel of a package, which is unpacked and never installed, and a root in memory: busybox, this
# build's programs, servers and who asks them with their libraries, from this machine. No disk, no network, no module.
set -euo pipefail
cd "$(dirname "$0")/.."
. tools/lib.sh

[ "$(os)" = linux ] && [ "$(arch)" = x64 ] || fail "Debian's kernels are booted on x86-64 Linux only"
has apt-get || fail "the kernels come out of Debian's packages, and there is no apt-get here"
bin=$CARGO_TARGET_DIR/release
limit=${CORAL_KERNEL_SECONDS:-900}
cache=$CORAL_CACHE/kernels
work=$(mktemp -d "${TMPDIR:-/tmp}/coral-kernels.XXXXXX")
emulator=
stop() {
    trap - EXIT INT TERM
    if [ -n "$emulator" ]; then
        kill "$emulator" 2>/dev/null || true
        wait "$emulator" 2>/dev/null || true
    fi
    rm -rf "$work"
}
trap stop EXIT
trap 'exit 130' INT TERM HUP

# Unpacks packages into a folder, without installing them: what is installed stays as it is. Put in place last, so that
# an interrupted run is repeated.
unpack() {
    local dir=$1 part=$1.partial
    shift
    [ ! -e "$dir" ] || return 0
    rm -rf "$part"
    mkdir -p "$part/.packages"
    (cd "$part/.packages" && apt-get download -q "$@") || return
    local package
    for package in "$part"/.packages/*.deb; do dpkg-deb -x "$package" "$part" || return; done
    rm -rf "$part/.packages"
    mv -T "$part" "$dir"
}

# With the libraries this machine lacks for it.
bring_emulator() {
    has qemu-system-x86_64 && return
    local missing
    missing=$(apt-get install --simulate --no-install-recommends qemu-system-x86 | sed -n 's/^Inst \([^ ]*\).*/\1/p')
    # shellcheck disable=SC2086
    unpack "$cache/qemu" $missing
}
emulate() {
    if has qemu-system-x86_64; then
        exec qemu-system-x86_64 "$@"
    fi
    local usr=$cache/qemu/usr lib=lib/x86_64-linux-gnu
    export LD_LIBRARY_PATH=$usr/$lib:$cache/qemu/$lib QEMU_MODULE_DIR=$usr/$lib/qemu
    exec "$usr/bin/qemu-system-x86_64" -L "$usr/share/qemu" -L "$usr/share/seabios" "$@"
}

# The newest of each version's. Those for virtual machines: they are small, and have all that is needed built in.
offered() {
    apt-cache search --names-only '^linux-image-[0-9]+\.[0-9]+\.[0-9][^ ]*-cloud-amd64$' | cut -d ' ' -f 1 |
        sed 's/^linux-image-//' | sort -V | awk -F . '{ newest[$1 "." $2] = $0 } END { for (v in newest) print newest[v] }' | sort -V
}
chosen() {
    local kernel version
    offered | while read -r kernel; do
        version=$(cut -d . -f 1,2 <<<"$kernel")
        if [ -z "${KERNELS:-}" ] || grep -qwF "$version" <<<"$KERNELS"; then echo "$kernel"; fi
    done
}

# Its modules are not needed, nor is the one that was the newest of its version before.
bring_kernel() {
    local kernel=$1 other
    unpack "$cache/$kernel" "linux-image-$kernel" || return
    rm -rf "$cache/$kernel"/{,usr/}lib
    for other in "$cache/$(cut -d . -f 1,2 <<<"$kernel")".*; do
        [ "$other" = "$cache/$kernel" ] || rm -rf "$other"
    done
}

# Where services.sh says that a program is.
where() { sed -n "s/^$1  *\([^ ,]*\).*/\1/p" "$work/services"; }
look() { tools/services.sh 2>&1 | tee "$work/services"; }

# Puts programs into the root, where they lie here, with the libraries they name.
put() {
    local file library
    for file in "$@"; do
        cp --parents -L "$file" "$root" || return
        for library in $(ldd "$file" | grep -o '/[^ ]*'); do
            [ -e "$root/$library" ] || cp --parents -L "$library" "$root" || return
        done
    done
}

root=$work/root
make_root() {
    mkdir -p "$root"/{bin,proc,sys,dev,tmp,tls,root,etc,links,usr/share/postgresql}
    local postgres redis
    postgres=$(dirname "$(where postgresql)/.") redis=$(where redis-server)
    install -m 755 "$cache/busybox/bin/busybox" "$root/bin/busybox"
    install -m 755 tools/kernels/guest.sh "$root/init"
    put "$bin"/{coral,coral-daemon,coral-agent} "$(where nginx)" "$(where dnsmasq)" "$redis" "$postgres"/{initdb,postgres,psql} \
        "$(command -v redis-cli)" "$(command -v curl)" "$(command -v dig)" "$(command -v setpriv)" || return
    # Its program is called what Debian's link calls it.
    ln -s "$redis" "$root/links/redis-server"
    # What initdb loads while it makes a database, and the texts it makes it of.
    local version=${postgres%/bin}
    put "$version"/lib/{dict_snowball,plpgsql,*_and_*,*2004*}.so || return
    cp -a "/usr/share/postgresql/${version##*/}" "$root/usr/share/postgresql" || return
    printf '%s\n' 'root:x:0:0::/root:/bin/sh' 'nobody:x:65534:65534::/:/bin/sh' >"$root/etc/passwd"
    printf '%s\n' 'root:x:0:' 'nogroup:x:65534:' >"$root/etc/group"
    echo '127.0.0.1 localhost guest' >"$root/etc/hosts"
    openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2 -subj /CN=localhost \
        -addext subjectAltName=IP:127.0.0.1,DNS:localhost -keyout "$root/tls/key.pem" -out "$root/tls/cert.pem" || return
    printf 'SETPRIV=%q\nPATH=%q\n' "$(command -v setpriv)" "/links:$bin:$postgres:/usr/local/bin:/usr/bin:/usr/sbin:/bin" >"$root/guest.env"
    (cd "$root" && find . | "$cache/busybox/bin/busybox" cpio -o -H newc -R 0:0) >"$work/root.cpio" || return
    rm -rf "$root"
}

# Boots a kernel and waits until it has said everything; what it said is in $work/KERNEL.
boot() {
    local kernel=$1 said=$work/$1 started=$SECONDS
    say "── Linux $kernel"
    emulate -accel tcg,thread=multi -cpu max -smp 2 -m 2048 -nodefaults -no-user-config -display none -no-reboot \
        -kernel "$cache/$kernel/boot/vmlinuz-$kernel" -initrd "$work/root.cpio" -append "console=ttyS0 panic=-1 quiet" \
        -serial "file:$said.console" -serial "file:$said" &
    emulator=$!
    while kill -0 $emulator 2>/dev/null; do
        if [ $((SECONDS - started)) -ge "$limit" ]; then
            printf 'failed\tnot done after %d s\n' "$limit" >>"$said"
            kill $emulator
        fi
        sleep 1
    done
    wait $emulator || true
    emulator=
    grep -qE '^(end|failed)' "$said" || {
        printf 'failed\tit ended early; the last it said:\n' >>"$said"
        tail -n 20 "$said.console" | sed 's/^/failed\t  /' >>"$said"
    }
    show "$kernel"
    say "   $((SECONDS - started)) s"
}

of() { sed -n "s/^$2	//p" "$work/$1"; }

# All eBPF programs there are, as their sources name them.
programs() {
    grep -rhE -A 1 '^#\[(raw_tracepoint|uprobe|uretprobe|unsafe\(link_section)' bpf/src | sed -n 's/.*fn \([a-z0-9_]*\)(.*/\1/p' | sort
}
# Before 6.3 sockets tell nothing of what moves through them, and it is seen where calls end.
in_sockets() { [ "$(printf '%s\n' 6.3 "$1" | sort -V | head -n 1)" = 6.3 ]; }
needed() {
    if in_sockets "$1"; then
        programs | grep -vxE 'sys_exit|datagrams_of_call'
    else
        programs | grep -vxE 'sock_(recv|send)_length'
    fi
}
loaded() { of "$1" program | cut -f 1 | sort -u; }
unloaded() { comm -13 <(loaded "$1") <(needed "$1"); }

# Lines as a paragraph, set in.
paragraph() { paste -sd , | sed 's/,/, /g' | fold -s -w 110 | sed 's/^/     /' >&2; }

# What a kernel said of the programs.
show() {
    local kernel=$1 rest
    say "   eBPF programs loaded, with the instructions that the kernel walked through:"
    of "$kernel" program | sort | tr '\t' ' ' | paragraph
    rest=$(unloaded "$kernel")
    if [ -n "$rest" ]; then
        say "   refused, or not tried:"
        paragraph <<<"$rest"
    fi
    say "   coral doctor:"
    of "$kernel" doctor | sed 's/^▸/  &/; s/^/     /' >&2
    of "$kernel" kind | awk -F '\t' '$5 != "" { printf "   %s: %s\n", $2, $5 }' >&2
    of "$kernel" lost | sed 's/^/   lost: /' >&2
    of "$kernel" failed | sed 's/^/   failed: /' >&2
}

# Why a kernel has failed, a line each; nothing when it has not.
verdict() {
    local kernel=$1
    local name asked seen sense state rest
    if [ -n "$(of "$kernel" failed)" ] || [ -z "$(of "$kernel" kind)" ]; then
        echo "not all was run, see above"
        return
    fi
    while IFS=$'\t' read -r _ name asked seen rest; do
        [ "$seen" = "$asked" ] || echo "$name: $seen of $asked seen"
    done < <(of "$kernel" kind)
    while IFS=$'\t' read -r sense state; do
        [ "$state" = ok ] || echo "$sense: not all of it, as coral doctor says above"
    done < <(of "$kernel" sense)
    of "$kernel" lost | sed 's/^/lost: /'
    unloaded "$kernel" | sed 's/$/: this program is not loaded/'
    # An older one has to say why it looks elsewhere.
    if ! in_sockets "$kernel" && ! of "$kernel" doctor | grep -q ' requests on .* sys_exit.* sock_[a-z]*_length: '; then
        echo "requests: coral doctor does not say that the tracepoints in sockets are missing"
    fi
}

# A kind's cell: seen and run.
cell() {
    local asked seen
    IFS=$'\t' read -r asked seen < <(of "$1" kind | awk -F '\t' -v name="$2" '$2 == name { print $3 "\t" $4 }') || true
    if [ -n "${seen:-}" ]; then echo "$seen of $asked"; else echo '?'; fi
}

table() {
    local kernel name
    {
        for kernel in "${kernels[@]}"; do printf '\t%s' "$kernel"; done
        printf '\neBPF programs loaded'
        for kernel in "${kernels[@]}"; do printf '\t%d of %d' "$(comm -12 <(loaded "$kernel") <(needed "$kernel") | wc -l)" "$(needed "$kernel" | wc -l)"; done
        for name in ebpf requests tls output; do
            printf '\ndoctor: %s' "$name"
            for kernel in "${kernels[@]}"; do
                printf '\t%s' "$(of "$kernel" sense | sed -n "s/^$name	//p" | grep . || echo '?')"
            done
        done
        cut -f 1-3 "${kernels[@]/#/$work/}" | awk -F '\t' '$1 == "kind" && !met[$3]++ { print $3 }' >"$work/kinds"
        while read -r name; do
            printf '\n%s' "$name"
            for kernel in "${kernels[@]}"; do printf '\t%s' "$(cell "$kernel" "$name")"; done
        done <"$work/kinds"
        echo
    } | awk -F '\t' '{ printf "%-24s", $1; for (n = 2; n <= NF; n++) printf "  %-28s", $n; print "" }' | sed 's/ *$//'
}

say "coral kernels"
apt_lists
kernels=()
while read -r kernel; do kernels+=("$kernel"); done < <(chosen)
[ ${#kernels[@]} -gt 0 ] || fail "apt offers no kernel${KERNELS:+ of version $KERNELS}"
for program in coral coral-daemon coral-agent; do
    [ -x "$bin/$program" ] || fail "no $bin/$program: run make build first"
done
step "servers, and who asks them" look
step "qemu (Debian)" bring_emulator
step "busybox (Debian)" unpack "$cache/busybox" busybox-static
for kernel in "${kernels[@]}"; do
    step "Linux $kernel" bring_kernel "$kernel"
done
step "a root in memory" make_root
for kernel in "${kernels[@]}"; do boot "$kernel"; done

say ""
table
bad=0
for kernel in "${kernels[@]}"; do
    verdict "$kernel" >"$work/verdict"
    while read -r why; do
        echo "$kernel: FAILED: $why"
        bad=1
    done <"$work/verdict"
done
[ $bad -eq 0 ] || fail "not every kernel shows what it should: see above"
