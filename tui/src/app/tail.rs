//! Log records on the screen: a ring in the order of their times.
//!
//! What was there comes as one answer, what arrives as a tail, late records among it. The ring keeps
//! the newest [`TAIL_KEPT`]; what it let go, and what came faster than anybody could look, is counted
//! and stands in the pane's title.

use std::collections::VecDeque;
use std::sync::Arc;

use coral_model::time::Time;
use coral_model::view::{LogRow, Row};

use crate::feed::Want;

/// Log records kept for the pane.
pub const TAIL_KEPT: usize = 5_000;

/// A log record and its number since the program started.
#[derive(Clone, Debug)]
pub struct Numbered {
    /// Counts up in the order of arrival; never reused.
    pub n: u64,
    /// The record.
    pub row: LogRow,
}

/// The records.
#[derive(Default)]
pub struct Tail {
    /// Oldest first; equal times in the order of arrival.
    kept: VecDeque<Numbered>,
    next: u64,
    /// Newest record of the history: the tail may repeat what is not newer.
    history_to: Time,
    /// Tail records nobody had time to look at.
    pub skipped: u64,
    /// The oldest records, which had to go for newer ones.
    pub let_go: u64,
    /// The tail these came from.
    want: Option<Arc<Want>>,
}

impl Tail {
    /// Records kept.
    #[must_use]
    pub fn len(&self) -> usize {
        self.kept.len()
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.kept.is_empty()
    }

    /// The record at a place, the oldest at 0.
    #[must_use]
    pub fn get(&self, i: usize) -> Option<&Numbered> {
        self.kept.get(i)
    }

    /// The newest.
    #[must_use]
    pub fn newest(&self) -> Option<&Numbered> {
        self.kept.back()
    }

    /// The place of the first record for which `f` holds.
    pub fn position(&self, f: impl FnMut(&Numbered) -> bool) -> Option<usize> {
        self.kept.iter().position(f)
    }

    /// Forgets everything but how far it counted.
    pub fn forget(&mut self) {
        *self = Self { next: self.next, ..Self::default() };
    }

    /// What was there before the tail began; the tail's own records stay among it.
    pub fn take_history(&mut self, rows: &[Row]) {
        let tail: Vec<LogRow> = self.kept.drain(..).map(|numbered| numbered.row).collect();
        let history = rows.iter().filter_map(|row| match row {
            Row::Log(log) => Some((**log).clone()),
            _ => None,
        });
        self.history_to = Time::default();
        self.append(history);
        self.history_to = self.newest().map(|n| n.row.time).unwrap_or_default();
        self.append(tail);
    }

    /// Takes records of the tail of `want`.
    pub fn take(&mut self, want: Option<Arc<Want>>, rows: Vec<LogRow>, skipped: u64) {
        let same = match (&self.want, &want) {
            (Some(a), Some(b)) => Arc::ptr_eq(a, b),
            _ => false,
        };
        if !same {
            self.want = want;
            self.skipped = 0;
        }
        self.skipped += skipped;
        self.append(rows);
    }

    /// Puts records where their times belong, leaving out what the history already had.
    fn append(&mut self, rows: impl IntoIterator<Item = LogRow>) {
        let sorted = self.kept.len();
        let mut late = false;
        for row in rows {
            if row.time <= self.history_to && self.has(&row, sorted) {
                continue;
            }
            late |= self.kept.back().is_some_and(|last| last.row.time > row.time);
            self.kept.push_back(Numbered { n: self.next, row });
            self.next += 1;
        }
        if late {
            // Two runs that are nearly in order: this sort merges them in one pass.
            self.kept.make_contiguous().sort_by_key(|numbered| numbered.row.time);
        }
        let over = self.kept.len().saturating_sub(TAIL_KEPT);
        self.kept.drain(..over);
        self.let_go += coral_model::num::u64_sat(over);
    }

    /// Whether the first `sorted` records hold this one.
    fn has(&self, row: &LogRow, sorted: usize) -> bool {
        let (mut low, mut high) = (0, sorted);
        while low < high {
            let middle = low + (high - low) / 2;
            if self.kept.get(middle).is_some_and(|n| n.row.time < row.time) {
                low = middle + 1;
            } else {
                high = middle;
            }
        }
        let rest = self.kept.iter().take(sorted).skip(low);
        rest.take_while(|n| n.row.time == row.time).any(|n| n.row == *row)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::feed::fake::log_row;

    fn at(n: u64, time: u64) -> LogRow {
        LogRow { time: Time(time), ..log_row(n) }
    }

    fn times(tail: &Tail) -> Vec<u64> {
        (0..tail.len()).filter_map(|i| tail.get(i)).map(|n| n.row.time.0).collect()
    }

    #[test]
    fn late_records_stand_where_their_times_belong() {
        let mut tail = Tail::default();
        tail.take(None, vec![at(0, 10), at(1, 20), at(2, 30)], 0);
        tail.take(None, vec![at(3, 25), at(4, 40), at(5, 5), at(6, 20)], 0);
        assert_eq!(times(&tail), [5, 10, 20, 20, 25, 30, 40]);
        // Of equal times, what came first stands first.
        let order: Vec<u64> = (2..4).filter_map(|i| tail.get(i)).map(|n| n.n).collect();
        assert_eq!(order, [1, 6]);
    }

    #[test]
    fn the_ring_is_bounded_and_counts_what_it_lets_go() {
        let mut tail = Tail::default();
        let kept = TAIL_KEPT as u64;
        for batch in 0..3 {
            let rows = (0..kept / 2).map(|i| at(i, 1_000 + batch * kept + i)).collect();
            tail.take(None, rows, 0);
        }
        assert_eq!((tail.len(), tail.let_go), (TAIL_KEPT, kept / 2));
        assert_eq!(tail.get(0).unwrap().row.time.0, 1_000 + kept);
        // What is older than everything kept goes at once, and is counted too.
        tail.take(None, vec![at(0, 1)], 7);
        assert_eq!((tail.len(), tail.let_go, tail.skipped), (TAIL_KEPT, kept / 2 + 1, 7));
        tail.forget();
        assert_eq!((tail.len(), tail.let_go, tail.skipped), (0, 0, 0));
    }

    #[test]
    fn history_and_tail_overlap_without_repeating() {
        let mut tail = Tail::default();
        tail.take(None, vec![at(3, 30), at(4, 40), at(1, 10)], 0);
        let history: Vec<Row> =
            [at(3, 30), at(2, 20), at(9, 30)].map(|row| Row::Log(Box::new(row))).into();
        tail.take_history(&history);
        assert_eq!(times(&tail), [10, 20, 30, 30, 40]);
        tail.take(None, vec![at(9, 30), at(2, 20), at(5, 50)], 0);
        assert_eq!(times(&tail), [10, 20, 30, 30, 40, 50]);
    }
}
