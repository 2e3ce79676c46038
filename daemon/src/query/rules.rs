//! When a number is out of line: every threshold of `services`, `topology` and `digest`, in one place.
//!
//! Each rule needs a minimum of observations on both sides, because a rule that flags noise is
//! worse than none: the 99th percentile of 40 requests is their slowest one. Below the minimum the
//! rule says nothing, which shows as calm with a dim number, not as a claim that all is well.
//!
//! | what | moved (level 1) | failing (level 2) | needs |
//! |---|---|---|---|
//! | latency | quantile ≥ 2× and +5 ms, and ≥ 2 % of requests beyond 2× the old quantile | ≥ 4× and +50 ms | p99 of ≥ 100 requests or p90 or p50 of ≥ 20 on both sides, whichever is worse; ≥ 3 slow ones; for p50, at most a quarter as slow before |
//! | errors | ≥ 1 %, ≥ 3× what it was | ≥ 5 % and ≥ 3× what it was; ≥ 20 % whatever it was | ≥ 10 requests, ≥ 3 (5) errors |
//! | no answer | ≥ 3 | ≥ 3 and ≥ 1 % of requests | |
//! | hung | – | the oldest request in flight is ≥ 10 s and ≥ 10× the usual p99 | ≥ 3 in flight; where that is a lower bound, ≥ 5 % of the requests usual in that time (at most a minute) |
//! | connects | ≥ 1 % of connections did not come about, ≥ 3× what it was; ≥ 10 % as they always did | > 10 % and ≥ 3× what it was | ≥ 3 that did not |
//! | busy | ≥ 95 % of the time of connections that carry one request at a time | – | below 80 % before; ≥ 2 open, each used for ≥ 10 requests; ≥ 30 requests |
//! | rate | ≤ ⅓ or ≥ 3× of what it was | – | ≥ 50 requests before, ≥ 30 expected now |
//! | silence | none where ≥ 30 were expected | – | as rate |

use coral_model::Histogram;
use coral_model::connections::Tally;
use coral_model::num::f64_from;
use coral_model::time::{MILLI, SECOND};

/// Requests on both sides for the 99th percentile to mean something.
pub const P99_REQUESTS: u64 = 100;
/// Requests on both sides for the 90th percentile to mean something.
pub const P90_REQUESTS: u64 = 20;
/// Latency: factor that counts as moved.
pub const SLOWER: f64 = 2.0;
/// Latency: and by at least this much.
pub const SLOWER_BY: u64 = 5 * MILLI;
/// Latency: factor that counts as failing.
pub const MUCH_SLOWER: f64 = 4.0;
/// Latency: and by at least this much.
pub const MUCH_SLOWER_BY: u64 = 50 * MILLI;
/// Latency: share of requests beyond twice the old quantile.
pub const SLOW_SHARE: f64 = 0.02;
/// Latency: and at least this many.
pub const SLOW_REQUESTS: u64 = 3;
/// Latency: share of requests that may have been twice the median before for it to be judged.
pub const MIXED: f64 = 0.25;
/// Errors: requests for a share to mean something.
pub const ERROR_REQUESTS: u64 = 10;
/// Errors: at least this many to count as moved.
pub const SOME_ERRORS: u64 = 3;
/// Errors: and this share.
pub const SOME_ERROR_RATIO: f64 = 0.01;
/// Errors: at least this many to count as failing.
pub const MANY_ERRORS: u64 = 5;
/// Errors: and this share.
pub const MANY_ERROR_RATIO: f64 = 0.05;
/// Errors: this share is failing even when it always was like that.
pub const ALWAYS_ERROR_RATIO: f64 = 0.20;
/// Errors: factor over the share before.
pub const ERROR_FACTOR: f64 = 3.0;
/// No answer: at least this many.
pub const UNANSWERED: u64 = 3;
/// No answer: share that counts as failing.
pub const UNANSWERED_RATIO: f64 = 0.01;
/// Connects: at least this many that did not come about.
pub const UNCONNECTED: u64 = 3;
/// Connects: share that counts as moved.
pub const SOME_UNCONNECTED: f64 = 0.01;
/// Connects: share beyond which it counts as failing.
pub const MANY_UNCONNECTED: f64 = 0.10;
/// Busy: share of their time in which connections are in use.
pub const ALL_BUSY: f64 = 0.95;
/// Busy: and below this before: workers that each keep a connection busy always do.
pub const BUSY_BEFORE: f64 = 0.80;
/// Busy: connections open on average, rounded; the newest are reported late.
pub const BUSY_OPEN: f64 = 1.5;
/// Busy: requests.
pub const BUSY_REQUESTS: u64 = 30;
/// Busy: requests for each connection that was opened; what opens one per request is no pool.
pub const BUSY_REUSE: u64 = 10;
/// Hung: requests in flight.
pub const HUNG_REQUESTS: u64 = 3;
/// Hung: age of the oldest.
pub const HUNG_AGE: u64 = 10 * SECOND;
/// Hung: and this many times the usual 99th percentile.
pub const HUNG_FACTOR: f64 = 10.0;
/// Hung: of the requests usual in the oldest one's age, where in-flight numbers are a lower bound.
pub const HUNG_SHARE: f64 = 0.05;
/// Hung: an age beyond this asks for no more.
pub const HUNG_SPAN: u64 = 60 * SECOND;
/// Rate: factor that counts as moved, up or down.
pub const RATE_FACTOR: f64 = 3.0;
/// Rate: requests before.
pub const RATE_BEFORE: u64 = 50;
/// Rate: requests expected now.
pub const RATE_EXPECTED: f64 = 30.0;

