//! The reducer against a naive model that keeps every span.

use std::collections::BTreeMap;

use coral_model::Histogram;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::{AnyValue, KeyValue, any_value};
use opentelemetry_proto::tonic::resource::v1::Resource as OtlpResource;
use opentelemetry_proto::tonic::trace::v1 as otlp;
use proptest::prelude::*;
use prost::Message as _;

use super::*;

const SECOND: u64 = 1_000_000_000;

#[derive(Debug, Clone)]
struct Simple {
    id: u8,
    parent: u8,
    service: u8,
    kind: i32,
    route: u8,
    code: u16,
    start_s: u64,
    duration_ns: u64,
    state: &'static str,
}

fn text(key: &str, value: String) -> KeyValue {
    let value = Some(any_value::Value::StringValue(value));
    KeyValue { key: key.into(), value: Some(AnyValue { value }), ..Default::default() }
}

fn int(key: &str, value: i64) -> KeyValue {
    let value = Some(any_value::Value::IntValue(value));
    KeyValue { key: key.into(), value: Some(AnyValue { value }), ..Default::default() }
}

fn request(spans: &[Simple]) -> Vec<u8> {
    let one = |s: &Simple| otlp::ResourceSpans {
        resource: Some(OtlpResource {
            attributes: vec![text("service.name", format!("s{}", s.service))],
            ..Default::default()
        }),
        scope_spans: vec![otlp::ScopeSpans {
            spans: vec![otlp::Span {
                trace_id: vec![1; 16],
                span_id: vec![s.id.max(1); 8],
                parent_span_id: if s.parent == 0 { Vec::new() } else { vec![s.parent; 8] },
                kind: s.kind,
                name: "name".into(),
                trace_state: s.state.into(),
                start_time_unix_nano: s.start_s * SECOND,
                end_time_unix_nano: s.start_s * SECOND + s.duration_ns,
                attributes: vec![
                    text("http.request.method", "GET".into()),
                    text("http.route", format!("/r{}", s.route)),
                    int("http.response.status_code", s.code.into()),
                ],
                ..Default::default()
            }],
            ..Default::default()
        }],
        ..Default::default()
    };
    ExportTraceServiceRequest { resource_spans: spans.iter().map(one).collect() }.encode_to_vec()
}

/// (bucket, service, operation, kind, status, sampled)
type Key = (u32, String, String, u32, String, bool);
#[derive(Debug, Default, PartialEq)]
struct Cell {
    hist: Histogram,
    errors: u64,
    no_answer: u64,
    slowest_ns: u64,
}

fn add(cells: &mut BTreeMap<Key, Cell>, message: &v1::Reduced) {
    let string = |at: u32| message.strings[at as usize].clone();
    assert_eq!(message.strings[0], "");
    for row in &message.red {
        let resource = &message.resources[row.resource as usize];
        let service = string(resource.values[0]);
        let key =
            (row.bucket, service, string(row.operation), row.kind, string(row.status), row.sampled);
        let cell = cells.entry(key).or_default();
        for (&index, &n) in row.hist_index.iter().zip(&row.hist_count) {
            cell.hist.add(index as u16, n);
        }
        cell.hist.add_sum(row.sum_ns);
        cell.errors += row.errors;
        cell.no_answer += row.no_answer;
        cell.slowest_ns = cell.slowest_ns.max(row.slowest_ns);
        assert_eq!(row.slowest_trace.len(), 16);
        assert_eq!(row.error_trace.len(), if row.errors > 0 { 16 } else { 0 });
    }
}

fn naive(spans: &[Simple]) -> BTreeMap<Key, Cell> {
    let mut cells: BTreeMap<Key, Cell> = BTreeMap::new();
    for s in spans.iter().filter(|s| s.kind == 2 || s.kind == 5) {
        let bucket = ((s.start_s * SECOND + s.duration_ns) / (10 * SECOND)) as u32;
        let sampled = s.state == "ot=p:2";
        let key = (
            bucket,
            format!("s{}", s.service),
            format!("GET /r{}", s.route),
            s.kind as u32,
            s.code.to_string(),
            sampled,
        );
        let cell = cells.entry(key).or_default();
        let weight = if s.state == "ot=th:8" { 2 } else { 1 };
        for _ in 0..weight {
            cell.hist.record(s.duration_ns);
            cell.errors += u64::from(s.code >= 500 || s.code == 408);
            cell.no_answer += u64::from(s.code == 504 || s.code == 408);
        }
        cell.slowest_ns = cell.slowest_ns.max(s.duration_ns);
    }
    cells
}

fn simple() -> impl Strategy<Value = Simple> {
    (
        (any::<u8>(), any::<u8>(), 0u8..3, 0i32..6, 0u8..4),
        prop::sample::select(vec![200u16, 404, 408, 500, 504]),
        1_000u64..1_030,
        0u64..20 * SECOND,
        prop::sample::select(vec!["", "ot=th:8", "ot=p:2", "x=y"]),
    )
        .prop_map(|((id, parent, service, kind, route), code, start_s, duration_ns, state)| {
            Simple { id, parent, service, kind, route, code, start_s, duration_ns, state }
        })
}

