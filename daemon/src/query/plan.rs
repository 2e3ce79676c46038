//! A question, checked and made exact: which window, which filter, how many rows.

use coral_model::Question;
use coral_model::filter::Expr;
use coral_model::num::usize_sat;
use coral_model::question::View;
use coral_model::time::{BUCKET, SECOND, Time, Window};

use super::{QueryError, filter, red};
use crate::store::Reading;

/// Rows an answer may have whatever was asked for.
pub const MAX_ROWS: usize = 100_000;
/// Buckets a stepped answer may have per group: a screen has fewer columns.
pub const MAX_STEPS: u64 = 10_000;
/// Longest filter, in bytes.
pub const MAX_FILTER: usize = 16 << 10;

const MINUTE: u64 = 60 * SECOND;
const HOUR: u64 = 3600 * SECOND;
/// Windows longer than this are answered from buckets of a minute …
const LONG_HOURS: u64 = 6 * HOUR;
/// … and longer than this from buckets of an hour.
const LONG_DAYS: u64 = 72 * HOUR;

/// A question ready to be answered.
#[derive(Debug, Clone)]
pub struct Plan {
    /// As asked.
    pub question: Question,
    /// Its filter.
    pub filter: Expr,
    /// Its window; where buckets answer it, widened outwards to whole ones.
    pub window: Window,
    /// The window compared with, widened likewise.
    pub compare: Option<Window>,
    /// Buckets it is answered from, ns: its windows and its step are whole ones.
    pub resolution: u64,
    /// The moment it is asked.
    pub now: Time,
}

impl Plan {
    /// Checks a question.
    pub fn new(question: &Question, now: Time) -> Result<Self, QueryError> {
        if question.filter.len() > MAX_FILTER {
            return Err(QueryError::Question(format!(
                "the filter has {} bytes; at most {MAX_FILTER} are read",
                question.filter.len()
            )));
        }
        let filter = filter::read(&question.filter, question.view)?;
        let mut plan = Self {
            filter,
            window: question.window,
            compare: question.compare,
            question: question.clone(),
            resolution: BUCKET,
            now,
        };
        if plan.window.length() == 0 {
            return Err(QueryError::Question(
                "the window is empty: it ends where it begins".into(),
            ));
        }
        plan.comparable()?;
        if question.view == View::Metrics && question.step == Some(0) {
            return Err(QueryError::Question("a step of nothing has no rows".into()));
        }
        if plan.bucketed() {
            if let Some(step) = question.step {
                red::check_step(step)?;
            }
            let step = question.step.unwrap_or(BUCKET);
            plan.window = plan.window.align(step);
            plan.compare = plan.compare.map(|w| w.align(step));
            let steps = plan.window.length() / step;
            if question.step.is_some() && steps > MAX_STEPS {
                return Err(QueryError::Question(format!(
                    "{steps} steps are more than the {MAX_STEPS} an answer may have; ask with a coarser step"
                )));
            }
        }
        Ok(plan)
    }

    /// Chooses the buckets it is answered from: over long windows coarse ones, unless the step asks
    /// for finer, and never finer than what is kept of its time. Windows and step widen to whole
    /// buckets.
    #[must_use]
    pub fn settled(mut self, conn: &Reading<'_>) -> Self {
        if !self.bucketed() {
            return self;
        }
        let whole =
            |resolution: &u64| self.question.step.is_none_or(|s| s.is_multiple_of(*resolution));
        let length = self.window.length();
        let coarse = [(LONG_DAYS, HOUR), (LONG_HOURS, MINUTE)].into_iter();
        let fitting = coarse.filter(|(long, _)| length > *long).map(|(_, resolution)| resolution);
        let wanted = fitting.into_iter().find(whole).unwrap_or(BUCKET);
        // All but `red` compare with the time before where the question names none.
        let before = match (self.compare, self.question.view) {
            (Some(compare), _) => compare,
            (None, View::Red) => self.window,
            (None, _) => self.window.previous(),
        };
        let (from, to) = (self.window.from.min(before.from), self.window.to.max(before.to));
        self.resolution = conn.resolution(from, to, wanted);
        if self.resolution > BUCKET {
            let step = self.question.step.map(|s| s.next_multiple_of(self.resolution));
            self.question.step = step;
            let width = step.unwrap_or(self.resolution);
            self.window = self.window.align(width);
            self.compare = self.compare.map(|w| w.align(width));
        }
        self
    }

    /// The window compared with: the one asked for, or where the earlier builds are looked for.
    pub fn compared(&self) -> Option<Window> {
        let builds = self.question.builds.as_ref().map(|_| super::builds::reach(self.window));
        self.compare.or(builds)
    }

    /// Whether the view has an answer to the comparison that is asked for.
    fn comparable(&self) -> Result<(), QueryError> {
        let (view, question) = (self.question.view, &self.question);
        let by_time = matches!(
            view,
            View::Red
                | View::Services
                | View::Topology
                | View::Digest
                | View::Diff
                | View::Patterns
        );
        let by_build = matches!(view, View::Red | View::Services | View::Diff);
        let refused = |what: &str| {
            Err(QueryError::Question(format!(
                "`{view}` {what}; coral query red --compare has before, after and difference by operation"
            )))
        };
        match (&question.compare, &question.builds) {
            (Some(_), Some(_)) => {
                Err(QueryError::Question("compare by time or by build, not by both".into()))
            }
            (Some(_), None) if !by_time => refused("has no numbers to compare over time"),
            (None, Some(_)) if !by_build => {
                refused("does not keep what is needed to compare builds")
            }
            (None, Some(_)) if question.step.is_some() => Err(QueryError::Question(
                "builds are compared over the whole window: leave out --step".into(),
            )),
            _ => Ok(()),
        }
    }

    /// Answered from 10 s buckets.
    pub fn bucketed(&self) -> bool {
        matches!(self.question.view, View::Red | View::Services | View::Topology | View::Digest)
    }

    /// At most this many rows.
    pub fn limit(&self) -> usize {
        self.question.limit.clamp(1, MAX_ROWS)
    }

    /// Rows per group.
    pub fn steps(&self) -> usize {
        self.question.step.map_or(1, |s| usize_sat(self.window.length().div_ceil(s.max(1))).max(1))
    }

    /// What its windows cover, each moment once, cut where one of them begins or ends: a bucket that
    /// is read for one is wholly in it.
    pub fn windows(&self) -> Vec<Window> {
        if self.compare.is_none() && self.question.builds.is_some() {
            return vec![super::builds::reach(self.window)];
        }
        let asked: Vec<Window> = std::iter::once(self.window).chain(self.compare).collect();
        let mut ends: Vec<Time> = asked.iter().flat_map(|w| [w.from, w.to]).collect();
        ends.sort_unstable();
        ends.dedup();
        let pieces = ends.iter().zip(ends.iter().skip(1)).map(|(from, to)| Window::new(*from, *to));
        pieces.filter(|piece| asked.iter().any(|w| w.contains(piece.from))).collect()
    }
}
