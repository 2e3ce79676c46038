//! How services are: each one's numbers in a window, beside what it was usually like, and what the
//! rules say about them.

use coral_model::Dimension;
use coral_model::filter::Key;
use coral_model::num::{f64_from, u32_sat};
use coral_model::time::{BUCKET, SECOND, Time, Window};
use coral_model::view::{AgentRow, Baseline, Red, ServiceRow};
use hashbrown::HashMap;

use super::cells::Cells;
use super::deaths::Deaths;
use super::group::{Key as GroupKey, Sum, baseline, observed_seconds};
use super::inflight::OfService;
use super::place;
use super::plan::Plan;
use super::rules::{self, Off, P99_REQUESTS, Stretch, Waiting, What};
use super::services::{self, Heard};
use super::shift::{self, Side};
use super::symbols::Symbol;
use super::timeline::{Course, Run};

/// A service and what the rules say about it.
#[derive(Debug, Clone)]
pub struct Judged {
    /// Its row.
    pub row: ServiceRow,
    /// Numbers out of line, worst first.
    pub off: Vec<Off>,
    /// How bad it was while it was out of line: more than the row's level, once that is over.
    pub worst: u8,
    /// Out of line since then.
    pub since: Option<Time>,
    /// Its numbers now.
    pub now: Stretch,
    /// And what they were compared with.
    pub before: Option<Stretch>,
    /// When that was.
    pub usual: Window,
    /// Its processes keep dying.
    pub deaths: Option<Deaths>,
}

/// Everything that services are judged by.
pub struct Case<'a> {
    /// Window and moment.
    pub plan: &'a Plan,
    /// Series that pass the filter.
    pub selected: &'a [bool],
    /// What each was like over time.
    pub courses: &'a HashMap<Symbol, Course>,
    /// What is known besides requests.
    pub heard: &'a Heard,
    /// Who reports.
    pub agents: &'a [AgentRow],
}

/// What a service is compared with.
struct Usual<'a> {
    stretch: Option<&'a Stretch>,
    window: Window,
}

struct Verdict {
    level: u8,
    worst: u8,
    off: Vec<Off>,
    since: Option<Time>,
}

