//! A small store in memory, and a live memory to set beside it, for this room's tests.
//!
//! The tables are made by the store's own schema, so a column that changes there fails here.

use coral_model::connections::Tally;
use coral_model::hist::Histogram;
use coral_model::question::View;
use coral_model::time::{BUCKET, SECOND, Time, Window};
use coral_model::view::{AgentRow, EdgeEnds, Evidence, NodeKind, State};
use coral_model::{Question, TraceId};
use duckdb::{Connection, params};

use super::answer::{Answer, Inputs, answer};
use super::cells::Delta;
use super::dense::Buckets;
use super::edges::EdgeDelta;
use super::source::{Recent, StoreOnly};
use super::{QueryError, fetch};
use crate::store::Reading;
use crate::store::schema::{Signal, Slice, create_table, create_view};

/// The moment tests happen at: a noon.
pub const NOW: Time = Time(1_790_078_400 * SECOND);

/// `seconds` before [`NOW`].
pub fn ago(seconds: u64) -> Time {
    NOW.minus(seconds * SECOND)
}

/// The last `seconds` before [`NOW`].
pub fn last(seconds: u64) -> Window {
    Window::before(NOW, seconds * SECOND)
}

/// A histogram of these durations.
pub fn histogram(ns: &[u64]) -> Histogram {
    let mut histogram = Histogram::default();
    ns.iter().for_each(|&n| histogram.record(n));
    histogram
}

/// A RED delta that owns what it says.
#[derive(Debug, Clone)]
pub struct RedRow {
    pub bucket: Time,
    pub resource: u64,
    pub service: String,
    pub operation: String,
    pub kind: u8,
    pub code: String,
    pub errors: u64,
    pub no_answer: u64,
    pub durations: Vec<u64>,
    pub slowest: Option<(TraceId, u64)>,
    pub error: Option<TraceId>,
    pub evidence: Evidence,
}

impl RedRow {
    /// Requests of a service's `GET /` that took these times.
    pub fn new(bucket: Time, resource: u64, service: &str, durations: &[u64]) -> Self {
        Self {
            bucket: bucket.align(BUCKET),
            resource,
            service: service.to_owned(),
            operation: "GET /".to_owned(),
            kind: 2,
            code: "200".to_owned(),
            errors: 0,
            no_answer: 0,
            durations: durations.to_vec(),
            slowest: None,
            error: None,
            evidence: Evidence::Otlp,
        }
    }

    pub fn delta<T>(&self, f: impl FnOnce(&Delta<'_>) -> T) -> T {
        let histogram = histogram(&self.durations);
        f(&Delta {
            bucket: self.bucket,
            width: BUCKET,
            resource: self.resource,
            service: &self.service,
            operation: &self.operation,
            kind: self.kind,
            code: &self.code,
            requests: histogram.count(),
            errors: self.errors,
            no_answer: self.no_answer,
            sum_ns: histogram.sum_ns(),
            durations: Buckets::Pairs(histogram.buckets()),
            slowest: self.slowest,
            error: self.error,
            sampled: false,
            evidence: self.evidence,
        })
    }
}

/// An edge delta that owns what it says.
#[derive(Debug, Clone)]
pub struct EdgeRow {
    pub bucket: Time,
    pub from: (String, NodeKind),
    pub to: (String, NodeKind),
    pub ends: EdgeEnds,
    pub protocol: &'static str,
    pub errors: u64,
    pub no_answer: u64,
    pub durations: Vec<u64>,
    pub evidence: Evidence,
    pub connections: Tally,
}

impl EdgeRow {
    /// Calls between two services.
    pub fn new(bucket: Time, from: &str, to: &str, durations: &[u64]) -> Self {
        Self {
            bucket: bucket.align(BUCKET),
            from: (from.to_owned(), NodeKind::Service),
            to: (to.to_owned(), NodeKind::Service),
            ends: EdgeEnds::Both,
            protocol: "http",
            errors: 0,
            no_answer: 0,
            durations: durations.to_vec(),
            evidence: Evidence::Otlp,
            connections: Tally::default(),
        }
    }

