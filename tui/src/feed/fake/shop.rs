//! The services of the shop, how each fares, and how that wobbles over time.

use coral_model::num::{f64_from, u64_from_f64};
use coral_model::time::{MILLI, SECOND, Time, Window};
use coral_model::view::*;

use super::Scenario;

pub(super) const HOSTILE: &str =
    "\x1b[31mred\x1b]0;pwned\x07 \u{202e}txet\u{202c} <b>&amp;</b>\r\n日本語🙂";

pub(super) struct Shape {
    pub(super) name: &'static str,
    pub(super) rate: f64,
    pub(super) errors: f64,
    pub(super) p99_ms: u64,
    pub(super) ratio: f64,
    pub(super) inflight: u64,
    pub(super) oldest_ms: u64,
    pub(super) place: Option<&'static str>,
    pub(super) level: u8,
    pub(super) version: &'static str,
    pub(super) instances: u32,
}

pub(super) const INCIDENT: &[Shape] = &[
    Shape {
        name: "payments",
        rate: 40.2,
        errors: 0.091,
        p99_ms: 2310,
        ratio: 18.0,
        inflight: 214,
        oldest_ms: 31_000,
        place: Some("all hosts, v42"),
        level: 2,
        version: "v42",
        instances: 3,
    },
    Shape {
        name: "checkout",
        rate: 118.0,
        errors: 0.062,
        p99_ms: 2350,
        ratio: 17.0,
        inflight: 230,
        oldest_ms: 31_000,
        place: Some("all"),
        level: 2,
        version: "v17",
        instances: 2,
    },
    Shape {
        name: "gateway",
        rate: 412.6,
        errors: 0.018,
        p99_ms: 2400,
        ratio: 6.2,
        inflight: 241,
        oldest_ms: 31_200,
        place: Some("/checkout"),
        level: 1,
        version: "v108",
        instances: 2,
    },
    Shape {
        name: "catalog",
        rate: 260.4,
        errors: 0.0,
        p99_ms: 14,
        ratio: 1.02,
        inflight: 3,
        oldest_ms: 12,
        place: None,
        level: 0,
        version: "v55",
        instances: 2,
    },
    Shape {
        name: "cache",
        rate: 1_240.0,
        errors: 0.0,
        p99_ms: 2,
        ratio: 0.98,
        inflight: 1,
        oldest_ms: 1,
        place: None,
        level: 0,
        version: "v9",
        instances: 1,
    },
    Shape {
        name: "shipping",
        rate: 0.4,
        errors: 0.0,
        p99_ms: 84,
        ratio: 1.1,
        inflight: 0,
        oldest_ms: 0,
        place: None,
        level: 0,
        version: "v23",
        instances: 1,
    },
];

pub(super) fn shapes(scenario: Scenario) -> Vec<Shape> {
    let calm = |s: &Shape| Shape {
        errors: 0.0,
        p99_ms: u64_from_f64(f64_from(s.p99_ms) / s.ratio.max(1.0)).max(1),
        ratio: 1.0,
        inflight: s.inflight.min(4),
        oldest_ms: s.oldest_ms.min(20),
        place: None,
        level: 0,
        ..*s
    };
    match scenario {
        Scenario::Incident | Scenario::Hostile | Scenario::Large => {
            INCIDENT.iter().map(|s| Shape { ..*s }).collect()
        }
        Scenario::Calm | Scenario::Recovered => INCIDENT.iter().map(calm).collect(),
        Scenario::Empty | Scenario::Blind => Vec::new(),
    }
}

pub(super) fn red(rate: f64, errors: f64, p99_ms: u64, seconds: f64) -> Red {
    let requests = u64_from_f64(rate * seconds);
    Red {
        requests,
        rate,
        errors: u64_from_f64(f64_from(requests) * errors),
        error_ratio: (requests > 0).then_some(errors),
        no_answer: 0,
        mean_ns: Some(p99_ms * MILLI / 4),
        p50_ns: Some(p99_ms * MILLI / 6),
        p90_ns: Some(p99_ms * MILLI / 2),
        p99_ns: Some(p99_ms * MILLI),
        evidence: Evidence::Otlp,
        sampled: false,
    }
}

/// A wobble in 0.85..1.15 that only depends on its arguments.
pub(super) fn wobble(a: u64, b: u64) -> f64 {
    let x = a.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ b.wrapping_mul(0xc2b2_ae3d_27d4_eb4f);
    0.85 + f64_from((x >> 40) % 1000) / 1000.0 * 0.3
}

/// How bad it is at a moment, 0..=1: the trouble begins five minutes before the window's end.
pub(super) fn trouble(at: Time, window: Window) -> f64 {
    let onset = onset(window);
    if at < onset { 0.0 } else { (f64_from(at.since(onset)) / 20e9).min(1.0) }
}

pub(super) fn onset(window: Window) -> Time {
    window.to.minus(266 * SECOND).align(SECOND)
}
