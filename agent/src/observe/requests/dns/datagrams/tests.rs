//! Recorded datagrams, as both ends see them.

use super::*;
use crate::observe::requests::dns::message::wire::{answer, query};

const SECOND: u64 = 1_000_000_000;
const ADDRESS: [u8; 4] = [10, 0, 0, 7];

/// A process with a port, which talks to others.
struct End {
    datagrams: Datagrams<&'static str>,
    process: u32,
    port: u16,
    at_ns: u64,
    told: Vec<String>,
    keys: Vec<u64>,
}

impl End {
    fn new(process: u32, port: u16) -> Self {
        let (told, keys) = (Vec::new(), Vec::new());
        Self { datagrams: Datagrams::default(), process, port, at_ns: 0, told, keys }
    }

    fn hear(&mut self, out: Vec<Heard<&'static str>>) {
        for heard in out {
            self.told.push(match heard {
                Heard::Query(Ended { exchange: e, key, .. }) => {
                    self.keys.push(key);
                    let answer = match e.answer {
                        Answer::Said(code) => code.to_lowercase(),
                        Answer::Failed(code) => code.to_owned(),
                        Answer::None => "none".to_owned(),
                        other => panic!("no answer of DNS: {other:?}"),
                    };
                    format!("{} {answer} {}-{}", e.operation, e.start_ns, e.end_ns)
                }
                Heard::Addresses(_, name, addresses) => format!("{name} is {addresses:?}"),
                Heard::Unknown(_) => "unknown".to_owned(),
            });
        }
    }

    fn moved(&mut self, way: Way, peer: Option<u16>, bytes: &[u8]) {
        self.at_ns += 1;
        let peer = peer.map(|port| SocketAddr::from(([127, 0, 0, 1], port)));
        let (process, at_ns, port) = (self.process, self.at_ns, self.port);
        let packet = Packet { process, way, at_ns, port, peer, bytes };
        let mut out = Vec::new();
        self.datagrams.take(&packet, |_| Some("x"), &mut out);
        self.hear(out);
    }

    fn sent(&mut self, peer: u16, bytes: &[u8]) {
        self.moved(Way::Sent, Some(peer), bytes);
    }

    /// From whom does not show.
    fn received(&mut self, bytes: &[u8]) {
        self.moved(Way::Received, None, bytes);
    }

    fn later(&mut self, seconds: u64) {
        self.at_ns += seconds * SECOND;
        let mut out = Vec::new();
        self.datagrams.settle(self.at_ns, &mut out);
        self.hear(out);
    }

    fn told(&mut self) -> Vec<String> {
        std::mem::take(&mut self.told)
    }
}

#[test]
fn both_ends_tell_the_same() {
    let (mut asks, mut serves) = (End::new(1, 40_000), End::new(2, 53));
    let ask = query(7, 1, "a.example.com");
    let found = answer(&ask, 0, &[("a.example.com", 1, 30, &ADDRESS)]);
    asks.sent(53, &ask);
    serves.received(&ask);
    serves.sent(40_000, &found);
    asks.received(&found);
    assert_eq!(asks.told(), ["A a.example.com noerror 1-2", "a.example.com is [(10.0.0.7, 30)]"]);
    assert_eq!(serves.told(), ["A a.example.com noerror 1-2"]);
    assert_eq!(asks.keys, serves.keys);
    assert_ne!(asks.keys, [0]);
}

#[test]
fn another_port_is_believed_when_question_and_answer_agree() {
    let mut asks = End::new(1, 40_000);
    let ask = |id| query(id, 1, "a.example.com");
    // Whoever it is does not answer; an answer that nobody asked for.
    asks.sent(5_300, &ask(1));
    asks.later(6);
    asks.moved(Way::Received, Some(5_300), &answer(&ask(2), 0, &[]));
    assert_eq!(asks.told(), [""; 0]);
    asks.sent(5_300, &ask(3));
    asks.received(&answer(&ask(3), 2, &[]));
    let n = asks.at_ns;
    assert_eq!(asks.told(), [format!("A a.example.com SERVFAIL {}-{n}", n - 1)]);
    asks.sent(5_300, &ask(4));
    asks.later(6);
    asks.moved(Way::Received, Some(5_300), &answer(&ask(2), 0, &[]));
    let end = n + 1 + PATIENCE_NS;
    assert_eq!(asks.told(), [format!("A a.example.com none {}-{end}", n + 1), "unknown".into()]);
}

#[test]
fn names_that_were_only_tried_are_no_errors() {
    let mut asks = End::new(1, 40_000);
    let tries = ["db.shop.svc.cluster.local", "db.svc.cluster.local"];
    for (id, name) in (1..).zip(tries) {
        asks.sent(53, &query(id, 1, name));
        asks.received(&answer(&query(id, 1, name), 3, &[]));
    }
    asks.sent(53, &query(9, 1, "db"));
    asks.received(&answer(&query(9, 1, "db"), 0, &[]));
    asks.sent(53, &query(10, 1, "nosuch.example.com"));
    asks.received(&answer(&query(10, 1, "nosuch.example.com"), 3, &[]));
    let told = [
        "A db.shop.svc.cluster.local nxdomain 1-2",
        "A db.svc.cluster.local nxdomain 3-4",
        "A db noerror 5-6",
    ];
    assert_eq!(asks.told(), told);
    asks.later(3);
    assert_eq!(asks.told(), ["A nosuch.example.com NXDOMAIN 7-8"]);
}

#[test]
fn what_is_broken_at_the_port_is_unknown_and_elsewhere_nothing() {
    let (mut serves, mut other) = (End::new(2, 53), End::new(3, 9_999));
    for end in [&mut serves, &mut other] {
        end.received(b"\0\x01\x01\0\0\x01\0\0\0\0\0\0\xc0\x0c\0\x01\0\x01");
        end.received(&[]);
    }
    assert_eq!((serves.told(), other.told()), (vec!["unknown".into(); 2], vec![]));
}

#[test]
fn queries_are_bounded_and_those_beyond_unknown() {
    let mut serves = End::new(2, 53);
    for n in 0..=u16::try_from(WAITING).unwrap() {
        serves.received(&query(n, 1, "a.example.com"));
    }
    assert_eq!(serves.told(), ["unknown"]);
    assert_eq!(serves.datagrams.waiting(serves.at_ns).count(), WAITING);
    serves.later(6);
    assert_eq!(serves.told().len(), WAITING);
    assert_eq!(serves.datagrams.waiting(serves.at_ns).count(), 0);
}
