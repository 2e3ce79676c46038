//! The digest of a small shop, calm and with each fault: what a person must be told.

use coral_model::question::View;
use coral_model::time::{BUCKET, MILLI, SECOND, Time};
use coral_model::view::{Change, DigestRow, EdgeEnds, EventKind, Health, NodeKind, State};

use super::fixture::{EdgeRow, Fixture, RedRow, Span, ago, last, question, rows};
use crate::store::schema::Signal;

/// A service of the shop: name, requests per bucket, usual duration.
const SHOP: [(&str, u64, u64); 5] = [
    ("gateway", 400, 30 * MILLI),
    ("checkout", 300, 20 * MILLI),
    ("payments", 200, 10 * MILLI),
    ("cart", 300, 3 * MILLI),
    ("mailer", 20, 50 * MILLI),
];
const CALLS: [(&str, &str, NodeKind); 6] = [
    ("gateway", "checkout", NodeKind::Service),
    ("gateway", "cart", NodeKind::Service),
    ("checkout", "payments", NodeKind::Service),
    ("checkout", "mails", NodeKind::Queue),
    ("payments", "postgres", NodeKind::Database),
    ("cart", "redis", NodeKind::Database),
];

/// What happens to one bucket of one instance (1 or 2) of a service.
type Fault = fn(&str, u64, &mut RedRow);

/// Durations that wobble, the same in every run.
fn durations(n: u64, ns: u64, bucket: u64) -> Vec<u64> {
    (0..n).map(|i| ns + ns * ((i * 7919 + bucket * 104_729) % 100) / 100).collect()
}

/// The shop over the last 45 minutes; the fault begins `since` seconds ago.
fn shop(since: u64, fault: Fault) -> Fixture {
    shop_of(2700, since, fault)
}

/// The shop over the last `age` seconds.
fn shop_of(age: u64, since: u64, fault: Fault) -> Fixture {
    let mut fixture = Fixture::default();
    fixture.agent("web-1");
    let (mut red, mut edges) = (Vec::new(), Vec::new());
    for (n, (service, ..)) in SHOP.iter().enumerate() {
        for instance in 1..=2u64 {
            let id = n as u64 * 10 + instance;
            let host = format!("web-{instance}");
            fixture.resource(
                id,
                service,
                [&format!("{service}-{instance}"), &host, "v41"],
                ago(90_000),
            );
        }
    }
    for bucket in 1..=age / 10 {
        let at = ago(bucket * 10);
        for (n, (service, requests, ns)) in SHOP.iter().enumerate() {
            for instance in 1..=2u64 {
                let id = n as u64 * 10 + instance;
                let mut row = RedRow::new(at, id, service, &durations(requests / 2, *ns, bucket));
                if bucket * 10 <= since {
                    fault(service, instance, &mut row);
                }
                let calls: Vec<_> = CALLS.iter().filter(|c| c.1 == *service).collect();
                for (from, to, _) in calls {
                    let mut edge = EdgeRow::new(at, from, to, &row.durations);
                    edge.errors = row.errors;
                    edges.push(edge);
                }
                for (_, to, kind) in
                    CALLS.iter().filter(|c| c.0 == *service && c.2 != NodeKind::Service)
                {
                    let mut edge =
                        EdgeRow::new(at, service, to, &durations(requests / 2, MILLI, bucket));
                    edge.to.1 = *kind;
                    edge.ends = EdgeEnds::One;
                    edges.push(edge);
                }
                if !row.durations.is_empty() {
                    red.push(row);
                }
            }
        }
    }
    edges.retain(|e| !e.durations.is_empty());
    fixture.red(&red);
    fixture.edges(&edges);
    fixture
}

fn slow(row: &mut RedRow, by: u64) {
    row.durations.iter_mut().for_each(|ns| *ns += by);
}

/// Callers wait for what they call.
fn above(service: &str) -> bool {
    matches!(service, "gateway" | "checkout" | "payments")
}

