//! Trees, clocks and times of traces.

use std::collections::BTreeMap;

use coral_model::Time;
use coral_model::time::MILLI;
use coral_model::view::{CALLER, Gap};
use proptest::prelude::*;

use super::*;

fn span(id: u64, parent: u64, start: u64, duration: u64) -> Stored {
    Stored {
        resource: 1,
        clock: "h1".to_owned(),
        keep: true,
        row: SpanRow {
            trace_id: TraceId([1; 16]),
            span_id: SpanId(id.to_be_bytes()),
            parent_id: (parent != 0).then(|| SpanId(parent.to_be_bytes())),
            orphan: false,
            depth: 0,
            service: "shop".to_owned(),
            instance: None,
            operation: id.to_string(),
            kind: SpanKind::Server,
            start: Time(1_000_000 + start),
            duration_ns: duration,
            self_ns: 0,
            critical_ns: 0,
            shift_ns: 0,
            gaps: Vec::new(),
            status: SpanStatus::Unset,
            message: None,
            attributes: BTreeMap::new(),
            resource: BTreeMap::new(),
            events: Vec::new(),
            links: Vec::new(),
        },
    }
}

fn order(spans: Vec<Stored>) -> Vec<SpanRow> {
    waterfall(TraceId([1; 16]), spans).map(|(_, rows)| rows).unwrap_or_default()
}

/// `operation@depth`, an orphan marked `?`.
fn shape(spans: Vec<Stored>) -> String {
    let rows = order(spans);
    let text = rows
        .iter()
        .map(|r| format!("{}@{}{}", r.operation, r.depth, if r.orphan { "?" } else { "" }));
    text.collect::<Vec<_>>().join(" ")
}

#[test]
fn depth_first_children_by_start() {
    let spans = vec![span(1, 0, 0, 100), span(2, 1, 10, 5), span(4, 2, 11, 2), span(3, 1, 20, 5)];
    assert_eq!(shape(spans), "1@0 2@1 4@2 3@1");
}

#[test]
fn orphans_cycles_and_repeats_are_placed_once() {
    assert_eq!(shape(vec![span(2, 9, 0, 5), span(3, 2, 1, 2)]), "2@0? 3@1");
    assert_eq!(shape(vec![span(1, 3, 0, 5), span(2, 1, 1, 5), span(3, 2, 2, 5)]), "1@0? 2@1 3@2");
    assert_eq!(shape(vec![span(7, 7, 0, 5)]), "7@0?");
    assert_eq!(shape(vec![span(1, 0, 0, 5), span(1, 0, 0, 5), span(2, 1, 1, 2)]), "1@0 2@1");
    assert_eq!(shape(Vec::new()), "");
    // A root and a cycle beside it.
    assert_eq!(shape(vec![span(5, 6, 0, 1), span(6, 5, 1, 1), span(1, 0, 9, 1)]), "1@0 5@0? 6@1");
}

#[test]
fn both_ends_of_a_call_may_share_an_id() {
    let mut server = span(2, 1, 12, 6);
    server.row.service = "pay".to_owned();
    let mut below = span(3, 2, 13, 2);
    below.row.service = "pay".to_owned();
    let rows = order(vec![span(1, 0, 0, 100), span(2, 1, 10, 10), server, below]);
    let below = rows.iter().position(|r| r.operation == "3").unwrap();
    assert_eq!((rows[below].depth, rows[below - 1].service.as_str()), (2, "pay"));
}

#[test]
fn ends_that_the_kernel_saw_stand_one_below_the_other() {
    let server = |id: u64, parent, start| {
        let mut span = span(id, parent, start, 5);
        span.row.attributes = [(CALLER.to_owned(), SpanId([9; 8]).to_string())].into();
        span.row.operation = "call".to_owned();
        span
    };
    let client = |parent| {
        let mut span = span(u64::from_be_bytes([9; 8]), parent, 0, 50);
        span.row.kind = SpanKind::Client;
        span.row.operation = "call".to_owned();
        span
    };
    // Without a trace of its own, and with one whose caller is elsewhere.
    assert_eq!(shape(vec![client(0), server(2, 0, 10)]), "call@0 call@1");
    assert_eq!(shape(vec![client(7), server(2, 7, 10)]), "call@0? call@1");
    // Whom the request names is there and has called as well.
    assert_eq!(shape(vec![span(7, 0, 0, 90), client(7), server(2, 7, 10)]), "7@0 call@1 call@2");
    assert_eq!(order(vec![client(0), server(2, 0, 10)])[1].parent_id, Some(SpanId([9; 8])));
    // Nobody saw who asks: what the request says stands.
    assert_eq!(shape(vec![span(7, 0, 0, 90), server(2, 7, 10)]), "7@0 call@1");
    assert_eq!(shape(vec![server(2, 0, 10)]), "call@0");
    // What only has that number, or none, is no caller.
    let mut other = client(0);
    other.row.kind = SpanKind::Server;
    assert_eq!(shape(vec![other, server(2, 0, 10)]), "call@0 call@0");
    let mut odd = server(2, 0, 10);
    odd.row.attributes = [(CALLER.to_owned(), "x".to_owned())].into();
    assert_eq!(shape(vec![client(0), odd]), "call@0 call@0");
    // Who was asked something else was not asked by it.
    let mut else_asked = server(2, 7, 10);
    else_asked.row.operation = "something else".to_owned();
    let rows = order(vec![span(7, 0, 0, 90), client(7), else_asked]);
    let told: Vec<_> = rows.iter().map(|r| (r.operation.as_str(), r.depth)).collect();
    assert_eq!(told, [("7", 0), ("call", 1), ("something else", 1)]);
}