/// What the rules look at, of one service or edge over one stretch of time.
#[derive(Debug, Clone, Default)]
pub struct Stretch {
    /// Requests that ended.
    pub requests: u64,
    /// Of these failed.
    pub errors: u64,
    /// Of these without an answer.
    pub no_answer: u64,
    /// Their durations.
    pub histogram: Histogram,
    /// Seconds observed.
    pub seconds: f64,
}

impl Stretch {
    /// Share of failed requests.
    pub fn error_ratio(&self) -> f64 {
        if self.requests == 0 { 0.0 } else { f64_from(self.errors) / f64_from(self.requests) }
    }

    /// Requests per second.
    pub fn rate(&self) -> f64 {
        if self.seconds > 0.0 { f64_from(self.requests) / self.seconds } else { 0.0 }
    }
}

/// One number out of line.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Off {
    /// Which number.
    pub what: What,
    /// 1 moved, 2 failing.
    pub level: u8,
    /// The number now, in its unit.
    pub now: f64,
    /// The number before, where known.
    pub before: Option<f64>,
}

/// Which number is out of line.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum What {
    /// Share of failed requests.
    Errors,
    /// Requests without an answer, as a share.
    NoAnswer,
    /// Connections that did not come about, as a share.
    Connects,
    /// 99th percentile, ns.
    P99,
    /// 90th percentile, ns, where there are too few requests for the 99th.
    P90,
    /// Median, ns, where what it was like before holds some of the trouble itself.
    P50,
    /// Its processes die again and again.
    Dying,
    /// Requests in flight for very long.
    Hung,
    /// Time in which connections are in use, as a share.
    Busy,
    /// Requests per second.
    Rate,
    /// No requests at all.
    Silence,
}

/// Everything out of line in `now` compared with `before`, worst first. Without a `before`, only
/// what is bad by itself.
pub fn judge(now: &Stretch, before: Option<&Stretch>) -> Vec<Off> {
    let mut off: Vec<Off> = [
        errors(now, before),
        no_answer(now, before),
        before.and_then(|b| latency(&now.histogram, &b.histogram)),
        before.and_then(|b| rate(now, b)),
    ]
    .into_iter()
    .flatten()
    .collect();
    sort(&mut off);
    off
}

/// Worst first.
pub fn sort(off: &mut [Off]) {
    off.sort_by(|a, b| (b.level, a.what).cmp(&(a.level, b.what)));
}

/// The worst level among what is out of line.
pub fn level(off: &[Off]) -> u8 {
    off.iter().map(|o| o.level).max().unwrap_or(0)
}

fn errors(now: &Stretch, before: Option<&Stretch>) -> Option<Off> {
    if now.requests < ERROR_REQUESTS || now.errors < SOME_ERRORS {
        return None;
    }
    let ratio = now.error_ratio();
    let before = before.filter(|b| b.requests >= ERROR_REQUESTS).map(Stretch::error_ratio);
    let risen = before.is_none_or(|b| ratio >= ERROR_FACTOR * b);
    let many = ratio >= MANY_ERROR_RATIO && now.errors >= MANY_ERRORS;
    let level = match () {
        () if many && (risen || ratio >= ALWAYS_ERROR_RATIO) => 2,
        () if many || (risen && ratio >= SOME_ERROR_RATIO) => 1,
        () => return None,
    };
    Some(Off { what: What::Errors, level, now: ratio, before })
}

