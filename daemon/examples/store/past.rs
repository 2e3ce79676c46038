//! What happened: traces of ten spans over three services and a database, what an agent would count
//! of them, the edges the join would make, and log records.
//!
//! A trace is made of its number alone, so that hours can be made side by side and again.

use std::collections::BTreeMap;
use std::sync::Arc;

use coral_daemon::store::columns::logs::Log;
use coral_daemon::store::columns::spans::Span;
use coral_daemon::store::schema::Signal;
use coral_daemon::store::{Batch, EdgeDelta, Node, RedDelta};
use coral_model::connections::Tally;
use coral_model::dice::Dice;
use coral_model::hist::Histogram;
use coral_model::id::{ResourceId, SpanId, TraceId};
use coral_model::time::{BUCKET, MILLI, SECOND, Time};
use coral_model::view::{EdgeEnds, Evidence, NodeKind, SpanKind, SpanStatus};
use coral_proto::otlp::meaning::{Code, Meaning};
use coral_proto::otlp::value::Value;
use hashbrown::HashMap;

use crate::shape::{FAILED, Made, client_span, code_of, database_span, internal_span, server_span};
use crate::world::{Service, World};

/// Spans of a trace.
pub const SPANS: u64 = 10;
/// An SDK exports this often.
const EXPORT: u64 = 5 * SECOND;
/// A colony of many agents commits this often.
pub const COMMIT: u64 = 250 * MILLI;
/// How many of 100 traces leave a log record.
const LOGGED: u64 = 85;
/// What few log records say: about one trace in a hundred thousand.
pub const NEEDLE: &str = "declined by issuer";
const RARE: u64 = 100_000;

/// Commits that are appended together: what an appender and its chunks cost is shared.
pub const TOGETHER: u64 = 64;

/// What some commits bring, each row with the stamp of its own.
#[derive(Default)]
pub struct Commits {
    batch: Batch,
    spans: Vec<i64>,
    logs: Vec<i64>,
    red: HashMap<(u64, Time, ResourceId, usize, u16), RedDelta>,
    edges: HashMap<(u64, Time, usize, usize), EdgeDelta>,
}

/// Takes spans in the order they are made; for whoever wants them in another form.
pub type Watch<'w> = dyn FnMut(&Made<'_>, u64) + 'w;

/// Commits that still gather rows.
pub struct Past<'w> {
    world: &'w World,
    /// Commits are never later than this, ns.
    end: u64,
    pub open: BTreeMap<u64, Commits>,
    scratch: Scratch,
}

#[derive(Default)]
struct Scratch {
    operation: String,
    peer: String,
    digits: String,
    body: String,
}

impl<'w> Past<'w> {
    /// Of an hour that ends at `end`.
    pub fn new(world: &'w World, end: Time) -> Self {
        Self { world, end: end.0, open: BTreeMap::new(), scratch: Scratch::default() }
    }

    /// The commit that brings what a resource's SDK exports after a moment, by its number.
    fn commit_of(&self, resource: usize, at: u64) -> u64 {
        let phase = (resource as u64 * 977 * MILLI) % EXPORT;
        let export = (at + EXPORT - phase) / EXPORT * EXPORT + phase;
        export.min(self.end - 1) / COMMIT
    }

