//! Stories in simulated time.

use std::sync::Arc;

use coral_model::hist::Histogram;
use coral_model::id::resource_id;
use coral_model::view::{Evidence, SpanKind};

use super::*;
use crate::store::{RedDelta, Resource};

/// A colony under test: batches and ticks at chosen seconds.
#[derive(Default)]
struct Scene {
    detector: Detector,
    events: Vec<EventRow>,
    agents: Vec<AgentRow>,
    own: BTreeMap<String, u64>,
    /// Seconds by which the wall clock is wrong.
    skew: i64,
}

const START: u64 = 1_700_000_000;

fn at(second: u64) -> Time {
    Time((START + second) * SECOND)
}

fn resource(service: &str, version: &str, instance: &str, host: &str) -> Arc<Resource> {
    let some = |s: &str| (!s.is_empty()).then(|| Arc::from(s));
    Arc::new(Resource {
        id: resource_id([("s", service), ("v", version), ("i", instance), ("h", host)]),
        service: Arc::from(service),
        instance: some(instance),
        version: some(version),
        host: some(host),
        ..Resource::default()
    })
}

fn red(service: &Arc<Resource>, second: u64, requests: u64, errors: u64) -> RedDelta {
    let mut histogram = Histogram::default();
    for _ in 0..requests {
        histogram.record(1_000_000);
    }
    RedDelta {
        bucket: at(second).align(coral_model::time::BUCKET),
        resource: service.id,
        service: Arc::clone(&service.service),
        operation: Arc::from("GET /"),
        kind: SpanKind::Server,
        code: Arc::from("200"),
        protocol: Arc::from("http"),
        errors,
        no_answer: 0,
        histogram,
        slowest: None,
        error_trace: None,
        sampled: false,
        evidence: Evidence::Otlp,
    }
}

impl Scene {
    fn batch(&mut self, second: u64, batch: &Batch) {
        self.events.extend(self.detector.observe(batch, at(second)));
    }

    fn saw(&mut self, second: u64, resources: &[&Arc<Resource>]) {
        let resources = resources.iter().map(|r| (r.id, Arc::clone(r))).collect();
        self.batch(second, &Batch { resources, ..Batch::default() });
    }

    fn traffic(&mut self, second: u64, resource: &Arc<Resource>, requests: u64, errors: u64) {
        let mut batch = Batch::default();
        batch.resources.insert(resource.id, Arc::clone(resource));
        batch.red.push(red(resource, second, requests, errors));
        self.batch(second, &batch);
    }

    fn tick(&mut self, second: u64) {
        let wall = Time(at(second).0.saturating_add_signed(self.skew * 1_000_000_000));
        let since = Duration::from_secs(second);
        self.events.extend(self.detector.tick(wall, since, &self.agents, &self.own));
    }

    /// Every second of the range: the resources send, time passes.
    fn run(&mut self, seconds: std::ops::Range<u64>, resources: &[&Arc<Resource>]) {
        for second in seconds {
            self.saw(second, resources);
            self.tick(second);
        }
    }

    fn told(&mut self, kind: EventKind) -> Vec<EventRow> {
        let told = self.events.iter().filter(|e| e.kind == kind).cloned().collect();
        self.events.retain(|e| e.kind != kind);
        told
    }

    #[track_caller]
    fn nothing_else(&self) {
        assert!(self.events.is_empty(), "{:#?}", self.events);
    }
}

#[test]
fn a_service_appears_once() {
    let mut scene = Scene::default();
    let cart = resource("cart", "v1", "a", "web-1");
    scene.run(0..100, &[&cart]);
    let told = scene.told(EventKind::ServiceAppeared);
    assert_eq!(told.len(), 1);
    assert_eq!(told[0].service.as_deref(), Some("cart"));
    assert!(told[0].text.contains("v1"), "{}", told[0].text);
    scene.nothing_else();
}

