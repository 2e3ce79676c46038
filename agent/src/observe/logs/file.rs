//! One file, read on from a place.
//!
//! A file is known by its device, inode and the hash of its first bytes: a name moves from file to
//! file, an inode is used again. It is read in pieces; lines come out whole, and a line without its
//! end waits for it. [`Reading::safe`] is the end of the last record that was given away: from there
//! a later life reads on.

use std::fs::File;
use std::io;
use std::os::unix::fs::{FileExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};

use coral_model::Time;
use serde::{Deserialize, Serialize};

use super::join::{Joined, Joiner};
use super::line::{self, Unwrapped};
use super::{Format, Limits};

/// Bytes that a file is known by, at most.
const PRINT: u64 = 1024;
/// Bytes read at a time.
const PIECE: usize = 256 << 10;
/// An open record is given away when nothing followed for so long.
const IDLE: u64 = 1_000_000_000;

/// Which file, whatever it is called.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Identity {
    /// Device.
    pub dev: u64,
    /// Inode.
    pub ino: u64,
}

/// The first bytes of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Print {
    /// How many.
    pub len: u64,
    /// Their hash.
    pub hash: u64,
}

impl Identity {
    /// Of a file.
    #[must_use]
    pub fn of(meta: &std::fs::Metadata) -> Self {
        Self { dev: meta.dev(), ino: meta.ino() }
    }
}

impl Print {
    /// Of the first `len` bytes of a file; `None` when it has fewer.
    pub fn of(file: &File, len: u64) -> io::Result<Option<Self>> {
        let mut bytes = vec![0; usize::try_from(len.min(PRINT)).unwrap_or_default()];
        match file.read_exact_at(&mut bytes, 0) {
            Ok(()) => {
                Ok(Some(Self { len: len.min(PRINT), hash: xxhash_rust::xxh3::xxh3_64(&bytes) }))
            }
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Whether a file still begins with these bytes.
    pub fn fits(self, file: &File) -> io::Result<bool> {
        Ok(Self::of(file, self.len)? == Some(self))
    }
}

/// A record read of a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record {
    /// Its text and where it came from.
    pub joined: Joined,
    /// Labels that the runtime adds.
    pub labels: std::collections::BTreeMap<String, String>,
}

/// What reading turned up besides records.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Tally {
    /// Lines read.
    pub lines: u64,
    /// Bytes read.
    pub bytes: u64,
    /// Lines cut at the bound.
    pub cut: u64,
    /// Lines that were not UTF-8 and were mended.
    pub mended: u64,
}

/// A file as it is read.
#[derive(Debug)]
pub struct Reading {
    /// Where it was found last.
    pub path: PathBuf,
    /// Which it is.
    pub id: Identity,
    /// Its first bytes, as many as it had.
    pub print: Print,
    /// How its lines are wrapped.
    pub format: Format,
    /// The end of the last record given away.
    pub safe: u64,
    /// Since when no name leads to it.
    pub gone: Option<Time>,
    /// When it last grew.
    pub grew: Time,
    /// When it was found.
    pub found: Time,
    file: File,
    read: u64,
    known_size: u64,
    /// The beginning of a line whose end has not been read.
    rest: Vec<u8>,
    /// The line under way is longer than its bound: it is skipped to its end.
    skipping: bool,
    joiner: Joiner,
    /// Pieces of a line that the runtime cut: text, time, stream.
    piece: Option<Unwrapped>,
    labels: std::collections::BTreeMap<String, String>,
    last_line: Time,
}

/// What became of a file since it was last looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Change {
    /// It is as it was, or grew.
    Same,
    /// It was emptied and written anew; so much of what it was had been given away.
    Anew {
        /// What it began with.
        was: Print,
        /// Up to where it was given away.
        safe: u64,
    },
}

