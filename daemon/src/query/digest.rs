//! `digest`: the first screen. What moved, since when, where it sits, what changed.
//!
//! It states what is measured and where it was measured, and nothing it cannot show a number for:
//! the suspect is the deepest failing service along observed calls, "changed" are events near the
//! onset, "ruled out" names what was measured and found as before, "not seen" what could not be.
//! Numbers are since the onset where there is one, against the equal window before it; else over the
//! window asked about, against the one before. The comparison is printed. An incident that is over is
//! told as long as its end lies in the window, with how things are since.

use coral_model::filter::Expr;
use coral_model::num::f64_from;
use coral_model::time::{BUCKET, Time, Window};
use coral_model::view::{
    Change, DigestRow, EventKind, EventRow, Health, Line, Mover, Row, SYNTHETIC, ServiceRow, State,
};
use hashbrown::HashMap;

use super::answer::{self, Found, Inputs};
use super::blame::{self, Blame};
use super::case::{self, Case, Judged};
use super::cells::Cells;
use super::fetch::{self, Sql};
use super::plan::Plan;
use super::rules::{self, Off, What};
use super::symbols::Symbol;
use super::timeline::{self, Course};
use super::topology::{self, JudgedEdge};
use super::{QueryError, agents, episode, events, hosts, services, story};
use crate::store::schema::Signal;

/// Events shown.
const CHANGES: usize = 50;
/// Events this long before the onset may have to do with it.
const LEAD: u64 = 30 * BUCKET;
/// What was met for the first time longer than this before the onset has nothing to do with it.
const MET: u64 = 3 * BUCKET;
/// Movers shown.
const MOVERS: usize = 20;
/// Calm services are listed as movers from this ratio on.
const WORTH: f64 = 1.3;

/// Single requests that are looked at for the first bad one.
const FIRST: u64 = 20_000;
/// How long before the first bad bucket a request may have begun that ended in it …
const BEGAN: u64 = 3 * BUCKET;
/// … and for how long after its beginning they are looked at.
const SHOWS: u64 = 2 * BUCKET;

/// Everything the digest is told from.
pub struct Scene<'a> {
    /// Window and moment.
    pub plan: &'a Plan,
    /// Compared with.
    pub before: Window,
    /// When it began: the first bucket.
    pub onset: Option<Time>,
    /// When it ended, if it did.
    pub ended: Option<Time>,
    /// Services, as they are in the incident, or were.
    pub services: &'a [Judged],
    /// Services as they are since it ended, else as they are in the incident.
    pub since: &'a [Judged],
    /// Edges, worst first.
    pub edges: &'a [JudgedEdge],
    /// Since onset and shortly before, or the newest.
    pub changes: &'a [EventRow],
    /// Newest readings.
    pub hosts: &'a [coral_model::view::HostRow],
    /// What cannot be seen.
    pub blind: &'a [String],
}

/// When it began, and when it ended if it did.
struct Incident {
    onset: Time,
    ended: Option<Time>,
}

