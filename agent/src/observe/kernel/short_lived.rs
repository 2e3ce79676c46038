//! Processes that live too short to be followed: which programs begin and end all the time, who starts them, how many,
//! how many fail.
//!
//! Comes in: every end that the kernel tells ([`Ended`]). Goes out: those of the last whole minute, by program and by
//! who started it. The minute moves on by ten seconds, so that a count does not jump with every reading. Each ten
//! seconds have a bounded table; what finds no room there, and what is not among the most, is told as one, so that the
//! rows add up to all that ended. Coral's own programs are left out. Time is passed in.

use std::collections::{BTreeMap, HashMap};

use coral_model::time::SECOND;
use coral_model::view::{ShortLived, ShortLivedProgram};

use super::ends::Ended;
use crate::observe::requests::watch::is_own;

/// What lives for less is in one of two readings of `/proc` at most, which are this far apart
/// ([`crate::observe::run`]): nothing else tells of it.
const SHORT_NS: u64 = 2 * SECOND;
/// By so much the window moves on.
const SLICE_NS: u64 = 10 * SECOND;
/// So many of these are the window: a minute.
const SLICES: u64 = 6;
/// Kinds of processes in one of these; more are told together.
const KINDS: usize = 256;
/// Kinds that are told one by one, those with most processes.
const ROWS: usize = 20;
/// The program of all others.
const OTHER: &str = "__other__";

/// Why nothing is told where nobody sees how processes end.
const NOT_SEEN: &str = "only eBPF sees them; coral doctor says why it does not (ebpf)";
/// Why nothing is told yet.
const NOT_YET: &str = "they are counted since a moment ago; wait 10 s";

/// What processes are told together by.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
struct Kind {
    program: String,
    parent: Option<String>,
}

/// What is told of some processes.
#[derive(Debug, Clone, Default)]
struct Tally {
    count: u64,
    failed: u64,
    /// When the last of those ended, ns since boot, and how.
    failure: Option<(u64, String)>,
    lived_ns: u64,
    longest_ns: u64,
}

impl Tally {
    /// Of one process, which lived so long.
    fn of(ended: &Ended, lived_ns: u64) -> Self {
        let failed = ended.code != Some(0);
        Self {
            count: 1,
            failed: u64::from(failed),
            failure: failed.then(|| (ended.at_ns, ended.to_string())),
            lived_ns,
            longest_ns: lived_ns,
        }
    }

    fn add(&mut self, other: &Self) {
        self.count = self.count.saturating_add(other.count);
        self.failed = self.failed.saturating_add(other.failed);
        let when = |tally: &Self| tally.failure.as_ref().map(|(at_ns, _)| *at_ns);
        if when(self) < when(other) {
            self.failure.clone_from(&other.failure);
        }
        self.lived_ns = self.lived_ns.saturating_add(other.lived_ns);
        self.longest_ns = self.longest_ns.max(other.longest_ns);
    }

    fn row(self, program: &str, parent: Option<&str>) -> ShortLivedProgram {
        ShortLivedProgram {
            program: program.to_owned(),
            parent: parent.map(str::to_owned),
            count: self.count,
            failed: self.failed,
            last_failure: self.failure.map(|(_, how)| how),
            lived_ns: self.lived_ns,
            longest_ns: self.longest_ns,
        }
    }
}

/// What ended in ten seconds.
#[derive(Debug, Default)]
struct Slice {
    kinds: HashMap<Kind, Tally>,
    /// For which there was no room.
    other: Tally,
}

/// Counts them; see the module.
#[derive(Debug, Default)]
pub struct ShortLives {
    /// Since when they are counted, ns since boot; `None`: nobody tells how processes end.
    since_ns: Option<u64>,
    /// By how many came before since then: those of the window, and the one that is under way.
    slices: BTreeMap<u64, Slice>,
    folded: u64,
}

impl ShortLives {
    /// Every end is told from now on, ns since boot.
    pub fn begin(&mut self, now_ns: u64) {
        self.since_ns = Some(now_ns);
        self.slices.clear();
    }

    /// No end is told any more.
    pub fn end(&mut self) {
        self.since_ns = None;
        self.slices.clear();
    }

    /// A process ended.
    pub fn count(&mut self, ended: &Ended) {
        let lived_ns = ended.at_ns.saturating_sub(ended.start_ns);
        let after_ns = self.since_ns.and_then(|since_ns| ended.at_ns.checked_sub(since_ns));
        let Some(after_ns) = after_ns.filter(|_| lived_ns < SHORT_NS) else { return };
        if is_own(&ended.name) {
            return;
        }
        let number = after_ns / SLICE_NS;
        let newest = self.slices.last_key_value().map_or(number, |(last, _)| number.max(*last));
        if number + SLICES < newest {
            // It is told so late that the window has moved on.
            return;
        }
        while self.slices.first_key_value().is_some_and(|(first, _)| first + SLICES < newest) {
            _ = self.slices.pop_first();
        }
        let slice = self.slices.entry(number).or_default();
        let kind = Kind { program: ended.name.clone(), parent: ended.parent.clone() };
        let fits = slice.kinds.len() < KINDS || slice.kinds.contains_key(&kind);
        let tally = if fits { slice.kinds.entry(kind).or_default() } else { &mut slice.other };
        tally.add(&Tally::of(ended, lived_ns));
        self.folded += u64::from(!fits);
    }