#[test]
fn a_service_vanishes_when_others_go_on_and_comes_back() {
    let mut scene = Scene::default();
    let (cart, shop) = (resource("cart", "v1", "a", "h"), resource("shop", "v1", "b", "h"));
    scene.run(0..60, &[&cart, &shop]);
    scene.run(60..300, &[&shop]);
    let told = scene.told(EventKind::ServiceVanished);
    assert_eq!(told.len(), 1, "{told:#?}");
    assert_eq!((told[0].service.as_deref(), told[0].time), (Some("cart"), at(59)));
    scene.told(EventKind::ServiceAppeared);
    scene.run(300..310, &[&cart, &shop]);
    let told = scene.told(EventKind::ServiceAppeared);
    assert!(told.len() == 1 && told[0].text.contains("is back"), "{told:#?}");
    scene.nothing_else();
}

#[test]
fn silence_of_everything_is_not_a_vanished_service() {
    let mut scene = Scene::default();
    let cart = resource("cart", "v1", "a", "h");
    scene.run(0..10, &[&cart]);
    scene.run(10..1000, &[]);
    scene.told(EventKind::ServiceAppeared);
    scene.nothing_else();
    // With an agent that reports, silence means something.
    scene.agents.push(agent("web-1", State::Active));
    scene.run(1000..1002, &[]);
    assert_eq!(scene.told(EventKind::ServiceVanished).len(), 1);
}

#[test]
fn requests_in_flight_are_no_sign_of_life() {
    let mut scene = Scene::default();
    let (cart, shop) = (resource("cart", "v1", "a", "h"), resource("shop", "v1", "b", "h"));
    scene.run(0..10, &[&cart, &shop]);
    for second in 10..300 {
        let mut batch = Batch::default();
        for resource in [&cart, &shop] {
            batch.resources.insert(resource.id, Arc::clone(resource));
        }
        batch.red.push(red(&shop, second, 5, 0));
        batch.inflight.push(crate::store::InflightReading {
            at: at(second),
            agent: coral_model::AgentId([1; 16]),
            resource: cart.id,
            service: Arc::clone(&cart.service),
            operation: Arc::from(""),
            count: 3,
            oldest_start: None,
            oldest_trace: None,
            exact: false,
        });
        scene.batch(second, &batch);
        scene.tick(second);
    }
    let told = scene.told(EventKind::ServiceVanished);
    assert_eq!(told.len(), 1, "{told:#?}");
    assert_eq!(told[0].service.as_deref(), Some("cart"));
}

#[test]
fn a_service_that_pauses_by_habit_does_not_vanish_at_every_pause() {
    let mut scene = Scene::default();
    let (job, shop) = (resource("job", "v1", "a", "h"), resource("shop", "v1", "b", "h"));
    for second in 0..3600 {
        if second % 300 == 0 {
            scene.saw(second, &[&job]);
        }
        scene.saw(second, &[&shop]);
        scene.tick(second);
    }
    assert!(scene.told(EventKind::ServiceVanished).len() <= 2);
}

#[test]
fn a_deploy_is_told_with_its_instances_and_its_completion() {
    let mut scene = Scene::default();
    let old: Vec<_> = ["a", "b", "c"].map(|i| resource("pay", "v41", i, i)).into();
    let new: Vec<_> = ["d", "e", "f"].map(|i| resource("pay", "v42", i, i)).into();
    scene.run(0..60, &[&old[0], &old[1], &old[2]]);
    scene.told(EventKind::ServiceAppeared);
    scene.run(60..90, &[&new[0], &old[1], &old[2]]);
    let told = scene.told(EventKind::Deploy);
    assert_eq!(told.len(), 1, "{told:#?}");
    let deploy = &told[0];
    assert_eq!(deploy.time, at(60));
    assert_eq!((&*deploy.attributes["from"], &*deploy.attributes["to"]), ("v41", "v42"));
    scene.run(90..120, &[&new[0], &new[1], &old[2]]);
    scene.run(120..200, &[&new[0], &new[1], &new[2]]);
    let told = scene.told(EventKind::Deploy);
    assert_eq!(told.len(), 1, "{told:#?}");
    assert!(told[0].text.contains("3/3") && told[0].text.contains("complete"), "{}", told[0].text);
    scene.nothing_else();
}

