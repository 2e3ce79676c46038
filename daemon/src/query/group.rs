//! Cells grouped and added up: the heart of `red`, `services`, `topology` and `digest`.

use coral_model::id::TraceId;
use coral_model::num::{f64_from, usize_sat};
use coral_model::time::{SECOND, Time, Window};
use coral_model::view::{Baseline, Evidence, Red};
use coral_model::{Dimension, Histogram};
use hashbrown::HashMap;

use super::cells::{Cell, Cells, Resource, Series};
use super::dense::{Buckets, Tally};
use super::symbols::Symbol;

/// Values of the dimensions grouped by, in the order asked; unused places are 0.
pub type Key = [Symbol; Dimension::ALL.len()];

/// What groups beyond those kept apart are called.
pub const OTHER: &str = "__other__";

/// Which groups are kept apart, and the key of all others.
#[derive(Debug, Clone)]
pub struct Folded {
    kept: hashbrown::HashSet<Key>,
    other: Key,
}

/// Requests added up.
#[derive(Debug, Clone, Default)]
pub struct Sum {
    /// Requests that ended.
    pub requests: u64,
    /// Of these failed.
    pub errors: u64,
    /// Of these without an answer.
    pub no_answer: u64,
    /// Their durations.
    pub tally: Tally,
    /// The slowest one.
    pub slowest: Option<(u64, TraceId)>,
    /// The last failed one, and its bucket.
    pub error: Option<(Time, TraceId)>,
    /// An unknown share is missing.
    pub sampled: bool,
    /// What saw them; `None` without any.
    pub evidence: Option<Evidence>,
    /// Start and end of the first bucket with a request.
    pub first: Option<(Time, Time)>,
}

impl Sum {
    /// Adds a cell.
    pub fn add(&mut self, cells: &Cells, cell: &Cell) {
        let counted = cells.read(cell);
        self.requests = self.requests.saturating_add(counted.requests);
        self.errors = self.errors.saturating_add(counted.errors);
        self.no_answer = self.no_answer.saturating_add(counted.no_answer);
        self.tally.add(Buckets::Packed(counted.pairs), counted.sum_ns);
        // Ties go to the greater id, so that the order of sources does not show.
        self.slowest = self.slowest.max(counted.slowest.map(|(id, ns)| (ns, id)));
        self.error = self.error.max(counted.error.map(|id| (cell.bucket, id)));
        self.sampled |= counted.sampled;
        if let Some(seen) = cells.series_of(cell).map(|s| s.evidence).filter(|_| cell.requests > 0)
        {
            self.evidence = Some(self.evidence.map_or(seen, |e| e.with(seen)));
        }
        let bucket = (cell.bucket, cell.bucket.plus(cell.width));
        self.first = Some(self.first.map_or(bucket, |first| first.min(bucket)));
    }

    /// As the rules look at it, over `seconds` of observation.
    pub fn stretch(&self, seconds: f64) -> super::rules::Stretch {
        super::rules::Stretch {
            requests: self.requests,
            errors: self.errors,
            no_answer: self.no_answer,
            histogram: self.tally.histogram(),
            seconds,
        }
    }

    /// As the view shows it, over `seconds` of observation.
    pub fn red(&self, seconds: f64) -> Red {
        self.red_of(&self.tally.histogram(), seconds)
    }

    /// As [`Sum::red`], with the histogram already made.
    pub fn red_of(&self, histogram: &Histogram, seconds: f64) -> Red {
        let mut red = Red::from_parts(
            histogram,
            self.errors,
            self.no_answer,
            seconds,
            self.evidence.unwrap_or(Evidence::Otlp),
            self.sampled,
        );
        // A request is counted even where its duration was not.
        red.requests = self.requests;
        red.rate = if seconds > 0.0 { f64_from(self.requests) / seconds } else { 0.0 };
        red.error_ratio =
            (self.requests > 0).then(|| f64_from(self.errors) / f64_from(self.requests));
        red
    }
}

/// Groups of cells, each as one sum per bucket of `step` (or one for the whole window).
#[derive(Debug, Default)]
pub struct Groups {
    /// Keys in order of first appearance.
    pub keys: Vec<Key>,
    /// When the services (or resources, when grouped by a property of theirs) of each group were
    /// first seen.
    pub first: Vec<Option<Time>>,
    /// First bucket of each group in the window.
    pub earliest: Vec<Time>,
    /// Where each key's group is.
    pub index: HashMap<Key, usize>,
    /// Sums by group and bucket start (the window's start without a step).
    pub sums: HashMap<(usize, Time), Sum>,
}