fn digest(fixture: &Fixture) -> DigestRow {
    let answer = fixture.ask(&question(View::Digest, last(900), "")).unwrap();
    rows!(answer, Digest).remove(0)
}

fn why(digest: &DigestRow, label: &str) -> String {
    let lines = digest.why.iter().filter(|l| l.label == label);
    lines.map(|l| l.text.as_str()).collect::<Vec<_>>().join("\n")
}

fn level(digest: &DigestRow, service: &str) -> u8 {
    digest.services.iter().find(|s| s.service == service).unwrap().level
}

fn path(digest: &DigestRow) -> String {
    let step =
        |s: &coral_model::view::PathStep| format!("{}{}", s.name, "!".repeat(usize::from(s.level)));
    digest.path.iter().map(step).collect::<Vec<_>>().join(" ▸ ")
}

fn event(fixture: &Fixture, at: Time, kind: &str, service: &str, text: &str) {
    let table = Fixture::table(Signal::Events);
    fixture.run(&format!(
        "INSERT INTO {table} VALUES ({}, 0, '{kind}', '{service}', NULL, '{text}', 'spans', map([]::VARCHAR[], []::VARCHAR[]))",
        at.0
    ));
}

#[test]
fn a_calm_shop_is_in_line_and_not_called_healthy() {
    let digest = digest(&shop(0, |_, _, _| {}));
    assert_eq!(digest.health, Health::Calm, "{:#?}", digest.why);
    assert_eq!((digest.affected, digest.services_known), (0, 5));
    assert_eq!((digest.onset, digest.suspect.clone()), (None, None));
    assert!(
        why(&digest, "WHY").contains("5 services with traffic are in line with 11:30–11:45 UTC"),
        "{:?}",
        digest.why
    );
    assert!(!format!("{:?}", digest.why).contains("healthy"));
    assert_eq!(digest.compared_with, last(900).previous());
    let spark = &digest.services[0].spark;
    assert_eq!(spark.len(), 30);
    assert!(spark.iter().all(Option::is_some));
}

#[test]
fn no_data_is_said_to_be_no_data() {
    let mut fixture = Fixture::default();
    let nothing = digest(&fixture);
    assert_eq!(nothing.health, Health::NoData);
    assert!(why(&nothing, "WHY").contains("nothing has arrived"));
    assert!(why(&nothing, "not seen").contains("no agent has ever connected"));
    fixture.agent("web-1");
    assert_eq!(digest(&fixture).health, Health::NoData);
}

#[test]
fn a_window_without_data_is_not_called_calm() {
    let fixture = shop(0, |_, _, _| {});
    let long_ago = coral_model::Window::before(ago(7 * 86_400), 900 * SECOND);
    let answer = fixture.ask(&question(View::Digest, long_ago, "")).unwrap();
    let digest = rows!(answer, Digest).remove(0);
    assert_eq!(digest.health, Health::NoData, "{:#?}", digest.why);
    let text = why(&digest, "WHY");
    assert!(text.contains("no requests between") || text.contains("nothing has arrived"), "{text}");
    assert!(!text.contains("in line"), "{text}");
}

#[test]
fn latency_in_payments_is_found_below_its_callers() {
    let fixture = shop(240, |service, _, row| {
        if above(service) {
            slow(row, 2 * SECOND);
        }
    });
    event(&fixture, ago(247), "deploy", "payments", "deploy v41→v42");
    let digest = digest(&fixture);
    assert_eq!(digest.health, Health::Failing);
    assert_eq!(digest.suspect.as_deref(), Some("payments"));
    assert_eq!(digest.onset, Some(ago(240)));
    assert_eq!(path(&digest), "gateway!! ▸ checkout!! ▸ payments!! ▸ postgres");
    assert_eq!(digest.affected, 3);
    assert_eq!((level(&digest, "cart"), level(&digest, "mailer")), (0, 0));
    let text = why(&digest, "WHY");
    assert!(text.starts_with("payments: p99 2.0"), "{text}");
    assert!(
        text.contains('▲') && text.contains("since 11:56:00 UTC, vs 11:41–11:56 UTC"),
        "{text}"
    );
    assert!(text.contains("alike on all its instances"), "{text}");
    assert!(
        why(&digest, "changed").contains("deploy v41→v42 11:55:53 UTC (payments)"),
        "{:?}",
        digest.why
    );
    assert!(why(&digest, "ruled out").contains("postgres latency (p99"), "{:?}", digest.why);
    assert!(why(&digest, "not seen").contains("inside postgres"), "{:?}", digest.why);
    assert_eq!(digest.movers[0].measure, Change::P99);
    assert!(digest.movers[0].ratio.unwrap() > 10.0);
    assert_eq!(digest.compared_with, coral_model::Window::before(ago(240), 900 * SECOND));
}

