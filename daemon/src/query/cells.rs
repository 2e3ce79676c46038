//! RED deltas as one question reads them: columns of small numbers, whatever source they came from.
//!
//! A *series* is what a delta says besides numbers (service, operation, kind, status, resource); a
//! *cell* is one delta of one series in one 10 s bucket. The store and live memory both fill the
//! same table through [`Cells::push`], which makes merging them plain concatenation, and filters and
//! groups are decided once per series instead of once per delta.

use std::collections::BTreeMap;

use coral_model::TraceId;
use coral_model::num::{u32_sat, usize_sat};
use coral_model::time::{BUCKET, Time, Window};
use coral_model::view::Evidence;
use hashbrown::{HashMap, HashSet, HashTable};
use xxhash_rust::xxh3::xxh3_64;

use super::QueryError;
use super::dense::Buckets;
use super::fetch::{self, Sql};
use super::stretch::Stretch;
use super::symbols::{Symbol, Symbols};
use crate::store::Reading;
use crate::store::schema::Signal;

/// A RED delta, borrowed from wherever it lies. Empty texts are "none".
#[derive(Debug, Clone, Copy)]
pub struct Delta<'a> {
    /// Start of its bucket.
    pub bucket: Time,
    /// Length of its bucket, ns.
    pub width: u64,
    /// Content hash of its resource.
    pub resource: u64,
    /// `service.name`.
    pub service: &'a str,
    /// Operation.
    pub operation: &'a str,
    /// OTLP span kind.
    pub kind: u8,
    /// The protocol's status code.
    pub code: &'a str,
    /// Requests that ended.
    pub requests: u64,
    /// Of these failed.
    pub errors: u64,
    /// Of these without any answer.
    pub no_answer: u64,
    /// Sum of durations.
    pub sum_ns: u64,
    /// Their durations.
    pub durations: Buckets<'a>,
    /// The slowest request.
    pub slowest: Option<(TraceId, u64)>,
    /// The last failed one.
    pub error: Option<TraceId>,
    /// An unknown share was left out.
    pub sampled: bool,
    /// What saw them.
    pub evidence: Evidence,
}

/// What a series is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Series {
    /// `service.name`.
    pub service: Symbol,
    /// Operation.
    pub operation: Symbol,
    /// Status code.
    pub code: Symbol,
    /// OTLP span kind.
    pub kind: u8,
    /// Resource.
    pub resource: u64,
    /// What saw its requests.
    pub evidence: Evidence,
}

/// What is known about a resource.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Resource {
    /// `service.name`.
    pub service: Symbol,
    /// `service.namespace`.
    pub namespace: Symbol,
    /// `service.instance.id`.
    pub instance: Symbol,
    /// `service.version`.
    pub version: Symbol,
    /// `host.name`.
    pub host: Symbol,
    /// `cloud.availability_zone`.
    pub zone: Symbol,
    /// First seen.
    pub first: Time,
    /// All attributes, when the question needs them.
    pub attributes: BTreeMap<String, String>,
}

/// One delta of one series in one bucket.
#[derive(Debug, Clone, Copy)]
pub struct Cell {
    /// Index into [`Cells::series`].
    pub series: u32,
    /// Start of the bucket.
    pub bucket: Time,
    /// Length of the bucket, ns.
    pub width: u64,
    /// Requests that ended.
    pub requests: u64,
    /// Of these failed.
    pub errors: u64,
    /// Of these without any answer.
    pub no_answer: u64,
    /// Sum of durations.
    pub sum_ns: u64,
    /// The slowest request.
    pub slowest: Option<(TraceId, u64)>,
    /// The last failed one.
    pub error: Option<TraceId>,
    /// An unknown share was left out.
    pub sampled: bool,
    /// What saw them.
    pub evidence: Evidence,
    durations: (usize, usize),
}

/// The table.
#[derive(Debug, Default)]
pub struct Cells {
    /// Words.
    pub symbols: Symbols,
    /// Series, each once.
    pub series: Vec<Series>,
    /// Deltas in the order they were read.
    pub cells: Vec<Cell>,
    /// Resources of the series, as far as known.
    pub resources: HashMap<u64, Resource>,
    /// When each service was first seen at all.
    pub first_seen: HashMap<Symbol, Time>,
    /// Groups that are kept apart, where not all are.
    pub folded: Option<super::group::Folded>,
    by_words: HashTable<(u64, u32)>,
    buckets: Vec<(u16, u64)>,
}

