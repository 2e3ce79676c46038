//! Requests that the kernel saw: the same counts and half-edges, with that as their evidence.
//!
//! Nothing of them is in the spool before they are counted, so what was not taken yet dies with the
//! agent; its eyes do so at the same moment.

use std::sync::Arc;

use coral_model::connections::Tally;
use coral_model::num::u32_sat;
use coral_model::time::BUCKET;
use coral_model::view::SpanKind;
use coral_proto::otlp::meaning;
use coral_proto::v1;

use super::{CodeWord, Ended, HalfKey, Reducer, SeriesKey, inflight};

/// A request as one of its ends was seen.
#[derive(Debug, Clone)]
pub struct Seen<'a> {
    /// Whose program it was: an encoded `Resource`, and its hash.
    pub resource: (&'a [u8], u64),
    /// SERVER or CLIENT.
    pub kind: SpanKind,
    /// Method and route, command, verb and table, or type and name.
    pub operation: &'a str,
    /// `http`, `grpc`, `redis`, `postgresql`, `dns`.
    pub protocol: &'a str,
    /// How it was answered.
    pub answer: Answer<'a>,
    /// When it began, Unix ns.
    pub start_ns: u64,
    /// When it ended, Unix ns.
    pub end_ns: u64,
    /// Its trace, where it said so; else zeros.
    pub trace: [u8; 16],
    /// The same number at both ends; 0 where it is not known who asked, and no edge comes of it.
    pub key: u64,
    /// Who is at the other end, as far as this end knows.
    pub peer: &'a str,
    /// What that is, likewise.
    pub peer_kind: v1::PeerKind,
    /// Others like it were lost.
    pub sampled: bool,
}

impl Seen<'_> {
    /// Whether it got no answer; as of spans ([`coral_proto::otlp::meaning`]).
    #[must_use]
    pub fn no_answer(&self) -> bool {
        match self.answer {
            Answer::None | Answer::Status(504 | 499 | 408) | Answer::Grpc(None) => true,
            Answer::Grpc(Some(code)) => meaning::rpc_unanswered(code),
            _ => false,
        }
    }

    /// Whether it failed, which it has too where it got no answer.
    #[must_use]
    pub fn failed(&self) -> bool {
        let failed = match self.answer {
            Answer::Status(500..) | Answer::Failed(_) => true,
            // Who asks has failed with anything but OK.
            Answer::Grpc(Some(code)) if self.kind == SpanKind::Client => code != 0,
            Answer::Grpc(Some(code)) => meaning::rpc_failed(code),
            _ => false,
        };
        failed || self.no_answer()
    }
}

/// How a request was answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Answer<'a> {
    /// Not at all.
    None,
    /// With a status of HTTP.
    Status(u16),
    /// As gRPC does, with its status; with none where it did not come.
    Grpc(Option<u16>),
    /// Well, by a protocol that has no word for it.
    Done,
    /// Well, with this word; of these there are few.
    Said(&'a str),
    /// With an error that has this name; of these there are few.
    Failed(&'a str),
}

/// Requests of a program that have not ended.
#[derive(Debug, Clone, Copy)]
pub struct Waiting<'a> {
    /// Whose, as in [`Seen`].
    pub resource: (&'a [u8], u64),
    /// How many.
    pub count: u64,
    /// When the oldest began, Unix ns; 0 without any.
    pub oldest_ns: u64,
    /// Its trace, or zeros.
    pub oldest_trace: [u8; 16],
}

/// Connections that a program opened to somebody, as [`Seen`] names both.
#[derive(Debug, Clone, Copy)]
pub struct Connected<'a> {
    /// Whose.
    pub resource: (&'a [u8], u64),
    /// What is spoken on them; `tcp` where that is not known.
    pub protocol: &'a str,
    /// Who is at the other end.
    pub peer: &'a str,
    /// What that is.
    pub peer_kind: v1::PeerKind,
    /// When, Unix ns.
    pub at_ns: u64,
    /// What became of them.
    pub tally: Tally,
}

/// Whose connections to whom, in one bucket.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct ConnectionKey {
    pub(crate) bucket: u32,
    pub(crate) resource: u32,
    pub(crate) protocol: u32,
    pub(crate) peer: u32,
    pub(crate) peer_kind: v1::PeerKind,
}

impl Reducer {
    /// Adds connections. True as of [`Reducer::see`].
    pub fn connect(&mut self, connected: &Connected<'_>, now_ns: u64) -> bool {
        let (bytes, hash) = connected.resource;
        let (index, _) = self.names.resource(hash, bytes, now_ns, &self.counters);
        let protocol = self.names.word(connected.protocol).0;
        let (peer, folded) = self.names.word(connected.peer);
        self.counters.folded_peers.add(u64::from(folded));
        let bucket = u32_sat(connected.at_ns / BUCKET);
        let (resource, peer_kind) = (index.resource, connected.peer_kind);
        let key = ConnectionKey { bucket, resource, protocol, peer, peer_kind };
        self.connections.entry(key).or_default().add(&connected.tally);
        self.is_full()
    }

