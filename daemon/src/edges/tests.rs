use std::collections::BTreeMap;
use std::sync::Arc;

use coral_model::connections::Tally;
use coral_model::time::{BUCKET, SECOND, Time};
use coral_model::view::{EdgeEnds, Evidence, NodeKind, SpanKind};
use proptest::prelude::*;

use super::*;
use crate::store::{ConnectionDelta, EdgeDelta, HalfEdge, HalfSeries};

const NOW: u64 = 1_000 * SECOND;

fn half(service: &str, kind: SpanKind, key: u64, peer: &str, peer_kind: NodeKind) -> HalfEdge {
    HalfEdge {
        key,
        series: Arc::new(HalfSeries {
            resource: coral_model::ResourceId(1),
            service: service.into(),
            kind,
            protocol: "http".into(),
            peer: peer.into(),
            peer_kind,
            sampled: false,
            evidence: Evidence::Otlp,
        }),
        end: Time(NOW),
        duration_ns: 1_000 + key,
        error: false,
        no_answer: false,
    }
}

fn client(service: &str, key: u64, peer: &str) -> HalfEdge {
    half(service, SpanKind::Client, key, peer, NodeKind::External)
}

fn server(service: &str, key: u64) -> HalfEdge {
    half(service, SpanKind::Server, key, "", NodeKind::External)
}

fn at(seconds: u64) -> Time {
    Time(NOW + seconds * SECOND)
}

/// `cart▸pay 2/1 1` is two requests, of which the callee measured one, both ends seen.
fn show(edges: &[EdgeDelta]) -> Vec<String> {
    let mut lines: BTreeMap<String, (u64, u64)> = BTreeMap::new();
    for edge in edges {
        let ends = if edge.ends == EdgeEnds::Both { "both" } else { "one" };
        let name = format!("{} ▸ {} {} {ends}", edge.from.name, edge.to.name, edge.to.kind);
        let sums = lines.entry(name).or_default();
        sums.0 += edge.histogram.count();
        sums.1 += edge.callee.count();
    }
    lines.into_iter().map(|(name, (caller, callee))| format!("{name} {caller}/{callee}")).collect()
}

fn joiner() -> Joiner {
    Joiner::new(Limits::default(), 1)
}

#[test]
fn both_ends_make_an_edge_whichever_comes_first() {
    for swapped in [false, true] {
        let mut joiner = joiner();
        let mut ends = [client("cart", 7, "pay:80"), server("pay", 7)];
        if swapped {
            ends.swap(0, 1);
        }
        let [first, second] = ends;
        joiner.offer(first, at(0));
        assert!(joiner.take_edges().is_empty());
        joiner.offer(second, at(1));
        let edges = joiner.take_edges();
        assert_eq!(show(&edges), ["cart ▸ pay service both 1/1"]);
        assert_eq!(edges[0].bucket, Time(NOW).align(BUCKET));
        joiner.expire(at(500));
        assert!(joiner.take_edges().is_empty(), "nothing is counted again when the window ends");
    }
}

#[test]
fn an_end_nobody_meets_becomes_an_edge_with_one_end_after_the_window() {
    let mut joiner = joiner();
    joiner.offer(client("cart", 7, "api.example.com:443"), at(0));
    joiner.offer(server("pay", 8), at(0));
    joiner.expire(at(59));
    assert!(joiner.take_edges().is_empty());
    assert_eq!(joiner.next_expiry(), Some(at(60)));
    joiner.expire(at(60));
    let want = ["cart ▸ api.example.com:443 external one 1/0", "external ▸ pay service one 1/0"];
    assert_eq!(show(&joiner.take_edges()), want);
    assert!(joiner.is_empty());
    // Now the name is known to be outside: no more waiting.
    joiner.offer(client("cart", 9, "api.example.com:443"), at(61));
    assert_eq!(show(&joiner.take_edges()), ["cart ▸ api.example.com:443 external one 1/0"]);
}

