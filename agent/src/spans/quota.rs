//! Which requests become spans where there are too many.
//!
//! Chosen by trace: those whose id hashes into the share that the second before would have had to be cut to.
//! What a busier agent chooses is part of what the others do. Requests that failed have a quota of their own:
//! they are what is looked for, and the many others do not push them out. So of a trace its failed requests may
//! be there and the others not, or the other way round; and the first second of a burst, before anybody knows of
//! it, is cut at [`MOST`] wherever a trace then is.
//!
//! A trace's id may be chosen by who asks (`traceparent`), so that one trace alone gets no more than a part.

use std::collections::HashMap;

use coral_model::num::u64_sat;
use coral_model::time::SECOND;
use xxhash_rust::xxh3::xxh3_64;

/// Spans a second, of requests that failed and of the others each.
pub const AIM: u64 = 100;
/// The same, where there were fewer the second before.
pub const MOST: u64 = 2 * AIM;
/// The same, of one trace.
const OF_ONE: u64 = AIM / 4;

/// What is left of a second.
#[derive(Debug, Default)]
pub struct Quota {
    second: u64,
    usual: Share,
    failed: Share,
}

#[derive(Debug, Default)]
struct Share {
    asked: u64,
    taken: u64,
    /// How many there were the second before.
    before: u64,
    /// How many were taken of each trace, by the hash of its id: never more than [`MOST`] traces.
    of_trace: HashMap<u64, u64>,
}

impl Quota {
    /// Whether a span is made of one more request of this trace.
    pub fn takes(&mut self, trace: [u8; 16], failed: bool, now_ns: u64) -> bool {
        let second = now_ns / SECOND;
        if second != self.second {
            let follows = self.second.checked_add(1) == Some(second);
            self.usual.begin(follows);
            self.failed.begin(follows);
            self.second = second;
        }
        let share = if failed { &mut self.failed } else { &mut self.usual };
        share.takes(xxh3_64(&trace))
    }
}

impl Share {
    fn begin(&mut self, follows: bool) {
        let before = if follows { self.asked } else { 0 };
        (self.asked, self.taken, self.before) = (0, 0, before);
        self.of_trace.clear();
    }

    fn takes(&mut self, hash: u64) -> bool {
        self.asked = self.asked.saturating_add(1);
        // hash / 2^64 < AIM / before, without losing bits.
        let product = u128::from(hash) * u128::from(self.before.max(AIM));
        let chosen = u64_sat(product >> 64) < AIM;
        if !chosen || self.taken >= MOST {
            return false;
        }
        let of_trace = self.of_trace.entry(hash).or_default();
        if *of_trace >= OF_ONE {
            return false;
        }
        *of_trace += 1;
        self.taken += 1;
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn trace(n: u64) -> [u8; 16] {
        u128::from(xxh3_64(&n.to_be_bytes())).to_be_bytes()
    }

    /// Which of so many requests of a second are taken.
    fn taken(quota: &mut Quota, second: u64, n: u64, failed: bool) -> Vec<u64> {
        let takes = |n: &u64| quota.takes(trace(*n), failed, second * SECOND);
        (0..n).filter(takes).collect()
    }

    #[test]
    fn few_are_all_taken_and_many_are_bounded() {
        let mut quota = Quota::default();
        assert_eq!(taken(&mut quota, 5, AIM, false).len() as u64, AIM);
        // A burst, before anybody knows of it.
        assert_eq!(taken(&mut quota, 6, 50 * AIM, false).len() as u64, MOST);
        // Then it is known: about as many as is aimed at, of all of the second.
        let chosen = taken(&mut quota, 7, 50 * AIM, false);
        let n = chosen.len() as u64;
        assert!(n > AIM / 2 && n < MOST, "{n}");
        assert!(chosen.last().is_some_and(|last| *last > 40 * AIM), "{chosen:?}");
        // Of a trace everything: the same ones again.
        assert_eq!(taken(&mut quota, 8, 50 * AIM, false), chosen);
        // Failed ones have their own.
        assert_eq!(taken(&mut quota, 8, AIM, true).len() as u64, AIM);
        // Quiet for a while: nothing is left out.
        assert_eq!(taken(&mut quota, 20, AIM, false).len() as u64, AIM);
    }

    #[test]
    fn one_trace_does_not_push_out_the_others() {
        let mut quota = Quota::default();
        let one = |quota: &mut Quota, second: u64, failed| {
            let takes = |_: &u64| quota.takes(trace(7), failed, second * SECOND);
            (0..10 * AIM).filter(takes).count() as u64
        };
        assert_eq!((one(&mut quota, 5, false), one(&mut quota, 5, true)), (OF_ONE, OF_ONE));
        let others = taken(&mut quota, 5, AIM, false);
        assert!(others.len() as u64 == AIM - 1 && !others.contains(&7));
        assert_eq!(quota.usual.of_trace.len() as u64, AIM);
        // Each second anew, and never more traces than are taken.
        assert_eq!(one(&mut quota, 50, false), OF_ONE);
        assert_eq!(taken(&mut quota, 60, 50 * AIM, false).len() as u64, MOST);
        assert_eq!(quota.usual.of_trace.len() as u64, MOST);
    }

    #[test]
    fn who_is_busier_chooses_among_what_others_choose() {
        let (mut busy, mut busier) = (Quota::default(), Quota::default());
        _ = (taken(&mut busy, 1, 10 * AIM, false), taken(&mut busier, 1, 40 * AIM, false));
        let few = taken(&mut busy, 2, 10 * AIM, false);
        let fewer: Vec<u64> =
            (0..10 * AIM).filter(|n| busier.takes(trace(*n), false, 2 * SECOND)).collect();
        assert!(!fewer.is_empty() && fewer.len() < few.len());
        assert!(fewer.iter().all(|n| few.contains(n)));
    }
}
