//! Since when and until when: the 10 s buckets in which a service is out of line with what came
//! before them.
//!
//! Buckets are looked at in order of time. Those that are in line become part of the reference,
//! those that are not begin or continue a *run*; the reference never learns from a run, so a fault
//! that lasts does not become the new normal while it is looked at. A bucket is out of line when
//! more of its requests are slow, failed or unanswered than chance explains
//! ([`crate::chance::beyond`]). A bucket with few requests is judged together with the two before it.

use coral_model::num::{f64_from, u64_from_f64, u64_sat};
use coral_model::time::{BUCKET, Time, Window};
use hashbrown::HashMap;

use super::cells::{Cell, Cells};
use super::dense::{Buckets, Tally};
use super::red::GRACE;
use super::rules::{MIXED, SLOWER, SLOWER_BY, Stretch};
use super::symbols::Symbol;
use crate::chance;

/// Requests the reference needs before anything is out of line with it.
const REFERENCE: u64 = 50;
/// Requests a bucket needs to be judged alone.
const ALONE: u64 = 10;
/// Buckets judged together when each has few requests.
const TOGETHER: usize = 3;
/// Share of slow requests that is out of line.
const SLOW_SHARE: f64 = 0.05;
/// Share of requests slower than the median that is out of line.
const MOST: f64 = 0.5;
/// Requests from which on the reference's 99th percentile says what is slow. Before, it is the few
/// slowest ones of a service's first seconds, and the 90th has to do.
const SETTLED: u64 = 1000;
/// Share of failed requests that is out of line.
const ERROR_SHARE: f64 = 0.01;
/// Requests expected in silent buckets before silence means something.
const EXPECTED: f64 = 20.0;
/// Bad requests that make a run of a single bucket.
const STRONG: u64 = 10;
/// Buckets in line (or empty) that do not end a run.
const GAP: u64 = 3;

/// A stretch of buckets out of line.
#[derive(Debug, Clone)]
pub struct Run {
    /// Start of its first bucket.
    pub since: Time,
    /// End of its last bucket out of line.
    pub until: Time,
    /// It lasts.
    pub lasts: bool,
    /// What the service was like before.
    pub reference: Stretch,
    /// When the reference was learnt: from the first bucket to the last one in line.
    pub learnt: Window,
    /// It is silence: no request where there were always some.
    pub silent: bool,
}

impl Run {
    /// From its first bucket to the end of its last.
    pub fn window(&self) -> Window {
        Window::new(self.since, self.until)
    }

    /// This and a later one of the same service, taken together.
    pub fn with(mut self, later: &Self) -> Self {
        self.until = self.until.max(later.until);
        self.lasts |= later.lasts;
        self.silent &= later.silent;
        self
    }

    /// Whether it lies partly in a window.
    pub fn meets(&self, window: Window) -> bool {
        self.since < window.to && self.until > window.from
    }
}

/// What a service was like over time.
#[derive(Debug, Clone)]
pub struct Course {
    /// The run it is judged by: the one it is in, unless somebody chose another.
    pub run: Option<Run>,
    /// Runs that are over, oldest first.
    pub ended: Vec<Run>,
    /// All buckets in line.
    pub reference: Stretch,
    /// Above this its requests are slow, ns; 0 until known.
    pub slow_ns: u64,
}

/// A run while it is put together.
struct Open {
    run: Run,
    last: Time,
    bad: u64,
}

impl Open {
    /// The run as of `end`; what one bucket may show by chance is none.
    fn close(self, end: Time) -> Option<Run> {
        let Self { mut run, last, bad } = self;
        run.until = last.plus(BUCKET).min(end);
        run.lasts = end.since(last) <= (GAP + 1) * BUCKET;
        let one = last < run.since.plus(BUCKET);
        (!one || bad >= STRONG || run.silent).then_some(run)
    }
}

