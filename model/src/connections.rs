//! Connections of a transport protocol, added up.

use serde::{Deserialize, Serialize};

/// The protocol of connections on which none is read.
pub const UNREAD: &str = "tcp";

/// What is known of the connections that one end opened to another, over some stretch of time. Every
/// number adds up, over time and over processes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Tally {
    /// Connections that came about.
    pub opened: u64,
    /// Connections that did not: refused, timed out, unreachable, given up.
    pub failed: u64,
    /// Of these refused.
    pub refused: u64,
    /// Connections that were open and were broken off by a reset, or because nothing came back any more.
    pub reset: u64,
    /// Segments that were sent again.
    pub retransmits: u64,
    /// Bytes the other end has taken in.
    pub sent_bytes: u64,
    /// Bytes that came from it.
    pub received_bytes: u64,
    /// Smoothed round-trip times, added up, in ns.
    pub rtt_sum_ns: u64,
    /// How many of them.
    pub rtt_count: u64,
    /// For how long they were open, all of them together, in ns.
    pub open_ns: u64,
    /// Of this with a request under way, or held by a transaction, in ns; only where the protocol is read.
    pub busy_ns: u64,
}

impl Tally {
    /// How many numbers it has.
    pub const NUMBERS: usize = 11;

    /// Whether it tells nothing.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// Adds another.
    pub fn add(&mut self, other: &Self) {
        let mut sums = self.numbers();
        for (sum, more) in sums.iter_mut().zip(other.numbers()) {
            *sum = sum.saturating_add(more);
        }
        *self = Self::of(sums);
    }

    /// Its numbers in their order, in which they are also stored.
    #[must_use]
    pub fn numbers(&self) -> [u64; Self::NUMBERS] {
        let Self { opened, failed, refused, reset, retransmits, sent_bytes, .. } = *self;
        let Self { received_bytes, rtt_sum_ns, rtt_count, open_ns, busy_ns, .. } = *self;
        [
            opened,
            failed,
            refused,
            reset,
            retransmits,
            sent_bytes,
            received_bytes,
            rtt_sum_ns,
            rtt_count,
            open_ns,
            busy_ns,
        ]
    }

    /// The one that has these numbers.
    #[must_use]
    pub fn of(numbers: [u64; Self::NUMBERS]) -> Self {
        let [
            opened,
            failed,
            refused,
            reset,
            retransmits,
            sent_bytes,
            received_bytes,
            rtt_sum_ns,
            rtt_count,
            open_ns,
            busy_ns,
        ] = numbers;
        Self {
            opened,
            failed,
            refused,
            reset,
            retransmits,
            sent_bytes,
            received_bytes,
            rtt_sum_ns,
            rtt_count,
            open_ns,
            busy_ns,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tallies_add_up_and_never_overflow() {
        let one = Tally { opened: 1, rtt_count: 2, busy_ns: u64::MAX, ..Tally::default() };
        let mut sum = Tally { failed: 3, ..one };
        sum.add(&one);
        let expected =
            Tally { opened: 2, failed: 3, rtt_count: 4, busy_ns: u64::MAX, ..Tally::default() };
        assert_eq!(sum, expected);
        assert!(Tally::default().is_empty() && !sum.is_empty());
        let counted = std::array::from_fn(|n| u64::try_from(n).unwrap());
        assert_eq!(Tally::of(counted).numbers(), counted);
    }
}
