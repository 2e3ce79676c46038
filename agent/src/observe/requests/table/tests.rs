//! Chunks in, requests out.

use super::*;
use crate::observe::ServiceProcesses;
use crate::observe::files::Files;

pub(super) fn table(counters: &Arc<Counters>) -> Table {
    let services = Arc::new(ServiceProcesses::new("h"));
    let files = Files::below("/nowhere");
    let watch = "nginx,ab,python3".parse().unwrap();
    let names = Names::new(files, "h", watch, services);
    Table::new(names, vec![4318], Arc::clone(counters))
}

pub(super) fn chunk(name: &str, socket: u64, ports: (u16, u16), what: u32, at_ns: u64) -> Chunk {
    let mut comm = [0; 16];
    comm[..name.len()].copy_from_slice(name.as_bytes());
    let mut local = [0; 16];
    local[..4].copy_from_slice(&[127, 0, 0, 1]);
    let process = u32::try_from(name.len()).unwrap();
    Chunk {
        at_ns,
        socket,
        process,
        what,
        family: INET,
        local_port: ports.0,
        remote_port: ports.1,
        local,
        remote: local,
        comm,
        ..Chunk::default()
    }
}

pub(super) const ASK: &[u8] = b"GET /cart/7?x=y HTTP/1.1\r\n\r\n";
pub(super) const ANSWER: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n";

pub(super) fn take(table: &mut Table, mut chunk: Chunk, bytes: &[u8]) -> Wanted {
    chunk.total = u32::try_from(bytes.len()).unwrap();
    chunk.copied = chunk.total;
    table.take(&chunk, bytes, 1_000)
}

#[test]
fn both_ends_of_a_request_have_one_key() {
    let counters = Arc::new(Counters::default());
    let mut table = table(&counters);
    for n in 0..2 {
        let at = 10 * n;
        let (ab, nginx) = ((40_000, 80), (80, 40_000));
        take(&mut table, chunk("ab", 1, ab, what::SENT, at + 1), ASK);
        take(&mut table, chunk("nginx", 2, nginx, what::RECEIVED, at + 2), ASK);
        take(&mut table, chunk("nginx", 2, nginx, what::SENT, at + 3), ANSWER);
        take(&mut table, chunk("ab", 1, ab, what::RECEIVED, at + 4), ANSWER);
    }
    let requests: Vec<Request> = table.ended().collect();
    let seen: Vec<Seen<'_>> = requests.iter().map(Request::seen).collect();
    let of = |n: usize| (seen[n].kind, seen[n].peer, seen[n].start_ns, seen[n].end_ns);
    assert_eq!(of(0), (SpanKind::Server, "", 1_002, 1_003));
    assert_eq!(of(1), (SpanKind::Client, "127.0.0.1:80", 1_001, 1_004));
    assert_eq!((seen[0].operation, seen[0].answer), ("GET /cart/{id}", Answer::Status(200)));
    assert_eq!((seen[0].protocol, seen[1].peer_kind), ("http", PeerKind::External));
    assert!(seen[0].key == seen[1].key && seen[2].key == seen[3].key);
    assert_ne!(seen[0].key, seen[2].key);
    assert!(seen.iter().all(|s| !s.sampled));
    assert_eq!(counters.requests_seen.get(), 4);
}

#[test]
fn programs_that_begin_and_are_not_looked_at_are_counted() {
    let counters = Arc::new(Counters::default());
    let mut table = table(&counters);
    for pid in 1..=203 {
        table.began(&Chunk { pid, process: pid, what: what::BEGAN, ..Chunk::default() });
    }
    assert_eq!(counters.beginnings_not_looked_at.get(), 3);
}

