//! The index of words: which triples of letters the log records of a stretch of time have.
//!
//! Who searches hours of logs for something rare would read all of them to find ten. A record that
//! contains a text has all its triples of letters, so a stretch whose map lacks one of them needs not
//! be read. Letters are folded into 64 classes, which makes a map of 2^18 bits: ASCII letters (case is
//! folded by the search itself) and digits have a class each, all else shares the rest. A map may
//! promise what is not there, never the other way round.

use std::collections::BTreeMap;
use std::sync::Arc;

use coral_model::num::i64_sat;
use coral_model::time::{SECOND, Time};
use duckdb::arrow::array::{Array as _, ArrayRef, BinaryArray, Int64Array, StringArray};
use duckdb::arrow::datatypes::{Field, Schema};
use duckdb::arrow::record_batch::RecordBatch;
use duckdb::{Connection, params};

use super::coarse::column_of;
use super::tables::text;
use super::{StoreError, sealed};

/// The temporary table that takes the maps.
const MAPS: &str = "words";
/// As a statement names it.
pub const MAPS_TABLE: &str = "temp.words";
/// Records a stretch should have at least: a map takes up to some KiB.
const RECORDS: u64 = 4096;
/// Shortest stretch, ns; records of a minute lie together.
const MINUTE: u64 = 60 * SECOND;
/// Longest stretch.
const LONGEST: u64 = 60 * MINUTE;
/// Maps of a slice; beyond it the two oldest become one. Records may come late by years, each in a
/// stretch of its own.
const MAPS_OF_SLICE: usize = 256;
/// Classes of letters.
const CLASSES: usize = 64;
/// Bytes of a map.
const BYTES: usize = CLASSES * CLASSES * CLASSES / 8;
/// Stretches with less than this between them are read as one, ns.
const NEAR: u64 = SECOND;

const fn class(byte: u8) -> usize {
    (match byte {
        b'a'..=b'z' => byte - b'a',
        b'0'..=b'9' => byte - b'0' + 26,
        b' ' => 36,
        other => 37 + other % 27,
    }) as usize
}

/// Bit of each triple of a text.
fn triples(text: &[u8]) -> impl Iterator<Item = usize> + '_ {
    text.windows(3).map(|three| three.iter().fold(0, |bit, &byte| bit * CLASSES + class(byte)))
}

/// The triples of some records.
struct Map {
    bits: Box<[u8]>,
    first: i64,
    last: i64,
    received: i64,
}

impl Map {
    fn new(at: i64) -> Self {
        Self { bits: vec![0; BYTES].into(), first: at, last: at, received: i64::MIN }
    }

    fn add(&mut self, text: &str) {
        for bit in triples(text.as_bytes()) {
            if let Some(byte) = self.bits.get_mut(bit / 8) {
                *byte |= 1 << (bit % 8);
            }
        }
    }

    fn merge(&mut self, other: &Self) {
        self.bits.iter_mut().zip(&other.bits).for_each(|(byte, more)| *byte |= more);
        self.first = self.first.min(other.first);
        self.last = self.last.max(other.last);
        self.received = self.received.max(other.received);
    }
}

/// Whether records with this map may contain a text in lower case.
fn may_have(map: &[u8], needle: &str) -> bool {
    triples(needle.as_bytes())
        .all(|bit| map.get(bit / 8).is_some_and(|byte| byte & (1 << (bit % 8)) != 0))
}

/// The rows of [`MAPS_TABLE`] as a file has them.
pub const SELECT: &str = "SELECT received_ns, first_ns, last_ns, letters FROM temp.words";

/// Makes maps of the log records of a table in [`MAPS_TABLE`]: `count` of them, over `span` ns.
pub fn pack(connection: &Connection, table: &str, count: u64, span: u64) -> Result<(), StoreError> {
    connection.execute_batch(&format!(
        "CREATE OR REPLACE TEMP TABLE {MAPS}(received_ns BIGINT, first_ns BIGINT, last_ns BIGINT, \
         letters BLOB)"
    ))?;
    // A few that came very late must not make all stretches long.
    let minutes = span.div_ceil(MINUTE).clamp(1, LONGEST / MINUTE);
    let width = (RECORDS * minutes).div_ceil(count.max(1)).min(LONGEST / MINUTE) * MINUTE;
    let width = i64_sat(width);
    let mut maps: BTreeMap<i64, Map> = BTreeMap::new();
    // What a search for a word looks at, in its own lower case.
    let sql = format!(
        "SELECT time_ns, received_ns, lower(body), \
         lower(array_to_string(map_values(attributes), chr(10))) FROM {table}"
    );
    let mut statement = connection.prepare(&sql)?;
    drop(statement.stream_arrow(params![])?);
    while let Some(rows) = statement.step()? {
        let number = |at| column_of::<Int64Array>(rows.columns(), at);
        let words = |at| column_of::<StringArray>(rows.columns(), at);
        let (times, stamps, texts) = (number(0)?, number(1)?, [words(2)?, words(3)?]);
        for row in 0..rows.len() {
            let at = times.value(row);
            let map = maps.entry(at.div_euclid(width)).or_insert_with(|| Map::new(at));
            map.first = map.first.min(at);
            map.last = map.last.max(at);
            map.received = map.received.max(stamps.value(row));
            texts.iter().filter(|t| t.is_valid(row)).for_each(|t| map.add(t.value(row)));
            if maps.len() > MAPS_OF_SLICE
                && let Some((_, oldest)) = maps.pop_first()
                && let Some(mut next) = maps.first_entry()
            {
                next.get_mut().merge(&oldest);
            }
        }
    }
    drop(statement);
    let mut appender = connection.appender_to_catalog_and_db(MAPS, "temp", "main")?;
    appender.append_record_batch(record(&maps.into_values().collect::<Vec<_>>())?)?;
    appender.flush()?;
    Ok(())
}

