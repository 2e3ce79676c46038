//! What log records have in common.

use serde::{Deserialize, Serialize};

use crate::id::TraceId;
use crate::time::Time;

/// Records that one statement of a program wrote.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct PatternRow {
    /// What they say, with `<num>`, `<hex>`, `<uuid>`, `<ip>`, `<str>` and `<*>` where they differ;
    /// `__other__` for records beyond the number of patterns that are kept.
    pub pattern: String,
    /// Records, of those looked at.
    pub count: u64,
    /// Records in the window compared with; 0: it is new since. `null` without a comparison.
    #[serde(default)]
    pub before: Option<u64>,
    /// Their share of the records looked at.
    pub share: f64,
    /// One record in so many was looked at; 1 is all.
    pub sampled_every: u64,
    /// Worst level among them; empty when unspecified.
    pub level: String,
    /// Services that wrote them.
    pub services: Vec<String>,
    /// First in the window.
    pub first_seen: Time,
    /// Last in the window.
    pub last_seen: Time,
    /// The newest of them, as received.
    pub example: String,
    /// The trace the example belongs to.
    pub trace_id: Option<TraceId>,
}