#[test]
fn a_request_says_which_trace_it_belongs_to() {
    let counters = Arc::new(Counters::default());
    let mut table = table(&counters);
    let ask = b"GET / HTTP/1.1\r\n\
        traceparent: 00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-00\r\n\r\n";
    let elsewhere =
        Chunk { remote: [10; 16], ..chunk("nginx", 2, (80, 40_001), what::RECEIVED, 2) };
    for asked in [chunk("nginx", 1, (80, 40_000), what::RECEIVED, 1), elsewhere] {
        take(&mut table, asked, ask);
        take(&mut table, Chunk { what: what::SENT, ..asked }, ANSWER);
    }
    let requests: Vec<Request> = table.ended().collect();
    let traced: Vec<_> = requests.iter().map(Request::traced).collect();
    for traced in &traced {
        assert_eq!((traced.seen.trace[0], traced.parent.span[7]), (0x4b, 0xb7));
        assert_eq!(traced.parent.trace, traced.seen.trace);
        assert!(!traced.parent.sampled && !traced.source.reports);
    }
    // Every host has connections between loopback addresses.
    assert!(traced[0].is_local && !traced[1].is_local);
}

#[test]
fn a_command_is_told_with_the_database_it_was_sent_to() {
    let counters = Arc::new(Counters::default());
    let mut table = table(&counters);
    let (ab, nginx) = ((40_000, 6379), (6379, 40_000));
    let ask = b"*2\r\n$3\r\nget\r\n$6\r\nsecret\r\n";
    take(&mut table, chunk("ab", 1, ab, what::SENT, 1), ask);
    take(&mut table, chunk("nginx", 2, nginx, what::RECEIVED, 2), ask);
    take(&mut table, chunk("nginx", 2, nginx, what::SENT, 3), b"-WRONGTYPE Operation\r\n");
    take(&mut table, chunk("ab", 1, ab, what::RECEIVED, 4), b"-WRONGTYPE Operation\r\n");
    let requests: Vec<Request> = table.ended().collect();
    let seen: Vec<Seen<'_>> = requests.iter().map(Request::seen).collect();
    assert_eq!((seen[0].kind, seen[0].peer, seen[0].protocol), (SpanKind::Server, "", "redis"));
    let client = (seen[1].peer, seen[1].peer_kind, seen[1].key == seen[0].key);
    assert_eq!(client, ("redis@127.0.0.1:6379", PeerKind::Database, true));
    for seen in seen {
        assert_eq!((seen.operation, seen.answer), ("GET", Answer::Failed("WRONGTYPE")));
    }
}

#[test]
fn a_statement_is_told_likewise_and_what_is_encrypted_is_counted() {
    let counters = Arc::new(Counters::default());
    let mut table = table(&counters);
    let (ab, nginx) = ((40_000, 5432), (5432, 40_000));
    let ask = b"Q\0\0\0\x1eSELECT * FROM t WHERE a=7\0";
    let answer = b"E\0\0\0\x10C42P01\0Mno\0\0Z\0\0\0\x05I";
    take(&mut table, chunk("ab", 1, ab, what::SENT, 1), ask);
    take(&mut table, chunk("nginx", 2, nginx, what::RECEIVED, 2), ask);
    take(&mut table, chunk("nginx", 2, nginx, what::SENT, 3), answer);
    take(&mut table, chunk("ab", 1, ab, what::RECEIVED, 4), answer);
    let requests: Vec<Request> = table.ended().collect();
    let seen: Vec<Seen<'_>> = requests.iter().map(Request::seen).collect();
    let client = (seen[1].peer, seen[1].peer_kind, seen[1].key == seen[0].key);
    assert_eq!(client, ("postgresql@127.0.0.1:5432", PeerKind::Database, true));
    for seen in seen {
        assert_eq!((seen.operation, seen.answer), ("SELECT t", Answer::Failed("42P01")));
    }
    take(&mut table, chunk("nginx", 3, nginx, what::RECEIVED, 5), b"\0\0\0\x08\x04\xd2\x16\x2f");
    take(&mut table, chunk("nginx", 3, nginx, what::SENT, 6), b"S");
    table.settle(SHAKING_NS, 0);
    assert_eq!((table.ended().count(), counters.requests_encrypted.get()), (0, 0));
    for _ in 0..2 {
        table.settle(SHAKING_NS + 6, 0);
        assert_eq!((table.ended().count(), counters.requests_encrypted.get()), (0, 1));
    }
}