    /// Those of the last whole minute before `now_ns`, or of as much of it as was counted.
    ///
    /// # Errors
    /// Why that is not known.
    pub fn told(&self, now_ns: u64) -> Result<ShortLived, &'static str> {
        let since_ns = self.since_ns.ok_or(NOT_SEEN)?;
        let whole = now_ns.saturating_sub(since_ns) / SLICE_NS;
        if whole == 0 {
            return Err(NOT_YET);
        }
        let first = whole.saturating_sub(SLICES);
        let mut kinds: HashMap<&Kind, Tally> = HashMap::new();
        let mut other = Tally::default();
        for slice in self.slices.range(first..whole).map(|(_, slice)| slice) {
            for (kind, tally) in &slice.kinds {
                kinds.entry(kind).or_default().add(tally);
            }
            other.add(&slice.other);
        }
        let mut kinds: Vec<(&Kind, Tally)> = kinds.into_iter().collect();
        kinds.sort_unstable_by(|(a, n), (b, m)| m.count.cmp(&n.count).then_with(|| a.cmp(b)));
        kinds.iter().skip(ROWS).for_each(|(_, tally)| other.add(tally));
        kinds.truncate(ROWS);
        let row = |(kind, tally): (&Kind, Tally)| tally.row(&kind.program, kind.parent.as_deref());
        let mut programs: Vec<_> = kinds.into_iter().map(row).collect();
        if other.count > 0 {
            programs.push(other.row(OTHER, None));
        }
        Ok(ShortLived { window_ns: (whole - first) * SLICE_NS, programs })
    }

    /// Processes for whose kind there was no room, since the agent was started.
    #[must_use]
    pub fn folded(&self) -> u64 {
        self.folded
    }
}

#[cfg(test)]
mod tests {
    use coral_model::time::MILLI;
    use proptest::prelude::*;

    use super::*;

    /// When counting begins.
    const SINCE: u64 = 1_000 * SECOND;

    /// A process that ended so long after that, had lived so long, and exited with this.
    fn ended(program: &str, parent: &str, after_ns: u64, lived_ns: u64, code: u32) -> Ended {
        let at_ns = SINCE + after_ns;
        Ended {
            pid: 7,
            start_ns: at_ns - lived_ns,
            at_ns,
            name: program.into(),
            parent: Some(parent.into()),
            code: Some(code),
            signal: None,
            by: None,
            core: false,
        }
    }

    fn counting() -> ShortLives {
        let mut lives = ShortLives::default();
        lives.begin(SINCE);
        lives
    }

    fn told(lives: &ShortLives, after_ns: u64) -> (u64, Vec<(String, u64, u64)>) {
        let told = lives.told(SINCE + after_ns).unwrap();
        let row = |row: ShortLivedProgram| (row.program, row.count, row.failed);
        (told.window_ns / SECOND, told.programs.into_iter().map(row).collect())
    }

    #[test]
    fn programs_are_told_by_who_started_them() {
        let mut lives = counting();
        lives.count(&ended("curl", "sh", SECOND, 10 * MILLI, 0));
        lives.count(&ended("curl", "sh", 3 * SECOND, 30 * MILLI, 7));
        lives.count(&ended("curl", "sh", 2 * SECOND, 20 * MILLI, 6));
        lives.count(&ended("curl", "cron", SECOND, MILLI, 0));
        let killed = Ended { code: None, signal: Some(9), ..ended("ls", "sh", SECOND, 0, 0) };
        lives.count(&killed);
        let row = |parent: &str, program: &str| ShortLivedProgram {
            program: program.into(),
            parent: Some(parent.into()),
            count: 1,
            ..ShortLivedProgram::default()
        };
        let curl = ShortLivedProgram {
            count: 3,
            failed: 2,
            last_failure: Some("exited with 7".into()),
            lived_ns: 60 * MILLI,
            longest_ns: 30 * MILLI,
            ..row("sh", "curl")
        };
        let cron = ShortLivedProgram { lived_ns: MILLI, longest_ns: MILLI, ..row("cron", "curl") };
        let last_failure = Some("was killed by SIGKILL".into());
        let ls = ShortLivedProgram { failed: 1, last_failure, ..row("sh", "ls") };
        let all = ShortLived { window_ns: 10 * SECOND, programs: vec![curl, cron, ls] };
        assert_eq!(lives.told(SINCE + 10 * SECOND), Ok(all));
    }

