#!/bin/busybox sh
# The first process of a kernel that is tried; see tools/kernels.sh, which made the root it finds. Starts a colony and its
# agent, runs so many requests of each kind, ends processes, and writes what Coral says of all that to the second serial
# port, in lines of words between tabs:
#   kernel RELEASE · doctor LINE · program NAME INSTRUCTIONS · sense NAME ok|note|missing
#   kind requests|ends NAME RUN SEEN [what was said] · lost COUNTER COUNT · failed WHY · end
/bin/busybox --install -s /bin
. /guest.env
export PATH HOME=/root
asked=20

mount -t proc proc /proc
mount -t sysfs sysfs /sys
mount -t devtmpfs devtmpfs /dev
mount -t cgroup2 cgroup2 /sys/fs/cgroup
ip link set lo up
hostname guest
# What is written arrives as it is, and the kernel's own lines go to the first port.
stty -F /dev/ttyS1 raw
exec 3>/dev/ttyS1
tell() {
    local IFS='	'
    printf '%s' "$*" | tr '\n' ' ' >&3
    printf '\n' >&3
}
# What doctor says of the senses that eBPF gives, the programs in the kernel, and what was lost.
tell_senses() {
    local sense line name number
    coral doctor >/tmp/doctor
    for sense in ebpf requests tls output; do
        grep -A 1 " $sense on guest " /tmp/doctor | sed -n '1p;2{/▸/p;}' >/tmp/sense
        while read -r line; do tell doctor "$line"; done </tmp/sense
        line=$(head -n 1 /tmp/sense | cut -d ' ' -f 1)
        tell sense $sense "${line:-missing}"
    done
    sed -n 's/.*eBPF program loaded.*name="\([^"]*\)".*verified=\([0-9]*\).*/\1\t\2/p' "$CORAL_DATA_DIR"/*/agent/agent.log |
        sort -u >/tmp/programs
    while IFS='	' read -r name number; do tell program "$name" "$number"; done </tmp/programs
    coral query agents --json | tr ',{' '\n\n' >/tmp/counters
    for name in process_ends_lost requests_unknown requests_chunks_lost requests_bytes_unread requests_sockets_refused \
        requests_connections_refused requests_encrypted requests_tls_files_refused requests_tls_calls_refused; do
        number=$(sed -n "s/^\"$name\":\([0-9]*\).*/\1/p" /tmp/counters)
        [ "$number" = 0 ] || tell lost "$name" "${number:-?}"
    done
}
# The port is drained when it is closed.
leave() {
    tell_senses
    coral down >/tmp/down 2>&1
    tell end
    exec 3>&-
    reboot -f
}
failed() {
    tell failed "$*"
    leave
}
# Waits until a command succeeds, so many seconds at most.
until_true() {
    local end=$(($(cut -d . -f 1 /proc/uptime) + $1))
    shift
    until "$@" >/tmp/last 2>&1; do
        [ "$(cut -d . -f 1 /proc/uptime)" -lt "$end" ] || return 1
        sleep 0.5
    done
}
# The same, of what nothing can be tried without: what it is called comes first.
wait_for() {
    local name=$1
    shift
    until_true "$@" || failed "no $name within $1 s: $(tail -c 1000 /tmp/last)"
}

tell kernel "$(uname -r)"

export CORAL_SOCKET=/tmp/coral/colony.sock CORAL_DATA_DIR=/tmp/coral/data CORAL_COLONY=kernels
# Emulated, all of it takes too long to be judged by what it costs.
export CORAL_WATCH=all CORAL_TLS=always CORAL_CPU_LIMIT=0 CORAL_LOG=info,coral_agent=debug
mkdir -m 700 /tmp/coral
coral up >/tmp/up 2>&1 || failed "coral up: $(cat /tmp/up)"
# The agent has looked at what the kernel lets it load, and said so.
looked() { coral doctor >/tmp/doctor; grep -q ' tls on guest ' /tmp/doctor; }
wait_for "word of the agent's senses" 180 looked

# Servers, each with a second way in through TLS.
redis-server --bind 127.0.0.1 --port 6379 --tls-port 6380 --save '' --dir /tmp --tls-auth-clients no \
    --tls-cert-file /tls/cert.pem --tls-key-file /tls/key.pem >/tmp/redis.log 2>&1 &
