//! `services`: one row per service, whether it speaks or not.
//!
//! In: RED deltas of the window and of the one compared with, the newest in-flight snapshots, and
//! when anything else was last heard. Silence has four meanings, kept apart: `active` had requests;
//! `no_traffic` is watched and had none; `stale` was there, and whoever saw it has stopped
//! reporting; `not_observed` is only known by name.

use std::collections::{BTreeMap, BTreeSet};

use coral_model::num::f64_from;
use coral_model::time::{BUCKET, SECOND, Time, Window};
use coral_model::view::{AgentRow, Evidence, Row, ServiceRow, State};
use hashbrown::HashMap;

use super::answer::{self, Found, Inputs};
use super::case::Case;
use super::cells::Cells;
use super::deaths::{self, Deaths};
use super::fetch::{self, Sql};
use super::inflight::{self, OfService};
use super::plan::Plan;
use super::symbols::Symbol;
use super::{QueryError, filter, rules, shift, timeline};
use crate::store::Reading;
use crate::store::schema::Signal;

/// A service not heard of for this long is no longer listed.
const LISTED: u64 = 24 * 3600 * SECOND;
/// Logs and metrics this young count as being heard of.
const HEARD: u64 = 120 * SECOND;
/// Points of a sparkline.
const SPARK: u64 = 30;

/// What is known of services besides their requests.
#[derive(Debug, Default)]
pub struct Heard {
    /// When each was last heard of.
    pub last: BTreeMap<String, Time>,
    /// Requests in flight.
    pub inflight: BTreeMap<String, OfService>,
    /// Since when they pile up, as far as they look old enough to.
    pub piles: BTreeMap<String, Time>,
    /// Those whose processes keep dying.
    pub deaths: BTreeMap<String, Deaths>,
}

/// Answers the question.
pub fn answer(inputs: &Inputs<'_>, plan: &Plan) -> Result<Found, QueryError> {
    let before = plan.compare.unwrap_or_else(|| plan.window.previous());
    let range = Window::new(before.from.min(plan.window.from), plan.window.to.max(before.to));
    let (mut cells, cut) = answer::requests(inputs, plan, &[range])?;
    let heard = heard(inputs, plan, &mut cells)?;
    let selected = filter::select(&cells, &plan.filter);
    let courses = timeline::courses(&cells, &selected, range, plan.now);
    let (selected, courses) = (&selected, &courses);
    let case = Case { plan, selected, courses, heard: &heard, agents: inputs.agents };
    let judged = case.judge(&mut cells, plan.window, before);
    let mut rows: Vec<ServiceRow> = judged.into_iter().map(|j| j.row).collect();
    if let Some(builds) = &plan.question.builds {
        super::builds::of_services(plan, &mut cells, selected, builds, &mut rows)?;
    }
    shift::settle(rows.iter_mut().filter_map(|row| row.baseline.as_mut()));
    rows.sort_by(|a, b| b.level.cmp(&a.level).then_with(|| a.service.cmp(&b.service)));
    let truncated = rows.len() > plan.limit();
    rows.truncate(plan.limit());
    let newest = cells.newest_in(plan.window, plan.now);
    let rows = rows.into_iter().map(|r| Row::Service(Box::new(r))).collect();
    Ok(Found {
        rows,
        truncated,
        newest,
        stored_to: Some(cut.min(plan.window.to)),
        compare: plan.compared().or(Some(before)),
        ..Found::default()
    })
}