#[test]
fn a_fault_of_seconds_shows_within_seconds() {
    let fixture = shop(20, |service, _, row| {
        if above(service) {
            slow(row, 2 * SECOND);
        }
    });
    let digest = digest(&fixture);
    assert_eq!(digest.suspect.as_deref(), Some("payments"));
    assert_eq!(digest.onset, Some(ago(20)));
    // The services view says the same, though its window dilutes it.
    let answer = fixture.ask(&question(View::Services, last(900), "")).unwrap();
    let services = rows!(answer, Service);
    assert_eq!(services.iter().filter(|s| s.level == 2).count(), 3);
}

#[test]
fn a_fault_in_the_first_seconds_of_a_colony_is_found_where_it_is() {
    // A fifth of the first ten seconds there are is slow already.
    let fixture = shop_of(130, 130, |service, _, row| {
        if above(service) {
            let slow = if row.bucket == ago(130) { row.durations.len() / 5 } else { usize::MAX };
            row.durations.iter_mut().take(slow).for_each(|ns| *ns += 900 * MILLI);
        }
    });
    let digest = digest(&fixture);
    assert_eq!((digest.health, digest.suspect.as_deref()), (Health::Failing, Some("payments")));
    assert_eq!(digest.onset, Some(ago(120)));
    assert!(why(&digest, "WHY").contains("p50 9"), "{:?}", digest.why);
    assert_eq!(digest.movers[0].measure, Change::P50);
}

#[test]
fn errors_in_one_version_name_it() {
    let fixture = shop(300, |service, instance, row| {
        if service == "payments" && instance == 2 {
            row.errors = row.durations.len() as u64 / 3;
            row.resource = 99;
        }
        if matches!(service, "checkout" | "gateway") {
            row.errors = row.durations.len() as u64 / 12;
        }
    });
    fixture.resource(99, "payments", ["payments-9", "web-2", "v42"], ago(300));
    let digest = digest(&fixture);
    assert_eq!((digest.health, digest.suspect.as_deref()), (Health::Failing, Some("payments")));
    let payments = digest.services.iter().find(|s| s.service == "payments").unwrap();
    assert_eq!(payments.place.as_deref(), Some("v42"));
    assert_eq!(payments.versions, ["v41", "v42"]);
    let text = why(&digest, "WHY");
    assert!(text.contains("errors 1") && text.contains("% (0%)"), "{text}");
    assert!(text.contains("only version v42"), "{text}");
}

#[test]
fn a_bad_deploy_everywhere_names_its_version() {
    let fixture = shop(300, |service, instance, row| {
        if service == "payments" {
            row.errors = row.durations.len() as u64 / 3;
            row.resource = 90 + instance;
        }
    });
    for instance in 1..=2 {
        let host = format!("web-{instance}");
        fixture.resource(90 + instance, "payments", ["payments-9", &host, "v42"], ago(300));
    }
    let digest = digest(&fixture);
    let payments = digest.services.iter().find(|s| s.service == "payments").unwrap();
    assert_eq!(payments.place.as_deref(), Some("all hosts, v42"));
    assert!(why(&digest, "WHY").contains("all of which run v42"), "{:?}", digest.why);
}

