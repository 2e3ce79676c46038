//! What chance explains: when a count is out of line with what was to be expected.

/// Standard deviations of a Poisson count beyond which it is no chance.
const SIGMAS: f64 = 4.0;
/// Beyond them still: where nothing or next to nothing was expected, two are a coincidence.
const LEAST: f64 = 3.0;

/// Whether `count` rare events, where `expected` were, are more than chance explains: beyond four
/// standard deviations of a Poisson count, and never fewer than three.
#[must_use]
pub fn beyond(count: u64, expected: f64) -> bool {
    coral_model::num::f64_from(count) >= expected + SIGMAS * expected.sqrt() + LEAST
}

#[cfg(test)]
mod tests {
    use super::beyond;

    #[test]
    fn few_are_chance_and_many_are_not() {
        assert!(!beyond(2, 0.0) && beyond(3, 0.0));
        assert!(!beyond(7, 1.0) && beyond(8, 1.0));
        assert!(!beyond(142, 100.0) && beyond(143, 100.0));
    }
}
