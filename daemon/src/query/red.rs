//! `red`: rate, errors, duration of groups of requests.
//!
//! In: RED deltas of both sources. Out: one [`RedRow`] per group, or per group and step. Requests
//! are counted by the bucket they ended in. With a comparison, a group that was there then and is
//! silent now is a row too.

use coral_model::time::{BUCKET, SECOND, Time, Window};
use coral_model::view::{RedRow, Row, State};
use coral_model::{Dimension, Question};
use hashbrown::HashSet;

use super::builds::{self, Pairs};
use super::cells::Cells;
use super::group::{Groups, Key, Sum, baseline, observed_seconds};
use super::plan::Plan;
use super::shift::{self, Side};
use super::{QueryError, filter};

/// A bucket may still grow this long after its end: the slowest way of a record from export to
/// commit in normal operation.
pub const GRACE: u64 = 2 * SECOND;

/// What `red` groups by when not told otherwise.
pub const DEFAULT_BY: [Dimension; 2] = [Dimension::Service, Dimension::Operation];

/// The dimensions a question groups by, each once.
pub fn dimensions(question: &Question) -> Vec<Dimension> {
    if question.by.is_empty() {
        return DEFAULT_BY.to_vec();
    }
    let mut seen = HashSet::new();
    let by = question.by.iter().copied().filter(|d| seen.insert(*d)).collect();
    builds::dimensions(question, by)
}

/// Rows from all deltas of the window and, where asked for, of the window compared with; and
/// whether the limit left any out. The limit keeps the busiest groups; rows come by name.
///
/// # Errors
/// Builds are to be compared, and no service ran two.
pub fn finish(plan: &Plan, cells: &mut Cells) -> Result<(Vec<Row>, bool), QueryError> {
    let by = dimensions(&plan.question);
    let mut selected = filter::select(cells, &plan.filter);
    let step = plan.question.step;
    let room = plan.limit().checked_div(plan.steps()).unwrap_or(1).max(1);
    let windows: Vec<Window> = std::iter::once(plan.window).chain(plan.compare).collect();
    let pairs = match &plan.question.builds {
        Some(builds) => Some(builds::pairs(cells, &selected, plan.window, builds)?),
        None => None,
    };
    let builds = pairs.as_ref().map(|pairs| {
        let sides = pairs.select(cells, &selected);
        selected.clone_from(&sides.to);
        (pairs, sides)
    });
    if let Some(top) = plan.question.top {
        cells.fold(&selected, &windows, &by, top);
    }
    let mut truncated = cells.narrow(&mut selected, &windows, &by, room);
    let now = cells.group(&selected, plan.window, &by, step);
    let before = plan.compare.map(|w| (w, cells.group(&selected, w, &by, step)));
    let builds = builds.map(|(pairs, sides)| {
        (pairs, cells.group(&sides.from, builds::reach(plan.window), &by, None))
    });
    let builds = builds.as_ref().map(|(pairs, groups)| (*pairs, groups));
    let builder = Builder { plan, cells, by: &by, before: before.as_ref(), builds };
    let mut rows: Vec<RedRow> = Vec::new();
    for key in &now.keys {
        builder.group(key, &now, &mut rows);
    }
    // A group that only the other window has is a row of zeros.
    if let Some((_, before)) = &before {
        for key in before.keys.iter().filter(|k| !now.index.contains_key(*k)) {
            builder.group(key, &now, &mut rows);
        }
    }
    rows.sort_by(|a, b| {
        (&a.service, &a.operation, &a.by, a.start).cmp(&(&b.service, &b.operation, &b.by, b.start))
    });
    truncated |= rows.len() > plan.limit();
    rows.truncate(plan.limit());
    shift::settle(rows.iter_mut().filter_map(|row| row.baseline.as_mut()));
    Ok((rows.into_iter().map(|r| Row::Red(Box::new(r))).collect(), truncated))
}

/// A window compared with, and what the group had in it since when.
type Then<'a> = (Window, Option<(&'a Sum, Option<Time>)>);

struct Builder<'a> {
    plan: &'a Plan,
    cells: &'a Cells,
    by: &'a [Dimension],
    before: Option<&'a (Window, Groups)>,
    /// The two builds of services, and groups of the earlier ones.
    builds: Option<(&'a Pairs, &'a Groups)>,
}