#[test]
fn how_a_young_colony_began_is_not_what_changed() {
    let broken: Fault = |service, _, row| {
        if service == "payments" {
            row.errors = row.durations.len() as u64 / 3;
        }
    };
    let fixture = shop(300, broken);
    event(&fixture, ago(500), "agent_connected", "", "agent on web-1 connected");
    for service in ["payments", "checkout", "gateway"] {
        event(&fixture, ago(480), "service_appeared", service, "seen for the first time");
    }
    // The suspect's own arrival is all there is.
    let alone = digest(&fixture);
    assert_eq!(alone.suspect.as_deref(), Some("payments"));
    assert_eq!(alone.changes.len(), 1, "{:?}", alone.changes);
    assert!(why(&alone, "changed").contains("(payments)"), "{:?}", alone.why);
    event(&fixture, ago(310), "deploy", "payments", "v41 → v42");
    event(&fixture, ago(200), "service_appeared", "mailer", "seen for the first time");
    let told = digest(&fixture);
    let kinds: Vec<_> = told.changes.iter().map(|e| e.kind).collect();
    assert_eq!(kinds, [EventKind::Deploy, EventKind::ServiceAppeared]);
    assert!(why(&told, "changed").starts_with("v41 → v42"), "{:?}", told.why);
}

#[test]
fn hung_requests_look_bad_not_quiet() {
    // Payments answers nothing any more; its callers give up after their time-out.
    let fixture = shop(120, |service, _, row| match service {
        "payments" => row.durations.clear(),
        "checkout" | "gateway" => {
            slow(row, 5 * SECOND);
            row.errors = row.durations.len() as u64 / 2;
            row.no_answer = row.errors;
        }
        _ => {}
    });
    let table = Fixture::table(Signal::Inflight);
    // A few that never end were there before, and an old snapshot counts for nothing now.
    for (at, count) in
        [(700u64, 2u64), (400, 2), (140, 2), (130, 2), (125, 2), (100, 40), (30, 999), (3, 214)]
    {
        fixture.run(&format!(
            "INSERT INTO {table} VALUES ({}, 0, 'a', 21, 'payments', NULL, {count}, {}, 1, 1, false)",
            ago(at).0,
            ago(34).0
        ));
    }
    let digest = digest(&fixture);
    assert_eq!((digest.health, digest.suspect.as_deref()), (Health::Failing, Some("payments")));
    assert_eq!(level(&digest, "payments"), 2);
    let payments = digest.services.iter().find(|s| s.service == "payments").unwrap();
    assert_eq!((payments.inflight, payments.oldest_ns), (Some(214), Some(31 * SECOND)));
    assert!(why(&digest, "WHY").contains("at least 214 in flight, oldest 31s"), "{:?}", digest.why);
    assert!(
        digest.onset.unwrap() >= ago(130) && digest.onset.unwrap() <= ago(110),
        "{:?}",
        digest.onset
    );
}

#[test]
fn a_crashed_service_is_found_by_those_who_call_it() {
    let fixture = shop(120, |service, _, row| match service {
        "payments" => row.durations.clear(),
        "checkout" => row.errors = row.durations.len() as u64 / 2,
        _ => {}
    });
    // Calls to it fail at once; only the caller sees them.
    let edges: Vec<EdgeRow> = (1..=12)
        .map(|n| {
            let mut edge = EdgeRow::new(ago(n * 10), "checkout", "payments", &[MILLI; 100]);
            edge.ends = EdgeEnds::One;
            edge.errors = 100;
            edge
        })
        .collect();
    fixture.edges(&edges);
    let digest = digest(&fixture);
    assert_eq!(digest.suspect.as_deref(), Some("payments"), "{:#?}", digest.why);
    assert!(path(&digest).contains("checkout!! ▸ payments!!"), "{}", path(&digest));
    let payments = digest.services.iter().find(|s| s.service == "payments").unwrap();
    assert_eq!(payments.state, State::NoTraffic);
    assert!(why(&digest, "WHY").contains("no requests"), "{:?}", digest.why);
}