/// Answers the question.
pub fn answer(inputs: &Inputs<'_>, plan: &Plan) -> Result<Found, QueryError> {
    let length = plan.window.length();
    let earliest = plan.window.from.minus(2 * length).align(BUCKET);
    let mut windows = vec![Window::new(earliest, plan.window.to)];
    if let Some(compare) = plan.compare.filter(|c| c.from < earliest) {
        windows.insert(0, Window::new(compare.from, compare.to.min(earliest)));
    }
    let whole = Plan { filter: Expr::everything(), ..plan.clone() };
    let (mut cells, edges, cut) = answer::requests_and_edges(inputs, &whole, &windows)?;
    let heard = services::heard(inputs, plan, &mut cells)?;
    let selected = super::filter::select(&cells, &plan.filter);
    let range = Window::new(earliest, plan.window.to);
    let mut courses = timeline::courses(&cells, &selected, range, plan.now);
    let judge = |cells: &mut Cells, courses: &_, now, before| {
        let (selected, heard) = (&selected, &heard);
        Case { plan, selected, courses, heard, agents: inputs.agents }.judge(cells, now, before)
    };
    // First find out since when, then look at everything since then.
    let before = plan.compare.unwrap_or_else(|| plan.window.previous());
    let mut judged = judge(&mut cells, &courses, plan.window, before);
    let incident = incident(plan, &cells, &mut courses, &judged, earliest);
    let (mut now, mut compared, mut after) = (plan.window, before, None);
    if let Some(incident) = &incident {
        compared = plan.compare.unwrap_or_else(|| Window::before(incident.onset, length));
        let to = incident.ended.unwrap_or(plan.window.to).max(incident.onset.plus(BUCKET));
        now = Window::new(incident.onset, to);
        judged = judge(&mut cells, &courses, now, compared);
        if let Some(ended) = incident.ended {
            courses.values_mut().for_each(|course| course.run = None);
            let rest = Window::new(ended, plan.window.to.max(ended.plus(BUCKET)));
            after = Some(judge(&mut cells, &courses, rest, compared));
        }
    }
    let onset = incident.as_ref().map(|i| i.onset);
    let edges = topology::judge(&edges, now, compared, plan.now);
    let from = onset.map_or(plan.window.from, |o| o.minus(LEAD).min(plan.window.from));
    let events = events::of_window(inputs.conn, Window::new(from, plan.window.to), CHANGES * 4)?;
    let changes = since(events, onset);
    let readings = hosts::newest(inputs.conn, plan.window, plan.now)?;
    let blind = agents::blind(inputs.agents);
    let scene = Scene {
        plan,
        before: compared,
        onset,
        ended: incident.and_then(|i| i.ended),
        services: &judged,
        since: after.as_deref().unwrap_or(&judged),
        edges: &edges,
        changes: &changes,
        hosts: &readings,
        blind: &blind,
    };
    let blame = blame::find(&scene);
    let first = match (&blame.suspect, onset) {
        (Some(suspect), Some(onset)) => {
            let at = cells.symbols.known(suspect);
            let course = at.and_then(|symbol| courses.get(&symbol));
            let judged = judged.iter().find(|j| j.row.service == *suspect);
            match judged
                .zip(course)
                .filter(|(j, _)| j.since.is_some_and(|at| at <= onset.plus(BUCKET)))
            {
                Some((judged, course)) => first_moment(inputs, judged, course)?,
                None => None,
            }
        }
        _ => None,
    };
    let newest = cells.newest_in(plan.window, plan.now);
    let row = tell(&scene, &blame, first);
    Ok(Found {
        rows: vec![Row::Digest(Box::new(row))],
        truncated: false,
        newest,
        stored_to: Some(cut.min(plan.window.to)),
        compare: Some(compared),
        ..Found::default()
    })
}

/// The incident to tell of: what is out of line now and all that hangs together with it; else the
/// last one in the window that failed and is over.
fn incident(
    plan: &Plan,
    cells: &Cells,
    courses: &mut HashMap<Symbol, Course>,
    judged: &[Judged],
    earliest: Time,
) -> Option<Incident> {
    let silence = case::may_be_silent(plan);
    let counts = |run: &timeline::Run| !run.silent || silence;
    let lasting = judged.iter().filter(|j| j.row.level > 0).filter_map(|j| j.since).min();
    if let Some(since) = lasting {
        let seed = Window::new(since.max(earliest), plan.window.to.max(since));
        let onset = episode::gather(courses, seed, counts).from;
        return Some(Incident { onset, ended: None });
    }
    if judged.iter().any(|j| j.row.level > 1) {
        return None;
    }
    let failed = |&(service, window): &(Symbol, Window)| {
        let run = courses.get(&service)?.ended.iter().find(|run| run.window() == window)?;
        let stretch = case::stretch_of(cells, service, window, plan.now);
        (rules::level(&rules::judge(&stretch, Some(&run.reference))) > 1).then_some(window)
    };
    let over = episode::ended(courses, plan.window, counts);
    let seed = over.iter().find_map(failed)?;
    let window = episode::gather(courses, seed, counts);
    Some(Incident { onset: window.from, ended: Some(window.to) })
}

