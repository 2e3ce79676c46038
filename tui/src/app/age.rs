//! How old things are, told in steps: an age that ran with the clock would draw the screen every
//! second though nothing happened.

use coral_model::time::{SECOND, Time};
use coral_model::view::State;

use super::App;

/// Steps in seconds; from the last one on, whole hours.
const STEPS: [u64; 15] = [1, 2, 3, 5, 10, 15, 20, 30, 45, 60, 120, 300, 600, 1800, 3600];
const HOUR: u64 = 3600;

/// The step an age has reached, in nanoseconds: at least a second.
fn reached(age_ns: u64) -> u64 {
    let seconds = age_ns / SECOND;
    let hours = seconds / HOUR * HOUR;
    let step = STEPS.iter().rev().copied().find(|step| *step <= seconds).unwrap_or(1);
    step.max(hours).saturating_mul(SECOND)
}

/// The next step an age will reach, in nanoseconds.
fn next(age_ns: u64) -> u64 {
    let hours = (age_ns / SECOND / HOUR + 1).saturating_mul(HOUR).saturating_mul(SECOND);
    STEPS.iter().map(|step| step * SECOND).find(|step| *step > age_ns).unwrap_or(hours)
}

impl App {
    /// How old something of `then` is at the moment shown, in nanoseconds: at least so old, in steps.
    #[must_use]
    pub fn age(&self, then: Time) -> u64 {
        let at = if self.here.clock.is_live() || self.is_running() {
            self.now
        } else {
            self.window().to
        };
        reached(at.since(then))
    }

    /// Nanoseconds the agents that are connected are behind what they have seen, in steps; `None`
    /// below 2 s, and where time does not follow now. That applications are quiet is no lag.
    #[must_use]
    pub fn lag(&self) -> Option<u64> {
        let status = self.data.status.as_ref().filter(|_| self.here.clock.is_live())?;
        let active = status.agents.iter().filter(|agent| agent.state == State::Active);
        let behind = active.map(|agent| agent.lag_ns).max()?;
        (behind >= 2 * SECOND).then(|| reached(behind))
    }

    /// When the screen will look different although nothing happened: what is no longer heard of
    /// grows older. `None` while everything is.
    #[must_use]
    pub fn next_wake(&self) -> Option<Time> {
        // A statement that runs says for how long.
        let running = self.running_since().filter(|_| self.here.view == crate::layout::ViewId::Sql);
        if let Some(since) = running {
            return Some(since.plus(next(self.now.since(since))));
        }
        if !self.here.clock.is_live() {
            return None;
        }
        let data = &self.data;
        let stale = |state: State| state == State::Stale;
        let services = data.services().into_iter().filter(|s| stale(s.state));
        let hosts = data.hosts().filter(|h| stale(h.state)).map(|h| h.time);
        let agents = data.agents().filter(|a| stale(a.state)).map(|a| a.last_seen);
        let then = services.filter_map(|s| s.last_seen).chain(hosts).chain(agents);
        then.map(|then| then.plus(next(self.now.since(then)))).min()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ages_are_told_in_steps_that_never_end() {
        for (age, shown, then) in [
            (0, 1, 1),
            (1, 1, 2),
            (2, 2, 3),
            (34, 30, 45),
            (3599, 1800, 3600),
            (9000, 7200, 10_800),
        ] {
            assert_eq!(reached(age * SECOND), shown * SECOND, "{age} s");
            assert_eq!(next(age * SECOND), then * SECOND, "{age} s");
        }
    }
}
