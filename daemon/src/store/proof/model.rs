//! The naive model: what was acknowledged, kept in maps and counted by hand; and the two ways in which
//! the store tells of requests, to be held against it.

use std::collections::{BTreeMap, BTreeSet};

use coral_model::Time;
use coral_model::hist::Histogram;
use coral_model::id::TraceId;

use super::super::schema::Signal;
use super::super::{Reading, StoreError, packed, text};

/// A request as the model keeps it.
#[derive(Debug, Clone)]
pub struct Request {
    pub bucket: Time,
    pub service: String,
    pub durations: Vec<u64>,
    pub errors: u64,
}

/// What was acknowledged.
#[derive(Debug, Default)]
pub struct Model {
    pub spans: BTreeMap<u64, (Time, TraceId)>,
    pub logs: BTreeSet<String>,
    pub requests: Vec<Request>,
    pub mark: Option<u64>,
}

/// Requests, errors and histogram by service.
pub type Sums = BTreeMap<String, (u64, u64, BTreeMap<u16, u64>)>;

impl Model {
    pub fn sums(&self, from: Time, to: Time) -> Sums {
        let mut sums = Sums::new();
        for request in self.requests.iter().filter(|r| from <= r.bucket && r.bucket < to) {
            let sum = sums.entry(request.service.clone()).or_default();
            sum.0 += request.durations.len() as u64;
            sum.1 += request.errors;
            let mut histogram = Histogram::default();
            request.durations.iter().for_each(|d| histogram.record(*d));
            for (index, count) in histogram.buckets() {
                *sum.2.entry(*index).or_default() += count;
            }
        }
        sums
    }
}

/// Requests of a window as the rows of a relation have them.
pub fn of_rows(c: &Reading<'_>, relation: &str, from: Time, to: Time) -> Result<Sums, StoreError> {
    let mut statement = c.prepare(&format!(
        "SELECT service, requests, errors, hist_index::UBIGINT[]::VARCHAR, hist_count::VARCHAR \
         FROM {relation} WHERE bucket_ns >= {} AND bucket_ns < {}",
        from.as_i64(),
        to.as_i64()
    ))?;
    let mut sums = Sums::new();
    let mut rows = statement.query([])?;
    while let Some(row) = rows.next()? {
        let sum = sums.entry(row.get(0)?).or_default();
        sum.0 += row.get::<_, u64>(1)?;
        sum.1 += row.get::<_, u64>(2)?;
        let list = |at| -> Result<Vec<u64>, StoreError> {
            let text: String = row.get(at)?;
            Ok(serde_json::from_str(&text).unwrap())
        };
        for (index, count) in list(3)?.into_iter().zip(list(4)?) {
            *sum.2.entry(index as u16).or_default() += count;
        }
    }
    Ok(sums)
}

/// Requests of a window as the index by series has them, and the rows that it does not cover.
pub fn by_series(
    c: &Reading<'_>,
    from: Time,
    to: Time,
    resolution: u64,
) -> Result<Option<Sums>, StoreError> {
    let Some((files, begins)) = c.series(from, to, resolution) else { return Ok(None) };
    let rest = c.widths(Signal::Red, (from, to), resolution, begins);
    let mut sums = of_rows(c, &rest, from, to)?;
    for file in files {
        let sql = format!("SELECT service, unnest(packed) FROM read_parquet({})", text(&file));
        let mut statement = c.prepare(&sql)?;
        let mut rows = statement.query([])?;
        while let Some(row) = rows.next()? {
            let (service, list): (String, Vec<u8>) = (row.get(0)?, row.get(1)?);
            packed::each(&list, |bucket, bytes| {
                let bucket = Time(bucket * resolution);
                if bucket < from || bucket >= to {
                    return Ok(());
                }
                let cell = packed::Cell::of(bytes)?;
                let sum = sums.entry(service.clone()).or_default();
                sum.0 += cell.requests;
                sum.1 += cell.errors;
                for (index, n) in packed::pairs(cell.pairs) {
                    *sum.2.entry(index).or_default() += n;
                }
                Ok(())
            })
            .unwrap();
        }
    }
    Ok(Some(sums))
}