    /// Makes the trace with a number, begun at `start`.
    pub fn trace(&mut self, number: u64, start: u64, watch: &mut Watch<'_>) {
        let world = self.world;
        let dice = &mut Dice(number.wrapping_mul(0x2545_f491_4f6c_dd1d));
        let trace = trace_id(number);
        let a = world.front(dice);
        let b = world.services[a].callees[dice.below(4) as usize];
        let c = world.services[b].callees[dice.below(4) as usize];
        let ids: [u64; 10] = std::array::from_fn(|_| dice.roll() | 1);
        // Durations from the inside out.
        let mut own = |service: usize, operation: usize| {
            let factor = world.factors[dice.below(4096) as usize];
            (world.services[service].operations[operation].median_ns * factor) as u64
        };
        // The first operations of a service are asked most.
        let mut dice2 = Dice(number ^ 0x5bd1_e995);
        let mut operation = || {
            let u = dice2.unit();
            (u * u * 10.0) as usize % 10
        };
        let ops = [operation(), operation(), operation()];
        let query = own(c, ops[2]) / 2 + 100_000;
        let in_c = query + own(c, ops[2]) / 2 + 50_000;
        let call_c = in_c + 200_000 + dice2.below(600_000);
        let in_b = call_c + own(b, ops[1]);
        let call_b = in_b + 200_000 + dice2.below(600_000);
        let in_a = call_b + own(a, ops[0]);
        let failed: [bool; 3] = std::array::from_fn(|_| dice2.below(100) == 0);
        let instance = |service: usize, dice: &mut Dice| {
            let range = world.services[service].instances.clone();
            range.start + dice.below(range.len() as u64) as usize
        };
        let at = [instance(a, &mut dice2), instance(b, &mut dice2), instance(c, &mut dice2)];

        let middle = |outer: u64, inner: u64| (outer - inner) / 2;
        let a0 = start;
        let a1 = a0 + middle(in_a, call_b);
        let b0 = a1 + middle(call_b, in_b);
        let b1 = b0 + middle(in_b, call_c);
        let c0 = b1 + middle(call_c, in_c);
        let c1 = c0 + middle(in_c, query);
        let salt = dice2.roll();
        let mut emit = |made: &Made<'_>| {
            let commit = self.commit_of(made.resource, made.start + made.duration);
            watch(made, commit);
            self.span(commit, made);
        };
        // Who, when and below whom; of the three services, the `i`th.
        let bare = |i: usize, span: usize, parent: Option<usize>, start: u64, duration: u64| Made {
            resource: at[i],
            trace,
            span: ids[span],
            parent: parent.map_or(0, |parent| ids[parent]),
            kind: SpanKind::Internal,
            start,
            duration,
            name: "",
            attributes: &[],
            failed: failed[i],
        };
        let [sa, sb, sc] = [a, b, c].map(|service| &world.services[service]);
        let called = |i: usize, made: Made<'static>| Made { failed: failed[i], ..made };
        let half = |outer, inner| middle(outer, inner) / 2;
        let out = &mut emit;
        server_span(sa, ops[0], salt, bare(0, 0, None, a0, in_a), out);
        internal_span(sa, salt, bare(0, 1, Some(0), a0 + 20_000, half(in_a, call_b)), out);
        client_span(sb, ops[1], salt, called(1, bare(0, 2, Some(0), a1, call_b)), out);
        server_span(sb, ops[1], salt, bare(1, 3, Some(2), b0, in_b), out);
        internal_span(sb, salt, bare(1, 4, Some(3), b0 + 20_000, half(in_b, call_c)), out);
        client_span(sc, ops[2], salt, called(2, bare(1, 5, Some(3), b1, call_c)), out);
        server_span(sc, ops[2], salt, bare(2, 6, Some(5), c0, in_c), out);
        internal_span(sc, salt, bare(2, 7, Some(6), c0 + 10_000, half(in_c, query)), out);
        internal_span(sc, salt, bare(2, 8, Some(6), c1 + query, half(in_c, query)), out);
        database_span(sc, ops[2], bare(2, 9, Some(6), c1, query), out);

