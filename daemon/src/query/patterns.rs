//! `patterns`: what log records have in common, mined from their bodies, most frequent first.

use coral_model::filter::Level;
use coral_model::num::f64_from;
use coral_model::time::Time;
use coral_model::view::{PatternRow, Row};
use hashbrown::HashMap;

use super::answer::Found;
use super::fetch::{self, Sql};
use super::logs::{LAYOUT, needles};
use super::plan::Plan;
use super::{QueryError, homes};
use crate::patterns::{Miner, OTHER};
use crate::store::Reading;

/// Records that are looked at; of more, an even sample.
const MAX_RECORDS: u64 = 200_000;
/// Patterns that are kept apart.
const MAX_PATTERNS: usize = 2_000;
/// Services that are named.
const MAX_SERVICES: usize = 20;
/// Bytes of a body that are read.
const MAX_BODY: usize = 2_000;

/// What is known of one pattern.
struct Seen {
    count: u64,
    /// In the window compared with.
    before: u64,
    severity: u8,
    services: Vec<String>,
    first: Time,
    last: Time,
    example: String,
    trace: Option<coral_model::TraceId>,
}

/// Answers the question.
pub fn answer(conn: &Reading<'_>, plan: &Plan) -> Result<Found, QueryError> {
    let windows = std::iter::once(plan.window).chain(plan.compare);
    let from = windows.clone().map(|w| w.from).min().unwrap_or(plan.window.from);
    let to = windows.map(|w| w.to).max().unwrap_or(plan.window.to);
    let matching = Sql::new(format!(
        " FROM {} t{} WHERE true",
        conn.logs_with(from, to, &needles(&plan.filter))?,
        homes::join(conn)
    ))
    .within("t.time_ns", from, to)
    .then(" AND ")
    .part(LAYOUT.condition(&plan.filter)?);
    let matching = match plan.compare {
        None => matching,
        Some(compare) => {
            let (a, b) = (plan.window, compare);
            let low = matching.then(" AND ((t.time_ns >= ").time(a.from);
            let low = low.then(" AND t.time_ns < ").time(a.to).then(") OR (t.time_ns >= ");
            low.time(b.from).then(" AND t.time_ns < ").time(b.to).then("))")
        }
    };
    let mut records = 0;
    fetch::run(conn, &Sql::new("SELECT count(*)::UBIGINT").part(matching.clone()), |batch| {
        records = fetch::uint(batch.u64s(0)?, 0);
        Ok(())
    })?;
    let every = records.div_ceil(MAX_RECORDS).max(1);
    let mut sql = Sql::new(format!(
        "SELECT t.time_ns, t.service, t.severity, left(t.body, {MAX_BODY}), t.trace_hi, t.trace_lo"
    ))
    .part(matching);
    if every > 1 {
        sql = sql.then(" AND hash(t.time_ns, t.body) % ").bind(every).then(" = 0");
    }
    // In order, so that the same records always make the same patterns.
    let sql = sql.then(" ORDER BY t.time_ns, t.body");
    let mut miner = Miner::new(MAX_PATTERNS);
    let mut seen: HashMap<Option<usize>, Seen> = HashMap::new();
    let mut looked = 0u64;
    fetch::run(conn, &sql, |batch| {
        let (at, service) = (batch.i64s(0)?, batch.texts(1)?);
        let (severity, body) = (batch.u8s(2)?, batch.texts(3)?);
        let (high, low) = (batch.u64s(4)?, batch.u64s(5)?);
        for row in 0..batch.len() {
            let text = fetch::text(body, row).unwrap_or_default();
            let time = fetch::time(at, row);
            let pattern = seen.entry(miner.add(text)).or_insert_with(|| Seen {
                count: 0,
                before: 0,
                severity: 0,
                services: Vec::new(),
                first: time,
                last: time,
                example: String::new(),
                trace: None,
            });
            pattern.before += u64::from(plan.compare.is_some_and(|w| w.contains(time)));
            if !plan.window.contains(time) {
                continue;
            }
            looked += 1;
            if pattern.count == 0 {
                pattern.first = time;
            }
            pattern.count += 1;
            pattern.severity = pattern.severity.max(fetch::byte(severity, row));
            pattern.last = time;
            text.clone_into(&mut pattern.example);
            pattern.trace = fetch::trace_id(high, low, row);
            let name = fetch::text(service, row).unwrap_or_default();
            if pattern.services.len() < MAX_SERVICES && !pattern.services.iter().any(|s| s == name)
            {
                pattern.services.push(name.to_owned());
            }
        }
        Ok(())
    })?;
    let mut rows: Vec<PatternRow> = seen
        .into_iter()
        .filter(|(_, seen)| seen.count > 0)
        .map(|(at, seen)| PatternRow {
            pattern: at.map_or_else(|| OTHER.to_owned(), |at| miner.pattern(at)),
            count: seen.count,
            before: plan.compare.map(|_| seen.before),
            share: f64_from(seen.count) / f64_from(looked.max(1)),
            sampled_every: every,
            level: Level::of_severity(seen.severity).map_or("", Level::word).to_owned(),
            services: seen.services,
            first_seen: seen.first,
            last_seen: seen.last,
            example: seen.example,
            trace_id: seen.trace,
        })
        .collect();
    rows.sort_by(|a, b| (b.count, &a.pattern).cmp(&(a.count, &b.pattern)));
    let truncated = rows.len() > plan.limit();
    rows.truncate(plan.limit());
    let newest = rows.iter().map(|r| r.last_seen).max();
    let rows = rows.into_iter().map(|r| Row::Pattern(Box::new(r))).collect();
    Ok(Found { rows, truncated, newest, compare: plan.compare, ..Found::default() })
}

