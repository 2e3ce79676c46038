//! Sealed pieces: Parquet files, and the manifest that says which of them count.

use std::collections::BTreeMap;
use std::path::Path;

use coral_model::time::{SECOND, Time};
use duckdb::Connection;

use super::StoreError;
use super::schema::{Signal, Slice};
use super::tables::text;

/// Where segments lie in the data directory.
pub const DIR: &str = "segments";
/// What every file begins and ends with.
pub const MAGIC: &[u8; 4] = b"PAR1";
/// Begins the name of a file that is being written.
pub const UNFINISHED: &str = ".tmp-";

/// What of its slices a segment holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Form {
    /// The rows as they were received; of `red` and `edges`: buckets of 10 s.
    Rows,
    /// Buckets of a minute.
    Minute,
    /// Buckets of an hour.
    Hour,
    /// Which stretch of time the spans of a trace lie in.
    Traces,
    /// Buckets of a minute, a row for each series.
    SeriesMinute,
    /// Buckets of an hour, a row for each series.
    SeriesHour,
    /// Which letters the log records of a stretch of time have.
    Words,
}

impl Form {
    /// Every form.
    pub const ALL: [Self; 7] = [
        Self::Rows,
        Self::Minute,
        Self::Hour,
        Self::Traces,
        Self::SeriesMinute,
        Self::SeriesHour,
        Self::Words,
    ];

    /// Its name in the manifest and in file names.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Rows => "rows",
            Self::Minute => "1m",
            Self::Hour => "1h",
            Self::Traces => "traces",
            Self::SeriesMinute => "series1m",
            Self::SeriesHour => "series1h",
            Self::Words => "words",
        }
    }

    fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|form| form.name() == name)
    }

    /// Length of a bucket, where it has buckets.
    #[must_use]
    pub const fn bucket(self) -> u64 {
        match self {
            Self::Rows | Self::Traces | Self::Words => 10 * SECOND,
            Self::Minute | Self::SeriesMinute => 60 * SECOND,
            Self::Hour | Self::SeriesHour => 3600 * SECOND,
        }
    }

    /// It says nothing that another form does not, and is there to be read quickly.
    #[must_use]
    pub const fn is_index(self) -> bool {
        matches!(self, Self::Traces | Self::SeriesMinute | Self::SeriesHour | Self::Words)
    }

    /// The forms a signal's slices are sealed in, each after what it is made of.
    #[must_use]
    pub const fn of(signal: Signal) -> &'static [Self] {
        match signal {
            Signal::Spans => &[Self::Rows, Self::Traces],
            Signal::Red => {
                &[Self::Rows, Self::Minute, Self::SeriesMinute, Self::Hour, Self::SeriesHour]
            }
            Signal::Edges => &[Self::Rows, Self::Minute, Self::Hour],
            Signal::Logs => &[Self::Rows, Self::Words],
            Signal::Metrics | Signal::Events | Signal::Inflight | Signal::Hosts => &[Self::Rows],
            Signal::Resources | Signal::HalfEdges => &[],
        }
    }
}

/// One file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Segment {
    /// Of which signal.
    pub signal: Signal,
    /// In which form.
    pub form: Form,
    /// The first slice whose rows it holds.
    pub first: Slice,
    /// The last; the same unless it was made of several.
    pub last: Slice,
    /// How often its rows were rewritten.
    pub generation: u32,
    /// Rows.
    pub rows: u64,
    /// Size of the file.
    pub bytes: u64,
    /// Earliest moment its rows tell of.
    pub min: Time,
    /// Latest moment its rows tell of.
    pub max: Time,
    /// First and last commit its rows came with.
    pub received: (Time, Time),
    /// XXH3 of the file.
    pub checksum: u64,
    /// The version of the store whose columns it has.
    pub version: i64,
}

impl Segment {
    /// `spans-rows-20261122T13-20261122T13p2-g1.parquet`
    #[must_use]
    pub fn file(&self) -> String {
        let (signal, form) = (self.signal.name(), self.form.name());
        let (first, last) = (self.first.label(), self.last.label());
        format!("{signal}-{form}-{first}-{last}-g{}.parquet", self.generation)
    }

    /// What the file says of itself: everything but its own size and checksum, so that it can be
    /// adopted when the database that named it is lost.
    #[must_use]
    pub fn label(&self) -> String {
        let (first, last) = (self.first, self.last);
        let numbers = [
            first.hour,
            u64::from(first.part),
            last.hour,
            u64::from(last.part),
            u64::from(self.generation),
            self.min.0,
            self.max.0,
            self.received.0.0,
            self.received.1.0,
        ];
        let numbers = numbers.map(|n| n.to_string()).join(" ");
        format!("{} {} {numbers} {}", self.signal.name(), self.form.name(), self.version)
    }

    /// What a label says; rows, size and checksum are left at 0.
    #[must_use]
    pub fn from_label(label: &str) -> Option<Self> {
        let mut words = label.split(' ');
        let (signal, form) = (words.next()?, words.next()?);
        let mut number = || words.next()?.parse::<u64>().ok();
        let part = |n: u64| u32::try_from(n).ok();
        Some(Self {
            signal: Signal::ALL.into_iter().find(|s| s.name() == signal)?,
            form: Form::from_name(form)?,
            first: Slice { hour: number()?, part: part(number()?)? },
            last: Slice { hour: number()?, part: part(number()?)? },
            generation: part(number()?)?,
            rows: 0,
            bytes: 0,
            min: Time(number()?),
            max: Time(number()?),
            received: (Time(number()?), Time(number()?)),
            checksum: 0,
            // Those of version 2 do not say.
            version: number().map_or(2, coral_model::num::i64_sat),
        })
    }