impl Builder<'_> {
    /// Rows of one group: one, or one per step from when it was first observed.
    fn group(&self, key: &Key, now: &Groups, rows: &mut Vec<RedRow>) {
        let group = now.index.get(key).copied().unwrap_or(usize::MAX);
        let mut first = now.first.get(group).copied().flatten();
        if let (None, Some((_, before))) = (first, self.before) {
            first = before.index.get(key).and_then(|&g| before.first.get(g).copied().flatten());
        }
        let window = self.plan.window;
        let Some(step) = self.plan.question.step else {
            let sum = now.sums.get(&(group, window.from));
            let other = self.before.map(|(w, groups)| (*w, groups.sum(key, w.from)));
            let mut row = self.row(key, None, window, first, sum, other);
            if let Some((pairs, from)) = self.builds {
                let service = self.by.iter().zip(key).find(|(d, _)| **d == Dimension::Service);
                let versions = service.and_then(|(_, s)| pairs.versions(self.cells, *s));
                row.baseline = Some(builds::compare(self.plan, (from, now), key, versions));
            }
            rows.push(row);
            return;
        };
        // Silence before the first sight of a service is not silence: no row.
        let earliest = now.earliest.get(group).copied().unwrap_or(Time::MAX);
        let seen = first.unwrap_or(earliest).min(earliest);
        let mut start =
            window.from.max(if seen == Time::MAX { window.from } else { seen.align(step) });
        while start < window.to && start <= self.plan.now {
            let bucket = Window::new(start, start.plus(step));
            let sum = now.sums.get(&(group, start));
            let other = self.before.map(|(w, groups)| {
                let at = w.from.plus(start.since(window.from));
                (Window::new(at, at.plus(step)), groups.sum(key, at))
            });
            rows.push(self.row(key, Some(start), bucket, first, sum, other));
            start = start.plus(step);
        }
    }

    fn row(
        &self,
        key: &Key,
        start: Option<Time>,
        window: Window,
        first: Option<Time>,
        sum: Option<&Sum>,
        other: Option<Then<'_>>,
    ) -> RedRow {
        let none = Sum::default();
        let sum = sum.unwrap_or(&none);
        let now = self.plan.now;
        let red = sum.red(observed_seconds(window, first, sum, now));
        let seconds = observed_seconds(window, first, sum, now);
        let baseline = other.map(|(w, before)| {
            let side = before.map(|(s, first)| (s, observed_seconds(w, first, s, now)));
            let mut baseline = baseline(w, &red, side.map(|(s, seconds)| s.red(seconds)));
            // Of buckets there are too many to test each.
            if start.is_none() {
                let then = side.map_or_else(Side::default, |(s, seconds)| Side::of(s, seconds));
                baseline.shifts = shift::shifts(&then, &Side::of(sum, seconds));
            }
            baseline
        });
        let symbols = &self.cells.symbols;
        let mut row = RedRow {
            service: None,
            operation: None,
            by: std::collections::BTreeMap::new(),
            start,
            state: if sum.requests > 0 { State::Active } else { State::NoTraffic },
            red,
            baseline,
            slowest_trace: sum.slowest.map(|(_, id)| id),
            slowest_ns: sum.slowest.map(|(ns, _)| ns),
            error_trace: sum.error.map(|(_, id)| id),
            provisional: window.to.plus(GRACE) > now,
        };
        for (&dimension, &symbol) in self.by.iter().zip(key) {
            let value = symbols.owned(symbol);
            match dimension {
                Dimension::Service => row.service = value,
                Dimension::Operation => row.operation = value,
                other => {
                    row.by.insert(other.word().to_owned(), value);
                }
            }
        }
        row
    }
}

