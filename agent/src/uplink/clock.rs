//! How far the agent's clock lies from the colony's.
//!
//! One exchange bounds the offset by half its round trip; of the last few, the one with the shortest
//! round trip is believed (as in NTP, RFC 5905 §10).

use std::collections::VecDeque;

use coral_model::num::i64_sat;

const SAMPLES: usize = 16;

/// The estimate.
#[derive(Debug, Default)]
pub struct Offset {
    samples: VecDeque<(u64, i64)>,
}

impl Offset {
    /// A ping sent at `sent` (agent's clock) was received at `received` (colony's clock) and its
    /// answer came back at `back` (agent's clock), all Unix ns.
    pub fn sample(&mut self, sent: u64, received: u64, back: u64) {
        // A clock that was set back in between says nothing.
        let Some(round_trip) = back.checked_sub(sent) else { return };
        let middle = sent + round_trip / 2;
        let offset = i128::from(middle) - i128::from(received);
        if self.samples.len() == SAMPLES {
            self.samples.pop_front();
        }
        self.samples.push_back((round_trip, i64_sat(offset.max(i64::MIN.into()))));
    }

    /// The agent's clock minus the colony's, in nanoseconds.
    #[must_use]
    pub fn best(&self) -> Option<i64> {
        self.samples.iter().min_by_key(|s| s.0).map(|s| s.1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_shortest_round_trip_wins() {
        let mut offset = Offset::default();
        assert_eq!(offset.best(), None);
        offset.sample(1_000, 600, 1_200);
        assert_eq!(offset.best(), Some(500));
        offset.sample(2_000, 1_000, 4_000);
        assert_eq!(offset.best(), Some(500), "a slow one is not believed");
        offset.sample(5_000, 4_520, 5_040);
        assert_eq!(offset.best(), Some(500));
        offset.sample(6_000, 7_000, 6_000);
        assert_eq!(offset.best(), Some(-1_000));
    }

    #[test]
    fn old_samples_go() {
        let mut offset = Offset::default();
        offset.sample(0, 0, 0);
        for _ in 0..SAMPLES {
            offset.sample(1_000, 0, 1_010);
        }
        assert_eq!(offset.best(), Some(1_005));
    }
}
