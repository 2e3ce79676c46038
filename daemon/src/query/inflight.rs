//! `inflight`: requests that have begun and not ended, as of the newest snapshots.
//!
//! A snapshot is a state, not a count of something: two of the same series at different times are
//! never added, only the newest counts, and only while it is young. Snapshots of different agents
//! and resources are different requests and are added.

use std::collections::BTreeMap;

use coral_model::filter::{FieldValue, Fields, Key};
use coral_model::time::{BUCKET, SECOND, Time, Window};
use coral_model::view::{InflightRow, Row};

use super::answer::{Found, Inputs};
use super::fetch::{self, Sql};
use super::plan::Plan;
use super::{QueryError, homes};
use crate::store::Reading;
use crate::store::schema::Signal;

/// Older snapshots say nothing about now: agents send one every few seconds while it matters.
pub const YOUNG: u64 = 15 * SECOND;

/// The newest snapshot of one series.
#[derive(Debug, Clone)]
pub struct Snapshot {
    /// The row, before series are added up.
    pub row: InflightRow,
    /// Where.
    pub host: Option<String>,
    /// `service.instance.id`.
    pub instance: Option<String>,
    /// `service.version`.
    pub version: Option<String>,
}

impl Fields for Snapshot {
    fn get(&self, key: &Key) -> Option<FieldValue<'_>> {
        let text = |t: &'_ Option<String>| t.clone().map(FieldValue::from);
        match key {
            Key::Service => Some(self.row.service.as_str().into()),
            Key::Operation => text(&self.row.operation),
            Key::Host => text(&self.host),
            Key::Instance => text(&self.instance),
            Key::Version => text(&self.version),
            Key::Trace => self.row.oldest_trace.map(|t| t.to_string().into()),
            _ => None,
        }
    }

    fn texts(&self, visit: &mut dyn FnMut(&str)) {
        visit(&self.row.service);
        self.row.operation.iter().for_each(|o| visit(o));
    }
}

/// Answers the question.
pub fn answer(inputs: &Inputs<'_>, plan: &Plan) -> Result<Found, QueryError> {
    let at = plan.window.to.min(plan.now.max(plan.window.from));
    let mut snapshots = newest(inputs.conn, at)?;
    snapshots.retain(|s| plan.filter.matches(s));
    let mut rows = by_operation(snapshots);
    rows.retain(|r| r.inflight > 0);
    let truncated = rows.len() > plan.limit();
    rows.truncate(plan.limit());
    let newest = rows.iter().map(|r| r.at).max();
    let rows = rows.into_iter().map(|r| Row::Inflight(Box::new(r))).collect();
    Ok(Found { rows, truncated, newest, ..Found::default() })
}

/// The newest snapshot of every series that is young at `at`.
pub fn newest(conn: &Reading<'_>, at: Time) -> Result<Vec<Snapshot>, QueryError> {
    let (from, to) = (at.minus(YOUNG), at.plus(1));
    let sql = Sql::new(format!(
        "SELECT t.service, t.operation, t.count, t.oldest_start_ns, t.oldest_hi, t.oldest_lo, \
         t.exact, t.at_ns, r.host, r.instance, r.version FROM (\
         SELECT * FROM {} WHERE true",
        conn.relation(Signal::Inflight, from, to)
    ))
    .within("at_ns", from, to)
    .then(&format!(
        " QUALIFY row_number() OVER (PARTITION BY agent, resource, service, operation, exact \
         ORDER BY at_ns DESC) = 1) t{}",
        homes::join(conn)
    ));
    let mut rows = Vec::new();
    fetch::run(conn, &sql, |batch| {
        let (service, operation) = (batch.texts(0)?, batch.texts(1)?);
        let (count, oldest) = (batch.u64s(2)?, batch.i64s(3)?);
        let (high, low, exact) = (batch.u64s(4)?, batch.u64s(5)?, batch.bools(6)?);
        let (taken, host) = (batch.i64s(7)?, batch.texts(8)?);
        let (instance, version) = (batch.texts(9)?, batch.texts(10)?);
        for row in 0..batch.len() {
            let taken = fetch::time(taken, row);
            let began = fetch::time(oldest, row);
            let inflight = fetch::uint(count, row);
            rows.push(Snapshot {
                row: InflightRow {
                    service: fetch::owned(service, row).unwrap_or_default(),
                    operation: fetch::owned(operation, row),
                    inflight,
                    // Both moments are of the agent's clock.
                    oldest_ns: (inflight > 0 && began.0 > 0).then(|| taken.since(began)),
                    oldest_trace: fetch::trace_id(high, low, row),
                    exact: fetch::flag(exact, row),
                    at: taken,
                },
                host: fetch::owned(host, row),
                instance: fetch::owned(instance, row),
                version: fetch::owned(version, row),
            });
        }
        Ok(())
    })?;
    Ok(rows)
}

/// Added up per service and operation, those with the oldest request first. Exact counts and lower
/// bounds are not of one kind and stay apart.
pub fn by_operation(snapshots: Vec<Snapshot>) -> Vec<InflightRow> {
    let mut rows: Vec<InflightRow> = Vec::new();
    for snapshot in snapshots {
        let row = snapshot.row;
        let same = rows.iter_mut().find(|r| {
            (&r.service, &r.operation, r.exact) == (&row.service, &row.operation, row.exact)
        });
        match same {
            Some(have) => add(have, &row),
            None => rows.push(row),
        }
    }
    rows.sort_by(|a, b| {
        b.oldest_ns
            .cmp(&a.oldest_ns)
            .then_with(|| (&a.service, &a.operation).cmp(&(&b.service, &b.operation)))
    });
    rows
}

