//! The same thing again and again is one event with a number.

use coral_model::Time;

/// Lets the first through at once and counts the rest until `span` has passed.
#[derive(Debug, Default, Clone, Copy)]
pub(super) struct Fold {
    since: Option<Time>,
    held: u64,
}

impl Fold {
    /// `n` happened. `Some(total)` when that is to be told now.
    pub(super) fn add(&mut self, n: u64, now: Time, span: u64) -> Option<u64> {
        if self.since.is_some_and(|since| now.since(since) < span) {
            self.held = self.held.saturating_add(n);
            return None;
        }
        self.since = Some(now);
        Some(std::mem::take(&mut self.held).saturating_add(n))
    }

    /// What was held back, once `span` has passed; a new span begins with it.
    pub(super) fn due(&mut self, now: Time, span: u64) -> Option<u64> {
        let since = self.since?;
        if now.since(since) < span {
            return None;
        }
        if self.held == 0 {
            self.since = None;
            return None;
        }
        self.since = Some(now);
        Some(std::mem::take(&mut self.held))
    }

    /// When the open span began.
    pub(super) fn since(&self) -> Option<Time> {
        self.since
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_is_told_the_rest_is_counted() {
        let mut fold = Fold::default();
        assert_eq!(fold.add(1, Time(100), 60), Some(1));
        assert_eq!(fold.add(1, Time(110), 60), None);
        assert_eq!(fold.add(2, Time(120), 60), None);
        assert_eq!(fold.due(Time(150), 60), None);
        assert_eq!(fold.due(Time(160), 60), Some(3));
        assert_eq!(fold.due(Time(219), 60), None);
        assert_eq!(fold.due(Time(220), 60), None);
        assert_eq!(fold.add(1, Time(230), 60), Some(1));
    }
}