fn record(maps: &[Map]) -> Result<RecordBatch, StoreError> {
    let number = |of: fn(&Map) -> i64| -> ArrayRef {
        Arc::new(Int64Array::from_iter_values(maps.iter().map(of)))
    };
    let letters = BinaryArray::from_iter_values(maps.iter().map(|map| &map.bits));
    let columns =
        [number(|m| m.received), number(|m| m.first), number(|m| m.last), Arc::new(letters)];
    let named = ["received_ns", "first_ns", "last_ns", "letters"].into_iter().zip(&columns);
    let fields: Vec<Field> =
        named.map(|(name, column)| Field::new(name, column.data_type().clone(), true)).collect();
    RecordBatch::try_new(Arc::new(Schema::new(fields)), columns.to_vec()).map_err(sealed::arrow)
}

/// Whether the index can say anything of a search for these.
#[must_use]
pub fn tells(needles: &[String]) -> bool {
    needles.iter().any(|needle| needle.len() >= 3)
}

/// Stretches of `[from, to)` outside which no record of these index files has all of some texts,
/// which are in lower case; oldest first, none overlaps another.
pub fn stretches(
    connection: &Connection,
    files: &[String],
    (from, to): (Time, Time),
    needles: &[String],
) -> Result<Vec<(Time, Time)>, StoreError> {
    let files: Vec<String> = files.iter().map(|file| text(file)).collect();
    let sql = format!(
        "SELECT first_ns, last_ns, letters FROM read_parquet([{}]) \
         WHERE last_ns >= {} AND first_ns < {}",
        files.join(", "),
        from.as_i64(),
        to.as_i64()
    );
    let mut found: Vec<(Time, Time)> = Vec::new();
    let mut statement = connection.prepare(&sql)?;
    drop(statement.stream_arrow(params![])?);
    while let Some(rows) = statement.step()? {
        let number = |at| column_of::<Int64Array>(rows.columns(), at);
        let (first, last) = (number(0)?, number(1)?);
        let letters = column_of::<BinaryArray>(rows.columns(), 2)?;
        for row in 0..rows.len() {
            if needles.iter().all(|needle| may_have(letters.value(row), needle)) {
                let ends =
                    (Time::from_i64(first.value(row)), Time::from_i64(last.value(row)).plus(1));
                found.push(ends);
            }
        }
    }
    found.sort_unstable();
    let mut merged: Vec<(Time, Time)> = Vec::new();
    for (from, to) in found {
        match merged.last_mut() {
            Some(before) if from <= before.1.plus(NEAR) => before.1 = before.1.max(to),
            _ => merged.push((from, to)),
        }
    }
    Ok(merged)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn map(texts: &[&str]) -> Map {
        let mut map = Map::new(0);
        texts.iter().for_each(|text| map.add(text));
        map
    }

    #[test]
    fn what_no_record_has_is_told_apart() {
        let map = map(&["charged card 4711 in 12 ms", "cart 17 has 3 items"]);
        for there in ["card 4711", "12 ms", "items", "in", "c", ""] {
            assert!(may_have(&map.bits, there), "{there}");
        }
        for missing in ["declined", "card 4712", "timeout", "17 cart"] {
            assert!(!may_have(&map.bits, missing), "{missing}");
        }
    }

    #[test]
    fn merged_maps_have_what_either_had() {
        let (mut one, other) = (map(&["red apple"]), map(&["green pear"]));
        assert!(!may_have(&one.bits, "pear"));
        one.merge(&other);
        assert!(may_have(&one.bits, "pear") && may_have(&one.bits, "apple"));
    }

    #[test]
    fn short_texts_are_not_looked_up() {
        assert!(!tells(&["ab".to_owned(), String::new()]));
        assert!(tells(&["ab".to_owned(), "abc".to_owned()]));
    }

    proptest! {
        #[test]
        fn every_part_of_a_text_may_be_there(text in "\\PC{0,40}", at in 0usize..40, length in 0usize..40) {
            let text = text.to_lowercase();
            let part: String = text.chars().skip(at).take(length).collect();
            prop_assert!(may_have(&map(&[&text]).bits, &part));
        }
    }
}