#[test]
fn who_is_not_watched_is_told_once_and_own_ports_are_nobodys() {
    let counters = Arc::new(Counters::default());
    let mut table = table(&counters);
    let ssh = chunk("sshd", 1, (22, 5), what::RECEIVED, 1);
    assert_eq!(take(&mut table, ssh, ASK), Wanted::No(4));
    take(&mut table, chunk("ab", 2, (40_000, 4318), what::SENT, 1), ASK);
    take(&mut table, chunk("ab", 2, (40_000, 4318), what::RECEIVED, 2), ANSWER);
    assert_eq!(table.ended().count(), 0);
}

#[test]
fn a_loss_marks_its_service_until_the_bucket_ends() {
    let counters = Arc::new(Counters::default());
    let mut table = table(&counters);
    let ports = (80, 40_000);
    take(&mut table, chunk("nginx", 1, ports, what::RECEIVED, 1), ASK);
    let lossy = Chunk { missed_sent: 40, ..chunk("nginx", 1, ports, what::RECEIVED, 2) };
    take(&mut table, lossy, ASK);
    take(&mut table, chunk("nginx", 1, ports, what::SENT, 3), ANSWER);
    let later = BUCKET + 3;
    take(&mut table, chunk("nginx", 1, ports, what::RECEIVED, later), ASK);
    take(&mut table, chunk("nginx", 1, ports, what::SENT, later), ANSWER);
    let sampled: Vec<bool> = table.ended().map(|r| r.sampled).collect();
    assert_eq!((sampled, counters.requests_unknown.get()), (vec![true, false], 1));
}

#[test]
fn a_loss_of_nobody_known_marks_everybody() {
    let counters = Arc::new(Counters::default());
    let mut table = table(&counters);
    table.lost(BUCKET / 2);
    for at in [1, BUCKET + 1] {
        take(&mut table, chunk("nginx", 1, (80, 40_000), what::RECEIVED, at), ASK);
        take(&mut table, chunk("nginx", 1, (80, 40_000), what::SENT, at), ANSWER);
    }
    let sampled: Vec<bool> = table.ended().map(|r| r.sampled).collect();
    assert_eq!(sampled, [true, false]);
}

#[test]
fn requests_in_flight_are_told_until_there_are_none() {
    let counters = Arc::new(Counters::default());
    let mut table = table(&counters);
    let ports = (80, 40_000);
    take(&mut table, chunk("nginx", 1, ports, what::RECEIVED, 7), ASK);
    take(&mut table, chunk("ab", 2, (40_000, 80), what::SENT, 7), ASK);
    let told = |table: &mut Table| {
        let mut told = Vec::new();
        table.waiting(20, 1_000, |w| told.push((w.count, w.oldest_ns)));
        told
    };
    assert_eq!(told(&mut table), [(1, 1_007)]);
    take(&mut table, chunk("nginx", 1, ports, what::SENT, 9), ANSWER);
    assert_eq!(told(&mut table), [(0, 0)]);
    assert_eq!(told(&mut table), []);
    // One that came and went in between.
    take(&mut table, chunk("nginx", 1, ports, what::RECEIVED, 10), ASK);
    take(&mut table, chunk("nginx", 1, ports, what::SENT, 11), ANSWER);
    assert_eq!(told(&mut table), [(0, 0)]);
}

#[test]
fn connections_are_bounded_and_idle_ones_forgotten() {
    let counters = Arc::new(Counters::default());
    let mut table = table(&counters);
    for socket in 0..CONNECTIONS as u64 + 5 {
        take(&mut table, chunk("nginx", socket, (80, 1), what::RECEIVED, 1), b"GET / HTTP");
    }
    assert_eq!(table.followed.len(), CONNECTIONS);
    assert_eq!(counters.requests_connections_refused.get(), 5);
    table.sweep(2 * IDLE_NS, 0);
    assert_eq!(table.followed.len(), 0);
    take(&mut table, chunk("nginx", 1, (80, 1), what::RECEIVED, 1), ASK);
    take(&mut table, chunk("nginx", 1, (80, 1), what::ENDED, 2), b"");
    assert!(table.followed.is_empty());
    assert_eq!(table.ended().count(), 1);
}