    /// Whether it holds all that another of its kind holds.
    #[must_use]
    pub fn covers(&self, other: &Self) -> bool {
        (self.signal, self.form) == (other.signal, other.form)
            && self.first <= other.first
            && self.last >= other.last
            && self.generation > other.generation
    }

    /// Whether any row may tell of a moment in `[from, to)`.
    #[must_use]
    pub fn tells_of(&self, from: Time, to: Time) -> bool {
        self.min < to && self.max >= from
    }

    /// `INSERT` into the manifest.
    #[must_use]
    pub fn insert(&self) -> String {
        format!(
            "INSERT INTO segments VALUES ('{}', '{}', '{}', {}, {}, {}, {}, {}, {}, {}, {}, {}, {}, {}, {}, {})",
            self.file(),
            self.signal.name(),
            self.form.name(),
            self.first.hour,
            self.first.part,
            self.last.hour,
            self.last.part,
            self.generation,
            self.rows,
            self.bytes,
            self.min.as_i64(),
            self.max.as_i64(),
            self.received.0.as_i64(),
            self.received.1.as_i64(),
            self.checksum,
            self.version,
        )
    }

    /// `DELETE` from the manifest.
    #[must_use]
    pub fn delete(&self) -> String {
        format!("DELETE FROM segments WHERE file = '{}'", self.file())
    }
}

/// The manifest. `file` follows from the other columns and is there for people. A signal or form
/// that only a newer build knows does not occur: that build's stores have another version.
pub const MANIFEST: &str = "CREATE TABLE IF NOT EXISTS segments(file VARCHAR, signal VARCHAR, \
    form VARCHAR, first_hour UBIGINT, first_part UINTEGER, last_hour UBIGINT, last_part UINTEGER, \
    generation UINTEGER, rows UBIGINT, bytes UBIGINT, min_ns BIGINT, max_ns BIGINT, \
    received_min_ns BIGINT, received_max_ns BIGINT, checksum UBIGINT);";

/// Reads the manifest, oldest slices first.
pub fn load(connection: &Connection) -> Result<Vec<Segment>, StoreError> {
    let mut statement = connection.prepare(
        "SELECT signal, form, first_hour, first_part, last_hour, last_part, generation, rows, \
         bytes, min_ns, max_ns, received_min_ns, received_max_ns, checksum, version FROM segments",
    )?;
    let mut rows = statement.query([])?;
    let mut segments = Vec::new();
    while let Some(row) = rows.next()? {
        let (signal, form): (String, String) = (row.get(0)?, row.get(1)?);
        let signal = Signal::ALL.into_iter().find(|s| s.name() == signal);
        let (Some(signal), Some(form)) = (signal, Form::from_name(&form)) else { continue };
        let time = |at: usize| row.get::<_, i64>(at).map(Time::from_i64);
        segments.push(Segment {
            signal,
            form,
            first: Slice { hour: row.get(2)?, part: row.get(3)? },
            last: Slice { hour: row.get(4)?, part: row.get(5)? },
            generation: row.get(6)?,
            rows: row.get(7)?,
            bytes: row.get(8)?,
            min: time(9)?,
            max: time(10)?,
            received: (time(11)?, time(12)?),
            checksum: row.get(13)?,
            version: i64::from(row.get::<_, u8>(14)?),
        });
    }
    sort(&mut segments);
    Ok(segments)
}

/// SELECTs of all rows of some files of one signal, which lie in `dir`, with the columns of this
/// version and then `more`: one for each version that wrote any of them.
#[must_use]
pub fn select<'a>(
    signal: Signal,
    files: impl IntoIterator<Item = &'a Segment>,
    dir: &Path,
    more: &str,
) -> Vec<String> {
    let mut by_version: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for segment in files {
        let columns = match segment.form {
            form if form.is_index() => "*".to_owned(),
            _ => signal.selected_from(segment.version),
        };
        let path = text(&dir.join(segment.file()).to_string_lossy());
        by_version.entry(columns).or_default().push(path);
    }
    let one = |(columns, files): (String, Vec<String>)| {
        format!("SELECT {columns}{more} FROM read_parquet([{}])", files.join(", "))
    };
    by_version.into_iter().map(one).collect()
}

/// Parts of indexes that are of no use without those that were lost: an index is complete from its
/// first segment on, so all that is older than a hole in it goes.
#[must_use]
pub fn useless(all: &[Segment], lost: &[Segment]) -> Vec<Segment> {
    let holed = |s: &&Segment| {
        let of_kind = |l: &&Segment| (l.signal, l.form) == (s.signal, s.form);
        s.form.is_index() && lost.iter().filter(of_kind).any(|l| s.first <= l.first)
    };
    all.iter().filter(holed).filter(|s| !lost.contains(s)).cloned().collect()
}

/// Oldest slices first.
pub fn sort(segments: &mut [Segment]) {
    segments.sort_by_key(|s| (s.first, s.last, s.signal, s.form));
}