fn reducer() -> Reducer {
    Reducer::new(Limits::default(), Arc::default())
}

fn apply(reducer: &mut Reducer, spans: &[Simple], now_ns: u64) {
    let body = request(spans);
    let mut batch = Batch::default();
    batch.decode(&body).unwrap();
    reducer.apply(&batch, &body, now_ns);
}

proptest! {
    /// However spans are cut into requests and flushes, the sum of what is emitted is what was sent.
    #[test]
    fn nothing_is_lost_or_doubled(
        spans in prop::collection::vec(simple(), 0..60),
        cuts in prop::collection::vec((0usize..60, any::<bool>()), 0..8),
    ) {
        let mut reducer = reducer();
        let mut cells = BTreeMap::new();
        let mut cuts = cuts;
        cuts.sort_unstable();
        let mut from = 0;
        let mut halves = 0;
        let end = (spans.len(), true);
        for (to, flush) in cuts.into_iter().map(|(at, f)| (at.min(spans.len()), f)).chain([end]) {
            apply(&mut reducer, &spans[from..to.max(from)], 1_050 * SECOND);
            from = to.max(from);
            if flush && let Some(taken) = reducer.take(1_050 * SECOND) {
                let message = emit::reduced(taken, 1);
                halves += message.half_edges.as_ref().map_or(0, |h| h.key.len());
                add(&mut cells, &message);
            }
        }
        prop_assert_eq!(cells, naive(&spans));
        let at_edges = spans.iter().filter(|s| (2..=5).contains(&s.kind));
        prop_assert_eq!(halves, at_edges.count());
        prop_assert!(reducer.take(1_050 * SECOND).is_none_or(|t| t.rows.is_empty()));
    }
}

fn server(id: u8, parent: u8) -> Simple {
    Simple {
        id,
        parent,
        service: 1,
        kind: 2,
        route: 0,
        code: 200,
        start_s: 1_000,
        duration_ns: 5,
        state: "",
    }
}

#[test]
fn operations_beyond_the_bound_fold_and_are_counted() {
    let counters = Arc::new(Counters::default());
    let limits = Limits { operations: 2, ..Limits::default() };
    let mut reducer = Reducer::new(limits, counters.clone());
    let spans: Vec<_> = (0..5).map(|route| Simple { route, ..server(route + 1, 0) }).collect();
    apply(&mut reducer, &spans, 1_000 * SECOND);
    let message = emit::reduced(reducer.take(1_000 * SECOND).unwrap(), 1);
    let mut names: Vec<_> =
        message.red.iter().map(|r| message.strings[r.operation as usize].as_str()).collect();
    names.sort_unstable();
    assert_eq!(names, ["GET /r0", "GET /r1", OTHER]);
    assert_eq!(counters.folded_operations.get(), 3);
    let other =
        message.red.iter().find(|r| message.strings[r.operation as usize] == OTHER).unwrap();
    assert_eq!(other.hist_count.iter().sum::<u64>(), 3);
}

#[test]
fn a_reducer_says_when_it_is_full() {
    let limits = Limits { rows: 3, ..Limits::default() };
    let mut reducer = Reducer::new(limits, Arc::default());
    let spans: Vec<_> = (0..3).map(|route| Simple { route, ..server(route + 1, 0) }).collect();
    assert!(!reducer.is_full());
    apply(&mut reducer, &spans, 1_000 * SECOND);
    assert!(reducer.is_full());
    reducer.take(1_000 * SECOND);
    assert!(!reducer.is_full());
}

/// Snapshots of (count, oldest start) taken at a time.
fn inflight(reducer: &mut Reducer, now_s: u64) -> Vec<(u64, u64)> {
    let Some(taken) = reducer.take(now_s * SECOND) else { return Vec::new() };
    let message = emit::reduced(taken, 1);
    message.inflight.iter().map(|i| (i.count, i.oldest_start_ns / SECOND)).collect()
}

#[test]
fn a_child_without_its_parent_is_a_request_in_flight_until_the_parent_comes() {
    let mut reducer = reducer();
    let child = |id, start_s| Simple { kind: 3, start_s, ..server(id, 9) };
    apply(&mut reducer, &[child(1, 995), child(2, 990)], 1_000 * SECOND);
    assert_eq!(inflight(&mut reducer, 1_000), [], "too early to tell");
    assert_eq!(inflight(&mut reducer, 1_002), [(1, 995)], "one request, however many children");
    assert_eq!(inflight(&mut reducer, 1_004), [(1, 995)]);
    apply(&mut reducer, &[server(9, 0)], 1_005 * SECOND);
    assert_eq!(inflight(&mut reducer, 1_006), [(0, 0)], "a final zero");
    assert_eq!(inflight(&mut reducer, 1_008), []);
}

#[test]
fn children_and_parents_in_one_batch_are_nothing_in_flight() {
    let mut reducer = reducer();
    let child = Simple { kind: 1, ..server(1, 9) };
    apply(&mut reducer, &[child.clone(), server(9, 0)], 1_000 * SECOND);
    // And a late child of a parent that has ended.
    apply(&mut reducer, &[Simple { id: 2, ..child }], 1_001 * SECOND);
    assert_eq!(inflight(&mut reducer, 1_010), []);
}

