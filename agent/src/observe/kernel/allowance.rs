//! What the agent may cost, and when its eyes close because it costs more.
//!
//! A plain state machine over two numbers: time that does not step, and the CPU time that the whole agent has
//! used. Whoever drives it ([`super::lids`]) reads both every few seconds and does what it says.
//!
//! It goes on measuring while they are closed: where it is not the eyes that cost so much (an agent that takes much
//! OTLP), closing them saves nothing, and they stay open for an hour.

use coral_model::num::{f64_from, u64_from_f64};
use coral_model::time::SECOND;

/// More than it may for so long in a row closes the eyes, ns.
const PATIENCE_NS: u64 = 30 * SECOND;
/// How long they stay closed then, ns.
const FIRST_NS: u64 = 300 * SECOND;
/// The longest they do, ns.
const LONGEST_NS: u64 = 3_600 * SECOND;
/// When they have to be closed again within so long of the end of a pause, the next is twice as long, ns.
const SOON_NS: u64 = 600 * SECOND;
/// For so long they are not closed after a pause that did not help, ns.
const SPARED_NS: u64 = 3_600 * SECOND;

/// Why the eyes are closed for a while.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Pause {
    /// For how long, ns.
    pub length_ns: u64,
    /// Cores the agent used, on average.
    pub used: f64,
    /// Over so long, ns.
    pub over_ns: u64,
    /// Cores it may use.
    pub limit: f64,
}

/// As in "closed for 5 minutes: …".
impl std::fmt::Display for Pause {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { length_ns, used, over_ns, limit } = self;
        let (minutes, seconds) = (length_ns / (60 * SECOND), over_ns / SECOND);
        write!(
            f,
            "closed for {minutes} minutes: the agent took {} of a core for {seconds} s, more than \
             --cpu-limit {}",
            percent(*used),
            percent(*limit)
        )
    }
}

/// `63 %`, `2.5 %`.
fn percent(cores: f64) -> String {
    let tenths = f64_from(u64_from_f64((cores * 1e3).round()));
    format!("{} %", tenths / 10.0)
}

/// What is to be done.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Verdict {
    /// Nothing: open they stay open, closed they stay closed.
    Stay,
    /// The eyes close.
    Close(Pause),
    /// They have been closed long enough.
    Open {
        /// Whether without them the agent cost no more than it may. Else they stay open for a while, whatever it costs.
        helped: bool,
    },
}

#[derive(Debug, Clone, Copy)]
struct Reading {
    at_ns: u64,
    cpu_ns: u64,
}

/// The state machine.
#[derive(Debug)]
pub struct Allowance {
    /// Cores; `None`: any.
    limit: Option<f64>,
    last: Option<Reading>,
    /// From when on every reading was above the limit, with open eyes or closed.
    above: Option<Reading>,
    /// Until when the eyes are closed, ns.
    until_ns: Option<u64>,
    /// When the last pause was to end, and how long it was, ns.
    before: Option<(u64, u64)>,
    /// Until when they are not closed, ns; 0: they may be.
    spared_ns: u64,
}

impl Allowance {
    /// May use so many cores; `None`: any number.
    #[must_use]
    pub fn new(limit: Option<f64>) -> Self {
        Self { limit, last: None, above: None, until_ns: None, before: None, spared_ns: 0 }
    }

    /// Whether the eyes are closed for what they cost.
    #[must_use]
    pub fn pauses(&self) -> bool {
        self.until_ns.is_some()
    }

    /// The eyes were opened, whoever did it: a pause is over, and measuring begins anew.
    pub fn begin(&mut self) {
        (self.last, self.above, self.until_ns) = (None, None, None);
    }

    /// Takes in a reading: `at_ns` of time that does not step, and the CPU time used by then.
    pub fn step(&mut self, at_ns: u64, cpu_ns: u64) -> Verdict {
        let Some(limit) = self.limit else { return Verdict::Stay };
        let now = Reading { at_ns, cpu_ns };
        let too_much = self.too_much(now, limit);
        if let Some(until_ns) = self.until_ns {
            if at_ns < until_ns {
                return Verdict::Stay;
            }
            self.begin();
            let helped = too_much.is_none();
            if !helped {
                self.spared_ns = at_ns.saturating_add(SPARED_NS);
            }
            return Verdict::Open { helped };
        }
        if at_ns < self.spared_ns {
            self.above = None;
            return Verdict::Stay;
        }
        let Some((since, over_ns)) = too_much else { return Verdict::Stay };
        let soon = |(ended_ns, _): &(u64, u64)| at_ns.saturating_sub(*ended_ns) < SOON_NS;
        let length_ns = match self.before.filter(soon) {
            Some((_, length_ns)) => (2 * length_ns).min(LONGEST_NS),
            None => FIRST_NS,
        };
        let until_ns = at_ns.saturating_add(length_ns);
        self.begin();
        (self.until_ns, self.before) = (Some(until_ns), Some((until_ns, length_ns)));
        let used = used(since, now).unwrap_or(limit);
        Verdict::Close(Pause { length_ns, used, over_ns, limit })
    }