        let ends = [(a, 0, a0, in_a), (b, 1, b0, in_b), (c, 2, c0, in_c)];
        for (s, i, start, duration) in ends {
            self.request(s, ops[i], at[i], trace, start + duration, duration, failed[i]);
        }
        self.edge(None, Some(a), at[0], at[0], a0 + in_a, (in_a, 0), failed[0]);
        self.edge(Some(a), Some(b), at[0], at[1], a1 + call_b, (call_b, in_b), failed[1]);
        self.edge(Some(b), Some(c), at[1], at[2], b1 + call_c, (call_c, in_c), failed[2]);
        self.edge(Some(c), None, at[2], at[2], c1 + query, (query, 0), false);
        if dice2.below(100) < LOGGED {
            self.log(
                &world.services[c],
                at[2],
                trace,
                ids[6],
                c0 + in_c,
                failed[2],
                number,
                &mut dice2,
            );
        }
    }

    fn span(&mut self, commit: u64, made: &Made<'_>) {
        let resource = &self.world.resources[made.resource];
        let Scratch { operation, peer, digits, .. } = &mut self.scratch;
        let commits = self.open.entry(commit / TOGETHER).or_default();
        commits.spans.push(stamp(commit));
        let mut meaning = Meaning::default();
        for &(key, value) in made.attributes {
            if Meaning::concerns(key.as_bytes()) {
                meaning.see(key.as_bytes(), value);
            }
            match value {
                Value::Text(text) => _ = commits.batch.spans.attributes.pair(key, text),
                other => {
                    digits.clear();
                    _ = other.write_text(digits);
                    commits.batch.spans.attributes.pair(key, digits);
                }
            }
        }
        let status = if made.failed { SpanStatus::Error } else { SpanStatus::Unset };
        digits.clear();
        let code = match meaning.code() {
            Code::Unknown => "",
            Code::Word(word) => word,
            Code::Number(n) => {
                _ = std::fmt::Write::write_fmt(digits, format_args!("{n}"));
                digits
            }
        };
        let operation = meaning.operation(made.name, operation);
        let row = Span {
            start_ns: made.start,
            duration_ns: made.duration,
            trace: made.trace,
            span: SpanId(made.span.to_be_bytes()),
            parent: (made.parent != 0).then(|| SpanId(made.parent.to_be_bytes())),
            service: &resource.service,
            operation,
            name: if operation == made.name { "" } else { made.name },
            kind: made.kind,
            status,
            code,
            error: meaning.is_error(status),
            http_route: meaning.http_route(),
            db_system: meaning.db_system(),
            rpc_method: meaning.rpc_method(),
            peer_service: meaning.peer(made.kind, peer).map_or("", |p| p.name),
            resource: resource.id,
            message: if made.failed { FAILED } else { "" },
            events: "",
            links: "",
        };
        commits.batch.spans.push(&row).expect("a span is a row");
    }

    fn request(
        &mut self,
        service: usize,
        operation: usize,
        resource: usize,
        trace: TraceId,
        end: u64,
        duration: u64,
        failed: bool,
    ) {
        let number = self.commit_of(resource, end);
        let (service, resource) = (&self.world.services[service], &self.world.resources[resource]);
        let bucket = Time(end).align(BUCKET);
        let code = code_of(service.grpc, failed);
        let commits = self.open.entry(number / TOGETHER).or_default();
        let row = commits.red.entry((number, bucket, resource.id, operation, code)).or_insert_with(
            || RedDelta {
                bucket,
                resource: resource.id,
                service: Arc::clone(&resource.service),
                operation: Arc::clone(&service.operations[operation].name),
                kind: SpanKind::Server,
                code: code.to_string().into(),
                protocol: if service.grpc { "grpc".into() } else { "http".into() },
                errors: 0,
                no_answer: 0,
                histogram: Histogram::default(),
                slowest: None,
                error_trace: None,
                sampled: false,
                evidence: Evidence::Otlp,
            },
        );
        row.histogram.record(duration);
        row.errors += u64::from(failed);
        if row.slowest.is_none_or(|(_, ns)| duration >= ns) {
            row.slowest = Some((trace, duration));
        }
        if failed {
            row.error_trace = Some(trace);
        }
    }

    /// `None` as caller: from outside; as callee: the caller's database. Joined when the later of
    /// both ends is committed.
    fn edge(
        &mut self,
        from: Option<usize>,
        to: Option<usize>,
        caller_at: usize,
        callee_at: usize,
        end: u64,
        (duration, callee): (u64, u64),
        failed: bool,
    ) {
        let number = self.commit_of(caller_at, end).max(self.commit_of(callee_at, end));
        let bucket = Time(end).align(BUCKET);
        let services = &self.world.services;
        let key = (number, bucket, from.unwrap_or(usize::MAX), to.unwrap_or(usize::MAX));
        let commits = self.open.entry(number / TOGETHER).or_default();
        let row = commits.edges.entry(key).or_insert_with(|| {
            let node =
                |n: usize| Node { name: Arc::clone(&services[n].name), kind: NodeKind::Service };
            let outside = || Node { name: "external".into(), kind: NodeKind::External };
            let database = |n: usize| Node {
                name: Arc::clone(&services[n].database),
                kind: NodeKind::Database,
            };
            let protocol = match (from, to) {
                (_, Some(to)) if services[to].grpc => "grpc",
                (_, Some(_)) => "http",
                _ => "postgresql",
            };
            EdgeDelta {
                bucket,
                from: from.map_or_else(outside, node),
                to: to.map_or_else(|| database(from.unwrap_or(0)), node),
                protocol: protocol.into(),
                ends: if callee > 0 { EdgeEnds::Both } else { EdgeEnds::One },
                errors: 0,
                no_answer: 0,
                histogram: Histogram::default(),
                callee: Histogram::default(),
                sampled: false,
                evidence: Evidence::Otlp,
                connections: Tally::default(),
            }
        });
        row.histogram.record(duration);
        if callee > 0 {
            row.callee.record(callee);
        }
        row.errors += u64::from(failed);
    }

    fn log(
        &mut self,
        service: &Service,
        resource: usize,
        trace: TraceId,
        span: u64,
        at: u64,
        failed: bool,
        number: u64,
        dice: &mut Dice,
    ) {
        let commit = self.commit_of(resource, at);
        let body = &mut self.scratch.body;
        body.clear();
        let (x, y, z) = (dice.below(10_000_000), dice.below(90_000), dice.below(2_000));
        let text = match (number % RARE, dice.below(4)) {
            (0, _) => format_args!(
                "payment {x} of customer {y} was {NEEDLE} after {z} ms, reference XK-{number}"
            )
            .to_string(),
            (_, 0) => format!(
                "{} of tenant {z} accepted: order {x} with {} items for customer {y}, cache hit, answered in {} ms",
                service.name,
                x % 9,
                z / 3
            ),
            (_, 1) => format!(
                "connection pool {} has {} idle of 64, waited {z} µs for lease {x}; statement cache at {} entries",
                service.database,
                y % 64,
                y
            ),
            (_, 2) => format!(
                "Fetched record {x} revision {z} from replica eu-west-1{} with lag {} ms, 3 fields differ from primary",
                y % 3,
                z / 7
            ),
            _ => format!(
                "user {y} session {x:08x} refreshed by {} policy rule-{}, next expiry in {z} s",
                service.namespace,
                x % 40
            ),
        };
        body.push_str(&text);
        let commits = self.open.entry(commit / TOGETHER).or_default();
        commits.logs.push(stamp(commit));
        let logs = &mut commits.batch.logs;
        logs.attributes.pair("code.function.name", &service.function);
        logs.attributes
            .pair("thread.name", ["worker-1", "worker-2", "worker-3", "main"][(x % 4) as usize]);
        let row = Log {
            time_ns: at,
            service: &service.name,
            severity: if failed { 17 } else { 9 },
            body,
            trace: (x % 2 == 0).then_some(trace),
            span: (x % 2 == 0).then_some(SpanId(span.to_be_bytes())),
            resource: self.world.resources[resource].id,
        };
        logs.push(&row).expect("a log record is a row");
    }

    /// Commits before a number, which nothing is added to any more, and the stamps of their rows.
    pub fn take_before(&mut self, number: u64) -> Vec<(Batch, Stamps)> {
        let later = self.open.split_off(&(number / TOGETHER));
        let taken = std::mem::replace(&mut self.open, later);
        taken.into_values().map(Commits::into_rows).collect()
    }
}

impl Commits {
    fn into_rows(mut self) -> (Batch, Stamps) {
        let (red, rows) = self.red.into_iter().map(|(key, row)| (stamp(key.0), row)).unzip();
        self.batch.red = rows;
        let (edges, rows) = self.edges.into_iter().map(|(key, row)| (stamp(key.0), row)).unzip();
        self.batch.edges = rows;
        let stamps = [
            (Signal::Spans, self.spans),
            (Signal::Logs, self.logs),
            (Signal::Red, red),
            (Signal::Edges, edges),
        ];
        (self.batch, stamps.into())
    }
}

/// Stamps of the rows of each signal.
pub type Stamps = BTreeMap<Signal, Vec<i64>>;

/// Stamp of a commit.
fn stamp(number: u64) -> i64 {
    Time((number + 1) * COMMIT - 1).as_i64()
}

/// The id of the trace with a number.
pub fn trace_id(number: u64) -> TraceId {
    let mut dice = Dice(number.wrapping_add(0x1234_5678_9abc));
    let (hi, lo) = (dice.roll(), dice.roll());
    TraceId((u128::from(hi) << 64 | u128::from(lo)).to_be_bytes())
}
