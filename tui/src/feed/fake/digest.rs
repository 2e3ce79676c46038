//! The digest: services, movers, events.

use std::collections::BTreeMap;

use coral_model::num::{f64_from, u64_from_f64};
use coral_model::time::{MILLI, SECOND, Time, Window};
use coral_model::view::*;

use super::Scenario;
use super::shop::{HOSTILE, onset, red, shapes, wobble};

pub(super) fn service_rows(scenario: Scenario, window: Window) -> Vec<ServiceRow> {
    let mut rows: Vec<ServiceRow> = shapes(scenario)
        .iter()
        .enumerate()
        .map(|(n, s)| {
            let seconds = window.seconds();
            ServiceRow {
                service: s.name.into(),
                namespace: Some("shop".into()),
                state: State::Active,
                last_seen: Some(window.to),
                red: Some(red(s.rate, s.errors, s.p99_ms, seconds)),
                baseline: Some(Baseline {
                    window: window.previous(),
                    red: Some(red(
                        s.rate,
                        0.0,
                        u64_from_f64(f64_from(s.p99_ms) / s.ratio),
                        seconds,
                    )),
                    p99_ratio: Some(s.ratio),
                    rate_ratio: Some(1.0),
                    versions: None,
                    shifts: Vec::new(),
                }),
                inflight: Some(s.inflight),
                oldest_ns: (s.oldest_ms > 0).then_some(s.oldest_ms * MILLI),
                inflight_exact: false,
                instances: s.instances,
                versions: vec![s.version.into()],
                hosts: vec!["web-1".into(), "web-2".into()],
                place: s.place.map(Into::into),
                level: s.level,
                spark: (0..30)
                    .map(|i| Some(s.rate * wobble(u64::try_from(n).unwrap_or(0), i)))
                    .collect(),
            }
        })
        .collect();
    if scenario == Scenario::Incident || scenario == Scenario::Hostile {
        let bare = |name: &str, state| ServiceRow {
            service: name.into(),
            namespace: None,
            state,
            last_seen: Some(window.to.minus(34 * SECOND)),
            red: None,
            baseline: None,
            inflight: None,
            oldest_ns: None,
            inflight_exact: false,
            instances: 1,
            versions: vec!["v3".into()],
            hosts: Vec::new(),
            place: None,
            level: 0,
            spark: vec![None; 30],
        };
        rows.push(bare("mailer", State::NoTraffic));
        rows.push(ServiceRow {
            red: Some(red(0.2, 0.0, 40, 60.0)),
            ..bare("reports", State::Stale)
        });
        rows.push(bare("legacy-billing", State::NotObserved));
    }
    if scenario == Scenario::Hostile {
        for row in rows.iter_mut().take(2) {
            row.service = format!("{}{HOSTILE}", row.service);
            row.place = Some(HOSTILE.repeat(9));
        }
    }
    if scenario == Scenario::Large {
        let more: Vec<ServiceRow> = (0..1_000)
            .flat_map(|n| {
                rows.first().map(|row| ServiceRow {
                    service: format!("service-{n:04}"),
                    level: 0,
                    place: None,
                    ..row.clone()
                })
            })
            .collect();
        rows.extend(more);
    }
    rows
}

pub(super) fn event(at: Time, kind: EventKind, service: &str, text: &str) -> EventRow {
    EventRow {
        time: at,
        kind,
        service: (!service.is_empty()).then(|| service.to_owned()),
        host: None,
        text: text.into(),
        source: "spans".into(),
        attributes: BTreeMap::new(),
    }
}