impl Reading {
    /// Opens a file at a place.
    pub fn open(path: &Path, format: Format, from: u64, now: Time) -> io::Result<Self> {
        let file = File::open(path)?;
        let meta = file.metadata()?;
        if !meta.is_file() {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "not a regular file"));
        }
        let print = Print::of(&file, meta.len().min(PRINT))?.unwrap_or_default();
        Ok(Self {
            path: path.to_owned(),
            id: Identity::of(&meta),
            print,
            format,
            safe: from,
            gone: None,
            grew: now,
            found: now,
            file,
            read: from,
            known_size: 0,
            rest: Vec::new(),
            skipping: false,
            joiner: Joiner::default(),
            piece: None,
            labels: std::collections::BTreeMap::new(),
            last_line: now,
        })
    }

    /// Its size now.
    pub fn size(&self) -> io::Result<u64> {
        Ok(self.file.metadata()?.len())
    }

    /// Moves to the end.
    pub fn to_end(&mut self) -> io::Result<()> {
        let size = self.size()?;
        let mut byte = [0u8];
        // A line under way belongs to what was written before anybody asked; its rest is skipped.
        if size > 0 {
            self.file.read_exact_at(&mut byte, size - 1)?;
            self.skipping = byte != *b"\n";
        }
        (self.read, self.safe, self.known_size) = (size, size, size);
        Ok(())
    }

    /// Bytes that wait to be read.
    #[must_use]
    pub fn behind(&self) -> u64 {
        self.known_size.saturating_sub(self.read)
    }

    /// Looks whether the file was emptied, and takes note of its growth.
    pub fn look(&mut self, now: Time) -> io::Result<Change> {
        let size = self.size()?;
        if size == self.known_size && size >= self.read {
            return Ok(Change::Same);
        }
        if size > self.known_size {
            self.grew = now;
        }
        self.known_size = size;
        if size < self.read || !self.print.fits(&self.file)? {
            // What is open was read whole, and is given away by `settle`.
            let safe = self.joiner.end().unwrap_or(self.safe);
            let change = Change::Anew { was: self.print, safe };
            self.print = Print::of(&self.file, size.min(PRINT))?.unwrap_or_default();
            (self.read, self.safe, self.skipping) = (0, 0, false);
            self.rest.clear();
            self.piece = None;
            self.grew = now;
            return Ok(change);
        }
        if self.print.len < PRINT && size > self.print.len {
            self.print = Print::of(&self.file, size.min(PRINT))?.unwrap_or(self.print);
        }
        Ok(Change::Same)
    }

    /// Reads on: at most so many bytes and lines.
    pub fn read(
        &mut self,
        (bytes, lines): (usize, u64),
        limits: Limits,
        now: Time,
        tally: &mut Tally,
        out: &mut Vec<Record>,
    ) -> io::Result<()> {
        let mut left = bytes;
        let mut buffer = vec![0; PIECE.min(left)];
        let begun = tally.lines;
        while left > 0 && tally.lines - begun < lines {
            let want = buffer.len().min(left);
            let Some(slot) = buffer.get_mut(..want) else { break };
            let got = self.file.read_at(slot, self.read)?;
            if got == 0 {
                break;
            }
            let piece = slot.get(..got).unwrap_or_default();
            let taken = self.take(piece, lines - (tally.lines - begun), limits, now, tally, out);
            self.read += taken;
            tally.bytes += taken;
            left = left.saturating_sub(got);
        }
        if self.joiner.is_open() && now.since(self.last_line) > IDLE {
            self.give_away(out);
        }
        Ok(())
    }

    /// Cuts a piece into lines; gives how much of it was used.
    fn take(
        &mut self,
        piece: &[u8],
        most: u64,
        limits: Limits,
        now: Time,
        tally: &mut Tally,
        out: &mut Vec<Record>,
    ) -> u64 {
        let (mut used, mut lines) = (0usize, 0);
        while lines < most
            && let Some(rest) = piece.get(used..).filter(|rest| !rest.is_empty())
        {
            let Some(end) = rest.iter().position(|&b| b == b'\n') else {
                let room = limits.line.saturating_sub(self.rest.len());
                if !self.skipping {
                    self.rest
                        .extend_from_slice(rest.get(..rest.len().min(room)).unwrap_or_default());
                    if rest.len() > room {
                        // What fits is a line; the rest of it is skipped.
                        tally.cut += 1;
                        tally.lines += 1;
                        let line = std::mem::take(&mut self.rest);
                        let at = self.read + offset(used + rest.len());
                        self.line(&line, at, limits, now, tally, out);
                        self.skipping = true;
                    }
                }
                used = piece.len();
                break;
            };
            let bytes = rest.get(..end).unwrap_or_default();
            let at = self.read + offset(used + end + 1);
            used += end + 1;
            if std::mem::take(&mut self.skipping) {
                self.rest.clear();
                continue;
            }
            lines += 1;
            tally.lines += 1;
            let mut line = std::mem::take(&mut self.rest);
            line.extend_from_slice(bytes);
            if line.len() > limits.line {
                tally.cut += 1;
                line.truncate(limits.line);
            }
            self.line(&line, at, limits, now, tally, out);
            // The memory is lent from line to line.
            line.clear();
            self.rest = line;
        }
        offset(used)
    }

    fn line(
        &mut self,
        bytes: &[u8],
        end: u64,
        limits: Limits,
        now: Time,
        tally: &mut Tally,
        out: &mut Vec<Record>,
    ) {
        self.last_line = now;
        let text = String::from_utf8_lossy(bytes);
        tally.mended += u64::from(matches!(text, std::borrow::Cow::Owned(_)));
        let text = text.strip_suffix('\r').unwrap_or(&text);
        let Some(unwrapped) = self.unwrapped(text, limits) else { return };
        if !unwrapped.labels.is_empty() && unwrapped.labels != self.labels {
            self.give_away(out);
            self.labels.clone_from(&unwrapped.labels);
        }
        let Unwrapped { text, time, stream, .. } = unwrapped;
        let before = self.joiner.line(Joined { text, time, stream, end }, limits);
        if let Some(joined) = before {
            self.push(joined, out);
        }
    }

    /// The application's line, once it is whole.
    fn unwrapped(&mut self, text: &str, limits: Limits) -> Option<Unwrapped> {
        if self.format == Format::Auto {
            self.format = if line::unwrap_cri(text).is_some() {
                Format::Cri
            } else if line::unwrap_docker(text).is_some() {
                Format::Docker
            } else {
                Format::Text
            };
        }
        let found = match self.format {
            Format::Cri => line::unwrap_cri(text),
            Format::Docker => line::unwrap_docker(text),
            Format::Auto | Format::Text => None,
        };
        let Some(mut found) = found else {
            // A line that is not wrapped as the others are is kept as it is.
            let plain = Unwrapped {
                text: text.to_owned(),
                time: None,
                stream: None,
                partial: false,
                labels: std::collections::BTreeMap::new(),
            };
            return Some(plain);
        };
        if let Some(before) = self.piece.take() {
            if before.stream == found.stream && before.text.len() < limits.joined_bytes {
                found.text.insert_str(0, &before.text);
                found.time = before.time;
            } else if found.partial {
                self.piece = Some(found);
                return Some(before);
            }
        }
        if found.partial && found.text.len() < limits.joined_bytes {
            self.piece = Some(found);
            return None;
        }
        Some(found)
    }

    fn push(&mut self, joined: Joined, out: &mut Vec<Record>) {
        self.safe = self.safe.max(joined.end);
        if !joined.text.is_empty() {
            out.push(Record { joined, labels: self.labels.clone() });
        }
    }

    fn give_away(&mut self, out: &mut Vec<Record>) {
        if let Some(joined) = self.joiner.flush() {
            self.push(joined, out);
        }
    }

    /// The file is over: gives away everything, also a line without its end.
    pub fn finish(&mut self, limits: Limits, now: Time, tally: &mut Tally, out: &mut Vec<Record>) {
        let rest = std::mem::take(&mut self.rest);
        if !rest.is_empty() && !self.skipping {
            tally.lines += 1;
            let end = self.read;
            self.line(&rest, end, limits, now, tally, out);
        }
        if let Some(piece) = self.piece.take() {
            let Unwrapped { text, time, stream, .. } = piece;
            let joined = Joined { text, time, stream, end: self.read };
            let before = self.joiner.line(joined, limits);
            if let Some(joined) = before {
                self.push(joined, out);
            }
        }
        self.give_away(out);
    }

    /// Gives away what is open in the joiner before the file is read from its beginning again.
    pub fn settle(&mut self, out: &mut Vec<Record>) {
        if let Some(joined) = self.joiner.flush()
            && !joined.text.is_empty()
        {
            // Its end is a place in what is gone, not in what is there.
            out.push(Record { joined, labels: self.labels.clone() });
        }
    }

    /// Whether everything in it was read.
    #[must_use]
    pub fn is_read(&self) -> bool {
        self.read >= self.known_size
    }
}