impl Case<'_> {
    /// Every service, with its numbers in `now` against those of `before`.
    ///
    /// What is or was out of line is compared with its own reference where `before` says little, or
    /// holds trouble itself; the row names the window it is compared with.
    pub fn judge(&self, cells: &mut Cells, now: Window, before: Window) -> Vec<Judged> {
        let Self { plan, selected, heard, .. } = *self;
        let by = [Dimension::Service];
        let groups = cells.group(selected, now, &by, None);
        let earlier = cells.group(selected, before, &by, None);
        let sparks = services::sparks(plan, cells, selected);
        let details = services::details(cells, selected, plan.window);
        let known = services::known(plan, cells, heard);
        let mut judged = Vec::with_capacity(known.len());
        for symbol in known {
            let Some(name) = cells.symbols.owned(symbol) else { continue };
            let mut key = GroupKey::default();
            if let Some(slot) = key.first_mut() {
                *slot = symbol;
            }
            let first = cells.first_seen.get(&symbol).copied();
            let sum = groups.sum(&key, now.from).map(|(s, _)| s);
            let was = earlier.sum(&key, before.from).map(|(s, _)| s);
            let seconds = |w, sum: &Sum| observed_seconds(w, first, sum, plan.now);
            let none = Sum::default();
            let stretch = sum.unwrap_or(&none).stretch(seconds(now, sum.unwrap_or(&none)));
            let then = was.map(|s| s.stretch(seconds(before, s)));
            let course = self.courses.get(&symbol);
            let flight = heard.inflight.get(&name);
            let usual = self.usual(course, then.as_ref(), before);
            let mut verdict = self.verdict(cells, symbol, &stretch, &usual, now);
            let hung =
                flight.and_then(|flight| hung(flight, course.map_or(&stretch, |c| &c.reference)));
            verdict.hangs(hung, heard.piles.get(&name).copied());
            let deaths = heard.deaths.get(&name).filter(|deaths| deaths.since < now.to).cloned();
            verdict.dies(deaths.as_ref());
            let red = sum.filter(|s| s.requests > 0).map(|s| s.red(seconds(now, s)));
            let mut comparison =
                compared(red.as_ref(), was.map(|s| s.red(seconds(before, s))), &usual, before);
            // Tests cost as much as the rest: only who asked for a comparison has them made.
            if let Some(comparison) = comparison.as_mut().filter(|_| plan.compare.is_some()) {
                let side = |w, sum: Option<&Sum>| {
                    sum.map_or_else(Side::default, |s| Side::of(s, seconds(w, s)))
                };
                comparison.shifts = shift::shifts(&side(before, was), &side(now, sum));
            }
            let last_seen = heard.last.get(&name).copied();
            let detail = details.get(&symbol);
            let place = (verdict.worst > 0).then_some(course).flatten().and_then(|course| {
                let from = verdict.since.unwrap_or(now.from).max(now.from.min(plan.window.from));
                let window = Window::new(from.align(BUCKET), now.to);
                let usual = match &course.run {
                    Some(run) => run.reference.clone(),
                    None => then.clone().unwrap_or_default(),
                };
                place::place(cells, symbol, window, &usual, plan.now)
            });
            let active = red.is_some();
            let row = ServiceRow {
                namespace: detail.and_then(|d| d.namespace.clone()),
                state: services::state(active, last_seen, plan, self.agents, detail),
                last_seen,
                red,
                baseline: comparison,
                inflight: flight.map(|f| f.inflight),
                oldest_ns: flight.and_then(|f| f.oldest_ns),
                inflight_exact: flight.is_some_and(|f| f.exact),
                instances: detail.map_or(0, |d| u32_sat(d.instances)),
                versions: detail.map(|d| d.versions.clone()).unwrap_or_default(),
                hosts: detail.map(|d| d.hosts.clone()).unwrap_or_default(),
                place,
                level: verdict.level,
                spark: sparks.get(&symbol).cloned().unwrap_or_default(),
                service: name,
            };
            judged.push(Judged {
                row,
                off: verdict.off,
                worst: verdict.worst,
                since: verdict.since,
                now: stretch,
                usual: usual.window,
                before: usual.stretch.cloned(),
                deaths,
            });
        }
        judged
    }

    /// The run a service is judged by.
    fn run<'c>(&self, course: Option<&'c Course>) -> Option<&'c Run> {
        let run = course.and_then(|c| c.run.as_ref());
        run.filter(|run| !run.silent || may_be_silent(self.plan))
    }

    fn usual<'c>(
        &self,
        course: Option<&'c Course>,
        then: Option<&'c Stretch>,
        before: Window,
    ) -> Usual<'c> {
        let asked = Usual { stretch: then, window: before };
        let (Some(run), Some(course), None) = (self.run(course), course, self.plan.compare) else {
            return asked;
        };
        let enough = then.is_some_and(|then| then.requests >= P99_REQUESTS);
        if enough && run.since >= before.to && !course.ended.iter().any(|r| r.meets(before)) {
            return asked;
        }
        Usual { stretch: Some(&run.reference), window: run.learnt }
    }

    /// A service that is out of line is judged since it is; one that is not, over the windows, and
    /// then it has moved at most, unless what is bad has no beginning in sight.
    fn verdict(
        &self,
        cells: &Cells,
        service: Symbol,
        stretch: &Stretch,
        usual: &Usual<'_>,
        now: Window,
    ) -> Verdict {
        let plan = self.plan;
        if let Some(run) = self.run(self.courses.get(&service)) {
            let to = if run.lasts { plan.window.to } else { run.until };
            let since = stretch_of(cells, service, Window::new(run.since, to), plan.now);
            let off = rules::judge(&since, usual.stretch);
            let worst = rules::level(&off).max(1);
            let level = if run.lasts { worst } else { worst.min(1) };
            return Verdict { level, worst, off, since: Some(run.since) };
        }
        let mut off = rules::judge(stretch, usual.stretch);
        let still = rules::level(&off) == 2 && {
            let minute = Window::new(now.to.minus(60 * SECOND).max(now.from), now.to);
            let lately = rules::judge(&stretch_of(cells, service, minute, plan.now), None);
            rules::level(&lately) == 2
        };
        if !still {
            off.iter_mut().for_each(|o| o.level = o.level.min(1));
        }
        // Silence is a matter of now: a run would have been found.
        off.retain(|o| o.what != What::Silence);
        let level = rules::level(&off);
        Verdict { level, worst: level, off, since: None }
    }
}

