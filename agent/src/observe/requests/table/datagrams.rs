//! Datagrams: no connection, so nothing of one is followed.

use std::sync::Arc;

use coral_bpf_types::{Chunk, what};
use coral_model::time::Time;

use super::{Protocol, Request, Table, Verdict, Wanted, address, bucket_end};
use crate::observe::requests::dns::datagrams::{Heard, Packet};
use crate::observe::requests::exchange::{Role, Way};

impl Table {
    /// Takes in a datagram.
    pub(super) fn datagram(&mut self, chunk: &Chunk, bytes: &[u8], epoch_ns: u64) -> Wanted {
        let way = if chunk.what == what::SENT { Way::Sent } else { Way::Received };
        let peer = address(chunk.family, &chunk.remote, chunk.remote_port);
        let (process, at_ns, port) = (chunk.process, chunk.at_ns, chunk.local_port);
        let peer = (chunk.remote_port != 0).then_some(peer);
        let packet = Packet { process, way, at_ns, port, peer, bytes };
        let (names, mut wanted) = (&mut self.names, Wanted::Yes);
        let owner = |role| {
            // Of who asks, the port says nothing.
            let port = (role == Role::Server).then_some(port);
            match names.of(process, chunk.pid, &chunk.comm, port, at_ns) {
                Verdict::Watch(source) => {
                    if role == Role::Server && way == Way::Sent {
                        let at = Time(at_ns.saturating_add(epoch_ns));
                        names.serves(process, chunk.pid, &source.service, at);
                    }
                    Some(source)
                }
                Verdict::Ignore => {
                    wanted = Wanted::No(process);
                    None
                }
            }
        };
        self.datagrams.take(&packet, owner, &mut self.heard);
        self.hear(at_ns, epoch_ns);
        wanted
    }

    /// Tells what came of datagrams.
    pub(super) fn hear(&mut self, at_ns: u64, epoch_ns: u64) {
        for heard in self.heard.drain(..) {
            let ended = match heard {
                Heard::Query(ended) => ended,
                Heard::Addresses(process, name, addresses) => {
                    self.addresses.told(process, &name, &addresses, at_ns);
                    continue;
                }
                Heard::Unknown(source) => {
                    self.counters.requests_unknown.add(1);
                    self.lossy.insert(source.hash, bucket_end(at_ns + epoch_ns));
                    continue;
                }
            };
            let (source, client) = (ended.owner, ended.exchange.role == Role::Client);
            if !client {
                self.waited.entry(source.hash).or_insert_with(|| Arc::clone(&source));
            }
            let end_ns = ended.exchange.end_ns.saturating_add(epoch_ns);
            let lossy = self.lossy.get(&source.hash).is_some_and(|until| end_ns < *until);
            let is_local = ended.peer.is_none_or(|peer| {
                let ip = peer.ip();
                ip.is_loopback() || self.bridges.hold(&mut self.files, &[ip], at_ns)
            });
            let peer = ended.peer.filter(|_| client).map(|peer| format!("dns@{peer}"));
            self.counters.requests_seen.add(1);
            self.out.push(Request {
                source,
                protocol: Protocol::Dns,
                peer: peer.unwrap_or_default(),
                key: ended.key,
                is_local,
                // Messages of DNS have ids.
                adrift: false,
                sampled: lossy || end_ns < self.all_lossy_ns,
                exchange: ended.exchange,
                epoch_ns,
            });
        }
    }
}

#[cfg(test)]
mod tests {
    use coral_bpf_types::transport;
    use coral_model::view::SpanKind;
    use coral_proto::v1::PeerKind;

    use super::super::tests::{chunk, table};
    use super::*;
    use crate::counters::Counters;
    use crate::observe::requests::dns::message::wire::{answer, query};
    use crate::reduce::{Answer, Seen};

    fn datagram(table: &mut Table, of: Chunk, bytes: &[u8]) -> Wanted {
        let length = u32::try_from(bytes.len()).unwrap();
        let transport = transport::DATAGRAM;
        let chunk = Chunk { transport, total: length, copied: length, ..of };
        table.take(&chunk, bytes, 1_000)
    }