/// When the suspect's requests began to be bad, to the request, where single ones are known. What agents made of
/// what the kernel saw does not tell: of those that failed it has a larger share than of the others.
fn first_moment(
    inputs: &Inputs<'_>,
    judged: &Judged,
    course: &Course,
) -> Result<Option<Time>, QueryError> {
    let (Some(since), Some(usual)) = (judged.since, &judged.before) else { return Ok(None) };
    if course.slow_ns == 0 {
        return Ok(None);
    }
    let share = |s: &rules::Stretch| {
        let bad = s.errors.max(s.histogram.count_from(course.slow_ns));
        f64_from(bad) / f64_from(s.requests.max(1))
    };
    let (from, to) = (since.minus(BEGAN), since.plus(SHOWS));
    let sql = Sql::new(format!(
        "SELECT start_ns, error OR duration_ns >= {} FROM {} WHERE kind IN (2, 5) \
         AND coalesce(len(map_extract(attributes, '{SYNTHETIC}')), 0) = 0 AND service = ",
        course.slow_ns,
        inputs.conn.relation(Signal::Spans, from, to)
    ))
    .bind(judged.row.service.clone())
    .within("start_ns", from, to)
    .then(&format!(" ORDER BY start_ns LIMIT {FIRST}"));
    let mut requests = Vec::new();
    fetch::run(inputs.conn, &sql, |batch| {
        let (start, bad) = (batch.i64s(0)?, batch.bools(1)?);
        let rows = (0..batch.len()).map(|row| (fetch::time(start, row), fetch::flag(bad, row)));
        requests.extend(rows);
        Ok(())
    })?;
    Ok(episode::first_moment(&requests, share(usual), share(&judged.now)))
}

/// With an onset, events from shortly before it on; else the newest.
fn since(mut events: Vec<EventRow>, onset: Option<Time>) -> Vec<EventRow> {
    if let Some(onset) = onset {
        events.retain(|e| e.time >= onset.minus(LEAD));
        // How it began, and how it is now; of what lies between not all.
        if events.len() > CHANGES {
            events.drain(CHANGES / 2..events.len() - CHANGES / 2);
        }
    } else if events.len() > CHANGES {
        events.drain(..events.len() - CHANGES);
    }
    events
}

/// The row, from everything that was found; `first` is when the suspect's requests began to be bad.
pub fn tell(scene: &Scene<'_>, blame: &Blame, first: Option<Time>) -> DigestRow {
    let mut movers = movers(scene);
    movers.truncate(MOVERS);
    // What was heard after the window says nothing about the window.
    let window = scene.plan.window;
    let inside = |t: Time| t >= window.from && (t < window.to || window.to >= scene.plan.now);
    let heard =
        scene.services.iter().any(|j| j.row.red.is_some() || j.row.last_seen.is_some_and(inside));
    let worst = scene.services.iter().map(|j| j.row.level).max().unwrap_or(0);
    let health = match worst {
        _ if !heard => Health::NoData,
        _ if scene.ended.is_some() => Health::Recovered,
        2.. => Health::Failing,
        1 => Health::Moved,
        0 => Health::Calm,
    };
    let scores: HashMap<String, f64> =
        movers.iter().rev().map(|m| (m.service.clone(), m.score)).collect();
    let mut services: Vec<ServiceRow> = scene.since.iter().map(|j| j.row.clone()).collect();
    services.sort_by(|a, b| {
        let score = |s: &ServiceRow| scores.get(s.service.as_str()).copied().unwrap_or(0.0);
        let rate = |s: &ServiceRow| s.red.as_ref().map_or(0.0, |r| r.rate);
        b.level
            .cmp(&a.level)
            .then_with(|| score(b).total_cmp(&score(a)))
            .then_with(|| rate(b).total_cmp(&rate(a)))
            .then_with(|| a.service.cmp(&b.service))
    });
    let affected = scene.services.iter().filter(|j| j.worst > 0).count();
    let why: Vec<Line> = story::lines(scene, blame, health, first);
    DigestRow {
        health,
        onset: first.or(scene.onset),
        ended: scene.ended,
        suspect: blame.suspect.clone(),
        why,
        path: blame.path.clone(),
        affected: coral_model::num::u32_sat(affected),
        services_known: coral_model::num::u32_sat(services.len()),
        services,
        movers,
        changes: worth(scene, blame).into_iter().cloned().collect(),
        compared_with: scene.before,
    }
}