impl Verdict {
    /// A service whose processes keep dying is worse than its requests can tell.
    fn dies(&mut self, deaths: Option<&Deaths>) {
        let Some(deaths) = deaths else { return };
        self.since = Some(self.since.map_or(deaths.since, |since| since.min(deaths.since)));
        (self.level, self.worst) = (2, 2);
        let now = f64_from(deaths.count);
        self.off.insert(0, Off { what: What::Dying, level: 2, now, before: None });
    }

    /// Requests that hang are worse than all that has ended.
    fn hangs(&mut self, hung: Option<Off>, piles: Option<Time>) {
        let Some(hung) = hung else { return };
        self.since = match (self.since, piles) {
            (Some(a), Some(b)) => Some(a.min(b)),
            (a, b) => a.or(b),
        };
        (self.level, self.worst) = (2, 2);
        self.off.insert(0, hung);
    }
}

fn hung(flight: &OfService, usual: &Stretch) -> Option<Off> {
    let (inflight, oldest_ns, exact) = (flight.inflight, flight.oldest_ns?, flight.exact);
    rules::hung(Waiting { inflight, oldest_ns, exact }, usual)
}

/// The row's comparison: with the window before, or with the reference where that is what it is
/// judged by.
fn compared(
    red: Option<&Red>,
    was: Option<Red>,
    usual: &Usual<'_>,
    before: Window,
) -> Option<Baseline> {
    let reference = usual.stretch.filter(|u| usual.window != before && u.requests > 0);
    match (red, was, reference) {
        (Some(red), _, Some(usual_is)) => {
            let was = Red::from_parts(
                &usual_is.histogram,
                usual_is.errors,
                usual_is.no_answer,
                usual_is.seconds,
                red.evidence,
                red.sampled,
            );
            Some(baseline(usual.window, red, Some(was)))
        }
        (Some(red), was, None) => Some(baseline(before, red, was)),
        (None, Some(was), _) => Some(Baseline {
            window: before,
            red: Some(was),
            p99_ratio: None,
            rate_ratio: Some(0.0),
            versions: None,
            shifts: Vec::new(),
        }),
        (None, None, _) => None,
    }
}

/// Whether no requests means silence: where only failed or slow ones are looked at, it means that all
/// is well.
pub fn may_be_silent(plan: &Plan) -> bool {
    let chosen = |key: &Key| matches!(key, Key::Error | Key::Status | Key::Duration);
    !plan.filter.terms().iter().any(|term| chosen(&term.key))
}

/// Requests of one service in a window.
pub fn stretch_of(cells: &Cells, service: Symbol, window: Window, now: Time) -> Stretch {
    let mut sum = Sum::default();
    for cell in cells.cells.iter().filter(|c| window.contains(c.bucket)) {
        if cells.series_of(cell).is_some_and(|s| s.service == service) {
            sum.add(cells, cell);
        }
    }
    sum.stretch(observed_seconds(window, Some(window.from), &sum, now))
}