#[test]
fn databases_queues_and_parentless_servers_wait_for_nobody() {
    let mut joiner = joiner();
    joiner.offer(half("cart", SpanKind::Client, 5, "postgresql/shop", NodeKind::Database), at(0));
    joiner.offer(half("cart", SpanKind::Producer, 6, "kafka/orders", NodeKind::Queue), at(0));
    joiner.offer(half("mail", SpanKind::Consumer, 6, "", NodeKind::External), at(0));
    joiner.offer(server("gateway", 0), at(0));
    let want = [
        "cart ▸ kafka/orders queue one 1/0",
        "cart ▸ postgresql/shop database one 1/0",
        "external ▸ gateway service one 1/0",
        "kafka/orders ▸ mail service one 1/0",
    ];
    assert_eq!(show(&joiner.take_edges()), want);
}

#[test]
fn a_database_that_the_kernel_sees_waits_for_its_own_end() {
    let seen = |half: HalfEdge| {
        let series = HalfSeries { evidence: Evidence::Ebpf, ..(*half.series).clone() };
        HalfEdge { series: Arc::new(series), ..half }
    };
    let ask = |key| half("cart", SpanKind::Client, key, "redis@10.0.0.7:6379", NodeKind::Database);
    let mut joiner = joiner();
    joiner.offer(seen(ask(5)), at(0));
    joiner.offer(seen(server("redis-server", 5)), at(1));
    assert_eq!(show(&joiner.take_edges()), ["cart ▸ redis-server service both 1/1"]);
    // Where nobody watches the server, the caller's end is all there is.
    let ask = |key| half("cart", SpanKind::Client, key, "redis@10.0.0.8:6379", NodeKind::Database);
    joiner.offer(seen(ask(6)), at(2));
    joiner.expire(at(11));
    assert!(joiner.take_edges().is_empty());
    joiner.expire(at(12));
    let want = ["cart ▸ redis@10.0.0.8:6379 database one 1/0"];
    assert_eq!(show(&joiner.take_edges()), want);
    // That is known now.
    joiner.offer(seen(ask(7)), at(13));
    assert_eq!(show(&joiner.take_edges()), want);
    joiner.expire(at(200));
    assert!(joiner.take_edges().is_empty(), "each is counted once");
}

#[test]
fn a_consumer_that_came_before_its_producer_learns_the_queue() {
    let mut joiner = joiner();
    joiner.offer(half("mail", SpanKind::Consumer, 6, "", NodeKind::External), at(0));
    joiner.offer(half("cart", SpanKind::Producer, 6, "kafka/orders", NodeKind::Queue), at(1));
    let want = ["cart ▸ kafka/orders queue one 1/0", "kafka/orders ▸ mail service one 1/0"];
    assert_eq!(show(&joiner.take_edges()), want);
}

#[test]
fn the_errors_of_a_known_callee_that_hangs_show_at_once() {
    let mut joiner = joiner();
    joiner.offer(client("cart", 1, "pay:80"), at(0));
    joiner.offer(server("pay", 1), at(0));
    joiner.take_edges();
    let timeout = HalfEdge { error: true, no_answer: true, ..client("cart", 2, "pay:80") };
    joiner.offer(timeout, at(1));
    let edges = joiner.take_edges();
    assert_eq!(show(&edges), ["cart ▸ pay service one 1/0"]);
    assert_eq!((edges[0].errors, edges[0].no_answer), (1, 1));
    // The callee finishes after its caller gave up: measured, not counted again.
    joiner.offer(server("pay", 2), at(5));
    let edges = joiner.take_edges();
    assert_eq!(show(&edges), ["cart ▸ pay service both 0/1"]);
    assert_eq!(edges[0].errors, 0);
}

#[test]
fn a_failed_request_to_a_name_nobody_answers_for_shows_within_seconds() {
    let mut joiner = joiner();
    let lost = |key| HalfEdge { error: true, ..client("checkout", key, "paymnets:80") };
    joiner.offer(client("checkout", 1, "cart:80"), at(0));
    joiner.offer(lost(2), at(0));
    assert_eq!(joiner.next_expiry(), Some(at(10)));
    joiner.expire(at(9));
    assert!(joiner.take_edges().is_empty(), "its callee may be about to report");
    joiner.expire(at(10));
    assert_eq!(show(&joiner.take_edges()), ["checkout ▸ paymnets:80 external one 1/0"]);
    // A callee that reports late after all is measured, not counted again.
    joiner.offer(server("pay", 2), at(30));
    assert_eq!(show(&joiner.take_edges()), ["checkout ▸ pay service both 0/1"]);
    joiner.expire(at(200));
    assert_eq!(show(&joiner.take_edges()), ["checkout ▸ cart:80 external one 1/0"]);
}