/// What the store knows of services besides requests.
pub fn heard(inputs: &Inputs<'_>, plan: &Plan, cells: &mut Cells) -> Result<Heard, QueryError> {
    let at = plan.window.to.min(plan.now.max(plan.window.from));
    let mut snapshots = inflight::newest(inputs.conn, at)?;
    // A filter on what snapshots do not have (status) leaves them as they are.
    let names = filter::services(&plan.filter);
    snapshots.retain(|s| names.is_empty() || names.contains(&s.row.service));
    let mut heard = Heard { inflight: inflight::by_service(&snapshots), ..Heard::default() };
    let old = |f: &OfService| {
        f.inflight >= rules::HUNG_REQUESTS && f.oldest_ns.is_some_and(|ns| ns >= rules::HUNG_AGE)
    };
    if heard.inflight.values().any(old) {
        let window = Window::new(plan.window.from, at);
        let history = inflight::history(inputs.conn, window)?;
        for (name, flight) in heard.inflight.iter().filter(|(_, f)| old(f)) {
            if let Some(buckets) = history.get(name) {
                let since = inflight::piles_since(buckets, window, flight.inflight);
                heard.piles.insert(name.clone(), since);
            }
        }
    }
    for cell in &cells.cells {
        let name = cells.series_of(cell).and_then(|s| cells.symbols.word(s.service));
        if let Some(name) = name
            && cell.bucket < plan.window.to
        {
            let end = cell.bucket.plus(BUCKET).min(plan.now.max(cell.bucket));
            match heard.last.get_mut(name) {
                Some(last) => *last = (*last).max(end),
                None => {
                    heard.last.insert(name.to_owned(), end);
                }
            }
        }
    }
    // Only when somebody is silent is it worth asking what else was heard.
    let active = |name: &str| heard.last.get(name).is_some_and(|t| *t >= plan.window.from);
    let silent =
        cells.first_seen.keys().any(|&s| cells.symbols.word(s).is_some_and(|name| !active(name)));
    if silent {
        last_heard(inputs.conn, at, plan.window, &mut heard.last)?;
    }
    heard.deaths = deaths::of(inputs.conn, at)?;
    heard.deaths.retain(|service, _| names.is_empty() || names.contains(service));
    for (service, deaths) in &heard.deaths {
        // One that never came up is known by nothing else.
        _ = cells.symbols.of(service);
        heard.last.entry(service.clone()).or_insert(deaths.since);
    }
    Ok(heard)
}

/// When services were last heard of by any signal: lately by logs and metrics, else by requests.
fn last_heard(
    conn: &Reading<'_>,
    at: Time,
    window: Window,
    last: &mut BTreeMap<String, Time>,
) -> Result<(), QueryError> {
    let (lately, before) = (at.minus(HEARD), window.from.minus(LISTED));
    let logs = conn.relation(Signal::Logs, lately, at);
    let metrics = conn.relation(Signal::Metrics, lately, at);
    let red = conn.relation(Signal::Red, before, window.from);
    let sql = Sql::new(format!("SELECT service, max(heard_ns) FROM (SELECT service, max(time_ns) AS heard_ns FROM {logs} WHERE true"))
        .within("time_ns", lately, at)
        .then(&format!(" GROUP BY service UNION ALL SELECT service, max(time_ns) FROM {metrics} WHERE true"))
        .within("time_ns", lately, at)
        .then(&format!(" GROUP BY service UNION ALL SELECT service, max(bucket_ns) + 10000000000 FROM {red} WHERE true"))
        .within("bucket_ns", before, window.from)
        .then(" GROUP BY service) WHERE service IS NOT NULL GROUP BY service");
    fetch::run(conn, &sql, |batch| {
        let (service, at) = (batch.texts(0)?, batch.i64s(1)?);
        for row in 0..batch.len() {
            let (Some(name), at) = (fetch::text(service, row), fetch::time(at, row)) else {
                continue;
            };
            let have = last.entry(name.to_owned()).or_insert(at);
            *have = (*have).max(at);
        }
        Ok(())
    })
}

/// Services to list: heard of in the window or not long before it.
pub fn known(plan: &Plan, cells: &Cells, heard: &Heard) -> BTreeSet<Symbol> {
    let passes = |symbol: Symbol| {
        let service = super::cells::Series {
            service: symbol,
            operation: 0,
            code: 0,
            kind: 0,
            resource: 0,
            evidence: Evidence::Otlp,
        };
        let fields =
            filter::SeriesFields { cells, series: &service, resource: None, failed: false };
        plan.filter.matches(&fields)
    };
    let selected = filter::select(cells, &plan.filter);
    let mut known: BTreeSet<Symbol> = cells
        .series
        .iter()
        .zip(&selected)
        .filter(|(_, keep)| **keep)
        .map(|(s, _)| s.service)
        .collect();
    let names = heard.last.iter().filter(|(_, at)| at.plus(LISTED) >= plan.window.from);
    for symbol in names.filter_map(|(name, _)| cells.symbols.known(name)) {
        if passes(symbol) {
            known.insert(symbol);
        }
    }
    known.retain(|&s| s != 0);
    known
}

/// Where a service ran.
#[derive(Debug, Default)]
pub struct Detail {
    /// `service.namespace`.
    pub namespace: Option<String>,
    /// How many instances.
    pub instances: usize,
    /// `service.version`s, oldest first.
    pub versions: Vec<String>,
    /// Their hosts.
    pub hosts: Vec<String>,
}