fn add(have: &mut InflightRow, other: &InflightRow) {
    have.inflight = have.inflight.saturating_add(other.inflight);
    if other.oldest_ns > have.oldest_ns {
        have.oldest_ns = other.oldest_ns;
        have.oldest_trace = other.oldest_trace;
    }
    have.at = have.at.max(other.at);
}

/// Requests in flight of one service: the exact count where there is one, else the lower bound.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OfService {
    /// How many.
    pub inflight: u64,
    /// Age of the oldest.
    pub oldest_ns: Option<u64>,
    /// Counted, not bounded.
    pub exact: bool,
}

/// Of every service.
pub fn by_service(snapshots: &[Snapshot]) -> BTreeMap<String, OfService> {
    let mut services: BTreeMap<String, OfService> = BTreeMap::new();
    for exact in [true, false] {
        let mut sums: BTreeMap<&str, OfService> = BTreeMap::new();
        for row in snapshots.iter().map(|s| &s.row).filter(|r| r.exact == exact) {
            let sum = sums.entry(&row.service).or_insert(OfService {
                inflight: 0,
                oldest_ns: None,
                exact,
            });
            sum.inflight = sum.inflight.saturating_add(row.inflight);
            sum.oldest_ns = sum.oldest_ns.max(row.oldest_ns);
        }
        for (service, sum) in sums {
            services.entry(service.to_owned()).or_insert(sum);
        }
    }
    services
}

/// Requests in flight of every service in every 10 s bucket of a window; a service that a bucket does
/// not have had none.
pub fn history(
    conn: &Reading<'_>,
    window: Window,
) -> Result<BTreeMap<String, BTreeMap<Time, u64>>, QueryError> {
    let sql = Sql::new(format!(
        "SELECT service, bucket_ns, sum(n)::UBIGINT FROM (SELECT service, \
         at_ns // 10000000000 * 10000000000 AS bucket_ns, arg_max(count, at_ns) AS n \
         FROM {} WHERE true",
        conn.relation(Signal::Inflight, window.from, window.to)
    ))
    .within("at_ns", window.from, window.to)
    .then(" GROUP BY service, agent, resource, operation, exact, bucket_ns) GROUP BY ALL");
    let mut history: BTreeMap<String, BTreeMap<Time, u64>> = BTreeMap::new();
    fetch::run(conn, &sql, |batch| {
        let (service, bucket, count) = (batch.texts(0)?, batch.i64s(1)?, batch.u64s(2)?);
        for row in 0..batch.len() {
            let name = fetch::text(service, row).unwrap_or_default();
            let at = fetch::time(bucket, row);
            let count = fetch::uint(count, row);
            match history.get_mut(name) {
                Some(buckets) => {
                    buckets.insert(at, count);
                }
                None => {
                    history.insert(name.to_owned(), BTreeMap::from([(at, count)]));
                }
            }
        }
        Ok(())
    })?;
    Ok(history)
}

/// Since when requests pile up: after the last bucket that had hardly more than the fewest.
pub fn piles_since(buckets: &BTreeMap<Time, u64>, window: Window, now: u64) -> Time {
    let starts = || {
        let first = window.from.align(BUCKET);
        (0..window.to.since(first).div_ceil(BUCKET)).map(move |n| first.plus(n * BUCKET))
    };
    let count = |at: &Time| buckets.get(at).copied().unwrap_or(0);
    let fewest = starts().map(|at| count(&at)).min().unwrap_or(0);
    let hardly = fewest.saturating_add((now.saturating_sub(fewest) / 10).max(2));
    let last = starts().filter(|at| count(at) <= hardly).max();
    last.map_or(window.from, |at| at.plus(BUCKET)).min(window.to.align(BUCKET))
}

#[cfg(test)]
mod tests {
    use coral_model::question::View;
    use coral_model::time::SECOND;

    use super::super::fixture::{Fixture, ago, last, question, rows};
    use crate::store::schema::Signal;

    #[test]
    fn snapshots_of_requests_in_flight_are_never_added_over_time() {
        let fixture = Fixture::default();
        fixture.resource(1, "pay", ["p1", "web-1", "v1"], ago(500));
        fixture.resource(2, "pay", ["p2", "web-2", "v1"], ago(500));
        let snapshot = |at: u64,
                        agent: &str,
                        resource: u64,
                        operation: &str,
                        count: u64,
                        oldest: u64| {
            let table = Fixture::table(Signal::Inflight);
            fixture.run(&format!(
                "INSERT INTO {table} VALUES ({}, 0, '{agent}', {resource}, 'pay', {operation}, {count}, {}, 9, {resource}, false)",
                ago(at).0,
                ago(oldest).0
            ));
        };
        for at in [30, 12, 8, 4] {
            snapshot(at, "a", 1, "'GET /'", 10 + at, 40);
        }
        snapshot(6, "b", 2, "'GET /'", 3, 60);
        snapshot(9, "a", 1, "'gone'", 5, 20);
        snapshot(3, "a", 1, "'gone'", 0, 20);
        // Too old to say anything about now.
        snapshot(20, "c", 1, "'old'", 99, 99);
        let ask = |filter: &str| {
            rows!(fixture.ask(&question(View::Inflight, last(900), filter)).unwrap(), Inflight)
        };
        let all = ask("");
        assert_eq!(all.len(), 1, "{all:?}");
        assert_eq!(
            (all[0].inflight, all[0].oldest_ns, all[0].exact),
            (14 + 3, Some(54 * SECOND), false)
        );
        assert_eq!(all[0].oldest_trace.unwrap().0[15], 2);
        assert_eq!(ask("host=web-1")[0].inflight, 14);
        assert!(ask("service=cart").is_empty());
    }
}
