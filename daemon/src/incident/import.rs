//! A file into the store of a colony that was made for it.

use std::collections::BTreeMap;
use std::io::{BufRead as _, BufReader, Read};
use std::sync::Arc;

use coral_model::Time;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::rows;
use super::{BEGIN, END, IncidentError};
use crate::store::{Batch, Store};

/// Longest line, in bytes.
const LINE: u64 = 32 << 20;
/// Most bytes of lines: what a packed file may become.
const WHOLE: u64 = 64 << 30;
/// Rows committed at a time.
const ROWS: usize = 5_000;

/// What a file says of itself.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Manifest {
    /// Schema of the line.
    pub schema: String,
    /// The colony it was written by.
    pub colony: String,
    /// On which host.
    pub host: String,
    /// By which build.
    pub build: String,
    /// When.
    pub written: Time,
    /// The window.
    pub from: Time,
    /// Its end.
    pub to: Time,
    /// Which records were written; empty: all.
    pub filter: String,
    /// Where to look first; empty: wherever.
    pub place: String,
    /// Rows taken, by table.
    #[serde(skip_deserializing)]
    pub rows: BTreeMap<String, u64>,
}

#[derive(Deserialize)]
struct Line {
    schema: Option<String>,
    table: Option<String>,
    row: Option<Value>,
    crc32c: Option<String>,
    lines: Option<u64>,
}

/// Reads a file; blocks. Batches go to `commit`, which waits until they are kept.
///
/// # Errors
/// At the first line that is none, and when the file is cut or was changed. What was committed before
/// stays: the colony is thrown away then.
pub fn read(
    packed: impl Read,
    mut commit: impl FnMut(Batch) -> Result<(), IncidentError>,
) -> Result<Manifest, IncidentError> {
    let plain = zstd::stream::read::Decoder::new(packed)?;
    let mut plain = BufReader::with_capacity(1 << 20, plain.take(WHOLE));
    let mut manifest: Option<Manifest> = None;
    let (mut number, mut crc) = (0u64, 0u32);
    let (mut batch, mut held) = (Batch::default(), 0);
    let mut text = Vec::new();
    loop {
        text.clear();
        let got = match (&mut plain).take(LINE).read_until(b'\n', &mut text) {
            Ok(got) => got,
            // A frame that ends too early, or breaks.
            Err(error) if error.kind() == std::io::ErrorKind::UnexpectedEof => {
                return Err(IncidentError::Cut(number));
            }
            Err(error) => return Err(error.into()),
        };
        if got == 0 {
            return Err(IncidentError::Cut(number));
        }
        number += 1;
        let wrong = |why: String| IncidentError::Line { line: number, why };
        if !text.ends_with(b"\n") {
            return Err(wrong(format!("expected a line of at most {LINE} bytes")));
        }
        let Some(manifest) = &mut manifest else {
            let found: Manifest = serde_json::from_slice(&text)
                .map_err(|e| wrong(format!("expected {BEGIN}: {e}")))?;
            if found.schema != BEGIN {
                return Err(wrong(format!("expected {BEGIN}, not `{}`", clean(&found.schema))));
            }
            if found.from >= found.to {
                return Err(wrong("expected a window: from before to".to_owned()));
            }
            crc = crc32c::crc32c_append(crc, &text);
            manifest = Some(found);
            continue;
        };
        let line: Line = serde_json::from_slice(&text)
            .map_err(|e| wrong(format!("expected a row as JSON: {e}")))?;
        if line.schema.as_deref() == Some(END) {
            let said = line.crc32c.as_deref().and_then(|hex| u32::from_str_radix(hex, 16).ok());
            let said = said.ok_or_else(|| wrong("expected crc32c, eight hex digits".to_owned()))?;
            if said != crc || line.lines != Some(number - 1) {
                return Err(IncidentError::Changed { found: crc, said });
            }
            commit(batch)?;
            return Ok(manifest.clone());
        }
        crc = crc32c::crc32c_append(crc, &text);
        let (Some(table), Some(row)) = (line.table, line.row) else {
            return Err(wrong(format!("expected a table and its row, or {END}")));
        };
        rows::push(&table, row, &mut batch)
            .map_err(|why| wrong(format!("expected a row of {}: {why}", clean(&table))))?;
        *manifest.rows.entry(clean(&table)).or_default() += 1;
        // What it weighs for the store's budgets.
        batch.bytes = batch.bytes.saturating_add(text.len());
        held += 1;
        if held >= ROWS || batch.bytes > 8 << 20 {
            commit(std::mem::take(&mut batch))?;
            held = 0;
        }
    }
}

