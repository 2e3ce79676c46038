//! `diff`: which attributes tell slow or failed spans from the others, ranked.
//!
//! After Honeycomb's BubbleUp: every value of every attribute is counted on both sides, and ranked by
//! how far its shares lie apart. Unlike it, a difference must also be one that chance does not make
//! ([`score`]), or the answer says that nothing distinguishes the sides. [`tally`] counts, with
//! bounded memory; neither of the two knows where spans come from.

mod score;
mod tally;

use std::collections::BTreeMap;

use coral_model::filter::{Expr, Key};
use coral_model::num::u64_sat;
use coral_model::question::{Builds, View};
use coral_model::text::duration;
use coral_model::time::{Time, Window};
use coral_model::view::{DiffSides, Origin, Row, Side, SpanEvent, SpanKind};

use self::tally::Tally;
use super::answer::Found;
use super::builds::{self, reach};
use super::fetch::{self, Sql};
use super::plan::Plan;
use super::traces::LAYOUT;
use super::{QueryError, filter, homes};
use crate::store::Reading;
use crate::store::schema::Signal;

/// Spans of one side that are looked at; of more, an even sample.
const MAX_SIDE: u64 = 50_000;
/// Of spans that did not fail, those beyond this quantile are slow.
const SLOW: f64 = 0.95;

/// Services whose builds are named.
const NAMED: usize = 3;

/// Attributes of a resource that have a column.
const PROMOTED: [&str; 6] = [
    "service.name",
    "service.namespace",
    "service.instance.id",
    "service.version",
    "host.name",
    "cloud.availability_zone",
];

/// Which spans are looked at at all.
#[derive(Clone)]
struct Scope {
    /// Where they lie.
    from: String,
    /// Which of those.
    condition: Sql,
}

impl Scope {
    /// The end of every statement.
    fn rows(&self) -> Sql {
        Sql::new(&self.from).then(" WHERE ").part(self.condition.clone())
    }
}

/// The two sides, as conditions and in words.
struct Sides {
    of: (Sql, String),
    against: (Sql, String),
    slow_ns: Option<u64>,
}

/// Answers the question.
pub fn answer(conn: &Reading<'_>, plan: &Plan) -> Result<Found, QueryError> {
    let (filter, of) = split(plan)?;
    let also = plan.compare.or_else(|| plan.question.builds.as_ref().map(|_| reach(plan.window)));
    let (from, to) = also.map_or((plan.window.from, plan.window.to), |also| {
        (plan.window.from.min(also.from), plan.window.to.max(also.to))
    });
    let mut scope = Scope {
        from: format!(" FROM {} t{}", conn.relation(Signal::Spans, from, to), homes::join(conn)),
        condition: Sql::new("true")
            .within("t.start_ns", from, to)
            .then(" AND ")
            .part(LAYOUT.condition(&filter)?),
    };
    // Requests where there are any: calls of one request would else be compared with it.
    let mut requests = scope.clone();
    requests.condition = requests.condition.then(" AND t.kind IN (2, 5)");
    let noun = match counts(conn, &requests, &Sql::new("true"))?.0 {
        0 => "spans",
        _ => {
            scope = requests;
            "requests"
        }
    };
    let sides = sides(conn, plan, &scope, of, noun)?;
    let (selected, _) = counts(conn, &scope, &sides.of.0)?;
    let (baseline, _) = counts(conn, &scope, &sides.against.0)?;
    let mut tally = Tally::default();
    let looked = [
        read(conn, &scope, &sides.of.0, selected, &mut tally, 0)?,
        read(conn, &scope, &sides.against.0, baseline, &mut tally, 1)?,
    ];
    let ranked = score::rank(tally, looked);
    let mut rows = ranked.rows;
    let truncated = rows.len() > plan.limit();
    rows.truncate(plan.limit());
    let side = |what: &str, spans, looked_at| Side { what: what.to_owned(), spans, looked_at };
    let [of_looked, against_looked] = looked;
    let head = DiffSides {
        selected: side(&sides.of.1, selected, of_looked),
        baseline: side(&sides.against.1, baseline, against_looked),
        slow_ns: sides.slow_ns,
        tested: ranked.tested,
        unique: ranked.unique,
        nothing: rows.is_empty().then(|| why_nothing(looked)),
    };
    let mut all = vec![Row::DiffSides(Box::new(head))];
    all.extend(rows.into_iter().map(|row| Row::Diff(Box::new(row))));
    Ok(Found { rows: all, truncated, compare: plan.compared(), ..Found::default() })
}