/// Where every service ran in a window.
pub fn details(cells: &Cells, selected: &[bool], window: Window) -> HashMap<Symbol, Detail> {
    let mut used = vec![false; cells.series.len()];
    for cell in cells.cells.iter().filter(|c| window.contains(c.bucket)) {
        if let Some(flag) = used.get_mut(coral_model::num::usize_sat(cell.series)) {
            *flag = true;
        }
    }
    let mut by_service: HashMap<Symbol, Vec<&super::cells::Resource>> = HashMap::new();
    let flags = used.iter().zip(selected).map(|(u, s)| *u && *s);
    for (series, _) in cells.series.iter().zip(flags).filter(|(_, keep)| *keep) {
        if let Some(resource) = cells.resources.get(&series.resource) {
            by_service.entry(series.service).or_default().push(resource);
        }
    }
    by_service
        .into_iter()
        .map(|(service, mut resources)| {
            // By age, then by name: the order of sources must not show.
            resources.sort_by_key(|r| (r.first, cells.symbols.word(r.version)));
            let distinct = |of: fn(&super::cells::Resource) -> Symbol| {
                let mut seen = Vec::new();
                for symbol in resources.iter().map(|r| of(r)).filter(|s| *s != 0) {
                    if !seen.contains(&symbol) {
                        seen.push(symbol);
                    }
                }
                seen
            };
            let words =
                |list: Vec<Symbol>| list.iter().filter_map(|&s| cells.symbols.owned(s)).collect();
            let mut hosts: Vec<String> = words(distinct(|r| r.host));
            hosts.sort_unstable();
            let detail = Detail {
                namespace: resources.iter().filter_map(|r| cells.symbols.owned(r.namespace)).max(),
                instances: distinct(|r| r.instance).len(),
                versions: words(distinct(|r| r.version)),
                hosts,
            };
            (service, detail)
        })
        .collect()
}

/// Which of the four silences, if it is one.
pub fn state(
    active: bool,
    last_seen: Option<Time>,
    plan: &Plan,
    agents: &[AgentRow],
    detail: Option<&Detail>,
) -> State {
    if active {
        return State::Active;
    }
    let Some(last) = last_seen else { return State::NotObserved };
    if last >= plan.window.from && last.plus(HEARD) >= plan.window.to.min(plan.now) {
        return State::NoTraffic;
    }
    // Its own agent counts where it is known; else any that reports.
    let hosts = detail.map(|d| d.hosts.as_slice()).unwrap_or_default();
    let near: Vec<&AgentRow> = agents.iter().filter(|a| hosts.contains(&a.host)).collect();
    let watched = match near.as_slice() {
        [] => agents.iter().any(|a| a.state == State::Active),
        near => near.iter().any(|a| a.state == State::Active),
    };
    if watched { State::NoTraffic } else { State::Stale }
}

/// Rate per bucket of the window, about [`SPARK`] of them.
pub fn sparks(plan: &Plan, cells: &Cells, selected: &[bool]) -> HashMap<Symbol, Vec<Option<f64>>> {
    let window = plan.window;
    let step = (window.length() / SPARK).div_ceil(BUCKET).max(1) * BUCKET;
    let points = coral_model::num::usize_sat(window.length().div_ceil(step));
    let mut sums: HashMap<Symbol, Vec<u64>> = HashMap::new();
    for cell in cells.cells.iter().filter(|c| window.contains(c.bucket)) {
        let at = coral_model::num::usize_sat(cell.series);
        let Some(series) = cells.series.get(at) else { continue };
        if selected.get(at).copied().unwrap_or(false) {
            let counts = sums.entry(series.service).or_insert_with(|| vec![0; points]);
            let point = cell.bucket.since(window.from) / step;
            if let Some(slot) = counts.get_mut(coral_model::num::usize_sat(point)) {
                *slot += cell.requests;
            }
        }
    }
    sums.into_iter()
        .map(|(service, counts)| {
            let first = cells.first_seen.get(&service).copied().unwrap_or(window.from);
            let mut start = window.from;
            let mut seen = false;
            let spark = counts
                .iter()
                .map(|&n| {
                    let bucket = Window::new(start, start.plus(step).min(window.to));
                    start = start.plus(step);
                    seen |= n > 0 || bucket.to > first;
                    let observed = seen && bucket.from <= plan.now;
                    let end = bucket.to.min(plan.now.max(bucket.from.plus(SECOND)));
                    observed.then(|| f64_from(n) * 1e9 / f64_from(end.since(bucket.from).max(1)))
                })
                .collect();
            (service, spark)
        })
        .collect()
}