#[derive(Default)]
struct Reference {
    tally: Tally,
    requests: u64,
    errors: u64,
    no_answer: u64,
    buckets: u64,
    /// Start of the first bucket, end of the last.
    learnt: Option<Window>,
    /// Above this a request is slow; 0 until known.
    slow_ns: u64,
    /// Share of requests that may be expected above it.
    slow_share: f64,
    /// Above this a request is slower than the median one is, ns, …
    half_ns: u64,
    /// … and so many were.
    half_share: f64,
    /// Requests at which these are looked at again.
    again: u64,
}

#[derive(Default, Clone)]
struct Bucket {
    tally: Tally,
    requests: u64,
    errors: u64,
    no_answer: u64,
}

impl Bucket {
    fn add(&mut self, other: &Self) {
        self.tally.merge(&other.tally);
        self.requests += other.requests;
        self.errors += other.errors;
        self.no_answer += other.no_answer;
    }
}

impl Reference {
    fn learn(&mut self, start: Time, bucket: &Bucket) {
        let from = self.learnt.map_or(start, |learnt| learnt.from);
        self.learnt = Some(Window::new(from, start.plus(BUCKET)));
        self.tally.merge(&bucket.tally);
        self.requests += bucket.requests;
        self.errors += bucket.errors;
        self.no_answer += bucket.no_answer;
        self.buckets += 1;
        if self.requests < self.again {
            return;
        }
        // A few more requests make no other reference.
        self.again = self.requests + self.requests / 16;
        let beyond = |q: f64| {
            let usual = self.tally.quantile_ns(q).unwrap_or(0);
            u64_from_f64(f64_from(usual) * SLOWER).max(usual.saturating_add(SLOWER_BY))
        };
        let slow_share = if self.requests >= SETTLED { 0.01 } else { 0.10 };
        let (slow_ns, half_ns) = (beyond(1.0 - slow_share), beyond(0.5));
        self.half_share = f64_from(self.tally.count_from(half_ns)) / f64_from(self.requests.max(1));
        (self.slow_share, self.slow_ns, self.half_ns) = (slow_share, slow_ns, half_ns);
    }

    fn stretch(&self) -> Stretch {
        Stretch {
            requests: self.requests,
            errors: self.errors,
            no_answer: self.no_answer,
            histogram: self.tally.histogram(),
            seconds: f64_from(self.buckets * (BUCKET / coral_model::time::SECOND)),
        }
    }

    fn expected(&self) -> f64 {
        f64_from(self.requests) / f64_from(self.buckets.max(1))
    }

    /// Bad requests beyond chance, if any.
    fn excess(&self, bucket: &Bucket) -> Option<u64> {
        if self.requests < REFERENCE || bucket.requests == 0 {
            return None;
        }
        let n = f64_from(bucket.requests);
        let of = |count: u64| f64_from(count) / f64_from(self.requests);
        let beyond = |count: u64, usual: f64, share: f64| {
            let expected = n * usual;
            chance::beyond(count, expected) && f64_from(count) >= n * share
        };
        let slow = bucket.tally.count_from(self.slow_ns);
        // Where few were slower than the median, that most are tells of trouble which the slowest of
        // the reference, met as the trouble began, would hide.
        let half = if self.half_share <= MIXED { bucket.tally.count_from(self.half_ns) } else { 0 };
        let worst = [
            (slow, self.slow_share, SLOW_SHARE),
            (half, self.half_share, MOST),
            (bucket.errors, of(self.errors), ERROR_SHARE),
            (bucket.no_answer, of(self.no_answer), ERROR_SHARE),
        ];
        worst.into_iter().filter(|&(k, usual, share)| beyond(k, usual, share)).map(|w| w.0).max()
    }
}