    #[test]
    fn who_lives_longer_is_seen_otherwise_and_corals_own_are_left_out() {
        let mut lives = counting();
        for (program, lived_ns) in
            [("a", SHORT_NS), ("b", SHORT_NS - 1), ("coral", 1), ("coral-agent", 1)]
        {
            lives.count(&ended(program, "sh", SECOND, lived_ns, 0));
        }
        lives.count(&ended("coralline", "coral-agent", SECOND, 1, 0));
        let rows = vec![("b".to_owned(), 1, 0), ("coralline".to_owned(), 1, 0)];
        assert_eq!(told(&lives, SLICE_NS), (10, rows));
    }

    #[test]
    fn the_window_is_the_last_whole_minute_and_what_there_was_of_it_before() {
        let mut lives = ShortLives::default();
        lives.count(&ended("a", "sh", 0, 0, 0));
        assert_eq!(lives.told(SINCE), Err(NOT_SEEN));
        lives.begin(SINCE);
        // It ended before anybody counted.
        lives.count(&Ended { at_ns: SINCE - 1, start_ns: SINCE - 2, ..ended("a", "sh", 0, 0, 0) });
        assert_eq!(lives.told(SINCE + SLICE_NS - 1), Err(NOT_YET));
        assert_eq!(told(&lives, SLICE_NS), (10, vec![]));
        // One each second.
        for second in 0..200 {
            lives.count(&ended("a", "sh", second * SECOND, 0, 0));
            let (window, rows) = if second < 10 { continue } else { told(&lives, second * SECOND) };
            assert_eq!(window, (second / 10 * 10).min(60), "{second}");
            assert_eq!(rows, [("a".to_owned(), window, 0)], "{second}");
        }
        // Told late, and too late.
        lives.count(&ended("b", "sh", 150 * SECOND, 0, 0));
        lives.count(&ended("c", "sh", 100 * SECOND, 0, 0));
        assert_eq!(told(&lives, 205 * SECOND).1.len(), 2);
        assert_eq!(told(&lives, 300 * SECOND), (60, vec![]));
        lives.end();
        assert_eq!(lives.told(SINCE + 300 * SECOND), Err(NOT_SEEN));
    }

    #[test]
    fn what_finds_no_room_is_told_together_and_counted() {
        let mut lives = counting();
        for n in 0..KINDS + 10 {
            lives.count(&ended(&format!("p{n}"), "sh", SECOND, 0, 1));
        }
        for _ in 0..5 {
            lives.count(&ended("p200", "sh", 2 * SECOND, 0, 0));
        }
        assert_eq!(lives.folded(), 10);
        let (_, rows) = told(&lives, SLICE_NS);
        assert_eq!((rows.len(), &rows[0]), (ROWS + 1, &("p200".to_owned(), 6, 1)));
        let rest = u64::try_from(KINDS + 10 - ROWS).unwrap();
        assert_eq!(rows[ROWS], (OTHER.to_owned(), rest, rest));
        // The next ten seconds have room of their own.
        lives.count(&ended("p999", "sh", 11 * SECOND, 0, 0));
        assert_eq!(lives.folded(), 10);
    }

    proptest! {
        #[test]
        fn the_rows_add_up_to_what_ended_in_the_window(
            ends in prop::collection::vec((0u64..100, 0u8..40, 0u8..3, 0u64..3_000, 0u32..2), 0..300),
            now in 10u64..110,
        ) {
            let mut ends = ends;
            ends.sort_unstable();
            let mut lives = counting();
            for (second, program, parent, lived_ms, code) in &ends {
                let (program, parent) = (format!("p{program}"), format!("q{parent}"));
                let (after_ns, lived_ns) = (second * SECOND, lived_ms * MILLI);
                // Nothing is told before it happens.
                if *second < now {
                    lives.count(&ended(&program, &parent, after_ns, lived_ns, *code));
                }
            }
            let told = lives.told(SINCE + now * SECOND).unwrap();
            let whole = now / 10 * 10;
            let window = whole.saturating_sub(60)..whole;
            ends.retain(|(second, _, _, lived_ms, _)| window.contains(second) && *lived_ms < 2_000);
            let sum = |of: fn(&ShortLivedProgram) -> u64| told.programs.iter().map(of).sum::<u64>();
            prop_assert_eq!(told.window_ns, whole.min(60) * SECOND);
            prop_assert_eq!(sum(|row| row.count), u64::try_from(ends.len()).unwrap());
            let failed = ends.iter().map(|(.., code)| u64::from(*code)).sum::<u64>();
            prop_assert_eq!(sum(|row| row.failed), failed);
            let lived = ends.iter().map(|(_, _, _, lived_ms, _)| lived_ms * MILLI).sum::<u64>();
            prop_assert_eq!(sum(|row| row.lived_ns), lived);
            prop_assert!(told.programs.len() <= ROWS + 1);
            let by_count = told.programs.iter().take(ROWS).is_sorted_by(|a, b| a.count >= b.count);
            prop_assert!(by_count, "{:?}", told.programs);
            for row in &told.programs {
                prop_assert!(row.failed <= row.count && row.longest_ns < SHORT_NS);
                prop_assert_eq!(row.failed > 0, row.last_failure.is_some());
            }
        }
    }
}
