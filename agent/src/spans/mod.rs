//! Spans of requests that the kernel saw, so that programs which export none have traces too. Off, unless
//! a person wants it (`coral-agent --spans on`).
//!
//! Comes in: requests that have ended, each as one of its ends was seen ([`Traced`]). Goes out: an OTLP
//! export with a span for each, which lies in the spool and goes to the colony as an application's does.
//! Nothing is counted of it: the reducer counts requests, all of them, and passes over what is made here,
//! which it knows by its scope ([`SCOPE`]).
//!
//! No span is made of a request whose service exports spans itself, nor of one whose trace is not
//! recorded by who began it; of too many [`quota`] chooses. [`ids`] are those that the other end's agent
//! makes too; [`describe`] has what a span tells, which is what is counted of it anyway. That a server
//! asks others because it was asked itself is not seen, and not guessed.

mod describe;
mod ids;
pub mod quota;

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use coral_model::time::SECOND;
use coral_model::view::SpanStatus;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::InstrumentationScope;
use opentelemetry_proto::tonic::resource::v1::Resource;
use opentelemetry_proto::tonic::trace::v1::{ResourceSpans, ScopeSpans, Span, Status};
use prost::Message as _;
use xxhash_rust::xxh3::xxh3_64;

use crate::counters::Counters;
use crate::observe::requests::conversation::Protocol;
use crate::observe::requests::names::Source;
use crate::observe::requests::traceparent::TraceParent;
use crate::reduce::Seen;
use ids::Ids;
use quota::Quota;

/// The instrumentation scope of every span that is made here, and of no other.
pub const SCOPE: &str = "coral.ebpf";
/// A service of which no span has come for so long exports none any more, ns.
const SILENT_NS: u64 = 900 * SECOND;
/// Services remembered that export spans themselves.
const SERVICES: usize = 4_096;

/// Whether spans are made of requests that the kernel saw.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, clap::ValueEnum)]
pub enum Synthesis {
    /// None
    #[default]
    Off,
    /// Of services that export none themselves, so many a second
    On,
}

/// A request that may become a span.
#[derive(Debug, Clone)]
pub struct Traced<'a> {
    /// As it is counted.
    pub seen: Seen<'a>,
    /// Whose it is.
    pub source: &'a Source,
    /// What was spoken.
    pub protocol: Protocol,
    /// Which trace it belongs to, as it says itself.
    pub parent: TraceParent,
    /// Its key means something on this host alone.
    pub is_local: bool,
}

/// Makes spans.
#[derive(Debug)]
pub struct Maker {
    /// Hash of this host's name.
    host: u64,
    /// Services that export spans themselves, and when that was last noticed, Unix ns.
    exporting: HashMap<String, u64>,
    quota: Quota,
    counters: Arc<Counters>,
}

impl Maker {
    /// For requests of the host of this name.
    #[must_use]
    pub fn new(host: &str, counters: Arc<Counters>) -> Self {
        let (host, exporting) = (xxh3_64(host.as_bytes()), HashMap::new());
        Self { host, exporting, quota: Quota::default(), counters }
    }

    /// Spans of a service have come. To be told at least every [`SILENT_NS`] while they do.
    pub fn heard(&mut self, service: &str, now_ns: u64) {
        if let Some(at) = self.exporting.get_mut(service) {
            *at = now_ns;
            return;
        }
        if self.exporting.len() >= SERVICES {
            self.exporting.retain(|_, at| now_ns.saturating_sub(*at) < SILENT_NS);
        }
        if self.exporting.len() >= SERVICES {
            // Those that go on are soon heard again.
            self.exporting.clear();
        }
        self.exporting.insert(service.to_owned(), now_ns);
    }

    fn is_wanted(&self, request: &Traced<'_>, now_ns: u64) -> bool {
        let heard = self.exporting.get(&request.source.service);
        let exports = heard.is_some_and(|at| now_ns.saturating_sub(*at) < SILENT_NS);
        let recorded = request.parent.sampled || !request.parent.is_there();
        recorded && !exports && !request.source.reports
    }

    /// The spans of these requests, by resource; `None` without any. They are counted by
    /// [`Self::went`], once it is known what became of them.
    pub fn make<'a>(
        &mut self,
        requests: impl Iterator<Item = Traced<'a>>,
        now_ns: u64,
    ) -> Option<ExportTraceServiceRequest> {
        let mut parts: BTreeMap<u64, (&'a [u8], Vec<Span>)> = BTreeMap::new();
        for request in requests {
            if !self.is_wanted(&request, now_ns) {
                continue;
            }
            let ids = Ids::of(&request, self.host);
            if !self.quota.takes(ids.trace, request.seen.failed(), now_ns) {
                self.counters.spans_left_out.add(1);
                continue;
            }
            let (bytes, hash) = request.seen.resource;
            let (_, spans) = parts.entry(hash).or_insert_with(|| (bytes, Vec::new()));
            spans.push(span(&request, &ids));
        }
        let all = parts.into_values().map(|(resource, spans)| part(resource, spans));
        let resource_spans: Vec<ResourceSpans> = all.collect();
        (!resource_spans.is_empty()).then_some(ExportTraceServiceRequest { resource_spans })
    }

    /// What was made is in the spool, or found no room there and is lost.
    pub fn went(&self, export: &ExportTraceServiceRequest, kept: bool) {
        let Counters { spans_made, spans_left_out, .. } = &*self.counters;
        let counter = if kept { spans_made } else { spans_left_out };
        counter.add(count(export));
    }
}

/// How many spans there are.
fn count(export: &ExportTraceServiceRequest) -> u64 {
    let scopes = export.resource_spans.iter().flat_map(|part| &part.scope_spans);
    scopes.map(|scope| scope.spans.len() as u64).sum()
}

fn part(resource: &[u8], spans: Vec<Span>) -> ResourceSpans {
    let scope = InstrumentationScope {
        name: SCOPE.to_owned(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        ..InstrumentationScope::default()
    };
    ResourceSpans {
        // Written by this agent; as its counts have it.
        resource: Some(Resource::decode(resource).unwrap_or_default()),
        scope_spans: vec![ScopeSpans { scope: Some(scope), spans, ..ScopeSpans::default() }],
        ..ResourceSpans::default()
    }
}

fn span(request: &Traced<'_>, ids: &Ids) -> Span {
    let seen = &request.seen;
    let status = seen.failed().then(|| Status {
        code: SpanStatus::Error.to_otlp().into(),
        message: if seen.no_answer() { "no answer".to_owned() } else { String::new() },
    });
    Span {
        trace_id: ids.trace.to_vec(),
        span_id: ids.span.to_vec(),
        parent_span_id: ids.parent.map(|id| id.to_vec()).unwrap_or_default(),
        name: seen.operation.to_owned(),
        kind: seen.kind.to_otlp().into(),
        start_time_unix_nano: seen.start_ns,
        end_time_unix_nano: seen.end_ns,
        attributes: describe::attributes(request, ids.caller),
        status,
        ..Span::default()
    }
}

#[cfg(test)]
mod tests;
