//! The first screen: what moved, what changed, where to look.

use serde::{Deserialize, Serialize};

use super::records::EventRow;
use super::red::ServiceRow;
use crate::time::{Time, Window};

/// The colony in one word.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Health {
    /// Nothing has arrived yet: not the same as being well.
    NoData,
    /// Everything that is watched is as it was.
    Calm,
    /// Something moved.
    Moved,
    /// Something fails.
    Failing,
    /// Something failed and does no longer.
    Recovered,
}

/// A labelled line of the digest: `WHY`, `changed`, `ruled out`, `not seen`.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Line {
    /// What kind of statement this is.
    pub label: String,
    /// The statement.
    pub text: String,
}

/// How far one number of one service moved from its baseline.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct Mover {
    /// The service.
    pub service: String,
    /// The number that moved.
    pub measure: Change,
    /// Value now, in the measure's unit (ns, ratio, 1/s, requests).
    pub now: f64,
    /// Value in the baseline window; `null` when not observed then.
    pub before: Option<f64>,
    /// `now / before`, where both are known and before is not 0.
    pub ratio: Option<f64>,
    /// First bucket in which it was out of line; `null` when it always was.
    pub since: Option<Time>,
    /// A score to rank by; higher is worse.
    pub score: f64,
}

/// Which number moved.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Change {
    /// 99th percentile of duration, ns.
    P99,
    /// 90th percentile, ns, where it says more: of few requests the 99th is the slowest two or three.
    P90,
    /// Median, ns, where it says more still.
    P50,
    /// Share of failed requests.
    Errors,
    /// Requests per second.
    Rate,
    /// Requests without an answer.
    Inflight,
    /// It stopped reporting.
    Silence,
    /// Processes that died.
    Deaths,
}

/// A step of the path along which the trouble runs.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct PathStep {
    /// The node.
    pub name: String,
    /// 0 calm, 1 moved (`!`), 2 failing (`!!`).
    pub level: u8,
}

/// Everything the first screen says besides the clock.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct DigestRow {
    /// In one word.
    pub health: Health,
    /// When it began, when something is or was wrong.
    pub onset: Option<Time>,
    /// When it ended, when nothing is wrong any more.
    #[serde(default)]
    pub ended: Option<Time>,
    /// The service where the trouble most likely sits: the deepest failing one on the path.
    pub suspect: Option<String>,
    /// What is measured, line by line.
    pub why: Vec<Line>,
    /// Callers to callees, through the suspect.
    pub path: Vec<PathStep>,
    /// Services that are affected, or were.
    pub affected: u32,
    /// Services known.
    pub services_known: u32,
    /// Services, worst first: since the onset, or since it ended.
    pub services: Vec<ServiceRow>,
    /// What moved most, worst first.
    pub movers: Vec<Mover>,
    /// Since onset, or the newest ones.
    pub changes: Vec<EventRow>,
    /// What numbers were compared with.
    pub compared_with: Window,
}