#[test]
fn a_name_for_two_services_is_a_name_for_none() {
    let mut joiner = joiner();
    for (key, service) in [(1, "pay"), (2, "pay-canary")] {
        joiner.offer(client("cart", key, "pay:80"), at(0));
        joiner.offer(server(service, key), at(0));
    }
    joiner.take_edges();
    joiner.offer(HalfEdge { error: true, ..client("cart", 3, "pay:80") }, at(1));
    assert!(joiner.take_edges().is_empty(), "it waits");
    joiner.expire(at(61));
    assert_eq!(show(&joiner.take_edges()), ["cart ▸ pay:80 external one 1/0"]);
}

#[test]
fn a_full_memory_stops_waiting_early_and_counts() {
    let mut joiner = Joiner::new(Limits { ends: 10, ..Limits::default() }, 1);
    for key in 1..=25 {
        joiner.offer(client("cart", key, ""), at(0));
    }
    assert_eq!((joiner.len(), joiner.take_evicted()), (10, 15));
    assert_eq!(show(&joiner.take_edges()), ["cart ▸ unknown external one 15/0"]);
}

/// So many connections that a service opened to a peer.
fn connections(service: &str, peer: &str, opened: u64) -> ConnectionDelta {
    let half = half(service, SpanKind::Client, 0, peer, NodeKind::External);
    let series = HalfSeries { evidence: Evidence::Ebpf, ..(*half.series).clone() };
    let tally = Tally { opened, ..Tally::default() };
    ConnectionDelta { bucket: Time(NOW).align(BUCKET), series: Arc::new(series), tally }
}

/// `cart▸pay service 3` is three connections opened, no request.
fn opened(edges: &[EdgeDelta]) -> Vec<String> {
    let told = edges.iter().filter(|edge| !edge.connections.is_empty()).map(|edge| {
        assert_eq!((edge.histogram.count(), edge.callee.count(), edge.errors), (0, 0, 0));
        assert_eq!((edge.ends, edge.evidence), (EdgeEnds::One, Evidence::Ebpf));
        let (from, to) = (&edge.from.name, &edge.to);
        format!("{from} ▸ {} {} {}", to.name, to.kind, edge.connections.opened)
    });
    let mut lines: Vec<String> = told.collect();
    lines.sort_unstable();
    lines
}

#[test]
fn connections_to_a_peer_that_is_known_are_told_at_once() {
    let mut joiner = joiner();
    joiner.offer(client("cart", 1, "pay:80"), at(0));
    joiner.offer(server("pay", 1), at(0));
    joiner.offer(client("cart", 2, "api.example.com:443"), at(0));
    joiner.expire(at(60));
    joiner.take_edges();
    joiner.connections(connections("cart", "pay:80", 3), at(61));
    joiner.connections(connections("cart", "pay:80", 2), at(61));
    joiner.connections(connections("cart", "api.example.com:443", 1), at(61));
    joiner.connections(connections("cart", "", 4), at(61));
    joiner.connections(connections("cart", "silent:80", 0), at(61));
    let want = [
        "cart ▸ api.example.com:443 external 1",
        "cart ▸ pay service 5",
        "cart ▸ unknown external 4",
    ];
    assert_eq!(opened(&joiner.take_edges()), want);
    assert_eq!(joiner.next_expiry(), None, "nothing waits, not even for what tells nothing");
}

#[test]
fn connections_to_a_new_peer_wait_until_it_is_known() {
    let mut joiner = joiner();
    joiner.connections(connections("cart", "pay:80", 3), at(0));
    joiner.connections(connections("web", "pay:80", 1), at(0));
    assert!(joiner.take_edges().is_empty());
    assert_eq!(joiner.next_expiry(), Some(at(10)));
    joiner.expire(at(1));
    joiner.offer(client("cart", 7, "pay:80"), at(1));
    joiner.offer(server("pay", 7), at(1));
    let edges = joiner.take_edges();
    assert_eq!(opened(&edges), ["cart ▸ pay service 3"], "web may mean somebody else");
    assert!(show(&edges).contains(&"cart ▸ pay service both 1/1".to_owned()), "{edges:?}");
}

