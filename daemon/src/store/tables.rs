//! What the store consists of at one moment: tables by hour, and files.
//!
//! Nothing here touches the database: a change is worked out as the tables that will be and the
//! statements that make it so, and made by [`super::board::Board`].

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use coral_model::time::{BUCKET, Time};
use duckdb::Connection;

use super::StoreError;
use super::schema::{Signal, Slice, around, create_table, create_view, empty};
use super::segment::{self, Form, Segment};

/// Every signal's slices and segments.
#[derive(Debug, Default, Clone)]
pub struct Tables {
    /// Where the segments lie.
    dir: PathBuf,
    slices: BTreeMap<Signal, Vec<Slice>>,
    /// Oldest first.
    segments: Vec<Segment>,
}

/// A change to the tables.
#[derive(Debug)]
pub struct Change {
    /// What there is afterwards.
    pub tables: Tables,
    /// What makes it so, in one transaction.
    pub statements: Vec<String>,
}

impl Tables {
    /// Reads which tables and segments there are.
    pub fn load(connection: &Connection, dir: &Path) -> Result<Self, StoreError> {
        let mut slices: BTreeMap<Signal, Vec<Slice>> = BTreeMap::new();
        let mut statement = connection.prepare(
            "SELECT table_name FROM duckdb_tables() WHERE NOT temporary ORDER BY table_name",
        )?;
        let names = statement.query_map([], |row| row.get::<_, String>(0))?;
        for name in names {
            if let Some((signal, slice)) = Slice::from_table(&name?) {
                slices.entry(signal).or_default().push(slice);
            }
        }
        slices.values_mut().for_each(|list| list.sort_unstable());
        let segments = segment::load(connection)?;
        Ok(Self { dir: dir.join(segment::DIR), slices, segments })
    }

    /// The same tables with every view made anew.
    #[must_use]
    pub fn viewed(self) -> Change {
        let statements = Signal::ALL.into_iter().map(|signal| self.view(signal)).collect();
        Change { tables: self, statements }
    }

    /// The slice a signal's rows go into now.
    #[must_use]
    pub fn current(&self, signal: Signal) -> Option<Slice> {
        self.of(signal).last().copied()
    }

    /// A signal's slices, oldest first.
    #[must_use]
    pub fn of(&self, signal: Signal) -> &[Slice] {
        self.slices.get(&signal).map_or(&[], Vec::as_slice)
    }