fn clean(text: &str) -> String {
    coral_model::text::fit(&coral_model::text::clean(text), 60)
}

/// Reads a file into a store; blocks until all of it is committed.
///
/// # Errors
/// See [`read`].
pub fn into_store(
    packed: impl Read,
    store: &Arc<Store>,
    runtime: &tokio::runtime::Handle,
) -> Result<Manifest, IncidentError> {
    read(packed, |batch| {
        runtime.block_on(store.commit(batch))?;
        Ok(())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pack(lines: &[&str]) -> Vec<u8> {
        zstd::encode_all(lines.concat().as_bytes(), 1).unwrap()
    }

    fn end(lines: &[&str]) -> String {
        let crc = crc32c::crc32c(lines.concat().as_bytes());
        format!("{{\"schema\":\"{END}\",\"lines\":{},\"crc32c\":\"{crc:08x}\"}}\n", lines.len())
    }

    const HEAD: &str = "{\"schema\":\"coral.incident/1\",\"from\":\"2026-11-22T14:00:00Z\",\"to\":\"2026-11-22T15:00:00Z\"}\n";
    const EVENT: &str = "{\"table\":\"events\",\"row\":{\"time_ns\":1795356151500000000,\"kind\":\"deploy\",\"text\":\"v42\"}}\n";

    fn of(lines: &[&str]) -> Result<(Manifest, usize), IncidentError> {
        let mut rows = 0;
        read(&pack(lines)[..], |batch| {
            rows += batch.rows();
            Ok(())
        })
        .map(|manifest| (manifest, rows))
    }

    #[test]
    fn a_whole_file_is_read() {
        let lines = [HEAD, EVENT, "{\"table\":\"of_tomorrow\",\"row\":{\"x\":1}}\n"];
        let end = end(&lines);
        let (manifest, rows) = of(&[&lines[..], &[&end]].concat()).unwrap();
        assert_eq!((manifest.rows["events"], rows), (1, 1));
    }

    #[test]
    fn what_is_cut_changed_or_hostile_is_named() {
        let lines = [HEAD, EVENT];
        let end = end(&lines);
        let says = |lines: &[&str], text: &str| {
            let error = of(lines).unwrap_err().to_string();
            assert!(error.contains(text), "{text}: {error}");
        };
        says(&lines, "cut off after line 2");
        says(&[HEAD, EVENT, EVENT, &end], "was changed");
        says(&[EVENT], "line 1 of the file: expected coral.incident/1");
        says(&[HEAD, "nonsense\n"], "line 2 of the file: expected a row as JSON");
        says(&[HEAD, "{\"table\":\"events\",\"row\":{\"kind\":7}}\n"], "expected a row of events");
        says(
            &[
                HEAD,
                "{\"table\":\"red\",\"row\":{\"bucket_ns\":1,\"resource\":1,\"kind\":2,\"errors\":0,\"no_answer\":0,\"sum_ns\":1,\"hist_index\":[60000],\"hist_count\":[1],\"sampled\":false}}\n",
            ],
            "index is below",
        );
        let mut packed = pack(&[HEAD, EVENT, &end]);
        packed.truncate(packed.len() - 9);
        assert!(matches!(read(&packed[..], |_| Ok(())), Err(IncidentError::Cut(_))));
        assert!(read(&b"hello"[..], |_| Ok(())).is_err());
    }
}