#[test]
fn connections_to_a_peer_that_nobody_explains_are_told_by_its_name() {
    let mut joiner = joiner();
    joiner.connections(connections("cart", "10.0.0.5:6379", 3), at(0));
    joiner.expire(at(9));
    assert!(joiner.take_edges().is_empty());
    joiner.expire(at(10));
    assert_eq!(opened(&joiner.take_edges()), ["cart ▸ 10.0.0.5:6379 external 3"]);
    assert_eq!(joiner.next_expiry(), None);
    // Ten seconds taught nobody who that is.
    joiner.connections(connections("cart", "10.0.0.5:6379", 1), at(11));
    assert_eq!(joiner.next_expiry(), Some(at(21)));
}

#[test]
fn too_many_connections_to_new_peers_are_told_early_and_counted() {
    let mut joiner = Joiner::new(Limits { connections: 2, ..Limits::default() }, 1);
    for peer in ["a:1", "b:1", "c:1", "d:1"] {
        joiner.connections(connections("cart", peer, 1), at(0));
    }
    let want = ["cart ▸ a:1 external 1", "cart ▸ b:1 external 1"];
    assert_eq!(
        (opened(&joiner.take_edges()), joiner.take_evicted()),
        (want.map(str::to_owned).to_vec(), 2)
    );
    joiner.expire(at(10));
    let want = ["cart ▸ c:1 external 1", "cart ▸ d:1 external 1"];
    assert_eq!(opened(&joiner.take_edges()), want);
}

/// What happens: an end arrives in the current commit, or time passes and a commit ends.
#[derive(Debug, Clone)]
enum Step {
    Client(u64, bool),
    Server(u64, bool),
    Commit(u64),
    Restart,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        4 => (1u64..12, any::<bool>()).prop_map(|(key, error)| Step::Client(key, error)),
        4 => (1u64..12, any::<bool>()).prop_map(|(key, other)| Step::Server(key, other)),
        3 => (0u64..50).prop_map(Step::Commit),
        2 => Just(Step::Restart),
    ];
    prop::collection::vec(step, 1..80)
}

/// Runs the steps; `restarts`: rebuild the joiner from what it asked to be kept wherever a step
/// says so, else ignore those steps. Names are unlearnt by a restart, so the limit for them is 0.
fn run(steps: &[Step], restarts: bool) -> Vec<EdgeDelta> {
    let limits = Limits { ends: 8, names: 0, ..Limits::default() };
    let mut joiner = Joiner::new(limits, 1);
    let mut now = at(0);
    let mut edges = Vec::new();
    let mut kept: Vec<(Kept, Time)> = Vec::new();
    joiner.expire(now);
    for step in steps {
        match step {
            Step::Client(key, error) => {
                let end = HalfEdge { error: *error, ..client("cart", *key, "pay:80") };
                joiner.offer(end, now);
            }
            Step::Server(key, other) => {
                joiner.offer(server(if *other { "pay" } else { "pay2" }, *key), now);
            }
            Step::Commit(seconds) => {
                edges.extend(joiner.take_edges());
                kept.extend(joiner.take_kept().into_iter().map(|k| (k, now)));
                now = now.plus(seconds * SECOND + 1);
                joiner.expire(now);
            }
            Step::Restart if restarts => {
                // A crash comes between commits: what the open one did is gone and comes again, so
                // here it is committed first.
                edges.extend(joiner.take_edges());
                kept.extend(joiner.take_kept().into_iter().map(|k| (k, now)));
                let (next, floor) = (joiner.next(), joiner.floor());
                joiner = Joiner::resume(limits, next, floor);
                for (end, stamp) in kept.iter().filter(|(k, _)| k.n >= floor) {
                    joiner.restore(end.clone(), *stamp);
                }
            }
            Step::Restart => {}
        }
    }
    joiner.expire(now.plus(61 * SECOND));
    edges.extend(joiner.take_edges());
    edges
}