impl Cells {
    /// Adds a delta.
    pub fn push(&mut self, delta: &Delta<'_>) {
        let series = self.series_at(delta);
        let start = self.buckets.len();
        match delta.durations {
            Buckets::Columns(index, count) => {
                self.buckets.extend(index.iter().copied().zip(count.iter().copied()));
            }
            Buckets::Pairs(pairs) => self.buckets.extend_from_slice(pairs),
        }
        self.cells.push(Cell {
            series,
            bucket: delta.bucket,
            width: delta.width,
            requests: delta.requests,
            errors: delta.errors,
            no_answer: delta.no_answer,
            sum_ns: delta.sum_ns,
            slowest: delta.slowest,
            error: delta.error,
            sampled: delta.sampled,
            evidence: delta.evidence,
            durations: (start, self.buckets.len()),
        });
    }

    /// The place of a delta's series. Nearly every delta's is known: one hash of its words finds it.
    fn series_at(&mut self, delta: &Delta<'_>) -> u32 {
        let words = [delta.service, delta.operation, delta.code];
        let rest = u64::from(delta.kind) << 8 | u64::from(delta.evidence == Evidence::Ebpf);
        let hash = words.iter().fold(delta.resource ^ rest, |hash, word| {
            hash.rotate_left(21) ^ xxh3_64(word.as_bytes())
        });
        let is = |&(own, at): &(u64, u32)| {
            let Some(series) = self.series.get(usize_sat(at)).filter(|_| own == hash) else {
                return false;
            };
            let word = |symbol| self.symbols.word(symbol).unwrap_or_default();
            (series.kind, series.resource) == (delta.kind, delta.resource)
                && series.evidence == delta.evidence
                && word(series.operation) == delta.operation
                && word(series.service) == delta.service
                && word(series.code) == delta.code
        };
        if let Some(&(_, at)) = self.by_words.find(hash, is) {
            return at;
        }
        let at = u32_sat(self.series.len());
        self.series.push(Series {
            service: self.symbols.of(delta.service),
            operation: self.symbols.of(delta.operation),
            code: self.symbols.of(delta.code),
            kind: delta.kind,
            resource: delta.resource,
            evidence: delta.evidence,
        });
        self.by_words.insert_unique(hash, (hash, at), |&(hash, _)| hash);
        at
    }

    /// Notes that a service existed at a moment.
    pub fn seen(&mut self, service: Symbol, at: Time) {
        let first = self.first_seen.entry(service).or_insert(at);
        *first = (*first).min(at);
    }

    /// The series of a cell.
    pub fn series_of(&self, cell: &Cell) -> Option<&Series> {
        self.series.get(usize::try_from(cell.series).ok()?)
    }