fn why_nothing(looked: [u64; 2]) -> String {
    match looked {
        [n, _] if n < score::LEAST => {
            format!("only {n} spans are selected: too few to say what they have in common")
        }
        [_, n] if n < score::LEAST => {
            format!("there are only {n} others to compare with: too few to say what differs")
        }
        _ => "nothing distinguishes them: no value is clearly more frequent on one side".to_owned(),
    }
}

/// What both sides share, and what selects: `--of`, else the filter's own words on duration and error.
fn split(plan: &Plan) -> Result<(Expr, Option<Expr>), QueryError> {
    if plan.compare.is_some() || plan.question.builds.is_some() {
        // The sides are two times or two builds; what both have in common says the filter.
        let of = plan.question.of.as_deref().map(|of| filter::read(of, View::Diff)).transpose()?;
        return Ok((plan.filter.clone(), of));
    }
    if let Some(of) = &plan.question.of {
        return Ok((plan.filter.clone(), Some(filter::read(of, View::Diff)?)));
    }
    let selects = |e: &Expr| {
        let terms = e.terms();
        !terms.is_empty() && terms.iter().all(|t| matches!(t.key, Key::Duration | Key::Error))
    };
    let all = match &plan.filter {
        Expr::And(all) => all.clone(),
        one => vec![one.clone()],
    };
    let (of, scope): (Vec<_>, Vec<_>) = all.into_iter().partition(selects);
    Ok((Expr::and(scope), (!of.is_empty()).then(|| Expr::and(of))))
}

fn sides(
    conn: &Reading<'_>,
    plan: &Plan,
    scope: &Scope,
    of: Option<Expr>,
    noun: &str,
) -> Result<Sides, QueryError> {
    if let Some(compare) = plan.compare {
        return times(plan, compare, of.as_ref(), noun);
    }
    if let Some(builds) = &plan.question.builds {
        return versions(conn, plan, scope, builds, of.as_ref(), noun);
    }
    let (of, slow_ns) = match of {
        Some(of) => ((LAYOUT.condition(&of)?, format!("{noun} with {of}")), None),
        None => match slow(conn, scope)? {
            Some(ns) => {
                let sql = Sql::new("(t.error OR t.duration_ns > ").bind(ns).then(")");
                (
                    (sql, format!("{noun} that failed or took longer than {}", duration(ns))),
                    Some(ns),
                )
            }
            None => ((Sql::new("t.error"), format!("failed {noun}")), None),
        },
    };
    let against = match &plan.question.against {
        Some(text) => {
            let expr = filter::read(text, View::Diff)?;
            // One span never stands on both sides.
            let sql = LAYOUT.condition(&expr)?.then(" AND NOT ").part(of.0.clone());
            (sql, format!("{noun} with {expr}"))
        }
        None => (Sql::new("NOT ").part(of.0.clone()), format!("all other {noun}")),
    };
    Ok(Sides { of, against, slow_ns })
}

fn during(window: Window) -> Sql {
    let low = Sql::new("(t.start_ns >= ").time(window.from);
    low.then(" AND t.start_ns < ").time(window.to).then(")")
}

/// Both sides pass the same filter, or each one of its own.
fn passing(plan: &Plan, of: Option<&Expr>) -> Result<[(Sql, String); 2], QueryError> {
    let against = match &plan.question.against {
        Some(text) => Some(filter::read(text, View::Diff)?),
        None => of.cloned(),
    };
    let side = |expr: Option<&Expr>| match expr {
        Some(expr) => Ok((LAYOUT.condition(expr)?, format!(" with {expr}"))),
        None => Ok::<_, QueryError>((Sql::new("true"), String::new())),
    };
    Ok([side(of)?, side(against.as_ref())?])
}