fn no_answer(now: &Stretch, before: Option<&Stretch>) -> Option<Off> {
    let share = |s: &Stretch| f64_from(s.no_answer) / f64_from(s.requests.max(1));
    let ratio = share(now);
    let was = before.filter(|b| b.requests >= ERROR_REQUESTS).map(share);
    if now.no_answer < UNANSWERED || was.is_some_and(|b| ratio < ERROR_FACTOR * b) {
        return None;
    }
    let level = if ratio >= UNANSWERED_RATIO { 2 } else { 1 };
    Some(Off { what: What::NoAnswer, level, now: ratio, before: was })
}

/// How far latency moved, when it did: by the 99th percentile, or the 90th or the median where that
/// says more.
///
/// Of a few hundred requests the 99th percentile is the two or three slowest, often those of a
/// service's first second; a fault that slows everything is then plainer in the 90th. And where a
/// service was seen for seconds only before the fault, a tenth of what it is compared with may be slow
/// already; then the median tells. It is no use where two kinds of requests are mixed, since it jumps
/// from one to the other with their shares: so few may have been as slow before.
pub fn latency(now: &Histogram, before: &Histogram) -> Option<Off> {
    let fewer = now.count().min(before.count());
    let all = [
        (What::P99, 0.99, P99_REQUESTS),
        (What::P90, 0.90, P90_REQUESTS),
        (What::P50, 0.50, P90_REQUESTS),
    ];
    all.into_iter()
        .filter(|&(_, _, least)| fewer >= least)
        .filter_map(|(what, q, _)| slower(what, q, now, before))
        .reduce(|worst, off| if off.level > worst.level { off } else { worst })
}

fn slower(what: What, q: f64, now: &Histogram, before: &Histogram) -> Option<Off> {
    let (is, was) = (now.quantile_ns(q)?, before.quantile_ns(q)?);
    let (x, y) = (f64_from(is), f64_from(was));
    let beyond = now.count_from(coral_model::num::u64_from_f64(y * SLOWER));
    let share = f64_from(beyond) / f64_from(now.count().max(1));
    if beyond < SLOW_REQUESTS || share < SLOW_SHARE {
        return None;
    }
    if what == What::P50 && mixed(before, was) > MIXED {
        return None;
    }
    let by = is.saturating_sub(was);
    let level = match () {
        () if x >= MUCH_SLOWER * y && by >= MUCH_SLOWER_BY => 2,
        () if x >= SLOWER * y && by >= SLOWER_BY => 1,
        () => return None,
    };
    Some(Off { what, level, now: x, before: Some(y) })
}

/// Share of requests that were much slower than the median `was`.
fn mixed(before: &Histogram, was: u64) -> f64 {
    let slow = before.count_from(coral_model::num::u64_from_f64(f64_from(was) * SLOWER));
    f64_from(slow) / f64_from(before.count().max(1))
}

fn rate(now: &Stretch, before: &Stretch) -> Option<Off> {
    let (is, was) = (now.rate(), before.rate());
    let expected = was * now.seconds;
    let enough = before.requests >= RATE_BEFORE && expected >= RATE_EXPECTED;
    let what = match () {
        () if !enough => return None,
        () if now.requests == 0 => What::Silence,
        () if is * RATE_FACTOR <= was || is >= was * RATE_FACTOR => What::Rate,
        () => return None,
    };
    Some(Off { what, level: 1, now: is, before: Some(was) })
}

/// Requests in flight of a service, for [`hung`].
#[derive(Debug, Clone, Copy)]
pub struct Waiting {
    /// How many.
    pub inflight: u64,
    /// Age of the oldest.
    pub oldest_ns: u64,
    /// Counted; else a lower bound made of children whose parent has not arrived, some of which
    /// never will because their process died.
    pub exact: bool,
}

/// Whether requests in flight hang: many, and the oldest far older than they ever take.
pub fn hung(waiting: Waiting, usual: &Stretch) -> Option<Off> {
    let p99 = usual.histogram.quantile_ns(0.99).map(f64_from);
    let age = f64_from(waiting.oldest_ns);
    let old = waiting.oldest_ns >= HUNG_AGE && p99.is_none_or(|u| age >= HUNG_FACTOR * u);
    let came = usual.rate() * f64_from(waiting.oldest_ns.min(HUNG_SPAN)) / 1e9;
    let share = if waiting.exact { 0.0 } else { HUNG_SHARE };
    let many = waiting.inflight >= HUNG_REQUESTS && f64_from(waiting.inflight) >= share * came;
    (many && old).then(|| Off {
        what: What::Hung,
        level: 2,
        now: f64_from(waiting.inflight),
        before: None,
    })
}