/// The same by looking at every pair: what is waiting, and until when.
fn naive(steps: &[Step]) -> (u64, u64) {
    // (key, arrived, met) of callers; (key, arrived) of callees that wait.
    let mut callers: Vec<(u64, Time, bool)> = Vec::new();
    let mut callees: Vec<(u64, Time)> = Vec::new();
    let (mut both, mut one) = (0, 0);
    let mut now = at(0);
    for step in steps {
        match step {
            Step::Client(key, _) => {
                if let Some(place) = callers.iter().position(|c| c.0 == *key) {
                    one += u64::from(!callers.remove(place).2);
                }
                let before = callees.len();
                callees.retain(|c| c.0 != *key);
                let met = u64::try_from(before - callees.len()).unwrap();
                both += met;
                callers.push((*key, now, met > 0));
            }
            Step::Server(key, _) => match callers.iter_mut().find(|c| c.0 == *key) {
                Some(caller) => {
                    caller.2 = true;
                    both += 1;
                }
                None => callees.push((*key, now)),
            },
            Step::Commit(seconds) => {
                now = now.plus(seconds * SECOND + 1);
                let late = |arrived: Time| arrived.plus(60 * SECOND) <= now;
                one += callers.iter().filter(|c| late(c.1) && !c.2).count() as u64;
                one += callees.iter().filter(|c| late(c.1)).count() as u64;
                callers.retain(|c| !late(c.1));
                callees.retain(|c| !late(c.1));
            }
            Step::Restart => {}
        }
    }
    one += callers.iter().filter(|c| !c.2).count() as u64 + callees.len() as u64;
    (both, one)
}

fn by_ends(edges: &[EdgeDelta]) -> (u64, u64) {
    let of = |ends| edges.iter().filter(|e| e.ends == ends).map(|e| e.histogram.count()).sum();
    (of(EdgeEnds::Both), of(EdgeEnds::One))
}

proptest! {
    #[test]
    fn a_restart_at_any_point_changes_nothing(steps in steps()) {
        prop_assert_eq!(show(&run(&steps, true)), show(&run(&steps, false)));
    }

    #[test]
    fn the_join_finds_what_looking_at_every_pair_finds(steps in steps()) {
        let roomy: Vec<_> = steps.into_iter().filter(|s| !matches!(s, Step::Restart)).collect();
        let limits = Limits { names: 0, ..Limits::default() };
        let mut joiner = Joiner::new(limits, 1);
        let mut now = at(0);
        let mut edges = Vec::new();
        for step in &roomy {
            match step {
                Step::Client(key, _) => joiner.offer(client("cart", *key, "pay:80"), now),
                Step::Server(key, _) => joiner.offer(server("pay", *key), now),
                Step::Commit(seconds) => {
                    now = now.plus(seconds * SECOND + 1);
                    joiner.expire(now);
                }
                Step::Restart => {}
            }
        }
        joiner.expire(now.plus(61 * SECOND));
        edges.extend(joiner.take_edges());
        prop_assert_eq!(by_ends(&edges), naive(&roomy));
    }

    #[test]
    fn every_request_is_counted_once_whatever_was_learnt(
        order in prop::collection::vec((1u64..40, any::<bool>(), any::<bool>(), 0u64..40), 1..120),
    ) {
        // Each key has at most one caller and one callee.
        let mut joiner = joiner();
        let mut now = at(0);
        let mut seen = std::collections::BTreeSet::new();
        let (mut callers, mut callees) = (0, 0);
        for (key, caller, error, seconds) in order {
            now = now.plus(seconds * SECOND / 4);
            joiner.expire(now);
            if !seen.insert((key, caller)) {
                continue;
            }
            if caller {
                callers += 1;
                joiner.offer(HalfEdge { error, ..client("cart", key, ["a:1", "b:2"][(key % 2) as usize]) }, now);
            } else {
                callees += 1;
                joiner.offer(server("pay", key), now);
            }
        }
        joiner.expire(now.plus(61 * SECOND));
        let edges = joiner.take_edges();
        let from_cart: u64 = edges.iter().filter(|e| &*e.from.name == "cart").map(|e| e.histogram.count()).sum();
        let alone: u64 = edges.iter().filter(|e| &*e.from.name == "external").map(|e| e.histogram.count()).sum();
        let measured: u64 = edges.iter().map(|e| e.callee.count()).sum();
        prop_assert_eq!(from_cart, callers);
        prop_assert_eq!(measured + alone, callees);
    }
}