/// The spans of one time against those of another.
fn times(plan: &Plan, compare: Window, of: Option<&Expr>, noun: &str) -> Result<Sides, QueryError> {
    let [(of, with), (against, without)] = passing(plan, of)?;
    let what = |w: Window, with: String| format!("{noun} of {} – {}{with}", w.from, w.to);
    // One span never stands on both sides.
    let before = during(compare).then(" AND NOT ").part(during(plan.window));
    Ok(Sides {
        of: (during(plan.window).then(" AND ").part(of), what(plan.window, with)),
        against: (before.then(" AND ").part(against), what(compare, without)),
        slow_ns: None,
    })
}

/// The spans of the later build of each service against those of the earlier.
fn versions(
    conn: &Reading<'_>,
    plan: &Plan,
    scope: &Scope,
    builds: &Builds,
    of: Option<&Expr>,
    noun: &str,
) -> Result<Sides, QueryError> {
    let sql = Sql::new("SELECT t.service, r.version, min(r.first_ns)")
        .part(scope.rows())
        .then(" AND r.version IS NOT NULL AND r.version <> '' GROUP BY ALL");
    let mut seen: BTreeMap<String, Vec<(Time, String)>> = BTreeMap::new();
    fetch::run(conn, &sql, |batch| {
        let (service, version, first) = (batch.texts(0)?, batch.texts(1)?, batch.i64s(2)?);
        for row in 0..batch.len() {
            let service = fetch::owned(service, row).unwrap_or_default();
            let version = fetch::owned(version, row).unwrap_or_default();
            seen.entry(service).or_default().push((fetch::time(first, row), version));
        }
        Ok(())
    })?;
    let pairs: Vec<(String, String, String)> = seen
        .into_iter()
        .filter_map(|(service, versions)| {
            let (from, to) = builds::pick(versions, builds)?;
            Some((service, from, to))
        })
        .collect();
    if pairs.is_empty() {
        return Err(builds::none(builds, plan.window));
    }
    let side = |pick: fn(&(String, String, String)) -> &String| {
        let mut sql = Sql::new("(false");
        for pair in &pairs {
            sql = sql.then(" OR (t.service = ").bind(pair.0.clone());
            sql = sql.then(" AND r.version = ").bind(pick(pair).clone()).then(")");
        }
        sql.then(")")
    };
    let names = |pick: fn(&(String, String, String)) -> &String| {
        let all: Vec<String> =
            pairs.iter().take(NAMED).map(|pair| format!("{} {}", pair.0, pick(pair))).collect();
        let more = if pairs.len() > NAMED { " …" } else { "" };
        format!("{noun} of {}{more}", all.join(", "))
    };
    let [(of, with), (against, without)] = passing(plan, of)?;
    // The later build's are those of the window, as everywhere.
    let later = side(|p| &p.2).then(" AND ").part(during(plan.window));
    Ok(Sides {
        of: (later.then(" AND ").part(of), names(|p| &p.2) + &with),
        against: (side(|p| &p.1).then(" AND ").part(against), names(|p| &p.1) + &without),
        slow_ns: None,
    })
}

/// The duration beyond which a span that did not fail is slow.
fn slow(conn: &Reading<'_>, scope: &Scope) -> Result<Option<u64>, QueryError> {
    let sql = Sql::new(format!(
        "SELECT quantile_disc(t.duration_ns, {SLOW}) FILTER (NOT t.error)::BIGINT"
    ))
    .part(scope.rows());
    let mut found = None;
    fetch::run(conn, &sql, |batch| {
        let column = batch.i64s(0)?;
        found = fetch::some_int(column, 0).map(coral_model::num::u64_sat);
        Ok(())
    })?;
    Ok(found)
}