mkdir -p /tmp/nginx
cat >/tmp/nginx/nginx.conf <<'CONF'
user root; daemon off; worker_processes 1; pid /tmp/nginx/pid; error_log /tmp/nginx/error.log; events {}
http {
    access_log off; client_body_temp_path /tmp/nginx/1; proxy_temp_path /tmp/nginx/2; fastcgi_temp_path /tmp/nginx/3;
    uwsgi_temp_path /tmp/nginx/4; scgi_temp_path /tmp/nginx/5;
    ssl_certificate /tls/cert.pem; ssl_certificate_key /tls/key.pem;
    server { listen 127.0.0.1:8001; location / { return 200 "ok\n"; } }
    server { listen 127.0.0.1:8002 http2; location / { return 200 "ok\n"; } }
    server {
        listen 127.0.0.1:8443 ssl http2;
        location / { return 200 "ok\n"; }
        location /within/frames { if ($server_protocol != HTTP/2.0) { return 505; } return 200 "ok\n"; }
    }
}
CONF
nginx -p /tmp/nginx -c nginx.conf -e /tmp/nginx/error.log >/tmp/nginx.log 2>&1 &
dnsmasq --keep-in-foreground --conf-file=/dev/null --pid-file= --user=root --no-resolv --no-hosts --port=53 \
    --listen-address=127.0.0.1 --bind-interfaces --address=/example.com/192.0.2.1 >/tmp/dnsmasq.log 2>&1 &