#[test]
fn a_port_names_who_serves_at_it_and_nobody_who_asks_from_it() {
    let counters = Arc::new(Counters::default());
    let mut table = table(&counters);
    let process = |number: u32, chunk: Chunk| Chunk { process: number, ..chunk };
    let (asks, serves) = ((40_000, 8000), (8000, 40_000));
    for (number, socket, ports, ways) in [
        (1, 1, asks, [what::SENT, what::RECEIVED]),
        (2, 2, serves, [what::RECEIVED, what::SENT]),
        (2, 3, asks, [what::SENT, what::RECEIVED]),
    ] {
        for (way, bytes) in ways.into_iter().zip([ASK, ANSWER]) {
            take(&mut table, process(number, chunk("python3", socket, ports, way, 1)), bytes);
        }
    }
    let requests: Vec<Request> = table.ended().collect();
    let services: Vec<&str> = requests.iter().map(|r| r.source.service.as_str()).collect();
    assert_eq!(services, ["python3", "python3:8000", "python3:8000"]);
}

#[test]
fn what_was_broken_off_before_it_was_met_has_ended() {
    let counters = Arc::new(Counters::default());
    let mut table = table(&counters);
    take(&mut table, Chunk { over: 1, ..chunk("ab", 1, (40_000, 80), what::SENT, 7) }, ASK);
    let requests: Vec<Request> = table.ended().collect();
    let answers: Vec<_> = requests.iter().map(|request| request.seen().answer).collect();
    assert_eq!((answers, table.followed.len()), (vec![Answer::None], 0));
    assert_eq!(table.connections(1 << 40).count(), 0);
    // Or whose end was told before what moved at the same moment.
    take(&mut table, chunk("ab", 2, (40_000, 80), what::ENDED, 9), b"");
    take(&mut table, chunk("ab", 2, (40_000, 80), what::SENT, 8), ASK);
    assert_eq!((table.ended().count(), table.followed.len()), (1, 0));
}

/// At these moments a request is asked on a connection of nginx, and answered.
fn serve(table: &mut Table, socket: u64, (ask, answer): (&[u8], &[u8]), at_ns: &[u64]) {
    for at in at_ns {
        take(table, chunk("nginx", socket, (80, 40_000), what::RECEIVED, *at), ask);
        take(table, chunk("nginx", socket, (80, 40_000), what::SENT, *at), answer);
    }
}

/// Of those that ended: whether they have a key where edges are told, and one where spans are.
fn keys(table: &mut Table) -> Vec<(bool, bool)> {
    let keys = |request: Request| (request.seen().key != 0, request.traced().seen.key != 0);
    table.ended().map(keys).collect()
}

#[test]
fn spans_have_no_key_after_something_of_their_connection_was_lost() {
    let counters = Arc::new(Counters::default());
    let lossy: [fn(&mut Table); 3] = [
        |table| {
            let chunk = chunk("nginx", 1, (80, 40_000), what::RECEIVED, 2);
            take(table, Chunk { missed_received: 40, ..chunk }, b"");
        },
        // An answer to nobody.
        |table| _ = take(table, chunk("nginx", 1, (80, 40_000), what::SENT, 2), ANSWER),
        |table| table.lost(2),
    ];
    for lose in lossy {
        let mut table = table(&counters);
        serve(&mut table, 1, (ASK, ANSWER), &[1]);
        lose(&mut table);
        assert_eq!(keys(&mut table), [(true, true)]);
        serve(&mut table, 1, (ASK, ANSWER), &[3, 4]);
        assert_eq!(keys(&mut table), [(true, false); 2]);
        // The next one between the same ends is another.
        take(&mut table, chunk("nginx", 1, (80, 40_000), what::ENDED, 5), b"");
        serve(&mut table, 7, (ASK, ANSWER), &[6]);
        assert_eq!(keys(&mut table), [(true, true)]);
    }
}