pub(super) fn events(scenario: Scenario, window: Window) -> Vec<EventRow> {
    let at = onset(window);
    match scenario {
        Scenario::Empty | Scenario::Blind => Vec::new(),
        Scenario::Calm => vec![
            event(
                at.minus(340 * SECOND),
                EventKind::Deploy,
                "catalog",
                "v54 → v55, 2 of 2 instances",
            ),
            event(
                at.minus(520 * SECOND),
                EventKind::ServiceAppeared,
                "shipping",
                "seen for the first time",
            ),
            event(
                at.minus(600 * SECOND),
                EventKind::AgentConnected,
                "",
                "agent on web-1 connected",
            ),
        ],
        _ => {
            let mut rows = vec![
                event(
                    at.plus(41 * SECOND),
                    EventKind::Restart,
                    "payments",
                    "instance payments-2 was replaced",
                ),
                event(at.plus(9 * SECOND), EventKind::ErrorBurst, "checkout", "errors 0 → 6.2 %"),
                event(
                    at.plus(4 * SECOND),
                    EventKind::ErrorBurst,
                    "payments",
                    "new log \"pool exhausted\" ×1,204",
                ),
                event(
                    at.minus(3 * SECOND),
                    EventKind::Deploy,
                    "payments",
                    "v41 → v42, 3 of 3 instances",
                ),
                event(at.minus(400 * SECOND), EventKind::Note, "", "load test begins"),
            ];
            if scenario == Scenario::Hostile {
                for row in &mut rows {
                    row.text = format!("{} {HOSTILE}", row.text);
                }
            }
            rows
        }
    }
}

pub(super) fn digest(scenario: Scenario, window: Window) -> DigestRow {
    let calm = scenario == Scenario::Calm;
    let none = matches!(scenario, Scenario::Empty | Scenario::Blind);
    let over = scenario == Scenario::Recovered;
    let at = onset(window);
    let line = |label: &str, text: &str| Line { label: label.into(), text: text.into() };
    let compared_with =
        if calm || none { window.previous() } else { Window::before(at, at.since(window.from)) };
    let mut services = service_rows(scenario, window);
    for baseline in services.iter_mut().filter_map(|row| row.baseline.as_mut()) {
        baseline.window = compared_with;
    }
    DigestRow {
        health: match scenario {
            Scenario::Empty | Scenario::Blind => Health::NoData,
            Scenario::Calm => Health::Calm,
            Scenario::Recovered => Health::Recovered,
            Scenario::Incident | Scenario::Hostile | Scenario::Large => Health::Failing,
        },
        onset: (!none && !calm).then_some(at),
        ended: over.then_some(at.plus(190 * SECOND)),
        suspect: (!none && !calm).then(|| "payments".into()),
        why: if none || calm {
            Vec::new()
        } else if over {
            let utc = |t: Time| t.format(&jiff::tz::TimeZone::UTC, "%H:%M:%S");
            let (from, to) = (utc(at), utc(at.plus(190 * SECOND)));
            vec![
                line("WHY", &format!("payments: p99 ×18 and 9.1 % errors from {from} to {to} UTC")),
                line("now", "payments: in line again for 1m 16s: p99 131ms, errors 0%"),
                line("changed", "deploy payments v41 → v42, 3 s before"),
            ]
        } else {
            vec![
                line(
                    "WHY",
                    &format!(
                        "payments: p99 ×18 and 9.1 % errors since {}",
                        at.format(&jiff::tz::TimeZone::UTC, "%H:%M:%S")
                    ),
                ),
                line("changed", "deploy payments v41 → v42, 3 s before"),
                line("ruled out", "hosts, catalog, cache"),
                line("not seen", "inside postgres; gateway's host"),
            ]
        },
        path: if none || calm {
            Vec::new()
        } else {
            [("gateway", 1), ("checkout", 2), ("payments", 2), ("postgres", 0)]
                .iter()
                .map(|(name, level)| PathStep { name: (*name).into(), level: *level })
                .collect()
        },
        affected: if none || calm { 0 } else { 3 },
        services_known: coral_model::num::u32_sat(services.len()),
        movers: if none {
            Vec::new()
        } else if calm {
            vec![
                Mover {
                    service: "catalog".into(),
                    measure: Change::Rate,
                    now: 260.4,
                    before: Some(212.0),
                    ratio: Some(1.23),
                    since: Some(at),
                    score: 1.2,
                },
                Mover {
                    service: "shipping".into(),
                    measure: Change::P99,
                    now: 84e6,
                    before: Some(71e6),
                    ratio: Some(1.18),
                    since: Some(at.plus(60 * SECOND)),
                    score: 1.1,
                },
            ]
        } else {
            vec![Mover {
                service: "payments".into(),
                measure: Change::P99,
                now: 2_310e6,
                before: Some(128e6),
                ratio: Some(18.0),
                since: Some(at),
                score: 9.0,
            }]
        },
        changes: events(scenario, window),
        compared_with,
        services,
    }
}