#[test]
fn a_deploy_on_the_same_hosts_is_no_storm_of_restarts() {
    let mut scene = Scene::default();
    let old: Vec<_> =
        (0..4).map(|i| resource("pay", "v1", &format!("o{i}"), &format!("h{i}"))).collect();
    let new: Vec<_> =
        (0..4).map(|i| resource("pay", "v2", &format!("n{i}"), &format!("h{i}"))).collect();
    scene.run(0..30, &old.iter().collect::<Vec<_>>());
    scene.run(30..120, &new.iter().collect::<Vec<_>>());
    assert_eq!(scene.told(EventKind::Deploy).len(), 1);
    assert_eq!(scene.told(EventKind::Restart).len(), 0);
    scene.told(EventKind::ServiceAppeared);
    scene.nothing_else();
}

#[test]
fn a_rollback_is_a_deploy_two_versions_side_by_side_are_none() {
    let mut scene = Scene::default();
    let one = resource("pay", "v1", "a", "h");
    let two = resource("pay", "v2", "b", "h");
    scene.run(0..60, &[&one]);
    scene.run(60..400, &[&two]);
    assert_eq!(scene.told(EventKind::Deploy).len(), 1);
    scene.run(400..500, &[&one]);
    let told = scene.told(EventKind::Deploy);
    assert_eq!(told.len(), 1, "{told:#?}");
    assert_eq!(told[0].attributes["to"], "v1");
    scene.run(500..520, &[&one, &two]);
    scene.told(EventKind::Deploy);
    scene.run(520..2000, &[&one, &two]);
    assert_eq!(scene.told(EventKind::Deploy), []);
}

#[test]
fn a_quick_rollback_is_told_too() {
    let mut scene = Scene::default();
    let [a, b, c] =
        [("v1", "a"), ("v2", "b"), ("v1", "c")].map(|(v, i)| resource("pay", v, i, "h"));
    scene.run(0..60, &[&a]);
    scene.run(60..100, &[&b]);
    let told = scene.told(EventKind::Deploy);
    assert_eq!(told.len(), 1, "{told:#?}");
    assert!(told[0].text.contains("(1/1 instances)"), "{}", told[0].text);
    scene.run(100..160, &[&c]);
    let told = scene.told(EventKind::Deploy);
    assert_eq!(told.len(), 1, "{told:#?}");
    assert_eq!((told[0].time, &*told[0].attributes["to"]), (at(100), "v1"));
    // One more instance of the old version beside a canary is none.
    let [canary, more] = [("v2", "d"), ("v1", "e")].map(|(v, i)| resource("pay", v, i, "k"));
    scene.run(160..400, &[&c, &canary]);
    scene.told(EventKind::Deploy);
    scene.run(400..600, &[&c, &canary, &more]);
    assert_eq!(scene.told(EventKind::Deploy), []);
}

#[test]
fn a_restart_that_an_agent_saw_is_not_told_twice() {
    let mut scene = Scene::default();
    let (a, b) = (resource("pay", "v1", "a", "h"), resource("pay", "v1", "b", "h"));
    scene.run(0..60, &[&a]);
    let seen = event(at(61), EventKind::Restart, "process 1 ended, 2 took its place".into());
    scene.batch(61, &Batch::of_events(vec![seen.service("pay").row]));
    scene.run(62..120, &[&b]);
    assert_eq!(scene.told(EventKind::Restart), []);
}

#[test]
fn a_first_version_is_no_deploy() {
    let mut scene = Scene::default();
    scene.run(0..30, &[&resource("pay", "", "a", "h")]);
    scene.run(30..60, &[&resource("pay", "v1", "b", "h")]);
    assert_eq!(scene.told(EventKind::Deploy), []);
}