#[test]
fn spans_have_no_key_where_the_beginning_of_their_connection_was_not_seen() {
    let counters = Arc::new(Counters::default());
    let end = |port| SocketAddr::from(([127, 0, 0, 1], port));
    let mut table = table(&counters);
    table.older.note((end(80), end(40_000)));
    serve(&mut table, 1, (ASK, ANSWER), &[1]);
    assert_eq!(keys(&mut table), [(true, false)]);
    // One that begins is not older, at either end.
    take(&mut table, chunk("nginx", 1, (80, 40_000), what::ENDED, 2), b"");
    for ends in [(end(80), end(40_000)), (end(40_000), end(80))] {
        table.older.note(ends);
    }
    take(&mut table, chunk("ab", 2, (40_000, 80), what::OPENED, 3), b"");
    serve(&mut table, 7, (ASK, ANSWER), &[4]);
    take(&mut table, chunk("ab", 2, (40_000, 80), what::SENT, 4), ASK);
    take(&mut table, chunk("ab", 2, (40_000, 80), what::RECEIVED, 4), ANSWER);
    assert_eq!(keys(&mut table), [(true, true); 2]);
    // One that was forgotten goes on.
    table.sweep(2 * IDLE_NS, 0);
    serve(&mut table, 7, (ASK, ANSWER), &[2 * IDLE_NS]);
    assert_eq!(keys(&mut table), [(true, false)]);
}

#[test]
fn requests_with_numbers_of_their_own_keep_their_keys() {
    let counters = Arc::new(Counters::default());
    let end = |port| SocketAddr::from(([127, 0, 0, 1], port));
    let mut table = table(&counters);
    table.older.note((end(80), end(40_000)));
    let settings = [0u8, 0, 0, 4, 0, 0, 0, 0, 0];
    let get = [0u8, 0, 2, 1, 5, 0, 0, 0, 1, 0x82, 0x84];
    let ask = [&b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"[..], &settings, &get].concat();
    let answer = [&settings[..], &[0, 0, 1, 1, 5, 0, 0, 0, 1, 0x88]].concat();
    serve(&mut table, 1, (&ask[..], &answer[..]), &[1]);
    assert!(table.followed.values().all(|followed| followed.order == Order::Numbered));
    assert_eq!(keys(&mut table), [(true, true)]);
}

#[test]
fn what_is_between_containers_of_one_bridge_is_local() {
    let counters = Arc::new(Counters::default());
    let dir = tempfile::tempdir().unwrap();
    std::fs::create_dir_all(dir.path().join("proc/net")).unwrap();
    std::fs::create_dir_all(dir.path().join("sys/class/net/docker0/bridge")).unwrap();
    let hex = |ip: [u8; 4]| format!("{:08X}", u32::from_ne_bytes(ip));
    let (net, mask) = (hex([172, 17, 0, 0]), hex([255, 255, 0, 0]));
    let route = format!("docker0\t{net}\t00000000\t0001\t0\t0\t0\t{mask}\t0\t0\t0\n");
    std::fs::write(dir.path().join("proc/net/route"), route).unwrap();
    let mut table = table(&counters);
    table.files = Files::below(dir.path());
    let ip = |ip: [u8; 4]| {
        let mut bytes = [0; 16];
        bytes[..4].copy_from_slice(&ip);
        bytes
    };
    for (socket, remote) in [(1, [172, 17, 0, 3]), (2, [192, 0, 2, 7])] {
        let ends = Chunk {
            local: ip([172, 17, 0, 2]),
            remote: ip(remote),
            ..chunk("nginx", socket, (80, 40_000), what::RECEIVED, 1)
        };
        take(&mut table, ends, ASK);
        take(&mut table, Chunk { what: what::SENT, ..ends }, ANSWER);
    }
    let local: Vec<bool> = table.ended().map(|request| request.traced().is_local).collect();
    assert_eq!(local, [true, false]);
}
