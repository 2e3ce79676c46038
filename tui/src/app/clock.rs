//! The one clock of all panes.

use coral_model::time::{SECOND, Time, Window};

use crate::feed::Span;

/// Shortest window one can narrow to.
const SHORTEST: u64 = 60 * SECOND;
/// Longest window one can widen to.
const LONGEST: u64 = 30 * 86_400 * SECOND;

/// Which time the screen shows.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Clock {
    /// Length of the window in nanoseconds.
    pub length: u64,
    /// Follows now, or stands.
    pub mode: ClockMode,
}

/// Follows now, or stands.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ClockMode {
    /// The last [`Clock::length`] before now.
    Live,
    /// Held: the window before this moment, and nothing on the screen changes.
    Paused(Time),
    /// The window before this moment.
    Fixed(Time),
}

impl Default for Clock {
    fn default() -> Self {
        Self { length: 15 * 60 * SECOND, mode: ClockMode::Live }
    }
}

impl Clock {
    /// Shows exactly `window`.
    #[must_use]
    pub fn at(window: Window) -> Self {
        Self { length: window.length().clamp(SECOND, LONGEST), mode: ClockMode::Fixed(window.to) }
    }

    /// Follows now.
    #[must_use]
    pub fn is_live(&self) -> bool {
        self.mode == ClockMode::Live
    }

    /// What questions are asked over.
    #[must_use]
    pub fn span(&self) -> Span {
        match self.mode {
            ClockMode::Live => Span::Live(self.length),
            ClockMode::Paused(to) | ClockMode::Fixed(to) => {
                Span::Fixed(Window::before(to, self.length))
            }
        }
    }

    /// The window shown, `now` being the newest moment known.
    #[must_use]
    pub fn window(&self, now: Time) -> Window {
        self.span().window(now)
    }

    /// Half a window earlier or later; later than now is live again.
    pub fn step(&mut self, later: bool, now: Time) {
        let to = self.window(now).to;
        let half = self.length / 2;
        self.mode = if later {
            let next = to.plus(half);
            if self.is_live() || next >= now { ClockMode::Live } else { ClockMode::Fixed(next) }
        } else {
            ClockMode::Fixed(to.minus(half))
        };
    }

    /// Twice or half as long, around the same end.
    pub fn zoom(&mut self, wider: bool) {
        let length = if wider { self.length.saturating_mul(2) } else { self.length / 2 };
        self.length = length.clamp(SHORTEST, LONGEST);
    }

    /// Width of a bucket for about `columns` buckets: whole tens of seconds.
    #[must_use]
    pub fn bucket(&self, columns: u64) -> u64 {
        let ten = coral_model::time::BUCKET;
        let wanted = self.length / columns.max(1);
        wanted.div_ceil(ten).max(1) * ten
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn steps_leave_live_and_come_back_to_it() {
        let now = Time(1_000_000 * SECOND);
        let mut clock = Clock::default();
        clock.step(false, now);
        assert_eq!(clock.window(now).to, now.minus(450 * SECOND));
        clock.step(true, now);
        assert!(clock.is_live());
        clock.step(true, now);
        assert!(clock.is_live());
        assert_eq!(Clock::default().bucket(90), 10 * SECOND);
        assert_eq!(Clock { length: 6 * 3600 * SECOND, ..clock }.bucket(90), 240 * SECOND);
    }
}
