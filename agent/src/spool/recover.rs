//! Reads what an earlier life left in the spool.
//!
//! A record that ends beyond its file is a torn write and is cut off. A record whose checksum is
//! wrong is damage: it is set aside in a `.damaged` file next to the segment, the records after it
//! are kept, and the segment is rewritten without it under its own id, so that its sequence numbers,
//! and with them the colony's marks, stay what they were.

use std::fs;
use std::path::{Path, PathBuf};

use bytes::Bytes;
use coral_model::SegmentId;
use coral_proto::record::{self, FILE_HEADER, FILE_MAGIC, HEADER, Kind, Record, RecordError};
use coral_proto::v1::Reduced;
use prost::Message as _;

use super::SpoolError;
use super::index::{Appended, Segment};

/// Bytes of `.damaged` files that are kept for a person to look at.
const KEEP_DAMAGED: u64 = 64 << 20;

/// Damage that was set aside.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Damage {
    /// Where it lies now.
    pub file: PathBuf,
    /// How much of it.
    pub bytes: u64,
}

/// What was found.
#[derive(Debug, Default)]
pub struct Recovered {
    /// Segments with records, oldest first.
    pub segments: Vec<Segment>,
    /// The next record's sequence number.
    pub next_seq: u64,
    /// Records up to here are counted.
    pub covers: u64,
    /// The newest record that the reducer counts.
    pub last_counted: u64,
    /// Bytes of half-written records that were cut off.
    pub torn_bytes: u64,
    /// What was damaged.
    pub damage: Vec<Damage>,
}

impl Recovered {
    /// Bytes set aside.
    #[must_use]
    pub fn damaged_bytes(&self) -> u64 {
        self.damage.iter().map(|d| d.bytes).sum()
    }
}

/// Reads all segments of a folder, mending what an untimely end left broken.
pub fn recover(dir: &Path) -> Result<Recovered, SpoolError> {
    let io = |what, path: &Path| {
        let path = path.to_owned();
        move |source| SpoolError::Io { what, path, source }
    };
    fs::create_dir_all(dir).map_err(io("create", dir))?;
    let mut found = Recovered { next_seq: 1, ..Default::default() };
    for entry in fs::read_dir(dir).map_err(io("list", dir))? {
        let path = entry.map_err(io("list", dir))?.path();
        match path.extension().and_then(|e| e.to_str()) {
            Some("seg") => one(&path, &mut found).map_err(io("recover", &path))?,
            // A rewrite that did not come to its end; the original is still there.
            Some("tmp") => fs::remove_file(&path).map_err(io("delete", &path))?,
            _ => {}
        }
    }
    found.segments.sort_by_key(|s| s.first_seq);
    prune_damaged(dir);
    Ok(found)
}

fn one(path: &Path, found: &mut Recovered) -> Result<(), std::io::Error> {
    let all = Bytes::from(fs::read(path)?);
    let Some(header) = all.get(..FILE_HEADER) else {
        found.torn_bytes += all.len() as u64;
        return fs::remove_file(path);
    };
    let named = path.file_stem().and_then(|s| s.to_str()).and_then(|s| s.parse::<SegmentId>().ok());
    let id = header.get(8..).and_then(SegmentId::from_slice);
    let id = id.filter(|_| header.starts_with(&FILE_MAGIC)).filter(|id| named == Some(*id));
    let Some(id) = id else {
        let aside = path.with_extension("damaged");
        fs::rename(path, &aside)?;
        found.damage.push(Damage { file: aside, bytes: all.len() as u64 });
        return Ok(());
    };
    let scan = scan(&all);
    let mut segment: Option<Segment> = None;
    for record in &scan.records {
        let at = segment.get_or_insert_with(|| Segment::empty(id, record.seq));
        at.push(Appended {
            seq: record.seq,
            len: record.stored_len() as u64,
            time_ns: record.time_ns,
            counts: record.kind == Kind::Traces,
        });
        match record.kind {
            Kind::Traces => found.last_counted = found.last_counted.max(record.seq),
            Kind::Reduced => {
                let reduced = record.body().ok().and_then(|b| Reduced::decode(b).ok());
                found.covers = found.covers.max(reduced.map_or(0, |r| r.covers_seq));
            }
            Kind::Logs | Kind::Metrics | Kind::Host | Kind::Event => {}
        }
        found.next_seq = found.next_seq.max(record.seq + 1);
    }
    if !scan.damaged.is_empty() {
        let aside = path.with_extension("damaged");
        fs::write(&aside, &scan.damaged)?;
        let mut whole = header.to_vec();
        for kept in &scan.kept {
            whole.extend_from_slice(all.get(kept.clone()).unwrap_or_default());
        }
        let rewritten = path.with_extension("tmp");
        fs::write(&rewritten, &whole)?;
        fs::File::open(&rewritten)?.sync_all()?;
        fs::rename(&rewritten, path)?;
        found.damage.push(Damage { file: aside, bytes: scan.damaged.len() as u64 });
    } else if scan.torn > 0 {
        let file = fs::OpenOptions::new().write(true).open(path)?;
        file.set_len(all.len() as u64 - scan.torn)?;
        file.sync_all()?;
    }
    found.torn_bytes += scan.torn;
    match segment {
        Some(segment) => found.segments.push(segment),
        None => fs::remove_file(path)?,
    }
    Ok(())
}