#[test]
fn what_recovered_is_told_as_over() {
    // Slow from ten to eight minutes ago, fine since.
    let fixture = shop(600, |service, _, row| {
        if service == "cart" && row.bucket < ago(480) {
            slow(row, SECOND);
        }
    });
    let over = digest(&fixture);
    assert_eq!((over.health, over.suspect.as_deref()), (Health::Recovered, Some("cart")));
    assert_eq!((over.onset, over.ended), (Some(ago(600)), Some(ago(480))));
    assert_eq!((over.affected, level(&over, "cart")), (1, 0), "it is in line now");
    let text = why(&over, "WHY");
    assert!(text.starts_with("cart: p99 99"), "{text}");
    assert!(text.contains("from 11:50:00 to 11:52:00 UTC, vs 11:35–11:50 UTC"), "{text}");
    let now = why(&over, "now");
    assert!(now.starts_with("cart: in line again for 8m"), "{now}");
    // Services are as they are since, beside what they were before it.
    let cart = over.services.iter().find(|s| s.service == "cart").unwrap();
    assert!(cart.red.as_ref().unwrap().p99_ns.unwrap() < 10 * MILLI, "{cart:?}");
    assert_eq!(cart.baseline.as_ref().unwrap().window, over.compared_with);
    assert_eq!(over.compared_with, coral_model::Window::before(ago(600), 900 * SECOND));
    // Beyond the window nobody asks about it.
    let answer = fixture.ask(&question(View::Digest, last(300), "")).unwrap();
    let later = rows!(answer, Digest).remove(0);
    assert_eq!((later.health, later.ended), (Health::Calm, None), "{:?}", later.why);
}

#[test]
fn who_recovers_first_stays_to_blame_until_all_have() {
    // Payments was slow until a minute ago; those above it still work off what waited.
    let fixture = shop(300, |service, _, row| {
        let healed = service == "payments" && row.bucket >= ago(70);
        if above(service) && !healed {
            slow(row, 2 * SECOND);
        }
    });
    let digest = digest(&fixture);
    assert_eq!((digest.health, digest.suspect.as_deref()), (Health::Failing, Some("payments")));
    assert_eq!((digest.onset, digest.ended), (Some(ago(300)), None));
    assert_eq!((level(&digest, "payments"), level(&digest, "checkout")), (1, 2));
    assert_eq!(path(&digest), "gateway!! ▸ checkout!! ▸ payments!! ▸ postgres");
}

/// Requests of payments, one by one, slow from those on that began then.
fn single(began: Time) -> Vec<Span> {
    let one = |n: u64| {
        let start = ago(260).plus(n * SECOND / 10);
        let slow = if start >= began { 2 * SECOND } else { 0 };
        let id = n + 1;
        Span::new(u128::from(id), id, 0, start, 12 * MILLI + slow).of("payments", "GET /")
    };
    (0..300).map(one).collect()
}

#[test]
fn what_agents_made_themselves_tells_no_onset() {
    let fixture = shop(240, |service, _, row| {
        if above(service) {
            slow(row, 2 * SECOND);
        }
    });
    let mut spans = single(ago(240).plus(7 * SECOND / 2));
    let mark = (coral_model::view::SYNTHETIC.to_owned(), "true".to_owned());
    spans.iter_mut().for_each(|span| span.attributes.push(mark.clone()));
    fixture.spans(&spans);
    assert_eq!(digest(&fixture).onset, Some(ago(240)));
}

#[test]
fn single_requests_tell_the_onset_to_the_second() {
    let fixture = shop(240, |service, _, row| {
        if above(service) {
            slow(row, 2 * SECOND);
        }
    });
    // 3.5 s into the first bucket out of line.
    let began = ago(240).plus(7 * SECOND / 2);
    fixture.spans(&single(began));
    let digest = digest(&fixture);
    assert_eq!(digest.onset, Some(began));
    assert!(why(&digest, "WHY").contains("since 11:56:03 UTC"), "{:?}", digest.why);
}