/// Connections that a caller opened to a callee over one stretch of time, for [`connects`] and
/// [`busy`].
#[derive(Debug, Clone, Copy)]
pub struct Connected {
    /// What is known of them.
    pub tally: Tally,
    /// Requests on them.
    pub requests: u64,
    /// How many were open, on average.
    pub open: f64,
    /// Share of their time in which they were in use; `None` where nobody read it.
    pub busy: Option<f64>,
    /// Whether a connection carries one request at a time.
    pub one_at_a_time: bool,
}

/// Whether connections do not come about. Those that never did, as of a program that tries an address
/// nobody listens at before the one that is right, are worth a mark at most.
pub fn connects(now: &Connected, before: Option<&Connected>) -> Option<Off> {
    let share = |t: &Tally| f64_from(t.failed) / f64_from(t.opened.saturating_add(t.failed).max(1));
    let is = share(&now.tally);
    let tried = |c: &&Connected| c.tally.opened.saturating_add(c.tally.failed) >= UNCONNECTED;
    let was = before.filter(tried).map(|b| share(&b.tally));
    if now.tally.failed < UNCONNECTED {
        return None;
    }
    let (many, risen) = (is > MANY_UNCONNECTED, was.is_none_or(|w| is >= ERROR_FACTOR * w));
    let level = match () {
        () if many && risen => 2,
        () if many || (risen && is >= SOME_UNCONNECTED) => 1,
        () => return None,
    };
    Some(Off { what: What::Connects, level, now: is, before: was })
}