#[test]
fn what_is_never_heard_of_again_is_given_up_and_counted() {
    let counters = Arc::new(Counters::default());
    let limits = Limits { inflight: 2, ..Limits::default() };
    let mut reducer = Reducer::new(limits, counters.clone());
    for parent in [11, 12, 13] {
        apply(&mut reducer, &[Simple { kind: 1, ..server(parent - 10, parent) }], 1_000 * SECOND);
    }
    assert_eq!(counters.inflight_untracked.get(), 1);
    assert_eq!(inflight(&mut reducer, 1_002).len(), 1);
    assert_eq!(inflight(&mut reducer, 2_000), [(0, 0)]);
    assert_eq!(counters.inflight_abandoned.get(), 2);
}

/// A child of a local parent that will not come.
fn orphan(id: u8, parent: u8) -> Simple {
    Simple { kind: 1, ..server(id, parent) }
}

#[test]
fn a_hung_request_of_a_process_whose_parents_arrive_stays_visible() {
    let counters = Arc::new(Counters::default());
    let mut reducer = Reducer::new(Limits::default(), counters.clone());
    apply(&mut reducer, &[orphan(1, 101), server(101, 0)], 990 * SECOND);
    apply(&mut reducer, &[orphan(2, 102)], 1_000 * SECOND);
    for now in (1_002..1_000 + 899).step_by(60) {
        assert_eq!(inflight(&mut reducer, now), [(1, 1_000)], "at {now}");
    }
    assert_eq!(inflight(&mut reducer, 1_902), [(0, 0)], "even that ends");
    assert_eq!(counters.inflight_abandoned.get(), 1);
}

#[test]
fn a_span_lost_while_exports_were_refused_does_not_look_hung() {
    let counters = Arc::new(Counters::default());
    let mut reducer = Reducer::new(Limits::default(), counters.clone());
    apply(&mut reducer, &[orphan(1, 101), server(101, 0)], 990 * SECOND);
    apply(&mut reducer, &[orphan(2, 102)], 1_000 * SECOND);
    assert_eq!(inflight(&mut reducer, 1_002), [(1, 1_000)]);
    counters.requests_refused_spool.add(1);
    assert_eq!(inflight(&mut reducer, 1_004), [(1, 1_000)], "it may come in a later try");
    // Another child: the request is alive, whatever was lost.
    apply(&mut reducer, &[orphan(3, 102)], 1_050 * SECOND);
    assert_eq!(inflight(&mut reducer, 1_100), [(1, 1_000)]);
    assert_eq!(inflight(&mut reducer, 1_111), [(0, 0)]);
    assert_eq!(counters.inflight_abandoned.get(), 1);
}

#[test]
fn parents_that_are_never_exported_are_not_requests_in_flight_for_long() {
    let counters = Arc::new(Counters::default());
    let mut reducer = Reducer::new(Limits::default(), counters.clone());
    let children: Vec<_> = (1..=20).map(|n| orphan(n, 100 + n)).collect();
    apply(&mut reducer, &children[..19], 1_000 * SECOND);
    assert_eq!(inflight(&mut reducer, 1_070), [(1, 1_000)], "nineteen prove nothing");
    apply(&mut reducer, &children[19..], 1_071 * SECOND);
    assert_eq!(inflight(&mut reducer, 1_080), [(1, 1_000)]);
    assert_eq!(inflight(&mut reducer, 1_132), [(0, 0)]);
    assert_eq!(counters.inflight_abandoned.get(), 20);
}

#[test]
fn resources_beyond_the_bound_are_counted_as_unheard() {
    let counters = Arc::new(Counters::default());
    let mut reducer = Reducer::new(Limits::default(), counters.clone());
    let mut inflight = inflight::Inflight::new(8);
    for id in 0..5_000 {
        let resource = Resource { id, attributes: Vec::new() };
        let heard = inflight.heard(&resource, 1_000 * SECOND);
        assert_eq!(heard, id < 4_096);
    }
    // The reducer counts what it is told.
    apply(&mut reducer, &[server(1, 0)], 1_000 * SECOND);
    assert_eq!(counters.inflight_unheard.get(), 0);
}

#[test]
fn names_no_longer_used_make_room() {
    let limits = Limits { operations: 2, ..Limits::default() };
    let mut reducer = Reducer::new(limits, Arc::default());
    let of = |reducer: &mut Reducer, route, now_s| {
        apply(reducer, &[Simple { route, ..server(1, 0) }], now_s * SECOND);
        let message = emit::reduced(reducer.take(now_s * SECOND).unwrap(), 1);
        message.strings[message.red[0].operation as usize].clone()
    };
    for (route, name) in [(1, "GET /r1"), (2, "GET /r2"), (3, OTHER)] {
        assert_eq!(of(&mut reducer, route, 1_000), name);
    }
    assert_eq!(of(&mut reducer, 3, 5_000), OTHER);
    assert_eq!(of(&mut reducer, 3, 5_001), "GET /r3", "begun anew after an hour");
}