#[test]
fn a_service_in_trouble_is_compared_with_a_calm_time_and_says_which() {
    // The quarter of an hour before was bad for cart, too.
    let fixture = shop(1500, |service, _, row| {
        if service == "cart" && (row.bucket < ago(1200) || row.bucket >= ago(200)) {
            slow(row, SECOND);
        }
    });
    let answer = fixture.ask(&question(View::Services, last(900), "")).unwrap();
    let services = rows!(answer, Service);
    let of =
        |name: &str| services.iter().find(|s| s.service == name).unwrap().baseline.clone().unwrap();
    let cart = of("cart");
    assert!(cart.red.unwrap().p99_ns.unwrap() < 10 * MILLI);
    assert_eq!(cart.window.to, ago(200), "the time it was learnt from");
    assert!(cart.window.from < ago(1500));
    assert_eq!(of("mailer").window, last(900).previous());
}

#[test]
fn the_topology_shows_everybody_and_their_calls() {
    let fixture = shop(240, |service, _, row| {
        if above(service) {
            slow(row, 2 * SECOND);
        }
    });
    let answer = fixture.ask(&question(View::Topology, last(240), "")).unwrap();
    let (mut nodes, mut edges) = (Vec::new(), Vec::new());
    for row in &answer.rows {
        match row {
            coral_model::view::Row::Node(n) => nodes.push(n.as_ref().clone()),
            coral_model::view::Row::Edge(e) => edges.push(e.as_ref().clone()),
            other => panic!("{other:?}"),
        }
    }
    let mut names: Vec<_> = nodes.iter().map(|n| n.name.as_str()).collect();
    names.sort_unstable();
    assert_eq!(
        names,
        ["cart", "checkout", "gateway", "mailer", "mails", "payments", "postgres", "redis"]
    );
    assert_eq!(edges.len(), CALLS.len());
    let to_payments = edges.iter().find(|e| e.to == "payments").unwrap();
    assert_eq!((to_payments.level, to_payments.ends), (2, EdgeEnds::Both));
    assert_eq!(to_payments.red.requests, 24 * 200);
    let to_redis = edges.iter().find(|e| e.to == "redis").unwrap();
    assert_eq!((to_redis.level, to_redis.to_kind), (0, NodeKind::Database));
    // A filter keeps an edge at either end, and the nodes at its ends.
    let answer = fixture.ask(&question(View::Topology, last(240), "service=cart")).unwrap();
    assert_eq!(answer.rows.len(), 3 + 2);
    let answer = fixture.ask(&question(View::Topology, last(240), "kind=database")).unwrap();
    assert_eq!(answer.rows.len(), 4 + 2);
}

#[test]
fn silence_has_names() {
    let mut fixture = shop(0, |_, _, _| {});
    // Heard of two hours ago; its host's agent is gone.
    fixture.resource(77, "batch", ["b", "old-1", "v1"], ago(90_000));
    fixture.red(&[RedRow::new(ago(7200).align(BUCKET), 77, "batch", &[5; 5])]);
    // Says something, serves nothing.
    fixture.resource(78, "cron", ["c", "web-1", "v1"], ago(500));
    let table = Fixture::table(Signal::Logs);
    fixture.run(&format!(
        "INSERT INTO {table} VALUES ({}, 0, 'cron', 9, 'tick', 0, 0, 0, 78, map([]::VARCHAR[], []::VARCHAR[]))",
        ago(5).0
    ));
    let state = |fixture: &Fixture, name: &str| {
        let answer = fixture.ask(&question(View::Services, last(900), "")).unwrap();
        rows!(answer, Service).into_iter().find(|s| s.service == name).unwrap()
    };
    assert_eq!(state(&fixture, "cart").state, State::Active);
    let cron = state(&fixture, "cron");
    assert_eq!((cron.state, cron.red), (State::NoTraffic, None));
    assert_eq!(state(&fixture, "batch").state, State::NoTraffic);
    fixture.agents[0].state = State::Stale;
    assert_eq!(state(&fixture, "batch").state, State::Stale);
    assert_eq!(state(&fixture, "batch").last_seen, Some(ago(7190)));
}