/// Whether all connections of a pool have come to be in use all the time: whoever wants one waits.
pub fn busy(now: &Connected, before: Option<&Connected>) -> Option<Off> {
    let (is, was) = (now.busy?, before.and_then(|b| b.busy)?);
    let reused = now.requests >= now.tally.opened.saturating_mul(BUSY_REUSE);
    let pool = now.one_at_a_time && now.open >= BUSY_OPEN && reused;
    let worse = is >= ALL_BUSY && was < BUSY_BEFORE;
    (pool && worse && now.requests >= BUSY_REQUESTS).then_some(Off {
        what: What::Busy,
        level: 1,
        now: is,
        before: Some(was),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn connected(opened: u64, failed: u64) -> Connected {
        let tally = Tally { opened, failed, ..Tally::default() };
        Connected { tally, requests: 600, open: 10.0, busy: Some(0.3), one_at_a_time: true }
    }

    #[test]
    fn connections_that_do_not_come_about_are_flagged() {
        let level = |now: Connected, before: Option<&Connected>| {
            connects(&now, before).map(|off| off.level)
        };
        assert_eq!(level(connected(0, 14), None), Some(2));
        assert_eq!(level(connected(0, 14), Some(&connected(50, 0))), Some(2));
        assert_eq!(level(connected(0, 14), Some(&connected(0, 1))), Some(2), "once is not always");
        assert_eq!(level(connected(0, 14), Some(&connected(0, 14))), Some(1), "as always");
        assert_eq!(level(connected(90, 4), Some(&connected(90, 0))), Some(1));
        assert_eq!(level(connected(90, 4), Some(&connected(90, 4))), None);
        assert_eq!(level(connected(900, 4), None), None);
        assert_eq!(level(connected(0, 2), None), None);
    }

    #[test]
    fn a_pool_is_exhausted_only_where_it_was_not_before() {
        let calm = connected(2, 0);
        let full = Connected { busy: Some(0.97), ..calm };
        let off = busy(&full, Some(&calm)).unwrap();
        assert_eq!((off.what, off.level, off.now), (What::Busy, 1, 0.97));
        // Workers that always were as busy, what opens a connection per request, a single one, what
        // carries many requests at once, and what nobody read.
        assert!(busy(&full, Some(&full)).is_none() && busy(&full, None).is_none());
        assert!(busy(&Connected { tally: connected(600, 0).tally, ..full }, Some(&calm)).is_none());
        assert!(busy(&Connected { open: 1.0, ..full }, Some(&calm)).is_none());
        assert!(busy(&Connected { one_at_a_time: false, ..full }, Some(&calm)).is_none());
        assert!(busy(&Connected { busy: None, ..full }, Some(&calm)).is_none());
        assert!(busy(&Connected { requests: 25, ..full }, Some(&calm)).is_none());
        assert!(busy(&calm, Some(&calm)).is_none());
    }

    fn stretch(requests: u64, errors: u64, ns: u64, seconds: f64) -> Stretch {
        let mut histogram = Histogram::default();
        (0..requests).for_each(|n| histogram.record(ns + n % 7 * ns / 20));
        Stretch { requests, errors, no_answer: 0, histogram, seconds }
    }

    #[test]
    fn noise_is_not_flagged() {
        // One failed of fifty; one slow request of a hundred; a rate that wobbles; few requests.
        assert!(judge(&stretch(50, 1, MILLI, 60.0), Some(&stretch(50, 0, MILLI, 60.0))).is_empty());
        let mut one = stretch(100, 0, MILLI, 60.0);
        one.histogram.record(SECOND);
        assert!(judge(&one, Some(&stretch(100, 0, MILLI, 60.0))).is_empty());
        let (low, high) = (stretch(600, 0, MILLI, 60.0), stretch(1500, 0, MILLI, 60.0));
        assert!(judge(&high, Some(&low)).is_empty());
        let (few, slow) = (stretch(15, 0, MILLI, 60.0), stretch(15, 0, SECOND, 60.0));
        assert!(judge(&slow, Some(&few)).is_empty());
        // 200 µs instead of 50 µs is four times as much and nobody's problem.
        let (fast, slower) = (stretch(500, 0, 50_000, 60.0), stretch(500, 0, 200_000, 60.0));
        assert!(judge(&slower, Some(&fast)).is_empty());
    }

    #[test]
    fn what_is_bad_is_flagged() {
        let calm = stretch(600, 1, 20 * MILLI, 60.0);
        let worst = |now: &Stretch| judge(now, Some(&calm)).first().map(|o| (o.what, o.level));
        assert_eq!(worst(&stretch(600, 0, 2 * SECOND, 60.0)), Some((What::P99, 2)));
        assert_eq!(worst(&stretch(600, 0, 50 * MILLI, 60.0)), Some((What::P99, 1)));
        assert_eq!(worst(&stretch(600, 60, 20 * MILLI, 60.0)), Some((What::Errors, 2)));
        assert_eq!(worst(&stretch(60, 0, 20 * MILLI, 60.0)), Some((What::Rate, 1)));
        assert_eq!(worst(&stretch(0, 0, 0, 60.0)), Some((What::Silence, 1)));
        // Always failing a fifth is still failing; always failing a tenth is worth a mark.
        let bad = stretch(600, 150, 20 * MILLI, 60.0);
        assert_eq!(level(&judge(&bad, Some(&bad))), 2);
        let meh = stretch(600, 60, 20 * MILLI, 60.0);
        assert_eq!(level(&judge(&meh, Some(&meh))), 1);
    }

    #[test]
    fn a_slow_first_second_does_not_hide_a_fault() {
        let mut before = stretch(140, 0, 20 * MILLI, 20.0);
        (0..4).for_each(|_| before.histogram.record(600 * MILLI));
        let now = stretch(140, 0, 920 * MILLI, 20.0);
        let worst = judge(&now, Some(&before)).first().map(|o| (o.what, o.level));
        assert_eq!(worst, Some((What::P90, 2)));
    }

    #[test]
    fn a_fault_that_began_before_the_comparison_is_plain_in_the_median() {
        let mut before = stretch(100, 0, 20 * MILLI, 20.0);
        (0..20).for_each(|_| before.histogram.record(950 * MILLI));
        let now = stretch(140, 0, 920 * MILLI, 20.0);
        let worst = |before: &Stretch| judge(&now, Some(before)).first().map(|o| (o.what, o.level));
        assert_eq!(worst(&before), Some((What::P50, 2)));
        // Where half of them always were as slow, nothing is said by it.
        (0..80).for_each(|_| before.histogram.record(950 * MILLI));
        assert_eq!(worst(&before), None);
    }

    #[test]
    fn waiting_long_is_only_hanging_where_it_is_unusual() {
        let quick = stretch(100, 0, MILLI, 60.0);
        let slow = stretch(100, 0, 30 * SECOND, 60.0);
        let of = |inflight, seconds| Waiting { inflight, oldest_ns: seconds * SECOND, exact: true };
        assert!(hung(of(5, 15), &quick).is_some());
        assert!(hung(of(5, 15), &slow).is_none());
        assert!(hung(of(2, 15), &quick).is_none());
        assert!(hung(of(5, 2), &quick).is_none());
        // A few lost children of a busy service are no hang; of a quiet one they may be.
        let busy = stretch(6000, 0, MILLI, 60.0);
        let bound = |inflight, seconds| Waiting { exact: false, ..of(inflight, seconds) };
        assert!(hung(bound(7, 500), &busy).is_none());
        assert!(hung(bound(400, 500), &busy).is_some());
        assert!(hung(bound(7, 500), &stretch(60, 0, MILLI, 60.0)).is_some());
    }
}