    /// Durations of a cell's requests.
    pub fn durations(&self, cell: &Cell) -> Buckets<'_> {
        let (start, end) = cell.durations;
        Buckets::Pairs(self.buckets.get(start..end).unwrap_or_default())
    }

    /// Of a service whose spans tell of its requests, what the kernel saw of them is left out: they
    /// are the same requests, under other names perhaps, so no finer rule would count them once.
    pub fn settle_evidence(&mut self) {
        if self.series.iter().all(|s| s.evidence != Evidence::Ebpf) {
            return;
        }
        let otlp = self.cells.iter().filter(|c| c.evidence == Evidence::Otlp && c.requests > 0);
        let told: HashSet<Symbol> =
            otlp.filter_map(|cell| self.series_of(cell).map(|s| s.service)).collect();
        let twice = |s: &Series| s.evidence == Evidence::Ebpf && told.contains(&s.service);
        let twice: Vec<bool> = self.series.iter().map(twice).collect();
        self.cells.retain(|cell| !twice.get(usize_sat(cell.series)).copied().unwrap_or(false));
    }

    /// Forgets deltas of buckets before a moment.
    pub fn forget_before(&mut self, at: Time) {
        self.cells.retain(|cell| cell.bucket >= at);
    }

    /// Reads deltas of a window from the store: of each stretch of it such buckets as it names;
    /// `services`, when not empty, names the only ones of interest.
    pub fn read_store(
        &mut self,
        conn: &Reading<'_>,
        stretches: &[Stretch],
        services: &[String],
    ) -> Result<(), QueryError> {
        if stretches.is_empty() {
            return Ok(());
        }
        let mut sql = Sql::default();
        for (n, stretch) in stretches.iter().enumerate() {
            let Stretch { window: Window { from, to }, resolution } = *stretch;
            sql = sql
                .then(if n == 0 { "" } else { " UNION ALL " })
                .then(&format!(
                    "SELECT bucket_ns, resource, service, operation, kind, code, requests, errors, \
                     no_answer, sum_ns, hist_index, hist_count, slow_hi, slow_lo, slow_ns, error_hi, \
                     error_lo, sampled, width_ns, evidence FROM {} WHERE true",
                    conn.widths(Signal::Red, from, to, resolution)
                ))
                .within("bucket_ns", from, to);
            if !services.is_empty() {
                sql = sql.then(" AND service IN (");
                for (n, service) in services.iter().enumerate() {
                    sql = sql.then(if n == 0 { "" } else { ", " }).bind(service.clone());
                }
                sql = sql.then(")");
            }
        }
        fetch::run(conn, &sql, |batch| {
            let (bucket, resource) = (batch.i64s(0)?, batch.u64s(1)?);
            let (service, operation) = (batch.texts(2)?, batch.texts(3)?);
            let (kind, code) = (batch.u8s(4)?, batch.texts(5)?);
            let (requests, errors) = (batch.u64s(6)?, batch.u64s(7)?);
            let (no_answer, sum_ns) = (batch.u64s(8)?, batch.u64s(9)?);
            let (index, count) = (batch.lists(10)?, batch.lists(11)?);
            let (slow_hi, slow_lo, slow_ns) = (batch.u64s(12)?, batch.u64s(13)?, batch.u64s(14)?);
            let (error_hi, error_lo) = (batch.u64s(15)?, batch.u64s(16)?);
            let (sampled, width) = (batch.bools(17)?, batch.u64s(18)?);
            let evidence = batch.texts(19)?;
            for row in 0..batch.len() {
                let slowest = fetch::trace_id(slow_hi, slow_lo, row);
                self.push(&Delta {
                    bucket: fetch::time(bucket, row),
                    width: fetch::uint(width, row),
                    resource: fetch::uint(resource, row),
                    service: fetch::text(service, row).unwrap_or_default(),
                    operation: fetch::text(operation, row).unwrap_or_default(),
                    kind: fetch::byte(kind, row),
                    code: fetch::text(code, row).unwrap_or_default(),
                    requests: fetch::uint(requests, row),
                    errors: fetch::uint(errors, row),
                    no_answer: fetch::uint(no_answer, row),
                    sum_ns: fetch::uint(sum_ns, row),
                    durations: fetch::buckets(index, count, row),
                    slowest: slowest.map(|id| (id, fetch::uint(slow_ns, row))),
                    error: fetch::trace_id(error_hi, error_lo, row),
                    sampled: fetch::flag(sampled, row),
                    evidence: fetch::evidence(evidence, row),
                });
            }
            Ok(())
        })
    }

    /// Reads what the store knows of resources: when each service was first seen, and the
    /// properties of the resources that the table's series name (`attributes` too when asked).
    pub fn read_resources(
        &mut self,
        conn: &Reading<'_>,
        attributes: bool,
    ) -> Result<(), QueryError> {
        let columns = if attributes { "attributes" } else { "map([]::VARCHAR[], []::VARCHAR[])" };
        let sql = Sql::new(format!(
            "SELECT id, service, namespace, instance, version, host, zone, first_ns, \
             {columns} AS attributes FROM {}",
            conn.resources()
        ));
        let named: hashbrown::HashSet<u64> = self.series.iter().map(|s| s.resource).collect();
        fetch::run(conn, &sql, |batch| {
            let (id, service) = (batch.u64s(0)?, batch.texts(1)?);
            let (namespace, instance) = (batch.texts(2)?, batch.texts(3)?);
            let (version, host) = (batch.texts(4)?, batch.texts(5)?);
            let (zone, first, maps) = (batch.texts(6)?, batch.i64s(7)?, batch.maps(8)?);
            for row in 0..batch.len() {
                let name = self.symbols.of(fetch::text(service, row).unwrap_or_default());
                let first = fetch::time(first, row);
                self.seen(name, first);
                let id = fetch::uint(id, row);
                if !named.contains(&id) {
                    continue;
                }
                let mut of = |column| self.symbols.of(fetch::text(column, row).unwrap_or_default());
                let resource = Resource {
                    service: name,
                    namespace: of(namespace),
                    instance: of(instance),
                    version: of(version),
                    host: of(host),
                    zone: of(zone),
                    first,
                    attributes: fetch::map(maps, row),
                };
                self.resources.insert(id, resource);
            }
            Ok(())
        })
    }

    /// Which series pass `keep`, by index.
    pub fn select(&self, mut keep: impl FnMut(&Series, Option<&Resource>) -> bool) -> Vec<bool> {
        self.series.iter().map(|s| keep(s, self.resources.get(&s.resource))).collect()
    }

    /// The newest moment the cells of a window speak of: the end of their last bucket, or now.
    pub fn newest_in(&self, window: Window, now: Time) -> Option<Time> {
        let buckets = self.cells.iter().map(|c| c.bucket).filter(|b| window.contains(*b));
        buckets.max().map(|b| b.plus(BUCKET).min(now.max(b)))
    }
}
