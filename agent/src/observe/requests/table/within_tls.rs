//! What is special about connections within TLS.

use std::sync::Arc;

use coral_bpf_types::{Chunk, what};
use coral_model::view::SpanKind;

use super::tests::{ANSWER, ASK, chunk, table, take};
use super::{Request, SHAKING_NS, Wanted};
use crate::counters::Counters;
use crate::reduce::Seen;

#[test]
fn what_is_read_within_tls_after_all_begins_anew_and_is_not_counted() {
    let counters = Arc::new(Counters::default());
    let mut table = table(&counters);
    let nginx = (5432, 40_000);
    let ssl = b"\0\0\0\x08\x04\xd2\x16\x2f";
    take(&mut table, chunk("nginx", 3, nginx, what::RECEIVED, 5), ssl);
    take(&mut table, chunk("nginx", 3, nginx, what::SENT, 6), b"S");
    let within = |what, at| Chunk { sealed: 1, ..chunk("nginx", 3, nginx, what, at) };
    let start = b"\0\0\0\x10\0\x03\0\0user\0a\0\0";
    take(&mut table, within(what::RECEIVED, 7), start);
    take(&mut table, within(what::SENT, 8), b"R\0\0\0\x08\0\0\0\0Z\0\0\0\x05I");
    take(&mut table, within(what::RECEIVED, 9), b"Q\0\0\0\x0dSELECT 1\0");
    take(&mut table, within(what::SENT, 10), b"C\0\0\0\x0dSELECT 1\0Z\0\0\0\x05I");
    take(&mut table, within(what::ENDED, 11), b"");
    let requests: Vec<Request> = table.ended().collect();
    let told: Vec<_> = requests.iter().map(|r| r.seen().operation.to_owned()).collect();
    assert_eq!(told, ["SELECT"]);
    table.settle(10 * SHAKING_NS, 0);
    assert_eq!((counters.requests_encrypted.get(), counters.requests_unknown.get()), (0, 0));
    // One that is gone before anybody could tell is counted.
    take(&mut table, chunk("nginx", 4, nginx, what::RECEIVED, 5), ssl);
    take(&mut table, chunk("nginx", 4, nginx, what::SENT, 6), b"S");
    take(&mut table, chunk("nginx", 4, nginx, what::ENDED, 7), b"");
    assert_eq!(counters.requests_encrypted.get(), 1);
}

#[test]
fn who_is_asked_within_tls_is_called_as_its_client_does() {
    let counters = Arc::new(Counters::default());
    let mut table = table(&counters);
    let name = b"\0\0\0\x0c\0\x0a\0\0\x07Api.Tst";
    let hello =
        [&[22, 3, 1, 0, 63, 1, 0, 0, 59, 3, 3][..], &[7; 32], &[0, 0, 2, 19, 1, 1, 0, 0, 16], name];
    let (hello, ports) = (hello.concat(), (40_000, 443));
    assert_eq!(table.hello(&chunk("ab", 9, ports, what::HELLO, 1), &hello), Wanted::Yes);
    let sent = Chunk { sealed: 1, ..chunk("ab", 1, ports, what::SENT, 2) };
    take(&mut table, sent, ASK);
    take(&mut table, Chunk { what: what::RECEIVED, ..sent }, ANSWER);
    let requests: Vec<Request> = table.ended().collect();
    assert_eq!(requests[0].seen().peer, "api.tst:443");
    assert!(table.names_asked.is_empty());
    // The same ends again, and no name.
    for bytes in [&hello[..], &hello[..60]] {
        _ = table.hello(&chunk("ab", 9, ports, what::HELLO, 3), bytes);
    }
    assert!(table.names_asked.is_empty());
}

#[test]
fn a_connection_without_addresses_is_told_and_its_peer_is_not_guessed() {
    let counters = Arc::new(Counters::default());
    let mut table = table(&counters);
    let alone = |name, socket, what, at| Chunk {
        sealed: 1,
        family: 0,
        ..chunk(name, socket, (0, 0), what, at)
    };
    for (name, socket, asks, answers) in
        [("ab", 1, what::SENT, what::RECEIVED), ("nginx", 2, what::RECEIVED, what::SENT)]
    {
        take(&mut table, alone(name, socket, asks, 1), ASK);
        take(&mut table, alone(name, socket, answers, 2), ANSWER);
    }
    let requests: Vec<Request> = table.ended().collect();
    let seen: Vec<Seen<'_>> = requests.iter().map(Request::seen).collect();
    assert_eq!((seen[0].kind, seen[0].peer), (SpanKind::Client, ""));
    assert_eq!((seen[1].kind, seen[1].peer), (SpanKind::Server, ""));
    assert_ne!(seen[0].key, seen[1].key);
}