/// The course of every service with requests in `range`, up to its end or `now`.
pub fn courses(
    cells: &Cells,
    selected: &[bool],
    range: Window,
    now: Time,
) -> HashMap<Symbol, Course> {
    let mut by_service: HashMap<Symbol, Vec<&Cell>> = HashMap::new();
    for cell in cells.cells.iter().filter(|c| range.contains(c.bucket)) {
        let at = coral_model::num::usize_sat(cell.series);
        if selected.get(at).copied().unwrap_or(false)
            && let Some(series) = cells.series.get(at)
        {
            by_service.entry(series.service).or_default().push(cell);
        }
    }
    by_service
        .into_iter()
        .map(|(service, mut list)| {
            list.sort_unstable_by_key(|c| c.bucket);
            (service, course(cells, &list, range, now))
        })
        .collect()
}

fn course(cells: &Cells, list: &[&Cell], range: Window, now: Time) -> Course {
    let end = range.to.min(now.plus(BUCKET).align(BUCKET));
    let mut reference = Reference::default();
    let mut before: Vec<(Time, Bucket)> = Vec::new();
    let mut silent: u64 = 0;
    let mut open: Option<Open> = None;
    let mut runs: Vec<Run> = Vec::new();
    let mut rest = list.iter().copied().peekable();
    let mut start = rest.peek().map_or(end, |c| c.bucket);
    while start < end {
        let mut bucket = Bucket::default();
        while let Some(cell) = rest.next_if(|c| c.bucket == start) {
            let counted = cells.read(cell);
            bucket.tally.add(Buckets::Packed(counted.pairs), counted.sum_ns);
            bucket.requests += counted.requests;
            bucket.errors += counted.errors;
            bucket.no_answer += counted.no_answer;
        }
        let complete = start.plus(BUCKET + GRACE) <= now;
        silent = if bucket.requests > 0 { 0 } else { silent + u64::from(complete) };
        let (bad, since, silence) = judge(&reference, &bucket, start, &before, silent);
        match (&mut open, bad) {
            (Some(open), Some(n)) if start.since(open.last) <= (GAP + 1) * BUCKET => {
                open.last = start;
                open.bad = open.bad.saturating_add(n);
            }
            (_, Some(bad)) => {
                let run = Run {
                    since,
                    until: start.plus(BUCKET),
                    lasts: true,
                    reference: reference.stretch(),
                    learnt: reference.learnt.unwrap_or(Window::new(range.from, since)),
                    silent: silence,
                };
                let earlier = open.replace(Open { run, last: start, bad });
                runs.extend(earlier.and_then(|open| open.close(end)));
            }
            (_, None) if complete && bucket.requests > 0 => reference.learn(start, &bucket),
            (_, None) => {}
        }
        before.push((start, bucket));
        if before.len() >= TOGETHER {
            before.remove(0);
        }
        start = start.plus(BUCKET);
    }
    runs.extend(open.and_then(|open| open.close(end)));
    let run = runs.pop_if(|run| run.lasts);
    Course { run, ended: runs, reference: reference.stretch(), slow_ns: reference.slow_ns }
}

/// How many bad requests a bucket has beyond chance, since when, and whether it is silence.
fn judge(
    reference: &Reference,
    bucket: &Bucket,
    start: Time,
    before: &[(Time, Bucket)],
    silent: u64,
) -> (Option<u64>, Time, bool) {
    if silent > 0 && reference.requests >= REFERENCE {
        let missing = reference.expected() * f64_from(silent);
        let enough = missing >= EXPECTED && silent >= u64_sat(TOGETHER);
        let since = start.minus((silent - 1) * BUCKET);
        return (enough.then(|| u64_from_f64(missing)), since, true);
    }
    if bucket.requests >= ALONE {
        return (reference.excess(bucket), start, false);
    }
    let mut together = bucket.clone();
    before.iter().for_each(|(_, b)| together.add(b));
    if together.requests < ALONE || bucket.requests == 0 {
        return (None, start, false);
    }
    // It began with the first of them that has something bad in it.
    let bad = |b: &Bucket| b.errors > 0 || b.tally.count_from(reference.slow_ns) > 0;
    let began = before.iter().find(|(_, b)| bad(b)).map_or(start, |(at, _)| *at);
    (reference.excess(&together), began, false)
}
