//! What tells the shop's slow requests from the others.

use coral_model::num::{f64_from, u64_from_f64};
use coral_model::view::{DiffRow, DiffSides, Origin, Row, Side};

use super::Scenario;
use super::shop::HOSTILE;

const SELECTED: u64 = 812;
const OTHERS: u64 = 15_204;

type Found = (&'static str, Origin, Option<&'static str>, f64, f64);

const FOUND: [Found; 7] = [
    ("version", Origin::Span, Some("v42"), 0.973, 0.270),
    ("db.pool.wait_ms", Origin::Attribute, Some("1024..2048"), 0.91, 0.004),
    ("status", Origin::Span, Some("503"), 0.66, 0.001),
    ("exception.type", Origin::Event, Some("PoolExhausted"), 0.66, 0.0),
    ("user.tier", Origin::Attribute, Some("free plan"), 0.61, 0.40),
    ("cache.hit", Origin::Attribute, None, 0.58, 0.42),
    ("version", Origin::Span, Some("v41"), 0.027, 0.730),
];

pub(super) fn diff(scenario: Scenario) -> Vec<Row> {
    let quiet = matches!(scenario, Scenario::Empty | Scenario::Blind);
    let (selected, others) = if quiet { (0, 0) } else { (SELECTED, OTHERS) };
    let side = |what: &str, spans| Side { what: what.to_owned(), spans, looked_at: spans };
    let calm = scenario == Scenario::Calm || quiet;
    let nothing = match () {
        () if quiet => "only 0 spans are selected: too few to say what they have in common",
        () => "nothing distinguishes them: no value is clearly more frequent on one side",
    };
    let mut rows = vec![Row::DiffSides(Box::new(DiffSides {
        selected: side("requests that failed or took longer than 250ms", selected),
        baseline: side("all other requests", others),
        slow_ns: (!quiet).then_some(250_000_000),
        tested: if quiet { 0 } else { 214 },
        unique: if quiet { Vec::new() } else { vec!["request.id".to_owned()] },
        nothing: calm.then(|| nothing.to_owned()),
    }))];
    if calm {
        return rows;
    }
    let hostile = scenario == Scenario::Hostile;
    let text = |text: &str| if hostile { format!("{text} {HOSTILE}") } else { text.to_owned() };
    for (i, (attribute, origin, value, these, those)) in FOUND.into_iter().enumerate() {
        rows.push(Row::Diff(Box::new(DiffRow {
            attribute: text(attribute),
            origin,
            value: value.map(text),
            selected: u64_from_f64(f64_from(SELECTED) * these),
            selected_share: these,
            baseline: u64_from_f64(f64_from(OTHERS) * those),
            baseline_share: those,
            score: these - those,
            p_value: 1e-12,
            same_as: if i == 0 { vec![text("res.container.image.tag=42")] } else { Vec::new() },
        })));
    }
    rows
}