# It refuses to run as root.
mkdir /tmp/postgres && cp /tls/*.pem /tmp/postgres && chown -R nobody:nogroup /tmp/postgres && chmod 600 /tmp/postgres/key.pem
as_nobody() { "$SETPRIV" --reuid nobody --regid nogroup --clear-groups -- "$@"; }
(cd /tmp/postgres && as_nobody initdb --username=me --auth=trust --encoding=UTF8 --locale=C --no-sync \
    -D /tmp/postgres/data >/tmp/initdb.log 2>&1) || failed "initdb: $(tail -c 1000 /tmp/initdb.log)"
as_nobody postgres -D /tmp/postgres/data -c listen_addresses=127.0.0.1 -c unix_socket_directories= -c fsync=off \
    -c autovacuum=off -c ssl=on -c ssl_cert_file=/tmp/postgres/cert.pem -c ssl_key_file=/tmp/postgres/key.pem \
    >/tmp/postgres.log 2>&1 &
sql() {
    local mode=$1
    shift
    psql -X -q -A -t "host=127.0.0.1 user=me dbname=postgres sslmode=$mode" "$@"
}
# Asked of the kernel, for a connection would be one more to be seen. State 0A listens.
listens() { grep -q ": 0100007F:$(printf %04X "$1") 00000000:0000 0A " /proc/net/tcp; }
for port in 6379 6380 8001 8002 8443; do
    wait_for "listener at port $port" 120 listens "$port"
done
wait_for "answer of PostgreSQL" 120 sql disable -c 'CREATE TABLE IF NOT EXISTS orders (id int)' \
    -c 'CREATE TABLE IF NOT EXISTS payments (id int)'
wait_for "answer of dnsmasq" 60 dig +short +tries=1 +time=5 @127.0.0.1 ready.example.com

# Runs a kind's requests: name, who serves them, their operation as Coral names it, what makes them.
: >/tmp/kinds
run() {
    local name=$1 service=$2 operation=$3
    shift 3
    "$@" >/tmp/last 2>&1 || failed "$name: $(tail -c 1000 /tmp/last)"
    printf '%s\t%s\t%s\n' "$name" "$service" "$operation" >>/tmp/kinds
}
web() { curl -sS -f --cacert /tls/cert.pem -o /dev/null "$@"; }
redis() { redis-cli -h 127.0.0.1 -r "$asked" "$@"; }
statements() {
    local mode=$1 text=$2 n=0
    set --
    while [ $n -lt "$asked" ]; do
        set -- "$@" -c "$text"
        n=$((n + 1))
    done
    sql "$mode" "$@"
}
each() {
    local n=0
    while [ $n -lt "$asked" ]; do
        "$@" || return
        n=$((n + 1))
    done
}
names() { each dig +short +tries=1 +time=10 "$1" @127.0.0.1 "$2" A; }
run 'HTTP/1.1' nginx 'GET /plain' web --http1.1 "http://127.0.0.1:8001/plain?[1-$asked]"
run 'HTTP/2' nginx 'GET /frames' each web --http2-prior-knowledge http://127.0.0.1:8002/frames
run 'Redis' redis-server 'SET' redis SET key value
run 'PostgreSQL' postgres 'SELECT orders' statements disable 'SELECT * FROM orders'
run 'DNS' dnsmasq 'A datagram.example.com' names +notcp datagram.example.com
run 'DNS over TCP' dnsmasq 'A stream.example.com' names +tcp stream.example.com
run 'HTTP/1.1 in TLS' nginx 'GET /within' web --http1.1 "https://localhost:8443/within?[1-$asked]"
run 'HTTP/2 in TLS' nginx 'GET /within/frames' web --http2 "https://localhost:8443/within/frames?[1-$asked]"
run 'Redis in TLS' redis-server 'GET' redis -p 6380 --tls --cacert /tls/cert.pem GET key
run 'PostgreSQL in TLS' postgres 'SELECT payments' statements require 'SELECT * FROM payments'

# A process that says itself which it is, and is therefore followed though it serves nobody. It speaks, into
# a pipe, when it is told to: what it said before it was followed nobody would know.
/bin/sh -c 'echo $$ >/tmp/victim
    until [ -e /tmp/speak ]; do sleep 1; done
    echo "out of stock"
    while :; do sleep 1000; done' | cat >/tmp/said &
wait_for "victim" 30 test -s /tmp/victim
victim=$(cat /tmp/victim)
now=$(date +%s)
cat >/tmp/span.json <<JSON
{"resourceSpans": [{"resource": {"attributes": [
  {"key": "service.name", "value": {"stringValue": "victim"}},
  {"key": "process.pid", "value": {"intValue": "$victim"}}]},
  "scopeSpans": [{"spans": [{"traceId": "0123456789abcdef0123456789abcdef", "spanId": "0123456789abcdef", "name": "GET /",
    "kind": 2, "startTimeUnixNano": "${now}000000000", "endTimeUnixNano": "${now}001000000"}]}]}]}
JSON
wait_for "OTLP port" 60 web -H 'content-type: application/json' --data-binary @/tmp/span.json \
    http://127.0.0.1:4318/v1/traces
followed() { coral query hosts --since 5m --json | grep -q '"service":"victim"'; }
wait_for "process of the victim" 60 followed
captured() { coral doctor | grep ' output on guest ' | grep -q sys_enter; }
until_true 60 captured || true
touch /tmp/speak
wait_for "word of the victim" 30 test -s /tmp/said
/bin/sh -c "kill -9 $victim"
# One that takes more memory than its group may have.
echo +memory >/sys/fs/cgroup/cgroup.subtree_control
mkdir /sys/fs/cgroup/small
echo 20M >/sys/fs/cgroup/small/memory.max
/bin/sh -c 'echo $$ >/sys/fs/cgroup/small/cgroup.procs; exec /bin/tail /dev/zero' >/dev/null 2>&1 &
eater=$!
events() { coral query events --since 10m --json >/tmp/events; }
# Kind, name, what is looked for.
ended() {
    local kind=$1 name=$2 words=$3 seen=0
    told() { events && grep -qF "$words" /tmp/events; }
    until_true 60 told && seen=1
    tell kind "$kind" "$name" 1 $seen "$(grep -F "$words" /tmp/events | sed 's/.*"text":"\([^"]*\)".*/\1/' | head -n 1)"
}
ended ends 'kill -9 and its sender' "process $victim of victim was killed by SIGKILL from sh (process "
ended requests 'what it said last' 'last said “out of stock”'
ended ends 'out of memory' "for lack of memory: tail (process $eater)"

# How many of a kind Coral has counted; the answer's first line names its columns.
counted() {
    awk -F , -v service="$1" -v operation="$2" '
        NR == 1 { for (n = 1; n <= NF; n++) at[$n] = n; next }
        $at["service"] == service && $at["operation"] == operation { sum += $at["requests"] }
        END { print sum + 0 }' /tmp/red
}
all_counted() {
    coral query red --since 30m --by service,operation --csv >/tmp/red || return
    local name service operation
    while IFS='	' read -r name service operation; do
        [ "$(counted "$service" "$operation")" -ge "$asked" ] || return
    done </tmp/kinds
}
until_true 90 all_counted || true
# What comes twice comes late.
sleep 3
all_counted
while IFS='	' read -r name service operation; do
    tell kind requests "$name" "$asked" "$(counted "$service" "$operation")"
done </tmp/kinds

leave