/// What moved, worst first.
fn movers(scene: &Scene<'_>) -> Vec<Mover> {
    let mut movers: Vec<Mover> = Vec::new();
    for judged in scene.services {
        for off in &judged.off {
            movers.push(mover(judged, off));
        }
        if judged.off.is_empty() {
            movers.extend(calm(judged));
        }
    }
    movers.sort_by(|a, b| b.score.total_cmp(&a.score).then_with(|| a.service.cmp(&b.service)));
    movers
}

fn mover(judged: &Judged, off: &Off) -> Mover {
    let measure = match off.what {
        // Services have no connections of their own: those are edges'.
        What::Errors | What::Connects => Change::Errors,
        What::P99 => Change::P99,
        What::P90 => Change::P90,
        What::P50 => Change::P50,
        What::Rate => Change::Rate,
        What::NoAnswer | What::Hung | What::Busy => Change::Inflight,
        What::Dying => Change::Deaths,
        What::Silence => Change::Silence,
    };
    let (mut now, mut before) = (off.now, off.before);
    if off.what == What::NoAnswer {
        now = f64_from(judged.now.no_answer);
        before = judged.before.as_ref().map(|b| f64_from(b.no_answer));
    }
    let ratio = before.filter(|b| *b > 0.0).map(|b| now / b);
    // The level decides, then how far; a number without a before ranks as tenfold.
    let far = ratio.map_or(10.0, |r| if r >= 1.0 { r } else { 1.0 / r.max(0.001) });
    let score = 100.0 * f64::from(off.level) + 10.0 * far.clamp(1.0, 1000.0).ln();
    Mover {
        service: judged.row.service.clone(),
        measure,
        now,
        before,
        ratio,
        since: judged.since,
        score,
    }
}

/// The latency of a service that is in line, where it moved enough to be worth a line.
fn calm(judged: &Judged) -> Option<Mover> {
    let before = judged.before.as_ref()?;
    let enough = judged.now.requests.min(before.requests) >= super::rules::P99_REQUESTS;
    let p99 = |s: &super::rules::Stretch| s.histogram.quantile_ns(0.99).map(f64_from);
    let (now, was) = (p99(&judged.now)?, p99(before)?);
    let ratio = if was > 0.0 { now / was } else { return None };
    (enough && ratio >= WORTH).then(|| Mover {
        service: judged.row.service.clone(),
        measure: Change::P99,
        now,
        before: Some(was),
        ratio: Some(ratio),
        since: None,
        score: 10.0 * ratio.ln(),
    })
}

/// Whether an event is a change somebody made, rather than a consequence.
pub fn is_change(event: &EventRow) -> bool {
    matches!(
        event.kind,
        EventKind::Deploy
            | EventKind::Restart
            | EventKind::ServiceAppeared
            | EventKind::ServiceVanished
            | EventKind::ClockJumped
            | EventKind::Note
    )
}

/// The events to tell. That services and agents were met for the first time well before the onset is
/// how a young colony begins, and changed nothing; only where nothing else is known, and the suspect
/// itself is new, is that told.
pub fn worth<'a>(scene: &Scene<'a>, blame: &Blame) -> Vec<&'a EventRow> {
    let Some(onset) = scene.onset else { return scene.changes.iter().collect() };
    let met = |e: &EventRow| {
        let arrival = matches!(e.kind, EventKind::ServiceAppeared | EventKind::AgentConnected);
        arrival && e.time < onset.minus(MET)
    };
    let told: Vec<&EventRow> = scene.changes.iter().filter(|e| !met(e)).collect();
    if !told.is_empty() {
        return told;
    }
    let suspects = |e: &&EventRow| {
        e.kind == EventKind::ServiceAppeared && e.service.is_some() && e.service == blame.suspect
    };
    scene.changes.iter().filter(suspects).collect()
}

/// Whether nobody can say how a service is.
pub fn unseen(row: &ServiceRow) -> bool {
    matches!(row.state, State::Stale | State::NotObserved)
}