    /// Where every reading of the last half a minute, this one among them, was above the limit: from when on, and
    /// for how long, ns.
    fn too_much(&mut self, now: Reading, limit: f64) -> Option<(Reading, u64)> {
        let last = self.last.replace(now)?;
        let above = used(last, now).is_some_and(|cores| cores > limit);
        self.above = above.then(|| self.above.unwrap_or(last));
        let since = self.above?;
        let over_ns = now.at_ns.saturating_sub(since.at_ns);
        (over_ns >= PATIENCE_NS).then_some((since, over_ns))
    }
}

/// Cores used between two readings; `None` where no time lies between them.
fn used(from: Reading, to: Reading) -> Option<f64> {
    let time = to.at_ns.checked_sub(from.at_ns).filter(|time| *time > 0)?;
    Some(f64_from(to.cpu_ns.saturating_sub(from.cpu_ns)) / f64_from(time))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const EVERY: u64 = 2 * SECOND;
    const HELPED: Verdict = Verdict::Open { helped: true };
    const IN_VAIN: Verdict = Verdict::Open { helped: false };

    /// A machine's clocks, and the state machine that is told of them.
    struct Run {
        allowance: Allowance,
        at_ns: u64,
        cpu_ns: u64,
    }

    impl Run {
        fn new(limit: f64) -> Self {
            Self { allowance: Allowance::new(Some(limit)), at_ns: 1_000 * SECOND, cpu_ns: 7 }
        }

        /// Uses so many thousandths of a core until something is to be done, at most so long.
        fn go(&mut self, thousandths: u64, at_most: u64) -> Verdict {
            let end = self.at_ns + at_most;
            while self.at_ns < end {
                let verdict = self.step(thousandths, EVERY);
                if verdict != Verdict::Stay {
                    return verdict;
                }
            }
            Verdict::Stay
        }

        fn step(&mut self, thousandths: u64, time: u64) -> Verdict {
            self.at_ns += time;
            self.cpu_ns += time / 1_000 * thousandths;
            self.allowance.step(self.at_ns, self.cpu_ns)
        }

        /// The length of the pause that comes of using too much.
        fn paused(&mut self) -> u64 {
            match self.go(900, 60 * SECOND) {
                Verdict::Close(pause) => pause.length_ns,
                other => panic!("{other:?}"),
            }
        }
    }

    #[test]
    fn half_a_minute_of_too_much_closes_the_eyes_and_says_how_much_it_was() {
        let mut run = Run::new(0.5);
        assert_eq!(run.go(500, 600 * SECOND), Verdict::Stay, "what it may is not too much");
        let began = run.at_ns;
        let Verdict::Close(pause) = run.go(632, 60 * SECOND) else { panic!("not closed") };
        assert_eq!(run.at_ns - began, PATIENCE_NS);
        let text = "closed for 5 minutes: the agent took 63.2 % of a core for 30 s, more than \
                    --cpu-limit 50 %";
        assert_eq!(pause.to_string(), text);
        let closed = run.at_ns;
        assert_eq!(run.go(500, 3_600 * SECOND), HELPED);
        assert_eq!(run.at_ns - closed, FIRST_NS);
    }

    #[test]
    fn where_closing_them_saved_nothing_they_stay_open_for_an_hour() {
        let mut run = Run::new(0.5);
        assert_eq!(run.paused(), FIRST_NS);
        assert_eq!(run.go(900, 2 * FIRST_NS), IN_VAIN);
        assert_eq!(run.go(900, SPARED_NS - EVERY), Verdict::Stay, "not within the hour");
        assert_eq!(run.paused(), FIRST_NS, "and after it as if nothing had been");
        assert_eq!(run.go(900, 2 * FIRST_NS), IN_VAIN);
        // Nor does it matter meanwhile that somebody opens them.
        run.allowance.begin();
        assert_eq!(run.go(900, SPARED_NS - EVERY), Verdict::Stay);
    }

    #[test]
    fn the_end_of_a_pause_tells_whether_it_helped() {
        let mut run = Run::new(0.5);
        assert_eq!(run.paused(), FIRST_NS);
        assert_eq!(run.go(900, FIRST_NS - EVERY), Verdict::Stay);
        assert_eq!(run.step(100, EVERY), HELPED);
        assert_eq!(run.go(100, SOON_NS), Verdict::Stay);
        for (high, verdict) in [(PATIENCE_NS - EVERY, HELPED), (PATIENCE_NS, IN_VAIN)] {
            assert_eq!(run.paused(), FIRST_NS);
            assert_eq!(run.go(100, FIRST_NS - high), Verdict::Stay);
            assert_eq!(run.go(900, high), verdict);
            assert_eq!(run.go(100, SOON_NS), Verdict::Stay);
        }
    }

    #[test]
    fn a_moment_below_begins_anew() {
        let mut run = Run::new(0.5);
        for _ in 0..50 {
            assert_eq!(run.go(900, PATIENCE_NS - EVERY), Verdict::Stay);
            assert_eq!(run.step(100, EVERY), Verdict::Stay);
        }
    }

    #[test]
    fn pauses_grow_while_it_happens_again_soon_and_begin_anew_when_it_does_not() {
        let mut run = Run::new(0.5);
        let mut lengths = Vec::new();
        for _ in 0..6 {
            lengths.push(run.paused() / 60 / SECOND);
            assert_eq!(run.go(0, 2 * LONGEST_NS), HELPED);
        }
        assert_eq!(lengths, [5, 10, 20, 40, 60, 60]);
        assert_eq!(run.go(100, SOON_NS), Verdict::Stay);
        assert_eq!(run.paused(), FIRST_NS);
    }

    #[test]
    fn who_opens_them_meanwhile_opens_them_at_once_and_is_not_taken_for_another_trouble() {
        let mut run = Run::new(0.5);
        assert_eq!(run.paused(), FIRST_NS);
        run.allowance.begin();
        assert!(!run.allowance.pauses());
        assert_eq!(run.go(900, PATIENCE_NS - EVERY), Verdict::Stay);
        assert_eq!(run.paused(), 2 * FIRST_NS);
    }

    #[test]
    fn a_machine_that_slept_has_used_little() {
        let mut run = Run::new(0.5);
        assert_eq!(run.go(900, PATIENCE_NS - 2 * EVERY), Verdict::Stay);
        run.at_ns += 3_600 * SECOND;
        assert_eq!(run.go(900, PATIENCE_NS - EVERY), Verdict::Stay);
    }

    #[test]
    fn without_a_limit_nothing_is_too_much() {
        let mut run = Run::new(0.5);
        run.allowance = Allowance::new(None);
        assert_eq!(run.go(16_000, 7_200 * SECOND), Verdict::Stay);
    }

    proptest! {
        /// Times between readings in thousandths of a second, thousandths of a core used in them, and whether
        /// somebody opens the eyes after that.
        #[test]
        fn never_closed_below_the_limit_nor_longer_than_an_hour(
            limit in 1u64..2_000,
            below in any::<bool>(),
            steps in prop::collection::vec((0u64..20_000, 0u64..4_000, prop::bool::weighted(0.02)), 1..800),
        ) {
            let mut run = Run::new(f64_from(limit) / 1e3);
            // For how long it was above the limit without a break, and until when they stay open whatever it costs.
            let (mut above, mut spared) = (0, 0);
            let mut closed: Option<(u64, u64)> = None;
            let mut first = true;
            for (time, thousandths, opened) in steps {
                let thousandths = if below { thousandths.min(limit) } else { thousandths };
                let time = time * 1_000_000;
                let verdict = run.step(thousandths, time);
                let higher = !first && time > 0 && thousandths > limit;
                above = if higher { above + time } else { 0 };
                first = false;
                match verdict {
                    Verdict::Stay => {
                        if let Some((since, length)) = closed {
                            prop_assert!(run.at_ns - since < length, "closed for too long");
                        }
                    }
                    Verdict::Close(pause) => {
                        prop_assert!(!below, "closed below the limit");
                        prop_assert!(closed.is_none(), "closed twice");
                        prop_assert!(run.at_ns >= spared, "closed although that saves nothing");
                        prop_assert!(above >= PATIENCE_NS && pause.over_ns == above);
                        prop_assert!(pause.used > pause.limit);
                        prop_assert!((FIRST_NS..=LONGEST_NS).contains(&pause.length_ns));
                        closed = Some((run.at_ns, pause.length_ns));
                        (above, first) = (0, true);
                    }
                    Verdict::Open { helped } => {
                        let Some((since, length)) = closed.take() else {
                            return Err(TestCaseError::fail("opened and was not closed"));
                        };
                        prop_assert!(run.at_ns - since >= length);
                        prop_assert_eq!(helped, above < PATIENCE_NS);
                        spared = if helped { spared } else { run.at_ns + SPARED_NS };
                        (above, first) = (0, true);
                    }
                }
                if run.at_ns < spared {
                    above = 0;
                }
                if opened {
                    run.allowance.begin();
                    (above, first, closed) = (0, true, None);
                }
                prop_assert_eq!(run.allowance.pauses(), closed.is_some());
            }
        }

        /// Whatever an agent does besides, it is not blind for most of the time because of that.
        #[test]
        fn an_agent_that_costs_too_much_with_closed_eyes_too_is_blind_for_a_tenth_of_its_time_at_most(
            limit in 1u64..2_000,
            more in 1u64..2_000,
            every in prop::collection::vec(1_000u64..5_000, 1..50),
        ) {
            let mut run = Run::new(f64_from(limit) / 1e3);
            let (began, mut blind) = (run.at_ns, 0);
            for time in every.into_iter().cycle() {
                if run.at_ns - began > 6 * SPARED_NS {
                    break;
                }
                let (since, were_closed) = (run.at_ns, run.allowance.pauses());
                _ = run.step(limit + more, time * 1_000_000);
                blind += if were_closed { run.at_ns - since } else { 0 };
            }
            prop_assert!((1..(run.at_ns - began) / 10).contains(&blind), "{blind}");
        }
    }
}