#[derive(Default)]
struct Scan {
    records: Vec<Record>,
    kept: Vec<std::ops::Range<usize>>,
    damaged: Vec<u8>,
    torn: u64,
}

/// Finds every whole record of a segment file.
fn scan(all: &Bytes) -> Scan {
    let mut out = Scan::default();
    let mut at = FILE_HEADER;
    while at < all.len() {
        let mut rest = all.slice(at..);
        match record::take(&mut rest) {
            Ok(record) => {
                let next = all.len() - rest.len();
                out.kept.push(at..next);
                out.records.push(record);
                at = next;
            }
            Err(error) => {
                let next = resume(all, at, out.records.last().map_or(0, |r| r.seq));
                // A file that was lengthened but whose bytes never reached the disk ends in zeros.
                let tail = error == RecordError::Truncated || rest.iter().all(|&b| b == 0);
                if next == all.len() && tail {
                    out.torn = (all.len() - at) as u64;
                    return out;
                }
                out.damaged.extend_from_slice(all.get(at..next).unwrap_or_default());
                at = next;
            }
        }
    }
    out
}

/// Where the next readable record after a damaged one begins; the end of the file if none does.
fn resume(all: &Bytes, damaged_at: usize, last_seq: u64) -> usize {
    // The length of a damaged record is usually still right: try there first, then look closer.
    let header = all.get(damaged_at..).and_then(|rest| rest.first_chunk::<HEADER>());
    let stated = header.map_or(0, |header| record::peek(header).0);
    let fits = |at: usize| {
        // Cheap tests before the checksum: a record starts with its length, its seq follows on.
        let Some(header) = all.get(at..).and_then(|rest| rest.first_chunk::<HEADER>()) else {
            return false;
        };
        let (length, seq) = record::peek(header);
        seq > last_seq
            && seq < last_seq + 1_000_000
            && at + length <= all.len()
            && record::take(&mut all.slice(at..)).is_ok()
    };
    let guess = damaged_at.saturating_add(stated);
    if stated > 0 && guess < all.len() && fits(guess) {
        return guess;
    }
    (damaged_at + 1..all.len()).find(|&at| fits(at)).unwrap_or(all.len())
}

fn prune_damaged(dir: &Path) {
    let Ok(entries) = fs::read_dir(dir) else { return };
    let mut files: Vec<_> = entries
        .flatten()
        .filter(|e| e.path().extension().is_some_and(|x| x == "damaged"))
        .filter_map(|e| e.metadata().ok().map(|m| (m.modified().ok(), m.len(), e.path())))
        .collect();
    files.sort_by_key(|f| std::cmp::Reverse(f.0));
    let mut kept = 0;
    for (_, bytes, path) in files {
        kept += bytes;
        if kept > KEEP_DAMAGED
            && let Err(error) = fs::remove_file(&path)
        {
            tracing::warn!(%error, path = %path.display(), "cannot delete an old damaged segment");
        }
    }
}