impl Groups {
    fn of(&mut self, key: Key, first: Option<Time>) -> usize {
        let group = *self.index.entry(key).or_insert_with(|| {
            self.keys.push(key);
            self.first.push(None);
            self.earliest.push(Time::MAX);
            self.keys.len() - 1
        });
        if let Some(slot) = self.first.get_mut(group) {
            *slot = match (*slot, first) {
                (Some(a), Some(b)) => Some(a.min(b)),
                (a, b) => a.or(b),
            };
        }
        group
    }

    /// The sum of a key at a step, and when its group was first seen.
    pub fn sum(&self, key: &Key, at: Time) -> Option<(&Sum, Option<Time>)> {
        let group = *self.index.get(key)?;
        let first = self.first.get(group).copied().flatten();
        self.sums.get(&(group, at)).map(|sum| (sum, first))
    }
}

/// Whether a dimension is a property of the resource rather than of the request.
pub fn of_resource(dimension: Dimension) -> bool {
    match dimension {
        Dimension::Service | Dimension::Operation | Dimension::Status | Dimension::Kind => false,
        Dimension::Instance
        | Dimension::Host
        | Dimension::Version
        | Dimension::Zone
        | Dimension::Namespace => true,
    }
}

/// The value a series has in a dimension.
pub fn value(
    dimension: Dimension,
    series: &Series,
    resource: Option<&Resource>,
    kinds: &[Symbol; 8],
) -> Symbol {
    let of = |f: fn(&Resource) -> Symbol| resource.map_or(0, f);
    match dimension {
        Dimension::Service => series.service,
        Dimension::Operation => series.operation,
        Dimension::Status => series.code,
        Dimension::Kind => kinds.get(usize::from(series.kind)).copied().unwrap_or_default(),
        Dimension::Instance => of(|r| r.instance),
        Dimension::Host => of(|r| r.host),
        Dimension::Version => of(|r| r.version),
        Dimension::Zone => of(|r| r.zone),
        Dimension::Namespace => of(|r| r.namespace),
    }
}

impl Cells {
    /// The words for span kinds, by OTLP number.
    pub fn kind_symbols(&mut self) -> [Symbol; 8] {
        let mut kinds = [0; 8];
        for (slot, n) in kinds.iter_mut().zip(0u64..) {
            *slot = self.symbols.of(coral_model::view::SpanKind::from_otlp(n).word());
        }
        kinds
    }

    /// Keeps the `top` groups with the most requests in `windows` apart; from now on the others are
    /// one, whose every value is [`OTHER`].
    pub fn fold(&mut self, selected: &[bool], windows: &[Window], by: &[Dimension], top: usize) {
        let keys = self.keys(by);
        let mut ranked = self.ranked(selected, windows, &keys);
        if ranked.len() <= top {
            return;
        }
        ranked.truncate(top);
        let mut other = Key::default();
        let symbol = self.symbols.of(OTHER);
        other.iter_mut().take(by.len()).for_each(|slot| *slot = symbol);
        let kept = ranked.into_iter().map(|(_, key)| key).collect();
        self.folded = Some(Folded { kept, other });
    }

    /// Requests of every group in `windows`, most first.
    fn ranked(&self, selected: &[bool], windows: &[Window], keys: &[Key]) -> Vec<(u64, Key)> {
        let mut totals: HashMap<Key, u64> = HashMap::new();
        for cell in self.cells.iter().filter(|c| windows.iter().any(|w| w.contains(c.bucket))) {
            let at = usize_sat(cell.series);
            if let (Some(true), Some(key)) = (selected.get(at), keys.get(at)) {
                *totals.entry(*key).or_default() += cell.requests;
            }
        }
        let mut ranked: Vec<(u64, Key)> = totals.into_iter().map(|(k, n)| (n, k)).collect();
        ranked.sort_unstable_by(|a, b| b.cmp(a));
        ranked
    }

    /// The key of every series; what was folded has the key of all that were.
    pub fn keys(&mut self, by: &[Dimension]) -> Vec<Key> {
        let mut keys = self.own_keys(by);
        if let Some(folded) = &self.folded {
            for key in keys.iter_mut().filter(|key| !folded.kept.contains(*key)) {
                *key = folded.other;
            }
        }
        keys
    }

    fn own_keys(&mut self, by: &[Dimension]) -> Vec<Key> {
        let kinds = self.kind_symbols();
        let key_of = |series: &Series| {
            let resource = self.resources.get(&series.resource);
            let mut key = Key::default();
            for (slot, &d) in key.iter_mut().zip(by) {
                *slot = value(d, series, resource, &kinds);
            }
            key
        };
        self.series.iter().map(key_of).collect()
    }