    #[test]
    fn both_ends_of_a_query_have_one_key_and_its_answer_names_a_peer() {
        let counters = Arc::new(Counters::default());
        let mut table = table(&counters);
        let ask = query(7, 1, "api.example.com");
        let found = answer(&ask, 0, &[("api.example.com", 1, 30, &[127, 0, 0, 1])]);
        let (ab, nginx) = (chunk("ab", 0, (40_000, 53), what::SENT, 1), (53, 0));
        assert_eq!(datagram(&mut table, ab, &ask), Wanted::Yes);
        datagram(&mut table, chunk("nginx", 0, nginx, what::RECEIVED, 2), &ask);
        let told = |table: &mut Table| {
            let mut told = Vec::new();
            table.waiting(3, 1_000, |w| told.push((w.count, w.oldest_ns)));
            told
        };
        assert_eq!(told(&mut table), [(1, 1_002)]);
        datagram(&mut table, chunk("nginx", 0, (53, 40_000), what::SENT, 3), &found);
        datagram(&mut table, chunk("ab", 0, (40_000, 53), what::RECEIVED, 4), &found);
        let requests: Vec<Request> = table.ended().collect();
        let seen: Vec<Seen<'_>> = requests.iter().map(Request::seen).collect();
        let of = |n: usize| (seen[n].kind, seen[n].peer, seen[n].start_ns, seen[n].end_ns);
        assert_eq!(of(0), (SpanKind::Server, "", 1_002, 1_003));
        assert_eq!(of(1), (SpanKind::Client, "dns@127.0.0.1:53", 1_001, 1_004));
        assert!(seen[0].key == seen[1].key && seen[0].key != 0);
        assert_eq!((seen[1].protocol, seen[1].peer_kind), ("dns", PeerKind::External));
        for seen in seen {
            assert_eq!(
                (seen.operation, seen.answer),
                ("A api.example.com", Answer::Said("NOERROR"))
            );
        }
        assert_eq!(told(&mut table), [(0, 0)]);
        // Who it talks to afterwards has that name.
        let (ports, text) = ((40_001, 80), b"GET / HTTP/1.1\r\n\r\n");
        let ask = Chunk { total: 18, copied: 18, ..chunk("ab", 1, ports, what::SENT, 5) };
        table.take(&ask, text, 1_000);
        table.take(&chunk("ab", 1, ports, what::ENDED, 6), b"", 1_000);
        let requests: Vec<Request> = table.ended().collect();
        assert_eq!(requests[0].seen().peer, "api.example.com:80");
        assert_eq!((counters.requests_seen.get(), counters.requests_unknown.get()), (3, 0));
    }

    #[test]
    fn a_query_that_nobody_answers_is_no_edge_of_its_server() {
        let counters = Arc::new(Counters::default());
        let mut table = table(&counters);
        let ask = query(7, 28, "slow.example.com");
        datagram(&mut table, chunk("nginx", 0, (53, 0), what::RECEIVED, 2), &ask);
        table.settle(5_000_000_002, 1_000);
        let requests: Vec<Request> = table.ended().collect();
        let seen = requests[0].seen();
        assert_eq!((seen.operation, seen.answer), ("AAAA slow.example.com", Answer::None));
        assert_eq!((seen.key, seen.end_ns - seen.start_ns), (0, 5_000_000_000));
        // Who is not watched is told once; what is no DNS is counted at its port alone.
        let other = chunk("sshd", 0, (53, 9), what::SENT, 1);
        assert_eq!(datagram(&mut table, other, &ask), Wanted::No(4));
        datagram(&mut table, chunk("ab", 0, (9, 53), what::SENT, 1), b"no message of dns");
        datagram(&mut table, chunk("ab", 0, (9, 54), what::SENT, 1), b"no message of dns");
        assert_eq!(counters.requests_unknown.get(), 1);
    }
}