    /// Adds a request. True when so much waits that it must be taken before more is added.
    pub fn see(&mut self, seen: &Seen<'_>, now_ns: u64) -> bool {
        let (bytes, hash) = seen.resource;
        let (index, _) = self.names.resource(hash, bytes, now_ns, &self.counters);
        let protocol = self.names.word(seen.protocol).0;
        let ended = Ended {
            end_ns: seen.end_ns,
            duration_ns: seen.end_ns.saturating_sub(seen.start_ns),
            error: seen.failed(),
            no_answer: seen.no_answer(),
            trace: seen.trace,
        };
        let (kind, sampled, evidence) = (seen.kind, seen.sampled, v1::Evidence::Ebpf);
        if kind == SpanKind::Server {
            let (operation, folded) = self.names.operation(index.service, seen.operation);
            self.counters.folded_operations.add(u64::from(folded));
            let code = match seen.answer {
                Answer::None | Answer::Done | Answer::Grpc(None) => CodeWord::Unknown,
                Answer::Status(status) | Answer::Grpc(Some(status)) => CodeWord::Number(status),
                Answer::Said(word) | Answer::Failed(word) => {
                    CodeWord::Word(self.names.word(word).0)
                }
            };
            let resource = index.resource;
            let key = SeriesKey { resource, operation, protocol, code, kind, sampled, evidence };
            self.add(key, &ended, 1.0);
        }
        if seen.key == 0 {
            return self.is_full();
        }
        let (peer, folded) = self.names.word(seen.peer);
        self.counters.folded_peers.add(u64::from(folded));
        let (resource, peer_kind) = (index.resource, seen.peer_kind);
        let half = HalfKey { resource, kind, protocol, peer, peer_kind, sampled, evidence };
        self.add_half(half, seen.key, &ended);
        self.is_full()
    }

    /// Requests in flight now; what is not said of a program stands.
    pub fn wait(&mut self, waiting: &Waiting<'_>, now_ns: u64) {
        let (bytes, hash) = waiting.resource;
        let (index, _) = self.names.resource(hash, bytes, now_ns, &self.counters);
        let Some(resource) = self.names.resource_at(index.resource) else { return };
        let snapshot = inflight::Snapshot {
            resource: Arc::clone(resource),
            count: waiting.count,
            oldest_start_ns: waiting.oldest_ns,
            oldest_trace: waiting.oldest_trace,
            exact: true,
        };
        self.seen_inflight.retain(|older| older.resource.id != snapshot.resource.id);
        self.seen_inflight.push(snapshot);
    }
}

#[cfg(test)]
mod tests {
    use coral_proto::v1::{Evidence, PeerKind, Reduced};
    use opentelemetry_proto::tonic::common::v1::{AnyValue, KeyValue, any_value};
    use opentelemetry_proto::tonic::resource::v1::Resource;
    use prost::Message as _;

    use super::super::{Limits, emit};
    use super::*;
    use crate::counters::Counters;

    const SECOND: u64 = 1_000_000_000;

    fn nginx() -> Vec<u8> {
        let value = Some(any_value::Value::StringValue("nginx".into()));
        let attribute = KeyValue {
            key: "service.name".into(),
            value: Some(AnyValue { value }),
            ..KeyValue::default()
        };
        Resource { attributes: vec![attribute], ..Resource::default() }.encode_to_vec()
    }