#[cfg(test)]
mod tests {
    use coral_model::question::View;
    use duckdb::params;

    use super::super::fixture::{Fixture, ago, last, question, rows};
    use crate::store::schema::Signal;

    fn write(fixture: &Fixture, at: u64, service: &str, severity: u8, body: &str) {
        let table = Fixture::table(Signal::Logs);
        let sql = format!(
            "INSERT INTO {table} VALUES (?, 0, ?, ?, ?, 0, 0, 0, 1, map([]::VARCHAR[], []::VARCHAR[]))"
        );
        fixture.conn.execute(&sql, params![ago(at).as_i64(), service, severity, body]).unwrap();
    }

    #[test]
    fn patterns_are_counted_with_who_and_when() {
        let fixture = Fixture::default();
        for n in 0..30u64 {
            let service = if n % 3 == 0 { "checkout" } else { "payments" };
            write(&fixture, 600 - n, service, 17, &format!("pool exhausted after {n}ms for u{n}"));
        }
        for n in 0..10u64 {
            write(&fixture, 500 - n, "gateway", 9, &format!("GET /cart/{n} took {n}ms"));
        }
        write(&fixture, 5000, "gateway", 9, "outside the window");
        let ask = |filter: &str| {
            rows!(fixture.ask(&question(View::Patterns, last(900), filter)).unwrap(), Pattern)
        };
        let found = ask("");
        assert_eq!(found.len(), 2, "{found:?}");
        let first = &found[0];
        assert_eq!(first.pattern, "pool exhausted after <num>ms for u<num>");
        assert_eq!((first.count, first.share, first.sampled_every), (30, 0.75, 1));
        assert_eq!((first.first_seen, first.last_seen), (ago(600), ago(571)));
        assert_eq!(first.example, "pool exhausted after 29ms for u29");
        assert_eq!(first.services, ["checkout", "payments"]);
        assert_eq!((first.level.as_str(), found[1].count), ("error", 10));
        let only = ask("service=gateway");
        assert_eq!((only.len(), only[0].share), (1, 1.0));
        assert!(ask("service=nobody").is_empty());
    }

    #[test]
    fn a_pattern_without_records_before_is_new() {
        let fixture = Fixture::default();
        for n in 0..20u64 {
            write(&fixture, 1000 - n, "gateway", 9, &format!("took {n}ms"));
            write(&fixture, 500 - n, "gateway", 9, &format!("took {n}ms"));
        }
        write(&fixture, 300, "gateway", 17, "pool exhausted");
        write(&fixture, 1001, "gateway", 17, "gone since");
        let mut q = question(View::Patterns, last(900), "");
        q.compare = Some(q.window.previous());
        let found = rows!(fixture.ask(&q).unwrap(), Pattern);
        let told: Vec<_> = found.iter().map(|r| (r.pattern.as_str(), r.count, r.before)).collect();
        assert_eq!(told, [("took <num>ms", 20, Some(20)), ("pool exhausted", 1, Some(0))]);
        assert_eq!(found[0].first_seen, ago(500));
    }
}
