//! Which runs make one incident: those that overlap in time, or nearly, in any service.
//!
//! Services do not fall and recover in the same second. Looked at one by one, the one where it began
//! is in line again while its callers still work off what waited, and they would be blamed for it. So
//! whatever was out of line together is told together, until all of it is over.

use coral_model::time::{BUCKET, Time, Window};
use hashbrown::HashMap;

use super::symbols::Symbol;
use super::timeline::{Course, Run};

/// Runs with no more than this between them are of one incident.
const APART: u64 = BUCKET;

/// Widens `seed` to all that hangs together with it, and makes each service be judged by its runs in
/// there.
pub fn gather(
    courses: &mut HashMap<Symbol, Course>,
    seed: Window,
    counts: impl Fn(&Run) -> bool,
) -> Window {
    let mut window = seed;
    loop {
        let near = Window::new(window.from.minus(APART + 1), window.to.plus(APART + 1));
        let all = courses.values().flat_map(|c| c.ended.iter().chain(&c.run));
        let wider = all
            .filter(|run| counts(run) && run.meets(near))
            .fold(window, |w, run| Window::new(w.from.min(run.since), w.to.max(run.until)));
        if wider == window {
            break;
        }
        window = wider;
    }
    for course in courses.values_mut() {
        let ended = course.ended.iter().filter(|run| counts(run) && run.meets(window));
        course.run = ended.cloned().chain(course.run.take()).reduce(|run, later| run.with(&later));
    }
    window
}

/// The runs that were over by the end of `window` and not before it began, the latest first.
pub fn ended(
    courses: &HashMap<Symbol, Course>,
    window: Window,
    counts: impl Fn(&Run) -> bool,
) -> Vec<(Symbol, Window)> {
    let of = |(service, course): (&Symbol, &Course)| {
        let runs = course.ended.iter().filter(|run| counts(run) && run.until > window.from);
        runs.map(|run| (*service, run.window())).collect::<Vec<_>>()
    };
    let mut runs: Vec<(Symbol, Window)> = courses.iter().flat_map(of).collect();
    runs.sort_unstable_by_key(|(service, run)| (std::cmp::Reverse(run.to), run.from, *service));
    runs
}

/// The first moment of an incident: where bad requests begin to come in numbers.
///
/// `requests` are begin and badness of single requests, in order of time. With shares of bad ones
/// before and since, the moment is the one from which on they are likeliest (the cumulative sum of
/// log-likelihood ratios; Page, *Continuous inspection schemes*, 1954).
pub fn first_moment(requests: &[(Time, bool)], before: f64, since: f64) -> Option<Time> {
    let (before, since) = (before.clamp(0.001, 0.999), since.clamp(0.001, 0.999));
    if since <= before {
        return None;
    }
    let gain = |bad: bool| match bad {
        true => (since / before).ln(),
        false => ((1.0 - since) / (1.0 - before)).ln(),
    };
    let mut best: Option<(f64, Time)> = None;
    let mut rest = 0.0;
    for (at, bad) in requests.iter().rev() {
        rest += gain(*bad);
        if *bad && best.is_none_or(|(most, _)| rest >= most) {
            best = Some((rest, *at));
        }
    }
    best.map(|(_, at)| at)
}

#[cfg(test)]
mod tests {
    use coral_model::time::SECOND;

    use super::super::rules::Stretch;
    use super::*;

    fn run(from: u64, to: u64, lasts: bool) -> Run {
        let at = |bucket: u64| Time(bucket * BUCKET);
        Run {
            since: at(from),
            until: at(to),
            lasts,
            reference: Stretch::default(),
            learnt: Window::new(at(0), at(from)),
            silent: false,
        }
    }

    /// A service, its runs that ended, and when the one it is in began; in buckets.
    type Told<'a> = (Symbol, &'a [(u64, u64)], Option<u64>);

    fn courses(of: &[Told<'_>]) -> HashMap<Symbol, Course> {
        let course = |(service, ended, since): &Told<'_>| {
            let course = Course {
                run: since.map(|since| run(since, 100, true)),
                ended: ended.iter().map(|&(from, to)| run(from, to, false)).collect(),
                reference: Stretch::default(),
                slow_ns: 0,
            };
            (*service, course)
        };
        of.iter().map(course).collect()
    }

    #[test]
    fn what_overlaps_is_one_incident() {
        // 1 recovered while 2, which overlaps it, and 3, right after 2, have not; 4 was long before.
        let mut all = courses(&[
            (1, &[(60, 80)], None),
            (2, &[(30, 40), (75, 90)], None),
            (3, &[], Some(91)),
            (4, &[(10, 20)], None),
        ]);
        let window = gather(&mut all, run(91, 100, true).window(), |_| true);
        assert_eq!(window, Window::new(Time(60 * BUCKET), Time(100 * BUCKET)));
        let spans =
            |n| all[&n].run.as_ref().map(|r| (r.since.0 / BUCKET, r.until.0 / BUCKET, r.lasts));
        assert_eq!(spans(1), Some((60, 80, false)));
        assert_eq!(spans(2), Some((75, 90, false)));
        assert_eq!(spans(3), Some((91, 100, true)));
        assert_eq!(spans(4), None);
    }

    #[test]
    fn runs_of_one_service_in_an_incident_are_one() {
        let mut all = courses(&[(1, &[(50, 60), (61, 70)], Some(71))]);
        gather(&mut all, run(71, 100, true).window(), |_| true);
        let run = all[&1].run.as_ref().unwrap();
        assert_eq!(
            (run.since, run.until, run.lasts),
            (Time(50 * BUCKET), Time(100 * BUCKET), true)
        );
        assert_eq!(run.learnt.to, Time(50 * BUCKET), "the reference is what was before all of it");
    }

    #[test]
    fn the_latest_that_ended_comes_first() {
        let all = courses(&[(1, &[(10, 20), (60, 80)], None), (2, &[(70, 85)], None)]);
        let window = Window::new(Time(50 * BUCKET), Time(100 * BUCKET));
        let order: Vec<_> = ended(&all, window, |_| true).into_iter().map(|(n, _)| n).collect();
        assert_eq!(order, [2, 1]);
    }

    #[test]
    fn the_first_moment_is_where_bad_ones_come_in_numbers() {
        let at = |tenth: u64| Time(1_000 * SECOND + tenth * SECOND / 10);
        // One in fifty is bad as ever; from the 137th on all but every fourth.
        let bad = |n: u64| if n < 137 { n % 50 == 7 } else { !n.is_multiple_of(4) };
        let requests: Vec<(Time, bool)> = (0..300).map(|n| (at(n), bad(n))).collect();
        assert_eq!(first_moment(&requests, 0.02, 0.75), Some(at(137)));
        // Nothing tells the two apart.
        assert_eq!(first_moment(&requests, 0.5, 0.5), None);
        assert_eq!(first_moment(&[(at(0), false)], 0.0, 1.0), None);
        assert_eq!(first_moment(&[], 0.0, 1.0), None);
    }
}