#[test]
fn a_replaced_process_is_a_restart_a_new_one_beside_it_is_not() {
    let mut scene = Scene::default();
    let (a, b) = (resource("pay", "v1", "a", "h"), resource("pay", "v1", "b", "h"));
    scene.run(0..60, &[&a]);
    scene.run(60..120, &[&b]);
    let told = scene.told(EventKind::Restart);
    assert_eq!(told.len(), 1, "{told:#?}");
    assert_eq!((told[0].time, told[0].host.as_deref()), (at(60), Some("h")));
    let c = resource("pay", "v1", "c", "h");
    scene.run(120..400, &[&b, &c]);
    assert_eq!(scene.told(EventKind::Restart), []);
    // Scaling down again is no restart either.
    scene.run(400..800, &[&b]);
    assert_eq!(scene.told(EventKind::Restart), []);
    scene.told(EventKind::ServiceAppeared);
    scene.nothing_else();
}

#[test]
fn a_crash_loop_is_folded() {
    let mut scene = Scene::default();
    let lives: Vec<_> = (0..30).map(|n| resource("pay", "v1", &format!("i{n}"), "h")).collect();
    for (n, life) in lives.iter().enumerate() {
        let from = n as u64 * 20;
        scene.run(from..from + 20, &[life]);
    }
    scene.run(600..700, &[&lives[29]]);
    let told = scene.told(EventKind::Restart);
    let count: u64 = told.iter().map(|e| e.attributes["count"].parse::<u64>().unwrap()).sum();
    assert!((25..=29).contains(&count), "{count} of 29");
    assert!(told.len() <= 12, "{} events for {count} restarts", told.len());
    assert!(told.iter().any(|e| e.text.contains('×')), "{told:#?}");
}

#[test]
fn a_restarted_daemon_announces_nothing_that_was_known() {
    let now = at(0);
    let seed = Seed {
        instances: ["a", "b"]
            .map(|i| SeenInstance {
                service: "pay".into(),
                instance: Some(i.into()),
                version: Some("v1".into()),
                host: Some("h".into()),
                pid: None,
                last_seen: now.minus(10 * SECOND),
            })
            .into(),
        buckets: Vec::new(),
        agents: vec![("web-1".into(), now.minus(5 * SECOND))],
    };
    let mut scene = Scene { detector: Detector::with(seed, now), ..Scene::default() };
    scene.agents.push(agent("web-1", State::Stale));
    scene.run(0..5, &[]);
    scene.agents[0].state = State::Active;
    let known = [resource("pay", "v1", "a", "h"), resource("pay", "v1", "b", "h")];
    scene.run(5..100, &[&known[0], &known[1]]);
    scene.nothing_else();
    scene.run(100..120, &[&resource("pay", "v2", "c", "h")]);
    assert_eq!(scene.told(EventKind::Deploy).len(), 1);
}

#[test]
fn late_data_tell_when_it_happened() {
    let mut scene = Scene::default();
    let pay = resource("pay", "v1", "a", "h");
    let mut batch = Batch::default();
    batch.resources.insert(pay.id, Arc::clone(&pay));
    batch.red.push(red(&pay, 0, 5, 0));
    scene.batch(3600, &batch);
    assert_eq!(scene.told(EventKind::ServiceAppeared)[0].time, at(0));
}

#[test]
fn an_error_burst_is_told_once_with_its_numbers() {
    let mut scene = Scene::default();
    let pay = resource("pay", "v1", "a", "h");
    for second in 0..300 {
        scene.traffic(second, &pay, 40, u64::from(second % 50 == 0));
    }
    scene.told(EventKind::ServiceAppeared);
    scene.nothing_else();
    for second in 300..420 {
        scene.traffic(second, &pay, 40, 8);
    }
    let told = scene.told(EventKind::ErrorBurst);
    assert_eq!(told.len(), 1, "{told:#?}");
    let burst = &told[0];
    assert_eq!(burst.attributes["operation"], "GET /");
    assert_eq!(burst.time, at(300), "when the first error of the burst was heard of");
    for second in 420..600 {
        scene.traffic(second, &pay, 40, 0);
    }
    for second in 600..700 {
        scene.traffic(second, &pay, 40, 20);
    }
    assert_eq!(scene.told(EventKind::ErrorBurst).len(), 1, "the next burst is another event");
    scene.nothing_else();
}