/// Spans of the scope that pass, and all.
fn counts(conn: &Reading<'_>, scope: &Scope, condition: &Sql) -> Result<(u64, u64), QueryError> {
    let sql = Sql::new("SELECT (count(*) FILTER (")
        .part(condition.clone())
        .then("))::UBIGINT, count(*)::UBIGINT")
        .part(scope.rows());
    let mut found = (0, 0);
    fetch::run(conn, &sql, |batch| {
        found = (fetch::uint(batch.u64s(0)?, 0), fetch::uint(batch.u64s(1)?, 0));
        Ok(())
    })?;
    Ok(found)
}

/// Counts one side; how many spans that were.
fn read(
    conn: &Reading<'_>,
    scope: &Scope,
    condition: &Sql,
    spans: u64,
    tally: &mut Tally,
    side: usize,
) -> Result<u64, QueryError> {
    let every = spans.div_ceil(MAX_SIDE).max(1);
    let mut sql = Sql::new(
        "SELECT t.service, t.operation, t.kind, t.code, t.http_route, t.db_system, t.rpc_method, \
         t.peer_service, r.instance, r.host, r.version, r.zone, r.namespace, t.attributes, \
         r.attributes, t.events",
    )
    .part(scope.rows())
    .then(" AND ")
    .part(condition.clone());
    if every > 1 {
        sql = sql.then(" AND hash(t.span_id) % ").bind(every).then(" = 0");
    }
    let mut looked = 0;
    fetch::run(conn, &sql, |batch| {
        let text = |at| batch.texts(at);
        let columns = [
            (Key::Service, text(0)?),
            (Key::Operation, text(1)?),
            (Key::Status, text(3)?),
            (Key::Route, text(4)?),
            (Key::Attribute("db.system".into()), text(5)?),
            (Key::Attribute("rpc.method".into()), text(6)?),
            (Key::Attribute("peer.service".into()), text(7)?),
            (Key::Instance, text(8)?),
            (Key::Host, text(9)?),
            (Key::Version, text(10)?),
            (Key::Zone, text(11)?),
            (Key::Namespace, text(12)?),
        ];
        let names: Vec<String> = columns.iter().map(|(key, _)| key.to_string()).collect();
        let (kinds, own, resource) = (batch.u8s(2)?, batch.maps(13)?, batch.maps(14)?);
        let events = text(15)?;
        for row in 0..batch.len() {
            let mut span = tally.span(side);
            for (name, (_, column)) in names.iter().zip(&columns) {
                if let Some(value) = fetch::text(column, row).filter(|v| !v.is_empty()) {
                    span.add(Origin::Span, name, value);
                }
            }
            let kind = SpanKind::from_otlp(u64::from(fetch::byte(kinds, row)));
            span.add(Origin::Span, "kind", kind.word());
            fetch::each_pair(own, row, |name, value| span.add(Origin::Attribute, name, value));
            fetch::each_pair(resource, row, |name, value| {
                if !PROMOTED.contains(&name) {
                    span.add(Origin::Resource, name, value);
                }
            });
            events_of(fetch::text(events, row), |name, value| span.add(Origin::Event, name, value));
        }
        looked += u64_sat(batch.len());
        Ok(())
    })?;
    Ok(looked)
}

/// Names of a span's events, and the types of its exceptions, each once.
fn events_of(json: Option<&str>, mut add: impl FnMut(&str, &str)) {
    let Some(json) = json.filter(|j| j.len() > 2) else { return };
    let events: Vec<SpanEvent> = serde_json::from_str(json).unwrap_or_default();
    let mut seen: Vec<(&str, &str)> = Vec::new();
    for event in &events {
        let kind = event.attributes.get("exception.type");
        let pairs =
            [Some(("event", event.name.as_str())), kind.map(|k| ("exception.type", k.as_str()))];
        for pair in pairs.into_iter().flatten() {
            if !seen.contains(&pair) {
                seen.push(pair);
                add(pair.0, pair.1);
            }
        }
    }
}

#[cfg(test)]
mod tests;
