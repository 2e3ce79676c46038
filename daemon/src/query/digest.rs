//! `digest`: the first screen. What moved, since when, where it sits, what changed.
//!
//! It states what is measured and where it was measured, and nothing it cannot show a number for:
//! the suspect is the deepest failing service along observed calls, "changed" are events near the
//! onset, "ruled out" names what was measured and found as before, "not seen" what could not be.
//! Numbers are since the onset where there is one, against the equal window before it; else over the
//! window asked about, against the one before. The comparison is printed.

use coral_model::filter::Expr;
use coral_model::num::f64_from;
use coral_model::time::{BUCKET, Time, Window};
use coral_model::view::{
    Change, DigestRow, EventKind, EventRow, Health, Line, Mover, Row, ServiceRow, State,
};
use hashbrown::HashMap;

use super::answer::{self, Found, Inputs};
use super::plan::Plan;
use super::rules::{Off, What};
use super::services::{self, Judged};
use super::topology::{self, JudgedEdge};
use super::{QueryError, agents, blame, events, hosts, story, timeline};

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

/// Everything the digest is told from.
pub struct Scene<'a> {
    /// Window and moment.
    pub plan: &'a Plan,
    /// Compared with.
    pub before: Window,
    /// When it began.
    pub onset: Option<Time>,
    /// Services.
    pub services: &'a [Judged],
    /// Edges, worst first.
    pub edges: &'a [JudgedEdge],
    /// Since onset and shortly before, or the newest.
    pub changes: &'a [EventRow],
    /// Newest readings.
    pub hosts: &'a [coral_model::view::HostRow],
    /// What cannot be seen.
    pub blind: &'a [String],
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
    let courses =
        timeline::courses(&cells, &selected, Window::new(earliest, plan.window.to), plan.now);
    let judge = |cells: &mut _, now, before| {
        services::judge(plan, cells, &selected, now, before, &courses, &heard, inputs.agents)
    };
    // First find out since when, then look at everything since then.
    let before = plan.compare.unwrap_or_else(|| plan.window.previous());
    let mut judged = judge(&mut cells, plan.window, before);
    let onset = judged.iter().filter(|j| j.row.level > 0).filter_map(|j| j.since).min();
    let (mut now, mut compared) = (plan.window, before);
    if let Some(onset) = onset.map(|o| o.max(earliest)) {
        now = Window::new(onset, plan.window.to.max(onset.plus(BUCKET)));
        compared = plan.compare.unwrap_or_else(|| Window::before(onset, length));
        judged = judge(&mut cells, now, compared);
    }
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
        services: &judged,
        edges: &edges,
        changes: &changes,
        hosts: &readings,
        blind: &blind,
    };
    let newest = cells.newest_in(plan.window, plan.now);
    let row = tell(&scene);
    Ok(Found {
        rows: vec![Row::Digest(Box::new(row))],
        truncated: false,
        newest,
        stored_to: Some(cut.min(plan.window.to)),
        compare: Some(compared),
        ..Found::default()
    })
}

/// With an onset, events from shortly before it on; else the newest.
fn since(mut events: Vec<EventRow>, onset: Option<Time>) -> Vec<EventRow> {
    if let Some(onset) = onset {
        events.retain(|e| e.time >= onset.minus(LEAD));
        events.truncate(CHANGES);
    } else if events.len() > CHANGES {
        events.drain(..events.len() - CHANGES);
    }
    events
}

/// The row, from everything that was found.
pub fn tell(scene: &Scene<'_>) -> DigestRow {
    let blame = blame::find(scene);
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
        2.. => Health::Failing,
        1 => Health::Moved,
        0 => Health::Calm,
    };
    let scores: HashMap<String, f64> =
        movers.iter().rev().map(|m| (m.service.clone(), m.score)).collect();
    let mut services: Vec<ServiceRow> = scene.services.iter().map(|j| j.row.clone()).collect();
    services.sort_by(|a, b| {
        let score = |s: &ServiceRow| scores.get(s.service.as_str()).copied().unwrap_or(0.0);
        let rate = |s: &ServiceRow| s.red.as_ref().map_or(0.0, |r| r.rate);
        b.level
            .cmp(&a.level)
            .then_with(|| score(b).total_cmp(&score(a)))
            .then_with(|| rate(b).total_cmp(&rate(a)))
            .then_with(|| a.service.cmp(&b.service))
    });
    let affected = services.iter().filter(|s| s.level > 0).count();
    let why: Vec<Line> = story::lines(scene, &blame, health);
    DigestRow {
        health,
        onset: scene.onset,
        suspect: blame.suspect.clone(),
        why,
        path: blame.path.clone(),
        affected: coral_model::num::u32_sat(affected),
        services_known: coral_model::num::u32_sat(services.len()),
        services,
        movers,
        changes: worth(scene, &blame).into_iter().cloned().collect(),
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
        What::Errors => Change::Errors,
        What::P99 | What::P90 => Change::P99,
        What::Rate => Change::Rate,
        What::NoAnswer | What::Hung => Change::Inflight,
        What::Silence => Change::Silence,
    };
    let (mut now, mut before) = (off.now, off.before);
    if off.what == What::P90 {
        // Judged by the 90th percentile, shown as the number everybody looks at.
        let p99 = |s: &super::rules::Stretch| s.histogram.quantile_ns(0.99).map(f64_from);
        now = p99(&judged.now).unwrap_or(now);
        before = judged.before.as_ref().and_then(p99).or(before);
    }
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
pub fn worth<'a>(scene: &Scene<'a>, blame: &blame::Blame) -> Vec<&'a EventRow> {
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