#[test]
fn a_burst_under_way_is_not_told_again_by_a_restarted_daemon() {
    let buckets = (0..40).map(|n| SeenBucket {
        service: "pay".into(),
        bucket: at(n * 10),
        requests: 400,
        errors: if n > 37 { 80 } else { 1 },
        told: true,
    });
    let seed = Seed { buckets: buckets.collect(), ..Seed::default() };
    let mut scene = Scene { detector: Detector::with(seed, at(400)), ..Scene::default() };
    let pay = resource("pay", "v1", "a", "h");
    for second in 400..440 {
        scene.traffic(second, &pay, 40, 8);
    }
    assert_eq!(scene.told(EventKind::ErrorBurst), []);
}

#[test]
fn a_service_that_always_fails_a_little_has_no_bursts() {
    let mut scene = Scene::default();
    let pay = resource("pay", "v1", "a", "h");
    // 9 % from the first request on, with the swings of chance (a fixed sequence).
    let mut dice = 12345u64;
    for second in 0..3600 {
        let errors = (0..20).filter(|_| {
            dice = dice.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
            (dice >> 33) % 100 < 9
        });
        let errors = errors.count() as u64;
        scene.traffic(second, &pay, 20, errors);
    }
    scene.told(EventKind::ServiceAppeared);
    scene.nothing_else();
}

#[test]
fn a_handful_of_errors_is_no_burst() {
    let mut scene = Scene::default();
    let pay = resource("pay", "v1", "a", "h");
    for second in 0..600 {
        let errors = u64::from(second % 100 == 0);
        scene.traffic(second, &pay, u64::from(second % 5 == 0), errors);
    }
    scene.told(EventKind::ServiceAppeared);
    scene.nothing_else();
}

fn agent(host: &str, state: State) -> AgentRow {
    let agents = crate::registry::Agents::default();
    let hello = coral_proto::v1::AgentHello {
        protocol: coral_proto::PROTOCOL,
        agent_id: vec![1; 16],
        host: host.into(),
        ..Default::default()
    };
    let peer = crate::registry::Peer { uid: 0, gid: 0, pid: Some(1) };
    agents.connected(&hello, peer, at(0)).unwrap();
    let row = agents.rows(at(0)).remove(0);
    AgentRow { agent: host.into(), state, ..row }
}

use coral_model::view::State;

#[test]
fn agents_come_and_go_but_not_for_a_blink() {
    let mut scene = Scene::default();
    scene.agents.push(agent("web-1", State::Active));
    scene.run(0..10, &[]);
    assert_eq!(scene.told(EventKind::AgentConnected).len(), 1);
    scene.agents[0].state = State::Stale;
    scene.run(10..13, &[]);
    scene.agents[0].state = State::Active;
    scene.run(13..20, &[]);
    scene.nothing_else();
    scene.agents[0].state = State::Stale;
    scene.run(20..60, &[]);
    let told = scene.told(EventKind::AgentLost);
    assert_eq!(told.len(), 1, "{told:#?}");
    assert_eq!(told[0].host.as_deref(), Some("web-1"));
    scene.agents[0].state = State::Active;
    scene.run(60..70, &[]);
    assert_eq!(scene.told(EventKind::AgentConnected).len(), 1);
    scene.nothing_else();
}

#[test]
fn clocks_that_jump_are_told_apart() {
    let mut scene = Scene::default();
    scene.agents.push(agent("web-1", State::Active));
    scene.agents[0].clock_offset_ns = Some(1_000_000);
    scene.run(0..10, &[]);
    scene.told(EventKind::AgentConnected);
    scene.agents[0].clock_offset_ns = Some(40_000_000);
    scene.run(10..20, &[]);
    scene.nothing_else();
    scene.agents[0].clock_offset_ns = Some(-3_000_000_000);
    scene.run(20..30, &[]);
    let told = scene.told(EventKind::ClockJumped);
    assert_eq!(told.len(), 1, "{told:#?}");
    assert!(told[0].text.contains("web-1") && told[0].text.contains('-'), "{}", told[0].text);
    // The colony's own clock: the agent's offset moves the other way in the same second.
    scene.skew = 7200;
    scene.agents[0].clock_offset_ns = Some(-7_203_000_000_000);
    scene.run(30..40, &[]);
    let told = scene.told(EventKind::ClockJumped);
    assert_eq!(told.len(), 1, "{told:#?}");
    assert!(told[0].text.contains("this colony's clock jumped by +2h00m"), "{}", told[0].text);
}