#[test]
fn an_end_says_what_an_answer_lacks() {
    let mut fixture = shop(0, |_, _, _| {});
    fixture.agent("web-2");
    fixture.agents[1].state = State::Stale;
    fixture.agents[0].senses.push(coral_model::view::Sense {
        name: "ebpf".to_owned(),
        state: coral_model::view::SenseState::Off,
        why: "no\x1b[2J privilege".to_owned(),
        remedy: Some("setcap …".to_owned()),
    });
    let end = fixture.ask(&question(View::Logs, last(900), "")).unwrap().end;
    assert_eq!((end.dropped, end.agents_asked, end.agents_answered), (7, 2, 1));
    assert_eq!((end.resolution_s, end.rows, end.newest), (None, 0, None));
    assert_eq!(end.blind.len(), 2, "{:?}", end.blind);
    assert!(
        end.blind[0].contains("host web-1: ebpf is off: no·[2J privilege (setcap …)"),
        "{:?}",
        end.blind
    );
    assert!(end.blind[1].contains("web-2"));
    // A window that cuts buckets is widened, and the end says so.
    let odd = coral_model::Window::new(ago(905), ago(3));
    let end = fixture.ask(&question(View::Red, odd, "")).unwrap().end;
    assert_eq!((end.from, end.to, end.resolution_s), (ago(910), ago(0), Some(10)));
    assert_eq!((end.dropped, end.newest), (0, Some(ago(0))));
}

#[test]
fn a_service_that_keeps_dying_is_failing_and_says_why_itself() {
    let fixture = shop(0, |_, _, _| {});
    let table = Fixture::table(Signal::Events);
    let died = |service: &str, at: Time, n: u64, how: &str| {
        fixture.run(&format!(
            "INSERT INTO {table} VALUES ({}, 0, 'process_ended', '{service}', NULL, \
             '{service} did not come up {n} times · last said “no price list”', 'agent', \
             map(['count', {how}], ['{n}', 'SIGABRT']))",
            at.0
        ));
    };
    // One that is known by nothing else, one that died once, one that is over.
    let abort = "'signal'";
    for (s, n) in [(70, 1), (35, 4), (5, 5)] {
        died("stock", ago(s), n, abort);
    }
    died("cart", ago(5), 1, abort);
    died("payments", ago(100), 30, abort);
    let digest = digest(&fixture);
    assert_eq!((digest.health, digest.suspect.as_deref()), (Health::Failing, Some("stock")));
    assert_eq!((digest.affected, level(&digest, "stock"), level(&digest, "cart")), (1, 2, 0));
    assert_eq!(digest.onset, Some(ago(70)));
    let why = why(&digest, "WHY");
    let first = "stock: 10 of its processes died (the last died of SIGABRT) since 11:58:50 UTC";
    assert_eq!(why, format!("{first}\nstock: the last said “no price list”"));
}

#[test]
fn events_come_in_order_and_by_filter() {
    let fixture = Fixture::default();
    event(&fixture, ago(50), "deploy", "pay", "deploy v1→v2");
    event(&fixture, ago(90), "restart", "cart", "restarted");
    event(&fixture, ago(20), "something_new", "cart", "from a newer build");
    let ask = |filter: &str, limit| {
        let mut q = question(View::Events, last(900), filter);
        q.limit = limit;
        fixture.ask(&q).unwrap()
    };
    let times =
        |filter: &str| rows!(ask(filter, 10), Event).iter().map(|e| e.time).collect::<Vec<_>>();
    assert_eq!(times(""), [ago(90), ago(50), ago(20)]);
    assert_eq!(times("kind=deploy"), [ago(50)]);
    assert_eq!(times("service=cart not:kind=restart"), [ago(20)]);
    assert_eq!(times("DEPLOY"), [ago(50)]);
    let newest = ask("", 1);
    assert!(newest.end.truncated);
    assert_eq!(rows!(newest, Event)[0].time, ago(20));
}
