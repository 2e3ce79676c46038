//! Whether what ended was a unit's service, or a step on the way to it.
//!
//! A unit may run programs before its service that are allowed to fail (`ExecStartPre=-…`). So the end of what systemd
//! started waits until it shows what comes next: more of the same start of the unit, then it was a step; another start,
//! or nothing, then the unit has failed.

use std::collections::VecDeque;

use coral_model::time::SECOND;

use crate::observe::process::Run;

/// What comes next begins within this. systemd waits for nothing in between.
const WAIT: u64 = 2 * SECOND;
/// Beginnings are remembered for so long: an end may be heard of after what came next.
const REMEMBERED: u64 = 6 * SECOND;
/// Ends that wait; one more, and the first waits no longer.
const MAX_WAITING: usize = 64;
/// Beginnings remembered: no more than can be told in that time.
const MAX_BEGUN: usize = 1_024;

#[derive(Debug)]
struct Waiting<T> {
    run: Run,
    at_ns: u64,
    end: T,
}

/// Ends that wait, of whatever kind; all times since boot, ns.
#[derive(Debug)]
pub(super) struct Steps<T> {
    waiting: VecDeque<Waiting<T>>,
    /// What began of units, and when, oldest first.
    begun: VecDeque<(Run, u64)>,
}

impl<T> Default for Steps<T> {
    fn default() -> Self {
        Self { waiting: VecDeque::new(), begun: VecDeque::new() }
    }
}

impl<T> Steps<T> {
    /// Processes that systemd started, oldest first, with when.
    pub(super) fn began(&mut self, begun: Vec<(Run, u64)>) {
        self.begun.extend(begun);
        let more = self.begun.len().saturating_sub(MAX_BEGUN);
        self.begun.drain(..more);
    }

    /// A process ended that systemd had started so. Gives the end that waits no longer, for want of room.
    pub(super) fn ended(&mut self, run: Run, at_ns: u64, end: T) -> Option<T> {
        let full = self.waiting.len() >= MAX_WAITING;
        let first = if full { self.waiting.pop_front() } else { None };
        self.waiting.push_back(Waiting { run, at_ns, end });
        first.map(|waiting| waiting.end)
    }

    /// Those that were no steps, as far as that is known by now.
    pub(super) fn settle(&mut self, now_ns: u64) -> Vec<T> {
        let mut failed = Vec::new();
        for waiting in std::mem::take(&mut self.waiting) {
            let next = self
                .begun
                .iter()
                .find(|(next, at_ns)| next.cgroup == waiting.run.cgroup && *at_ns >= waiting.at_ns);
            match next {
                Some((next, _)) if waiting.run.is_step_to(next) => {}
                None if now_ns.saturating_sub(waiting.at_ns) < WAIT => {
                    self.waiting.push_back(waiting);
                }
                Some(_) | None => failed.push(waiting.end),
            }
        }
        self.begun.retain(|(_, at_ns)| now_ns.saturating_sub(*at_ns) < REMEMBERED);
        failed
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(start: u8, program: &str) -> Run {
        Run {
            unit: "web".into(),
            cgroup: "/system.slice/web.service".into(),
            invocation: Some(start.to_string()),
            executable: format!("/bin/{program}"),
        }
    }

    #[test]
    fn a_step_is_no_end_and_a_start_that_failed_is_one() {
        let mut steps = Steps::default();
        assert_eq!(steps.ended(run(1, "check"), 5 * SECOND, "check"), None);
        assert!(steps.settle(6 * SECOND).is_empty(), "what comes next is not known");
        steps.began(vec![(run(1, "web"), 5 * SECOND + 1)]);
        assert!(steps.settle(6 * SECOND).is_empty());
        assert_eq!(steps.ended(run(1, "web"), 7 * SECOND, "web"), None);
        // Another start, whatever it begins with; it is known sooner than the end is heard of, too.
        steps.began(vec![(run(2, "check"), 7 * SECOND + 1), (run(2, "web"), 7 * SECOND + 2)]);
        assert_eq!(steps.settle(7 * SECOND + 3), ["web"]);
        assert_eq!(steps.ended(run(2, "check"), 7 * SECOND + 2, "check"), None);
        assert!(steps.settle(9 * SECOND + 3).is_empty(), "the service began after it");
        assert!(steps.waiting.is_empty());
    }

    #[test]
    fn what_nothing_follows_was_the_end() {
        let mut steps = Steps::default();
        let other = Run { cgroup: "/system.slice/other.service".into(), ..run(1, "web") };
        steps.began(vec![(run(1, "check"), SECOND), (other, 3 * SECOND)]);
        assert_eq!(steps.ended(run(1, "web"), 2 * SECOND, 7), None);
        assert!(steps.settle(4 * SECOND - 1).is_empty());
        assert_eq!(steps.settle(4 * SECOND), [7]);
        assert!(steps.settle(4 * SECOND).is_empty(), "told once");
    }

    #[test]
    fn what_waits_and_what_is_remembered_is_bounded() {
        let mut steps = Steps::default();
        let mut out = Vec::new();
        for n in 0..3_000 {
            steps.began(vec![(Run { cgroup: String::new(), ..run(1, "web") }, 0)]);
            out.extend(steps.ended(run(1, "web"), 0, n));
            assert!(steps.waiting.len() <= MAX_WAITING && steps.begun.len() <= MAX_BEGUN);
        }
        out.extend(steps.settle(WAIT));
        assert_eq!(out, (0..3_000).collect::<Vec<_>>());
        steps.settle(REMEMBERED);
        assert!(steps.begun.is_empty());
    }
}