#[test]
fn a_chain_of_ten_thousand_needs_no_stack() {
    let spans = (1..=10_000).map(|n| span(n, n - 1, n, 20_000 - n)).collect();
    let rows = order(spans);
    assert_eq!((rows.len(), rows[9_999].depth), (10_000, 9_999));
    assert_eq!(rows[0].self_ns, 1);
}

#[test]
fn self_time_counts_what_no_child_covers() {
    let own = |spans: Vec<Stored>| order(spans)[0].self_ns;
    // Overlapping children cover once; what sticks out does not count.
    assert_eq!(own(vec![span(1, 0, 0, 100), span(2, 1, 10, 30), span(3, 1, 20, 30)]), 60);
    assert_eq!(own(vec![span(1, 0, 0, 100), span(2, 1, 90, 500)]), 90);
    // A child that began after the end covers nothing.
    assert_eq!(own(vec![span(1, 0, 0, 100), span(2, 1, 150, 500)]), 100);
    // Another host's clock is ahead: the child fits and is moved inside.
    let mut skewed = span(2, 1, 5_000, 40);
    skewed.clock = "h2".to_owned();
    assert_eq!(own(vec![span(1, 0, 0, 100), skewed]), 60);
}

proptest! {
    #[test]
    fn every_span_appears_once_whatever_the_parents(edges in prop::collection::vec((1u64..20, 0u64..25, 0u64..50, 0u64..50), 0..40)) {
        let spans: Vec<Stored> = edges.iter().enumerate().map(|(n, &(id, parent, start, d))| {
            let mut s = span(id, parent, start, d);
            s.resource = n as u64;
            s
        }).collect();
        let rows = order(spans.clone());
        prop_assert_eq!(rows.len(), spans.len());
        for row in rows {
            prop_assert!(row.self_ns <= row.duration_ns);
        }
    }
}

/// A span of another host, its clock ahead.
fn on(host: &str, ahead: i64, mut span: Stored) -> Stored {
    span.clock = host.to_owned();
    span.row.start = Time(span.row.start.0.checked_add_signed(ahead).unwrap());
    span
}

#[test]
fn clocks_that_calls_show_to_be_wrong_are_corrected_towards_the_root() {
    let spans = vec![
        span(1, 0, 0, 1_000),
        // The callee's clock is 5,000 ahead; the way takes 100 in either direction.
        on("b", 5_000, span(2, 1, 100, 800)),
        on("b", 5_000, span(3, 2, 200, 100)),
        // And what it calls is 300 behind.
        on("c", -300, span(4, 2, 400, 200)),
    ];
    let (head, rows) = waterfall(TraceId([1; 16]), spans).unwrap();
    let starts: Vec<(&str, u64, i64)> =
        rows.iter().map(|r| (r.operation.as_str(), r.start.0 - 1_000_000, r.shift_ns)).collect();
    // `c` may lie anywhere inside its caller: the middle is 400.
    assert_eq!(starts, [("1", 0, 0), ("2", 100, -5_000), ("3", 200, -5_000), ("4", 400, 300)]);
    let told: Vec<(&str, i64, u64, u64)> =
        head.clocks.iter().map(|c| (c.host.as_str(), c.shift_ns, c.within_ns, c.spans)).collect();
    assert_eq!(told, [("b", -5_000, 100, 2), ("c", 300, 300, 1)]);
    assert!(head.clocks.iter().all(|c| !c.contradictory));
}

#[test]
fn clocks_are_left_alone_where_nothing_shows_them_to_be_wrong() {
    let none = |spans| waterfall(TraceId([1; 16]), spans).unwrap().0.clocks.is_empty();
    // Inside its caller, whatever the offset may be.
    assert!(none(vec![span(1, 0, 0, 100), on("b", 3, span(2, 1, 10, 50))]));
    // One host: a child outside its parent is how it was.
    assert!(none(vec![span(1, 0, 0, 100), span(2, 1, 150, 50)]));
    // A consumer begins whenever it comes to it.
    let mut producer = span(1, 0, 0, 100);
    producer.row.kind = SpanKind::Producer;
    assert!(none(vec![producer, on("b", 0, span(2, 1, 5_000, 50))]));
    // A callee that went on after its caller had given up.
    assert!(none(vec![span(1, 0, 0, 100), on("b", 0, span(2, 1, 50, 500))]));
}