    /// Connections from one service to another, and no request.
    pub fn connections(bucket: Time, from: &str, to: &str, connections: Tally) -> Self {
        let (ends, evidence) = (EdgeEnds::One, Evidence::Ebpf);
        Self { ends, evidence, connections, ..Self::new(bucket, from, to, &[]) }
    }
}

/// Live memory with a cut of the test's choosing.
pub struct Memory {
    pub cut: Time,
    pub red: Vec<RedRow>,
}

impl Recent for Memory {
    fn visit(
        &self,
        windows: &[Window],
        red: &mut dyn FnMut(&Delta<'_>),
        _: &mut dyn FnMut(&EdgeDelta<'_>),
    ) -> Time {
        for row in &self.red {
            if row.bucket >= self.cut && windows.iter().any(|w| w.contains(row.bucket)) {
                row.delta(&mut *red);
            }
        }
        self.cut
    }
}

/// A span to be stored.
#[derive(Debug, Clone)]
pub struct Span {
    pub trace: u128,
    pub id: u64,
    pub parent: u64,
    pub start: Time,
    pub duration_ns: u64,
    pub service: String,
    pub operation: String,
    pub kind: u8,
    pub error: bool,
    pub code: Option<String>,
    pub resource: u64,
    pub attributes: Vec<(String, String)>,
}

impl Span {
    pub fn new(trace: u128, id: u64, parent: u64, start: Time, duration_ns: u64) -> Self {
        Self {
            trace,
            id,
            parent,
            start,
            duration_ns,
            service: "shop".to_owned(),
            operation: "op".to_owned(),
            kind: 2,
            error: false,
            code: None,
            resource: 1,
            attributes: Vec::new(),
        }
    }

    pub fn of(mut self, service: &str, operation: &str) -> Self {
        service.clone_into(&mut self.service);
        operation.clone_into(&mut self.operation);
        self
    }
}

/// A store in memory.
pub struct Fixture {
    pub conn: Connection,
    pub agents: Vec<AgentRow>,
    pub now: Time,
}

/// A list as DuckDB writes it.
fn list<T: ToString>(items: impl Iterator<Item = T>) -> String {
    format!("[{}]", items.map(|i| i.to_string()).collect::<Vec<_>>().join(","))
}

fn quote(text: &str) -> String {
    format!("'{}'", text.replace('\'', "''"))
}

fn map(pairs: &[(String, String)]) -> String {
    let side = |f: fn(&(String, String)) -> &String| list(pairs.iter().map(|p| quote(f(p))));
    format!("map({}::VARCHAR[], {}::VARCHAR[])", side(|p| &p.0), side(|p| &p.1))
}

impl Default for Fixture {
    fn default() -> Self {
        let conn = Connection::open_in_memory().unwrap();
        let slice = Slice::of(NOW);
        for signal in Signal::ALL {
            conn.execute_batch(&create_table(signal, slice)).unwrap();
            let all = format!("SELECT * FROM {}", slice.table(signal));
            conn.execute_batch(&create_view(signal, &all)).unwrap();
        }
        Self { conn, agents: Vec::new(), now: NOW }
    }
}

impl Fixture {
    pub fn run(&self, sql: &str) {
        self.conn.execute_batch(sql).unwrap();
    }

    pub fn table(signal: Signal) -> String {
        Slice::of(NOW).table(signal)
    }

    /// A connected agent that sees everything it can.
    pub fn agent(&mut self, host: &str) {
        self.agents.push(AgentRow {
            agent: format!("{:032x}", self.agents.len() + 1),
            host: host.to_owned(),
            scope: "host".to_owned(),
            state: State::Active,
            since: ago(3600),
            last_seen: self.now,
            pid: 1,
            build: "test".to_owned(),
            senses: Vec::new(),
            spool_bytes: 0,
            spool_capacity_bytes: 1 << 20,
            lag_ns: 0,
            clock_offset_ns: None,
            rss_bytes: None,
            cpu: None,
            counters: std::collections::BTreeMap::new(),
        });
    }

    /// A resource with instance, host and version.
    pub fn resource(&self, id: u64, service: &str, at: [&str; 3], first: Time) {
        let [instance, host, version] = at;
        let attributes = map(&[
            ("service.name".to_owned(), service.to_owned()),
            ("host.name".to_owned(), host.to_owned()),
            ("k8s.pod.name".to_owned(), format!("pod-{id}")),
        ]);
        let table = Self::table(Signal::Resources);
        self.conn
            .execute(
                &format!("INSERT INTO {table} VALUES (?, ?, NULL, ?, ?, ?, 'z1', {attributes}, ?)"),
                params![id, service, instance, version, host, first.as_i64()],
            )
            .unwrap();
    }

    pub fn red(&self, rows: &[RedRow]) {
        let table = Self::table(Signal::Red);
        for chunk in rows.chunks(500) {
            let values: Vec<String> = chunk
                .iter()
                .map(|r| {
                    let h = histogram(&r.durations);
                    let (slow, slow_ns) = r.slowest.unzip();
                    let (slow_hi, slow_lo) = fetch::halves(slow.unwrap_or_default());
                    let (error_hi, error_lo) = fetch::halves(r.error.unwrap_or_default());
                    let code =
                        if r.code.is_empty() { "NULL".to_owned() } else { quote(&r.code) };
                    format!(
                        "({}, 0, {}, {}, {}, {}, {code}, 'http', {}, {}, {}, {}, {}, {}, {slow_hi}, \
                         {slow_lo}, {}, {error_hi}, {error_lo}, false, '{}')",
                        r.bucket.0,
                        r.resource,
                        quote(&r.service),
                        quote(&r.operation),
                        r.kind,
                        h.count(),
                        r.errors,
                        r.no_answer,
                        h.sum_ns(),
                        list(h.buckets().iter().map(|b| b.0)),
                        list(h.buckets().iter().map(|b| b.1)),
                        slow_ns.unwrap_or(0),
                        r.evidence,
                    )
                })
                .collect();
            self.run(&format!("INSERT INTO {table} VALUES {}", values.join(",")));
        }
    }

    pub fn edges(&self, rows: &[EdgeRow]) {
        let table = Self::table(Signal::Edges);
        for chunk in rows.chunks(500) {
            let values: Vec<String> = chunk
                .iter()
                .map(|r| {
                    let h = histogram(&r.durations);
                    let (index, count) = (
                        list(h.buckets().iter().map(|b| b.0)),
                        list(h.buckets().iter().map(|b| b.1)),
                    );
                    format!(
                        "({}, 0, {}, '{}', {}, '{}', '{}', {}, {}, {}, {}, {}, {index}, {count}, \
                         0, {index}, {count}, false, '{}', {}, {}, {}, {}, {}, {}, {}, {}, {}, {}, {})",
                        r.bucket.0,
                        quote(&r.from.0),
                        r.from.1,
                        quote(&r.to.0),
                        r.to.1,
                        r.protocol,
                        if r.ends == EdgeEnds::Both { 2 } else { 1 },
                        h.count(),
                        r.errors,
                        r.no_answer,
                        h.sum_ns(),
                        r.evidence,
                        r.connections.opened,
                        r.connections.failed,
                        r.connections.refused,
                        r.connections.reset,
                        r.connections.retransmits,
                        r.connections.sent_bytes,
                        r.connections.received_bytes,
                        r.connections.rtt_sum_ns,
                        r.connections.rtt_count,
                        r.connections.open_ns,
                        r.connections.busy_ns,
                    )
                })
                .collect();
            self.run(&format!("INSERT INTO {table} VALUES {}", values.join(",")));
        }
    }

    pub fn spans(&self, spans: &[Span]) {
        let table = Self::table(Signal::Spans);
        for chunk in spans.chunks(500) {
            let values: Vec<String> = chunk
                .iter()
                .map(|s| {
                    let (hi, lo) = (s.trace >> 64, s.trace & u128::from(u64::MAX));
                    let code = s.code.as_deref().map_or("NULL".to_owned(), quote);
                    format!(
                        "({}, {}, {}, {hi}, {lo}, {}, {}, {}, {}, {}, {}, {code}, {}, {}, {})",
                        s.start.0,
                        s.duration_ns,
                        s.start.0,
                        s.id,
                        s.parent,
                        quote(&s.service),
                        quote(&s.operation),
                        s.kind,
                        if s.error { 2 } else { 0 },
                        s.error,
                        s.resource,
                        map(&s.attributes),
                    )
                })
                .collect();
            self.run(&format!("INSERT INTO {table} (start_ns, duration_ns, received_ns, trace_hi, trace_lo, span_id, parent_id, service, operation, kind, status, code, error, resource, attributes) VALUES {}", values.join(",")));
        }
    }

    /// Asks, of the store alone.
    pub fn ask(&self, question: &Question) -> Result<Answer, QueryError> {
        self.ask_with(question, &StoreOnly)
    }

    /// Asks, with live memory.
    pub fn ask_with(&self, question: &Question, recent: &dyn Recent) -> Result<Answer, QueryError> {
        answer(&self.inputs(recent), question)
    }

    /// What questions are answered from.
    pub fn inputs<'a>(&'a self, recent: &'a dyn Recent) -> Inputs<'a> {
        Inputs {
            // Tests end before a few bytes matter.
            conn: Box::leak(Box::new(Reading::of_views(&self.conn))),
            recent,
            agents: &self.agents,
            dropped: &|_, signal| if signal == "logs" { 7 } else { 0 },
            now: self.now,
        }
    }
}

/// A question with a filter.
pub fn question(view: View, window: Window, filter: &str) -> Question {
    Question { filter: filter.to_owned(), ..Question::new(view, window) }
}

/// The rows of one kind; what stands at their head is left out.
macro_rules! rows {
    ($answer:expr, $kind:ident) => {
        $answer
            .rows
            .iter()
            .filter(|r| !r.is_head())
            .map(|r| match r {
                coral_model::view::Row::$kind(row) => row.as_ref().clone(),
                other => panic!("a row of another kind: {other:?}"),
            })
            .collect::<Vec<_>>()
    };
}
pub(super) use rows;