/// Checks what is particular to `red`: the step.
pub fn check_step(step: u64) -> Result<(), QueryError> {
    if step == 0 || !step.is_multiple_of(BUCKET) {
        return Err(QueryError::Question(format!(
            "a step is a multiple of 10 s, the finest time Coral keeps RED in; not {}",
            coral_model::text::duration(step)
        )));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use coral_model::TraceId;
    use coral_model::question::View;
    use coral_model::view::{Evidence, RedRow as Answered};
    use proptest::prelude::*;

    use super::super::fixture::{Fixture, Memory, NOW, RedRow, ago, last, question, rows};
    use super::*;

    const SERVICES: [&str; 3] = ["cart", "pay", "o'dd \\ \"name\""];
    const OPERATIONS: [&str; 2] = ["GET /", "POST /{id}"];
    const CODES: [&str; 3] = ["200", "500", ""];

    /// What a person would count with pencil and paper: one request at a time.
    #[derive(Default, Debug, PartialEq)]
    struct Pencil {
        durations: Vec<u64>,
        errors: u64,
        no_answer: u64,
        slowest: Option<u64>,
    }

    fn any_row() -> impl Strategy<Value = RedRow> {
        let durations = prop::collection::vec(1_000u64..10_000_000_000, 1..8);
        (0u64..90, 0usize..3, 0usize..2, 0usize..3, 0u64..4, durations, 0u64..3).prop_map(
            |(bucket, service, operation, code, instance, durations, errors)| {
                let errors = errors.min(durations.len() as u64);
                let slowest = durations.iter().max().map(|&ns| (TraceId([1; 16]), ns));
                RedRow {
                    operation: OPERATIONS[operation].to_owned(),
                    code: CODES[code].to_owned(),
                    errors,
                    no_answer: errors / 2,
                    slowest,
                    error: (errors > 0).then_some(TraceId([bucket as u8 + 1; 16])),
                    // Four instances per service.
                    ..RedRow::new(
                        ago(900 - bucket * 10),
                        service as u64 * 4 + instance,
                        SERVICES[service],
                        &durations,
                    )
                }
            },
        )
    }

    /// A filter and what it means to a pencil.
    type Meaning = fn(&RedRow) -> bool;
    const FILTERS: [(&str, Meaning); 7] = [
        ("", |_| true),
        ("service=cart", |r| r.service == "cart"),
        ("not:service=cart status=200", |r| r.service != "cart" && r.code == "200"),
        ("status=500..", |r| r.code == "500"),
        ("operation='GET /' or service=pay", |r| r.operation == "GET /" || r.service == "pay"),
        ("host=h0,h1", |r| r.resource % 2 < 2),
        ("res.k8s.pod.name=pod-5", |r| r.resource == 5),
    ];

    fn fixture(stored: &[RedRow]) -> Fixture {
        let fixture = Fixture::default();
        for (n, service) in SERVICES.iter().enumerate() {
            for instance in 0..4 {
                let id = n as u64 * 4 + instance;
                let host = format!("h{}", id % 2);
                fixture.resource(id, service, [&format!("i{id}"), &host, "v1"], ago(100_000));
            }
        }
        fixture.red(stored);
        fixture
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(40))]

        #[test]
        fn red_counts_like_a_pencil(
            stored in prop::collection::vec(any_row(), 0..60),
            cut in 0u64..91,
            from in 0u64..900,
            length in 1u64..900,
            filter in 0usize..FILTERS.len(),
            step in prop::option::of(1u64..10),
        ) {
            let (text, keep) = FILTERS[filter];
            let mut q = question(View::Red, Window::new(ago(900 - from), ago(900 - from).plus(length * SECOND)), text);
            q.step = step.map(|s| s * BUCKET);
            q.limit = 100_000;
            let window = q.window.align(q.step.unwrap_or(BUCKET));
            let mut pencil: BTreeMap<(String, String, Time), Pencil> = BTreeMap::new();
            for row in stored.iter().filter(|r| window.contains(r.bucket) && keep(r)) {
                let at = q.step.map_or(window.from, |s| row.bucket.align(s));
                let group = pencil.entry((row.service.clone(), row.operation.clone(), at)).or_default();
                group.durations.extend(&row.durations);
                group.errors += row.errors;
                group.no_answer += row.no_answer;
                group.slowest = group.slowest.max(row.slowest.map(|s| s.1));
            }
            let fixture = fixture(&stored);
            let answer = fixture.ask(&q).unwrap();
            let mut got: BTreeMap<(String, String, Time), Answered> = BTreeMap::new();
            for row in rows!(answer, Red) {
                let key = (row.service.clone().unwrap(), row.operation.clone().unwrap(), row.start.unwrap_or(window.from));
                prop_assert!(got.insert(key, row).is_none(), "a group twice");
            }
            for (key, want) in &pencil {
                let row = got.remove(key).unwrap();
                let h = super::super::fixture::histogram(&want.durations);
                prop_assert_eq!(row.red.requests, h.count());
                prop_assert_eq!((row.red.errors, row.red.no_answer), (want.errors, want.no_answer));
                prop_assert_eq!(row.red.p99_ns, h.quantile_ns(0.99));
                prop_assert_eq!(row.red.p50_ns, h.quantile_ns(0.50));
                prop_assert_eq!(row.red.mean_ns, h.mean_ns());
                prop_assert_eq!(row.slowest_ns, want.slowest);
                prop_assert_eq!(row.state, State::Active);
            }
            // What the pencil does not know is silence between requests.
            for row in got.values() {
                prop_assert_eq!((row.red.requests, row.state, row.red.p99_ns), (0, State::NoTraffic, None));
                prop_assert!(q.step.is_some());
            }
            // The same from live memory and the store as from the store alone.
            let cut = ago(900 - cut * 10);
            let memory = Memory { cut, red: stored };
            let both = fixture.ask_with(&q, &memory).unwrap();
            prop_assert_eq!(both.rows, answer.rows);
            prop_assert_eq!(both.end.stored_to, Some(cut.min(window.to)));
        }
    }

    #[test]
    fn a_request_that_spans_and_the_kernel_tell_of_is_counted_once() {
        let fixture = Fixture::default();
        let seen = |service: &str, operation: &str, resource, at, n| RedRow {
            operation: operation.to_owned(),
            evidence: Evidence::Ebpf,
            ..RedRow::new(ago(at), resource, service, &vec![5; n])
        };
        // The kernel sees the same requests, does not know the route, and saw some before the SDK was
        // there.
        let stored = [
            RedRow::new(ago(50), 1, "pay", &[5; 20]),
            seen("pay", "GET /{id}", 2, 50, 20),
            seen("pay", "GET /", 2, 70, 3),
            seen("nginx", "GET /", 3, 50, 7),
        ];
        fixture.red(&stored);
        let mut q = question(View::Red, last(900), "");
        let answer = fixture.ask(&q).unwrap();
        let rows: Vec<_> = rows!(answer, Red)
            .into_iter()
            .map(|r| (r.service.unwrap(), r.operation.unwrap(), r.red.requests, r.red.evidence))
            .collect();
        let row =
            |service: &str, n, evidence| (service.to_owned(), "GET /".to_owned(), n, evidence);
        let expected = [row("nginx", 7, Evidence::Ebpf), row("pay", 20, Evidence::Otlp)];
        assert_eq!(rows, expected);
        // The same from memory, and a sum over both says that it rests on both.
        let memory = Memory { cut: ago(900), red: stored.to_vec() };
        assert_eq!(Fixture::default().ask_with(&q, &memory).unwrap().rows, answer.rows);
        q.by = vec![Dimension::Status];
        let rows = rows!(fixture.ask(&q).unwrap(), Red);
        assert_eq!((rows[0].red.requests, rows[0].red.evidence), (27, Evidence::Mixed));
    }

    #[test]
    fn a_rate_is_over_the_time_observed() {
        let fixture = Fixture::default();
        // First seen 20 s ago, two requests in every bucket since.
        fixture.resource(1, "new", ["i", "h", "v"], ago(20));
        fixture.resource(2, "old", ["i", "h", "v"], ago(5000));
        fixture.red(&[
            RedRow::new(ago(20), 1, "new", &[5; 20]),
            RedRow::new(ago(10), 1, "new", &[5; 20]),
            RedRow::new(ago(500), 2, "old", &[5; 90]),
        ]);
        let answer = fixture.ask(&question(View::Red, last(900), "")).unwrap();
        let rates: Vec<f64> = rows!(answer, Red).iter().map(|r| r.red.rate).collect();
        assert_eq!(rates, [2.0, 0.1]);
    }

    #[test]
    fn a_version_is_observed_since_it_runs() {
        let fixture = Fixture::default();
        fixture.resource(1, "pay", ["i1", "h", "v41"], ago(5000));
        fixture.resource(2, "pay", ["i2", "h", "v42"], ago(100));
        let rows: Vec<RedRow> =
            (1..=10).map(|n| RedRow::new(ago(n * 10), 2, "pay", &[5; 20])).collect();
        fixture.red(&rows);
        let mut q = question(View::Red, last(900), "");
        q.by = vec![Dimension::Version, Dimension::Version];
        let rows = rows!(fixture.ask(&q).unwrap(), Red);
        assert_eq!(rows.len(), 1);
        assert_eq!(rows[0].by.get("version"), Some(&Some("v42".to_owned())));
        assert_eq!((rows[0].red.rate, rows[0].service.as_ref()), (2.0, None));
    }

    #[test]
    fn what_fell_silent_is_a_row_of_the_comparison() {
        let fixture = Fixture::default();
        fixture.resource(1, "pay", ["i1", "h", "v41"], ago(5000));
        fixture.red(&[RedRow::new(ago(1200), 1, "pay", &[5; 20])]);
        let mut q = question(View::Red, last(900), "");
        q.compare = Some(q.window.previous());
        let answer = fixture.ask(&q).unwrap();
        let rows = rows!(answer, Red);
        assert_eq!((rows[0].state, rows[0].red.requests), (State::NoTraffic, 0));
        assert_eq!(rows[0].baseline.as_ref().unwrap().red.as_ref().unwrap().requests, 20);
        assert_eq!(answer.end.compare, q.compare);
    }

    #[test]
    fn the_limit_keeps_the_busiest() {
        let fixture = Fixture::default();
        fixture.red(&[
            RedRow::new(ago(100), 1, "a", &[5; 1]),
            RedRow::new(ago(100), 1, "b", &[5; 30]),
            RedRow::new(ago(100), 1, "c", &[5; 20]),
        ]);
        let mut q = question(View::Red, last(900), "");
        q.limit = 2;
        let answer = fixture.ask(&q).unwrap();
        let names: Vec<_> = rows!(answer, Red).into_iter().map(|r| r.service.unwrap()).collect();
        assert_eq!(names, ["b", "c"]);
        assert!(answer.end.truncated);
    }

    #[test]
    fn the_youngest_bucket_is_provisional() {
        let fixture = Fixture::default();
        fixture.resource(1, "a", ["i", "h", "v"], ago(5000));
        fixture.red(&[RedRow::new(ago(30), 1, "a", &[5]), RedRow::new(ago(10), 1, "a", &[5])]);
        let mut q = question(View::Red, last(30), "");
        q.step = Some(BUCKET);
        let rows = rows!(fixture.ask(&q).unwrap(), Red);
        assert_eq!(rows.iter().map(|r| r.provisional).collect::<Vec<_>>(), [false, false, true]);
        assert_eq!(rows[2].start, Some(NOW.minus(BUCKET)));
    }

    #[test]
    fn wrong_questions_are_answered_with_what_would_be_right() {
        let fixture = Fixture::default();
        let error = |text: &str, step| {
            let mut q = question(View::Red, last(60), text);
            q.step = step;
            fixture.ask(&q).unwrap_err()
        };
        let key = error("duration=5ms..", None);
        assert!(key.is_usage() && key.to_string().contains("service operation status"), "{key}");
        assert!(error("service=cart duration=fast", None).to_string().contains('^'));
        assert!(error("", Some(SECOND)).to_string().contains("multiple of 10 s"));
    }

    #[test]
    fn what_is_beyond_the_top_is_one_group() {
        let fixture = Fixture::default();
        let mut stored = Vec::new();
        for n in 1..=9u64 {
            let mut row =
                RedRow::new(ago(n * 20), n, &format!("s{n}"), &vec![n * 1000; n as usize]);
            row.errors = 1;
            stored.push(row);
        }
        fixture.red(&stored);
        let mut q = question(View::Red, last(900), "");
        q.by = vec![Dimension::Service];
        let all = rows!(fixture.ask(&q).unwrap(), Red);
        q.top = Some(3);
        let answer = fixture.ask(&q).unwrap();
        let rows = rows!(answer, Red);
        let names: Vec<_> = rows.iter().map(|r| r.service.as_deref().unwrap()).collect();
        assert_eq!(names, ["__other__", "s7", "s8", "s9"]);
        assert_eq!((rows[0].red.requests, rows[0].red.errors), (1 + 2 + 3 + 4 + 5 + 6, 6));
        assert!(!answer.end.truncated, "nothing is left out");
        let sum = |rows: &[Answered]| rows.iter().map(|r| r.red.requests).sum::<u64>();
        assert_eq!(sum(&rows), sum(&all));
        // In steps too: the top is that of the whole window.
        q.step = Some(60 * SECOND);
        let stepped = rows!(fixture.ask(&q).unwrap(), Red);
        assert_eq!(sum(&stepped), sum(&all));
        assert!(stepped.iter().all(|r| names.contains(&r.service.as_deref().unwrap())));
        q.top = Some(9);
        assert!(
            rows!(fixture.ask(&q).unwrap(), Red)
                .iter()
                .all(|r| r.service.as_deref() != Some("__other__"))
        );
    }
}