#[test]
fn calls_that_contradict_each_other_are_said_to() {
    let spans = vec![
        span(1, 0, 0, 1_000),
        span(2, 1, 0, 100),
        on("b", 5_000, span(3, 2, 10, 80)),
        span(4, 1, 500, 100),
        on("b", 9_000, span(5, 4, 510, 80)),
        span(6, 1, 800, 100),
        on("b", 9_000, span(7, 6, 810, 80)),
    ];
    let (head, _) = waterfall(TraceId([1; 16]), spans).unwrap();
    assert_eq!((head.clocks[0].shift_ns, head.clocks[0].contradictory), (-9_000, true));
}

#[test]
fn the_critical_path_is_what_was_waited_for() {
    let spans = vec![
        span(1, 0, 0, 100),
        // Two at once: the one that ends last is waited for.
        span(2, 1, 10, 30),
        span(3, 1, 10, 60),
        span(4, 3, 20, 40),
        span(5, 1, 80, 10),
    ];
    let (head, rows) = waterfall(TraceId([1; 16]), spans).unwrap();
    let own: Vec<(&str, u64)> =
        rows.iter().map(|r| (r.operation.as_str(), r.critical_ns)).collect();
    assert_eq!(own, [("1", 30), ("2", 0), ("3", 20), ("4", 40), ("5", 10)]);
    let first = &head.critical[0];
    assert_eq!((first.operation.as_str(), first.share), ("4", 0.4));
    assert_eq!(rows[0].gaps, [Gap { start: Time(1_000_070), duration_ns: 10 }]);
    assert_eq!((rows[0].self_ns, head.duration_ns, head.orphans), (30, 100, 0));
}

/// The critical path as its definition reads, one nanosecond after the other.
fn naive(spans: &[Stored], tree: &tree::Tree, at: usize, from: u64, to: u64, own: &mut [u64]) {
    let mut reached = to;
    loop {
        let best = tree.below[at]
            .iter()
            .map(|&c| {
                let start = spans[c].row.start.0;
                (c, start.max(from), (start + spans[c].row.duration_ns).min(to))
            })
            .filter(|(_, start, end)| start < end && *end <= reached)
            .max_by_key(|(c, start, end)| (*end, u64::MAX - start, usize::MAX - c));
        let Some((child, start, end)) = best else { break };
        own[at] += reached - end;
        naive(spans, tree, child, start, end, own);
        reached = start;
    }
    own[at] += reached - from;
}

proptest! {
    #[test]
    fn the_critical_path_adds_up_to_the_root(
        planned in prop::collection::vec((0usize..20, 0u64..100, 0u64..100), 0..25),
    ) {
        let mut spans = vec![span(1, 0, 0, 100)];
        for (n, (parent, start, duration)) in planned.iter().enumerate() {
            let parent = (parent % spans.len()) as u64 + 1;
            spans.push(span(n as u64 + 2, parent, *start, *duration));
        }
        spans.sort_by_key(|s| (s.row.start, s.row.span_id));
        let tree = tree::grow(&spans);
        let root = root(&spans, &tree).unwrap();
        path::measure(&mut spans, &tree, Some(root));
        let got: Vec<u64> = spans.iter().map(|s| s.row.critical_ns).collect();
        prop_assert_eq!(got.iter().sum::<u64>(), 100);
        let mut want = vec![0; spans.len()];
        naive(&spans, &tree, root, 1_000_000, 1_000_100, &mut want);
        prop_assert_eq!(got, want);
    }

    #[test]
    fn after_the_correction_calls_lie_inside_their_callers(
        planned in prop::collection::vec((0usize..20, 0usize..2, 1u64..40, 1u64..40), 1..25),
        ahead in -50_000i64..50_000,
    ) {
        // A tree of calls that lie inside their callers, on two hosts of which one is off.
        let mut true_spans = vec![(span(1, 0, 0, MILLI), 0usize)];
        for (n, (parent, host, before, after)) in planned.iter().enumerate() {
            let parent = parent % true_spans.len();
            let above = &true_spans[parent].0.row;
            let (start, room) = (above.start.0 - 1_000_000, above.duration_ns);
            let (before, after) = (room * before / 100, room * after / 100);
            let id = above.span_id.0[7];
            true_spans.push((
                span(n as u64 + 2, u64::from(id), start + before, room - before - after),
                *host,
            ));
        }
        let spans: Vec<Stored> = true_spans
            .into_iter()
            .map(|(mut s, host)| {
                s.row.start = s.row.start.plus(MILLI);
                if host == 0 { s } else { on("h2", ahead, s) }
            })
            .collect();
        let mut sorted = spans;
        sorted.sort_by_key(|s| (s.row.start, s.row.span_id));
        let (head, rows) = waterfall(TraceId([1; 16]), sorted).unwrap();
        let by_id: std::collections::HashMap<SpanId, &SpanRow> =
            rows.iter().map(|r| (r.span_id, r)).collect();
        for row in &rows {
            let Some(above) = row.parent_id.and_then(|id| by_id.get(&id)) else { continue };
            prop_assert!(row.start >= above.start, "{row:?}");
            prop_assert!(row.start.plus(row.duration_ns) <= above.start.plus(above.duration_ns));
        }
        prop_assert!(head.clocks.iter().all(|c| !c.contradictory));
    }
}
