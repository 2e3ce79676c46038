//! RED deltas as one question reads them: columns of small numbers, whatever source they came from.
//!
//! A *series* is what a delta says besides numbers (service, operation, kind, status, resource); a
//! *cell* is one delta of one series in one bucket. The store and live memory both fill the same
//! table, which makes merging them plain concatenation, and filters and groups are decided once per
//! series instead of once per delta. What a cell counted stays packed, as the store packs it
//! ([`packed`]), until it is added up.

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
use crate::store::packed::{self, Malformed};
use crate::store::schema::Signal;
use crate::store::{Reading, text};

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

/// What tells a series from others, as it is read.
struct Words<'a> {
    service: &'a str,
    operation: &'a str,
    code: &'a str,
    kind: u8,
    resource: u64,
    evidence: Evidence,
}

impl<'a> Words<'a> {
    const fn of(delta: &Delta<'a>) -> Self {
        let Delta { service, operation, code, kind, resource, evidence, .. } = *delta;
        Self { service, operation, code, kind, resource, evidence }
    }
}

/// ` AND service IN (…)`, unless all are of interest.
fn one_of(services: &[String]) -> Sql {
    let mut sql = Sql::default();
    for (n, service) in services.iter().enumerate() {
        sql = sql.then(if n == 0 { " AND service IN (" } else { ", " }).bind(service.clone());
    }
    if services.is_empty() { sql } else { sql.then(")") }
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
    /// Where it is packed.
    at: (u32, u32),
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
    packed: Vec<u8>,
}

impl Cells {
    /// Adds a delta.
    pub fn push(&mut self, delta: &Delta<'_>) {
        let series = self.series_at(&Words::of(delta));
        let cell = packed::Cell {
            requests: delta.requests,
            errors: delta.errors,
            no_answer: delta.no_answer,
            sum_ns: delta.sum_ns,
            sampled: delta.sampled,
            slowest: delta.slowest,
            error: delta.error,
            pairs: &[],
        };
        let start = u32_sat(self.packed.len());
        match delta.durations {
            Buckets::Columns(index, count) => {
                let pairs = index.iter().copied().zip(count.iter().copied());
                cell.write(&mut self.packed, pairs);
            }
            Buckets::Pairs(pairs) => cell.write(&mut self.packed, pairs.iter().copied()),
            Buckets::Packed(pairs) => cell.write(&mut self.packed, packed::pairs(pairs)),
        }
        let at = (start, u32_sat(self.packed.len()));
        let Delta { bucket, width, requests, .. } = *delta;
        self.cells.push(Cell { series, bucket, width, requests, at });
    }

    /// Adds those of a series' packed cells whose buckets, of `width` ns, lie in a window.
    fn unpack(
        &mut self,
        words: &Words<'_>,
        list: &[u8],
        window: Window,
        width: u64,
    ) -> Result<(), Malformed> {
        let series = self.series_at(words);
        packed::each(list, |bucket, bytes| {
            let bucket = Time(bucket.saturating_mul(width));
            if window.contains(bucket) {
                let requests = packed::Cell::of(bytes)?.requests;
                let start = u32_sat(self.packed.len());
                self.packed.extend_from_slice(bytes);
                let at = (start, u32_sat(self.packed.len()));
                self.cells.push(Cell { series, bucket, width, requests, at });
            }
            Ok(())
        })
    }

    /// Whether there is more than can be kept: places are numbered with 32 bits.
    fn is_full(&self) -> bool {
        u32::try_from(self.packed.len()).is_err()
    }

    /// The place of a delta's series. Nearly every delta's is known: one hash of its words finds it.
    fn series_at(&mut self, delta: &Words<'_>) -> u32 {
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

    /// What a cell counted.
    pub fn read(&self, cell: &Cell) -> packed::Cell<'_> {
        let (start, end) = (usize_sat(cell.at.0), usize_sat(cell.at.1));
        // Every cell was packed here, or taken apart once when it was read.
        packed::Cell::of(self.packed.get(start..end).unwrap_or_default()).unwrap_or_default()
    }

    /// Of a service whose spans tell of its requests, what the kernel saw of them is left out: they
    /// are the same requests, under other names perhaps, so no finer rule would count them once.
    pub fn settle_evidence(&mut self) {
        if self.series.iter().all(|s| s.evidence != Evidence::Ebpf) {
            return;
        }
        let of_cells = self.cells.iter().filter(|c| c.requests > 0);
        let series = of_cells.filter_map(|cell| self.series_of(cell));
        let told: HashSet<Symbol> =
            series.filter(|s| s.evidence == Evidence::Otlp).map(|s| s.service).collect();
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
            let mut before = Time::MAX;
            if let Some((files, begins)) = conn.series(from, to, resolution) {
                self.read_series(conn, &files, *stretch, services)?;
                before = begins;
            }
            sql = sql
                .then(if n == 0 { "" } else { " UNION ALL " })
                .then(&format!(
                    "SELECT bucket_ns, resource, service, operation, kind, code, requests, errors, \
                     no_answer, sum_ns, hist_index, hist_count, slow_hi, slow_lo, slow_ns, error_hi, \
                     error_lo, sampled, width_ns, evidence FROM {} WHERE true",
                    conn.widths(Signal::Red, (from, to), resolution, before)
                ))
                .within("bucket_ns", from, to)
                .part(one_of(services));
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
            if self.is_full() { Err(QueryError::TooLarge) } else { Ok(()) }
        })
    }

    /// Reads what files have of a stretch by series.
    fn read_series(
        &mut self,
        conn: &Reading<'_>,
        files: &[String],
        stretch: Stretch,
        services: &[String],
    ) -> Result<(), QueryError> {
        if files.is_empty() {
            return Ok(());
        }
        let Stretch { window, resolution } = stretch;
        let files: Vec<String> = files.iter().map(|file| text(file)).collect();
        let sql = Sql::new(format!(
            "SELECT resource, service, operation, kind, code, packed, evidence \
             FROM read_parquet([{}]) WHERE first_ns < ",
            files.join(", ")
        ))
        .time(window.to)
        .then(" AND last_ns >= ")
        .time(window.from)
        .part(one_of(services));
        fetch::run(conn, &sql, |batch| {
            let (resource, service) = (batch.u64s(0)?, batch.texts(1)?);
            let (operation, kind, code) = (batch.texts(2)?, batch.u8s(3)?, batch.texts(4)?);
            let (packed, evidence) = (batch.lists(5)?, batch.texts(6)?);
            for row in 0..batch.len() {
                let words = Words {
                    service: fetch::text(service, row).unwrap_or_default(),
                    operation: fetch::text(operation, row).unwrap_or_default(),
                    code: fetch::text(code, row).unwrap_or_default(),
                    kind: fetch::byte(kind, row),
                    resource: fetch::uint(resource, row),
                    evidence: fetch::evidence(evidence, row),
                };
                for list in fetch::bytes_of(packed, row) {
                    self.unpack(&words, list, window, resolution)?;
                }
            }
            if self.is_full() { Err(QueryError::TooLarge) } else { Ok(()) }
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