    /// One that was answered well.
    fn request(resource: &[u8]) -> Seen<'_> {
        Seen {
            resource: (resource, 1),
            kind: SpanKind::Server,
            operation: "GET /",
            protocol: "http",
            answer: Answer::Status(200),
            start_ns: SECOND,
            end_ns: 2 * SECOND,
            trace: [0; 16],
            key: 7,
            peer: "",
            peer_kind: PeerKind::External,
            sampled: false,
        }
    }

    fn taken(reducer: &mut Reducer) -> Reduced {
        emit::reduced(reducer.take(9 * SECOND).unwrap(), 0)
    }

    #[test]
    fn a_request_is_counted_where_it_was_served_and_is_an_end_where_it_was_made() {
        let mut reducer = Reducer::new(Limits::default(), Arc::default());
        let resource = nginx();
        let mut seen = request(&resource);
        let failed = Answer::Failed("WRONGTYPE");
        let statuses = [200, 503, 404].map(Answer::Status);
        for answer in statuses.into_iter().chain([Answer::None, Answer::Done, failed]) {
            _ = reducer.see(&Seen { answer, ..seen.clone() }, 3 * SECOND);
        }
        seen.kind = SpanKind::Client;
        let peer_kind = PeerKind::Database;
        _ = reducer.see(&Seen { peer: "redis@127.0.0.1:80", peer_kind, ..seen }, 3 * SECOND);
        let reduced = taken(&mut reducer);
        let red: Vec<_> = reduced
            .red
            .iter()
            .map(|r| (reduced.strings[r.status as usize].as_str(), r.errors, r.no_answer, r.sum_ns))
            .collect();
        let whole = SECOND;
        assert_eq!(
            red,
            [
                ("200", 0, 0, whole),
                ("503", 1, 0, whole),
                ("404", 0, 0, whole),
                ("", 1, 1, 2 * whole),
                ("WRONGTYPE", 1, 0, whole)
            ]
        );
        assert!(reduced.red.iter().all(|r| r.evidence() == Evidence::Ebpf && r.kind == 2));
        let halves = reduced.half_edges.unwrap();
        assert_eq!((halves.key, halves.flags), (vec![7; 7], vec![0, 1, 0, 3, 0, 1, 0]));
        assert!(halves.series.iter().all(|s| s.evidence() == Evidence::Ebpf));
        assert_eq!(halves.series.iter().map(|s| s.kind).collect::<Vec<_>>(), [2, 3]);
        let kinds: Vec<u32> = halves.series.iter().map(|s| s.peer_kind).collect();
        assert_eq!(kinds, [PeerKind::External as u32, PeerKind::Database as u32]);
    }

    #[test]
    fn an_rpc_fails_at_its_server_by_what_the_server_did_and_to_its_caller_by_anything_but_ok() {
        let mut reducer = Reducer::new(Limits::default(), Arc::default());
        let resource = nginx();
        for kind in [SpanKind::Server, SpanKind::Client] {
            // OK, PERMISSION_DENIED, INTERNAL, CANCELLED, DEADLINE_EXCEEDED, broken off.
            for answer in [Some(0), Some(7), Some(13), Some(1), Some(4), None].map(Answer::Grpc) {
                let seen = Seen { kind, answer, protocol: "grpc", ..request(&resource) };
                _ = reducer.see(&seen, 3 * SECOND);
            }
        }
        let reduced = taken(&mut reducer);
        let red: Vec<_> = reduced
            .red
            .iter()
            .map(|r| (reduced.strings[r.status as usize].as_str(), r.errors, r.no_answer))
            .collect();
        let expected =
            [("0", 0, 0), ("7", 0, 0), ("13", 1, 0), ("1", 1, 1), ("4", 1, 1), ("", 1, 1)];
        assert_eq!(red, expected);
        let halves = reduced.half_edges.unwrap();
        // Failed: 1; no answer: 2.
        assert_eq!(halves.flags, [[0, 0, 1, 3, 3, 3], [0, 1, 1, 3, 3, 3]].concat());
    }

    #[test]
    fn connections_add_up_by_bucket_and_peer() {
        let mut reducer = Reducer::new(Limits::default(), Arc::default());
        let resource = nginx();
        let tally = Tally { opened: 1, busy_ns: 5, ..Tally::default() };
        for (at_ns, peer) in [(9, "a:1"), (19, "a:1"), (9, "a:1"), (9, "b:1")] {
            let connected = Connected {
                resource: (&resource, 1),
                protocol: "tcp",
                peer,
                peer_kind: PeerKind::External,
                at_ns: at_ns * SECOND,
                tally,
            };
            assert!(!reducer.connect(&connected, SECOND));
        }
        let reduced = taken(&mut reducer);
        let text = |at: u32| reduced.strings[at as usize].as_str();
        let mut rows: Vec<_> = reduced
            .connections
            .iter()
            .map(|c| (c.bucket, text(c.peer), text(c.protocol), c.opened, c.busy_ns))
            .collect();
        rows.sort_unstable();
        assert_eq!(
            rows,
            [(0, "a:1", "tcp", 2, 10), (0, "b:1", "tcp", 1, 5), (1, "a:1", "tcp", 1, 5)]
        );
        assert!(reduced.half_edges.is_none() && reducer.take(SECOND).is_none());
    }

    #[test]
    fn the_newest_word_on_requests_in_flight_counts() {
        let mut reducer = Reducer::new(Limits::default(), Arc::new(Counters::default()));
        let resource = nginx();
        for count in [3, 2] {
            let oldest_ns = SECOND;
            let resource = (resource.as_slice(), 1);
            reducer.wait(&Waiting { resource, count, oldest_ns, oldest_trace: [0; 16] }, SECOND);
        }
        let inflight = taken(&mut reducer).inflight;
        assert_eq!((inflight.len(), inflight[0].count, inflight[0].exact), (1, 2, true));
        assert!(reducer.take(SECOND).is_none());
    }
}
