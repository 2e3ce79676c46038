//! What tells some spans from others.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::question::{WordError, words};

words!(
    /// Where an attribute stands.
    Origin, "origin", {
        /// A column every span has: service, operation, kind, status, host …
        Span = "span",
        /// An attribute of the span.
        Attribute = "attribute",
        /// An attribute of its resource.
        Resource = "resource",
        /// An event of the span, such as an exception.
        Event = "event",
    }
);

/// One side of a comparison.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Side {
    /// Which spans, in words.
    pub what: String,
    /// How many there are.
    pub spans: u64,
    /// How many of them were looked at: all, or an even sample where there are very many.
    pub looked_at: u64,
}

/// What was compared with what. Comes first, and is not counted as a row.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct DiffSides {
    /// The spans of interest.
    pub selected: Side,
    /// What they are compared with.
    pub baseline: Side,
    /// Beyond which duration a span counts as slow, in nanoseconds; `null` where that was not asked.
    pub slow_ns: Option<u64>,
    /// Values that were tested.
    pub tested: u64,
    /// Attributes left out because nearly every span has a value of its own.
    pub unique: Vec<String>,
    /// Why no row follows; `null` when there are any.
    pub nothing: Option<String>,
}

/// A value that is more, or less, frequent among the selected spans than among the others.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct DiffRow {
    /// The attribute, as a filter names it.
    pub attribute: String,
    /// Where it stands.
    pub origin: Origin,
    /// The value; numbers are ranges such as `128..256`; `null`: the attribute is not there.
    pub value: Option<String>,
    /// Selected spans with it.
    pub selected: u64,
    /// Their share of the selected.
    pub selected_share: f64,
    /// Other spans with it.
    pub baseline: u64,
    /// Their share of the others.
    pub baseline_share: f64,
    /// Difference of the shares: 1 is only among the selected, -1 only among the others.
    pub score: f64,
    /// Probability of a difference this large by chance, already multiplied by the number of tests.
    pub p_value: f64,
    /// Other values that part the spans in exactly this way.
    pub same_as: Vec<String>,
}