fn offset(n: usize) -> u64 {
    u64::try_from(n).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::super::line::Stream;
    use super::*;
    use std::io::Write as _;

    fn texts(out: &[Record]) -> Vec<&str> {
        out.iter().map(|r| r.joined.text.as_str()).collect()
    }

    fn read(reading: &mut Reading, limits: Limits, at: u64) -> (Vec<Record>, Tally) {
        let (mut tally, mut out) = (Tally::default(), Vec::new());
        let now = Time(at);
        assert_eq!(reading.look(now).unwrap(), Change::Same);
        reading.read((1 << 20, 1000), limits, now, &mut tally, &mut out).unwrap();
        (out, tally)
    }

    #[test]
    fn lines_come_out_whole_and_places_are_where_records_end() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.log");
        let mut file = File::create(&path).unwrap();
        write!(file, "one\n  more\ntwo\nhal").unwrap();
        let mut reading = Reading::open(&path, Format::Auto, 0, Time(0)).unwrap();
        let (out, _) = read(&mut reading, Limits::default(), 1);
        assert_eq!((texts(&out), reading.safe), (vec!["one\n  more"], 11));
        writeln!(file, "f").unwrap();
        let (out, _) = read(&mut reading, Limits::default(), 2);
        assert_eq!((texts(&out), reading.safe), (vec!["two"], 15));
        let (out, _) = read(&mut reading, Limits::default(), 2 + 2 * IDLE);
        assert_eq!((texts(&out), reading.safe), (vec!["half"], 20));
    }

    #[test]
    fn long_lines_are_cut_and_counted() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.log");
        std::fs::write(&path, format!("{}\nshort\n{}\nend\n", "x".repeat(600_000), "y".repeat(20)))
            .unwrap();
        let limits = Limits { line: 10, ..Limits::default() };
        let mut reading = Reading::open(&path, Format::Text, 0, Time(0)).unwrap();
        let (mut out, mut tally) = read(&mut reading, limits, 1);
        reading.finish(limits, Time(2), &mut tally, &mut out);
        assert_eq!(texts(&out), ["xxxxxxxxxx", "short", "yyyyyyyyyy", "end"]);
        assert_eq!((tally.cut, tally.lines), (2, 4));
    }

    #[test]
    fn a_pass_reads_no_more_than_it_may() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.log");
        std::fs::write(&path, "l\n".repeat(100)).unwrap();
        let mut reading = Reading::open(&path, Format::Text, 0, Time(0)).unwrap();
        let (mut tally, mut out) = (Tally::default(), Vec::new());
        assert_eq!(reading.look(Time(1)).unwrap(), Change::Same);
        for _ in 0..10 {
            reading.read((1 << 20, 10), Limits::default(), Time(1), &mut tally, &mut out).unwrap();
        }
        assert_eq!((tally.lines, tally.bytes), (100, 200));
        assert!(reading.is_read());
    }

    #[test]
    fn a_file_that_was_emptied_begins_anew_even_when_it_is_longer_now() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.log");
        std::fs::write(&path, "old 1\nold 2\n").unwrap();
        let mut reading = Reading::open(&path, Format::Text, 0, Time(0)).unwrap();
        let (out, _) = read(&mut reading, Limits::default(), 1);
        assert_eq!(texts(&out), ["old 1"]);
        std::fs::write(&path, "new 1\nnew 2\nnew 3\n").unwrap();
        let change = reading.look(Time(2)).unwrap();
        assert!(matches!(change, Change::Anew { safe: 12, .. }), "{change:?}");
        let (mut tally, mut out) = (Tally::default(), Vec::new());
        reading.settle(&mut out);
        reading.read((1 << 20, 10), Limits::default(), Time(3), &mut tally, &mut out).unwrap();
        assert_eq!(texts(&out), ["old 2", "new 1", "new 2"]);
    }

    #[test]
    fn pieces_of_a_container_s_line_are_put_together() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("0.log");
        let line = |stream: &str, tag: &str, text: &str| {
            format!("2016-10-06T00:17:09.669794202Z {stream} {tag} {text}\n")
        };
        let text = [
            line("stdout", "P", "a"),
            line("stdout", "P", "b"),
            line("stdout", "F", "c"),
            line("stderr", "F", "e"),
            line("stdout", "F", "end"),
        ];
        std::fs::write(&path, text.concat()).unwrap();
        let mut reading = Reading::open(&path, Format::Auto, 0, Time(0)).unwrap();
        let (out, _) = read(&mut reading, Limits::default(), 1);
        assert_eq!(texts(&out), ["abc", "e"]);
        assert_eq!(out[1].joined.stream, Some(Stream::Err));
        assert!(out[0].joined.time.is_some());
    }
}