    /// Keeps only series of the `room` groups with the most requests in `windows`, and says whether
    /// that left any out.
    pub fn narrow(
        &mut self,
        selected: &mut [bool],
        windows: &[Window],
        by: &[Dimension],
        room: usize,
    ) -> bool {
        let keys = self.keys(by);
        // Groups are seldom more than there is room for; then nobody need know which are the busiest.
        if keys.iter().collect::<hashbrown::HashSet<_>>().len() <= room {
            return false;
        }
        let mut ranked = self.ranked(selected, windows, &keys);
        if ranked.len() <= room {
            return false;
        }
        ranked.truncate(room);
        let kept: hashbrown::HashSet<Key> = ranked.into_iter().map(|(_, k)| k).collect();
        for (flag, key) in selected.iter_mut().zip(&keys) {
            *flag = *flag && kept.contains(key);
        }
        true
    }

    /// Adds up the selected series' cells of a window by dimensions and, with a step, by time.
    pub fn group(
        &mut self,
        selected: &[bool],
        window: Window,
        by: &[Dimension],
        step: Option<u64>,
    ) -> Groups {
        let keys = self.keys(by);
        let by_resource = by.iter().any(|&d| of_resource(d));
        let mut groups = Groups::default();
        let mut of_series: Vec<Option<usize>> = vec![None; self.series.len()];
        // Without a step a group's sum lies at its own number: no hash per cell.
        let mut whole: Vec<Sum> = Vec::new();
        for cell in self.cells.iter().filter(|c| window.contains(c.bucket)) {
            let at = usize_sat(cell.series);
            if !selected.get(at).copied().unwrap_or(false) {
                continue;
            }
            let group = match of_series.get(at).copied().flatten() {
                Some(group) => group,
                None => {
                    let (Some(series), Some(key)) = (self.series.get(at), keys.get(at)) else {
                        continue;
                    };
                    let resource = self.resources.get(&series.resource);
                    let first = match resource {
                        Some(resource) if by_resource => Some(resource.first),
                        _ => self.first_seen.get(&series.service).copied(),
                    };
                    let group = groups.of(*key, first);
                    if let Some(slot) = of_series.get_mut(at) {
                        *slot = Some(group);
                    }
                    group
                }
            };
            if let Some(earliest) = groups.earliest.get_mut(group) {
                *earliest = (*earliest).min(cell.bucket);
            }
            match step {
                None => {
                    if whole.len() <= group {
                        whole.resize_with(group + 1, Sum::default);
                    }
                    if let Some(sum) = whole.get_mut(group) {
                        sum.add(self, cell);
                    }
                }
                Some(step) => {
                    let start = cell.bucket.align(step);
                    groups.sums.entry((group, start)).or_default().add(self, cell);
                }
            }
        }
        groups.sums.extend(whole.into_iter().enumerate().map(|(g, sum)| ((g, window.from), sum)));
        groups
    }
}

/// Seconds of a window in which a service was observed: from the window's start, or from when it
/// was first seen when that is later, to the window's end, or now when that is earlier. A rate
/// divides by this, so that a service started 20 s ago does not look nearly idle over 15 minutes,
/// and one that fell silent does not keep its old rate.
pub fn observed_seconds(window: Window, first: Option<Time>, sum: &Sum, now: Time) -> f64 {
    let from = match (first, sum.first) {
        // Data may be older than the moment their resource was first described.
        (Some(first), Some((bucket, end))) if first >= end => bucket,
        (Some(first), _) => first,
        (None, Some((bucket, _))) => bucket,
        (None, None) => window.from,
    };
    let ns = window.to.min(now.max(window.from)).since(from.max(window.from));
    f64_from(ns.max(SECOND)) / 1e9
}

/// The comparison of a group with what it was in another window.
pub fn baseline(window: Window, now: &Red, before: Option<Red>) -> Baseline {
    let ratio = |now: f64, before: f64| (before > 0.0).then(|| now / before);
    let p99 = |red: &Red| red.p99_ns.map(f64_from);
    let p99_ratio = before.as_ref().and_then(|b| ratio(p99(now)?, p99(b)?));
    let rate_ratio = before.as_ref().and_then(|b| ratio(now.rate, b.rate));
    Baseline { window, red: before, p99_ratio, rate_ratio, versions: None, shifts: Vec::new() }
}
