//! How many series a metric may have.

use std::hash::{Hash as _, Hasher as _};

use coral_model::id::ResourceId;
use coral_model::time::{SECOND, Time};
use hashbrown::{HashMap, HashSet};
use xxhash_rust::xxh3::Xxh3;

/// Series of one metric of one service.
const PER_METRIC: usize = 2_000;
/// Series of all metrics together, which bounds the memory this takes.
const ALL: usize = 500_000;
/// Counting starts afresh after this, so that series that ended make room.
const FORGET: u64 = 3600 * SECOND;

/// Series seen within the last hour.
#[derive(Debug, Default)]
pub struct Series {
    by_metric: HashMap<u64, HashSet<u64>>,
    count: usize,
    began: Time,
}

impl Series {
    /// `None` where this series may stand for itself; else its mark: its points go into `__other__`,
    /// where the mark tells them from those of other series.
    pub fn beyond(
        &mut self,
        service: &str,
        metric: &str,
        resource: ResourceId,
        attributes: &[(String, String)],
        now: Time,
    ) -> Option<u64> {
        if now.since(self.began) >= FORGET {
            *self = Self { began: now, ..Self::default() };
        }
        let mut hash = Xxh3::new();
        (service, metric).hash(&mut hash);
        let of_metric = self.by_metric.entry(hash.finish()).or_default();
        (resource.0, attributes).hash(&mut hash);
        let series = hash.finish();
        if of_metric.contains(&series) {
            return None;
        }
        if of_metric.len() >= PER_METRIC || self.count >= ALL {
            return Some(series);
        }
        of_metric.insert(series);
        self.count += 1;
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_metric_has_at_most_its_share_of_series() {
        let mut series = Series::default();
        let mut admit = |metric: &str, n: usize, hour: u64| {
            let attributes = [("user".to_owned(), n.to_string())];
            series.beyond("cart", metric, ResourceId(1), &attributes, Time(hour * FORGET)).is_none()
        };
        assert!((0..PER_METRIC).all(|n| admit("hits", n, 1)));
        assert!(!admit("hits", PER_METRIC, 1));
        assert!(admit("hits", 3, 1), "a known series stays");
        assert!(admit("misses", PER_METRIC, 1), "another metric has its own share");
        assert!(admit("hits", PER_METRIC, 2), "an hour later there is room");
    }
}