#[test]
fn a_filling_spool_is_told_once_until_it_has_emptied() {
    let mut scene = Scene::default();
    scene.agents.push(agent("web-1", State::Active));
    scene.agents[0].spool_capacity_bytes = 100;
    for (second, used) in [(0, 10), (1, 79), (2, 80), (3, 95), (4, 70), (5, 85)] {
        scene.agents[0].spool_bytes = used;
        scene.tick(second);
    }
    assert_eq!(scene.told(EventKind::NearBound).len(), 1);
    for (second, used) in [(6, 50), (7, 90)] {
        scene.agents[0].spool_bytes = used;
        scene.tick(second);
    }
    assert_eq!(scene.told(EventKind::NearBound).len(), 1);
}

#[test]
fn what_is_turned_away_is_told_and_folded() {
    let mut scene = Scene::default();
    scene.agents.push(agent("web-1", State::Active));
    scene.agents[0].counters.insert("requests_refused_spool".into(), 50);
    scene.agents[0].counters.insert("spans_received".into(), 50);
    scene.run(0..5, &[]);
    scene.told(EventKind::AgentConnected);
    scene.nothing_else();
    for second in 5..105 {
        *scene.agents[0].counters.get_mut("requests_refused_spool").unwrap() += 2;
        *scene.agents[0].counters.get_mut("spans_received").unwrap() += 2;
        scene.tick(second);
    }
    scene.run(105..300, &[]);
    let told = scene.told(EventKind::Dropped);
    let count: u64 = told.iter().map(|e| e.attributes["count"].parse::<u64>().unwrap()).sum();
    assert_eq!(count, 200);
    assert_eq!(told.len(), 3, "{told:#?}");
    scene.nothing_else();
}

#[test]
fn a_full_disk_is_told_before_it_is_full() {
    let mut scene = Scene::default();
    let row = |left: u64| {
        format!(
            r#"{{"host":"db-1","time":"2026-01-01T00:00:00Z","state":"active","cpu":null,"memory":null,
            "pressure":{{}},"disks":[],"filesystems":[{{"mount":"/data","total_bytes":1000,
            "available_bytes":{left},"inodes":0,"inodes_free":0}}],"network":null,"fds":null,
            "clock_synced":null,"cgroup":{{}},"processes":[],"blind":[]}}"#
        )
    };
    for left in [500, 101, 100, 50, 120, 90, 200, 10] {
        scene.detector.hosts.saw(&row(left), at(0), &mut scene.events);
    }
    let told = scene.told(EventKind::NearBound);
    assert_eq!(told.len(), 2, "{told:#?}");
    assert!(told[0].text.contains("/data on db-1"), "{}", told[0].text);
}

proptest::proptest! {
    #![proptest_config(proptest::prelude::ProptestConfig::with_cases(64))]
    /// Whatever arrives in whatever order: no panic, and never more events than causes.
    #[test]
    fn any_sequence_of_sightings_gives_a_bounded_number_of_events(
        steps in proptest::collection::vec((0u64..200, 0u8..3, 0u8..4, 0u8..3, 0u8..2), 1..200),
    ) {
        let mut scene = Scene::default();
        let mut second = 0;
        for (pause, service, instance, version, host) in &steps {
            second += pause;
            let resource = resource(
                &format!("s{service}"), &format!("v{version}"), &format!("i{instance}"), &format!("h{host}"),
            );
            scene.traffic(second, &resource, 10, u64::from(*instance));
            scene.tick(second);
        }
        proptest::prop_assert!(scene.events.len() <= 4 * steps.len());
    }
}
