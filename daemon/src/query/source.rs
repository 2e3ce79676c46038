//! Where an answer's buckets come from: live memory from the cut on, the store before it.

use coral_model::time::{Time, Window};

use super::cells::Delta;
use super::edges::EdgeDelta;

/// Memory of committed recent buckets.
pub trait Recent: Send + Sync {
    /// Hands every delta of `windows` whose bucket lies at or after the cut to the visitors, all as
    /// of one moment, and returns the cut. Buckets before it are wholly in the store, buckets from
    /// it on wholly here.
    fn visit(
        &self,
        windows: &[Window],
        red: &mut dyn FnMut(&Delta<'_>),
        edges: &mut dyn FnMut(&EdgeDelta<'_>),
    ) -> Time;
}

/// Live memory that remembers nothing: everything comes from the store.
#[cfg(test)]
#[derive(Debug, Clone, Copy, Default)]
pub struct StoreOnly;

#[cfg(test)]
impl Recent for StoreOnly {
    fn visit(
        &self,
        _: &[Window],
        _: &mut dyn FnMut(&Delta<'_>),
        _: &mut dyn FnMut(&EdgeDelta<'_>),
    ) -> Time {
        Time::MAX
    }
}