    /// Slices that take no more rows, oldest first.
    pub fn ended(&self) -> impl Iterator<Item = (Signal, Slice)> + '_ {
        self.slices.iter().flat_map(|(signal, list)| {
            let ended = list.len().saturating_sub(1);
            list.iter().take(ended).map(|slice| (*signal, *slice))
        })
    }

    /// Segments, oldest first.
    #[must_use]
    pub fn segments(&self) -> &[Segment] {
        &self.segments
    }

    /// Bytes of all segments.
    #[must_use]
    pub fn sealed_bytes(&self) -> u64 {
        self.segments.iter().map(|s| s.bytes).sum()
    }

    /// Every signal has the slice of `now`'s hour. Receipt never goes back: after a clock that
    /// jumped ahead the newest slice stays the current one. `None`: nothing is missing.
    #[must_use]
    pub fn advanced(&self, now: Time) -> Option<Change> {
        let wanted = Slice::of(now);
        let behind = |signal: &Signal| self.current(*signal).is_none_or(|s| s.hour < wanted.hour);
        let new: Vec<_> = Signal::ALL.into_iter().filter(behind).map(|s| (s, wanted)).collect();
        (!new.is_empty()).then(|| self.with(&new))
    }

    /// Another part of the hour for the signals that `which` names.
    #[must_use]
    pub fn parted(&self, which: impl Fn(Signal) -> bool) -> Change {
        let signals = Signal::ALL.into_iter().filter(|signal| which(*signal));
        let next = |s: Signal| self.current(s).map(|slice| (s, slice.next_part()));
        self.with(&signals.filter_map(next).collect::<Vec<_>>())
    }

    fn with(&self, new: &[(Signal, Slice)]) -> Change {
        let mut tables = self.clone();
        for &(signal, slice) in new {
            tables.slices.entry(signal).or_default().push(slice);
        }
        let created = new.iter().map(|&(signal, slice)| create_table(signal, slice));
        let viewed = new.iter().map(|&(signal, _)| tables.view(signal));
        let statements = created.chain(viewed).collect();
        Change { tables, statements }
    }

    /// Without these slices.
    #[must_use]
    pub fn without(&self, gone: &[(Signal, Slice)]) -> Change {
        let mut tables = self.clone();
        for (signal, slice) in gone {
            if let Some(list) = tables.slices.get_mut(signal) {
                list.retain(|have| have != slice);
            }
        }
        let mut signals: Vec<Signal> = gone.iter().map(|(signal, _)| *signal).collect();
        signals.dedup();
        let viewed = signals.into_iter().map(|signal| tables.view(signal));
        let dropped =
            gone.iter().map(|(signal, slice)| format!("DROP TABLE {}", slice.table(*signal)));
        let statements = viewed.chain(dropped).collect();
        Change { tables, statements }
    }

    /// A slice lies in segments from now on.
    #[must_use]
    pub fn sealed(&self, signal: Signal, slice: Slice, segments: &[Segment]) -> Change {
        let mut change = self.replaced(&[], segments);
        let dropped = change.tables.without(&[(signal, slice)]);
        change.tables = dropped.tables;
        change.statements.retain(|sql| !sql.starts_with("CREATE OR REPLACE VIEW"));
        change.statements.extend(dropped.statements);
        change
    }

    /// Other segments in place of some; with none new they are dropped.
    #[must_use]
    pub fn replaced(&self, old: &[Segment], new: &[Segment]) -> Change {
        let mut tables = self.clone();
        tables.segments.retain(|segment| !old.contains(segment));
        tables.segments.extend_from_slice(new);
        segment::sort(&mut tables.segments);
        let mut signals: Vec<Signal> = old.iter().chain(new).map(|s| s.signal).collect();
        signals.sort_unstable();
        signals.dedup();
        let deleted = old.iter().map(Segment::delete);
        let inserted = new.iter().map(Segment::insert);
        let viewed = signals.into_iter().map(|signal| tables.view(signal));
        let statements = deleted.chain(inserted).chain(viewed).collect();
        Change { tables, statements }
    }

    /// Rows of a signal that may tell of moments in `[from, to)`, to be put after `FROM`; buckets
    /// no coarser than `resolution` ns where such are kept.
    #[must_use]
    pub fn relation(&self, signal: Signal, from: Time, to: Time, resolution: u64) -> String {
        self.union(signal, resolution, |segment| segment.tells_of(from, to))
    }

    /// As [`Tables::relation`], with the length of each row's bucket as `width_ns`; of what was
    /// committed before a moment.
    #[must_use]
    pub fn widths(
        &self,
        signal: Signal,
        (from, to): (Time, Time),
        resolution: u64,
        before: Time,
    ) -> String {
        let wanted = |segment: &Segment| segment.tells_of(from, to);
        format!("({})", self.body(signal, resolution, Some(before), &wanted))
    }

    /// Files that have the requests of a window by series, in buckets of `resolution` ns, and the
    /// commit from which on they have all that is sealed. `None`: they are not kept so.
    #[must_use]
    pub fn series(&self, from: Time, to: Time, resolution: u64) -> Option<(Vec<String>, Time)> {
        let forms = [Form::SeriesMinute, Form::SeriesHour];
        let form = forms.into_iter().find(|form| form.bucket() == resolution)?;
        let begins = self.begins(Signal::Red, form);
        let of = self.segments.iter().filter(|s| s.signal == Signal::Red && s.form == form);
        let files: Vec<String> =
            of.filter(|s| s.tells_of(from, to)).map(|s| self.path(s)).collect();
        (begins < Time::MAX).then_some((files, begins))
    }

    /// Rows of a signal that may have been committed after a moment.
    #[must_use]
    pub fn since(&self, signal: Signal, after: Time) -> String {
        self.union(signal, BUCKET, |segment| segment.received.1 > after)
    }

    /// Every resource, each once.
    #[must_use]
    pub fn resources(&self) -> String {
        let (head, tail) = around(Signal::Resources);
        format!("({head}{}{tail})", self.body(Signal::Resources, BUCKET, None, &|_| true))
    }

    /// The coarsest of `wanted` and what is kept of requests and edges in a window, ns.
    #[must_use]
    pub fn resolution(&self, from: Time, to: Time, wanted: u64) -> u64 {
        let kept = |signal: Signal, form: Form| {
            let begins = self.begins(signal, form);
            let coarser = |s: &&Segment| s.signal == signal && s.form > form && !s.form.is_index();
            let mut older = self.segments.iter().filter(coarser).filter(|s| s.tells_of(from, to));
            !older.any(|s| s.received.0 < begins)
        };
        let fits = |form: &Form| {
            form.bucket() >= wanted && kept(Signal::Red, *form) && kept(Signal::Edges, *form)
        };
        let found = [Form::Rows, Form::Minute].into_iter().find(fits);
        found.unwrap_or(Form::Hour).bucket()
    }

    /// The index files to look a trace up in, and the segments of spans that none of them covers.
    #[must_use]
    pub fn trace_index(&self) -> (Vec<String>, bool) {
        let of = |form: Form| {
            self.segments.iter().filter(move |s| s.signal == Signal::Spans && s.form == form)
        };
        let indexed = |slice: Slice| of(Form::Traces).any(|s| s.first <= slice && slice <= s.last);
        let whole = of(Form::Rows).all(|s| indexed(s.first) && indexed(s.last));
        (of(Form::Traces).map(|s| self.path(s)).collect(), whole)
    }

    /// Spans of the slices, whenever, and those of the segments that began in one of some stretches,
    /// which do not overlap.
    #[must_use]
    pub fn spans_within(&self, stretches: &[(Time, Time)]) -> String {
        let hot = self.of(Signal::Spans).iter();
        let mut parts: Vec<String> =
            hot.map(|s| format!("SELECT * FROM {}", s.table(Signal::Spans))).collect();
        let rows = |s: &&Segment| s.signal == Signal::Spans && s.form == Form::Rows;
        let columns = Signal::Spans.column_names().join(", ");
        for &(from, to) in stretches {
            let sealed = self.segments.iter().filter(rows).filter(|s| s.tells_of(from, to));
            let files: Vec<String> = sealed.map(|s| text(&self.path(s))).collect();
            if !files.is_empty() {
                parts.push(format!(
                    "SELECT {columns} FROM read_parquet([{}]) WHERE start_ns >= {} AND start_ns < {}",
                    files.join(", "),
                    from.as_i64(),
                    to.as_i64()
                ));
            }
        }
        if parts.is_empty() {
            parts.push(empty(Signal::Spans));
        }
        format!("({})", parts.join(" UNION ALL "))
    }

    /// The index files of the words of log records in a window.
    #[must_use]
    pub fn word_index(&self, from: Time, to: Time) -> Vec<String> {
        let of = self.segments.iter().filter(|s| s.form == Form::Words && s.tells_of(from, to));
        of.map(|s| self.path(s)).collect()
    }

    /// Log records of a window: those of the slices and of segments without an index of words; of
    /// other segments only those of some stretches, which do not overlap.
    #[must_use]
    pub fn logs_within(&self, from: Time, to: Time, stretches: &[(Time, Time)]) -> String {
        let of = |form: Form| {
            self.segments.iter().filter(move |s| s.signal == Signal::Logs && s.form == form)
        };
        let known = |slice: Slice| of(Form::Words).any(|w| w.first <= slice && slice <= w.last);
        let indexed = |s: &&Segment| known(s.first) && known(s.last);
        let hot = self.of(Signal::Logs).iter();
        let mut parts: Vec<String> =
            hot.map(|s| format!("SELECT * FROM {}", s.table(Signal::Logs))).collect();
        let rows = || of(Form::Rows).filter(|s| s.tells_of(from, to));
        let whole = rows().filter(|s| !indexed(s));
        parts.extend(segment::select(Signal::Logs, whole, &self.dir, ""));
        for &(from, to) in stretches {
            let files = rows().filter(indexed).filter(|s| s.tells_of(from, to));
            let selects = segment::select(Signal::Logs, files, &self.dir, "");
            parts.extend(selects.into_iter().map(|sql| {
                format!("{sql} WHERE time_ns >= {} AND time_ns < {}", from.as_i64(), to.as_i64())
            }));
        }
        if parts.is_empty() {
            parts.push(empty(Signal::Logs));
        }
        format!("({})", parts.join(" UNION ALL "))
    }

    /// Path of a segment's file.
    #[must_use]
    pub fn path(&self, segment: &Segment) -> String {
        self.dir.join(segment.file()).to_string_lossy().into_owned()
    }

    /// The commit a form's segments begin with; later than everything when there are none.
    fn begins(&self, signal: Signal, form: Form) -> Time {
        let of = self.segments.iter().filter(|s| s.signal == signal && s.form == form);
        of.map(|s| s.received.0).min().unwrap_or(Time::MAX)
    }

    fn union(&self, signal: Signal, resolution: u64, wanted: impl Fn(&Segment) -> bool) -> String {
        let body = self.body(signal, resolution, None, &wanted);
        match body.strip_prefix("SELECT * FROM ") {
            Some(table) if !table.contains(' ') => table.to_owned(),
            _ => format!("({body})"),
        }
    }

    /// Slices and segments as one SELECT; `widths`: with the length of buckets, and of what is sealed
    /// only what was committed before that moment. Of buckets the coarsest form that is fine enough is
    /// read; what was received before its first segment comes from the next coarser, which keeps longer.
    fn body(
        &self,
        signal: Signal,
        resolution: u64,
        widths: Option<Time>,
        wanted: &dyn Fn(&Segment) -> bool,
    ) -> String {
        let width = |form: Form| match widths {
            Some(_) => format!(", {}::UBIGINT AS width_ns", form.bucket()),
            None => String::new(),
        };
        let hot = self
            .of(signal)
            .iter()
            .map(|s| format!("SELECT *{} FROM {}", width(Form::Rows), s.table(signal)));
        let mut parts: Vec<String> = hot.collect();
        let forms: Vec<Form> =
            Form::of(signal).iter().copied().filter(|form| !form.is_index()).collect();
        let first = forms.iter().rposition(|f| f.bucket() <= resolution).unwrap_or(0);
        let mut before = widths.unwrap_or(Time::MAX);
        for &form in forms.iter().skip(first) {
            let of = self.segments.iter().filter(|s| s.signal == signal && s.form == form);
            let files = of.filter(|s| s.received.0 < before && wanted(s));
            for mut sql in segment::select(signal, files, &self.dir, &width(form)) {
                if before < Time::MAX {
                    sql.push_str(&format!(" WHERE received_ns < {}", before.as_i64()));
                }
                parts.push(sql);
            }
            before = before.min(self.begins(signal, form));
        }
        match (parts.is_empty(), widths.is_some()) {
            (true, true) => format!("SELECT *, 0::UBIGINT AS width_ns FROM ({})", empty(signal)),
            (true, false) => empty(signal),
            (false, _) => parts.join(" UNION ALL "),
        }
    }

    fn view(&self, signal: Signal) -> String {
        create_view(signal, &self.body(signal, BUCKET, None, &|_| true))
    }
}

/// A text as SQL.
#[must_use]
pub fn text(text: &str) -> String {
    format!("'{}'", text.replace('\'', "''"))
}
