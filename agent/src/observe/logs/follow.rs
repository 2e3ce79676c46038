//! Which files a source has, and what became of those that are gone.
//!
//! - Renamed and made anew (logrotate's `create`): the old file is read to its end under whatever name
//!   it has, and for a while longer, since its writer may not have noticed; the new one from its
//!   beginning.
//! - Copied and emptied (`copytruncate`): the emptied file is read from its beginning. The copy, when a
//!   pattern matches it, is known by what it begins with: it is read from where the original had been
//!   read up to, once the original was emptied, and not at all before. What was written between copying
//!   and emptying is lost by that method itself.
//! - Compressed: not read; it was read before it was compressed.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use coral_model::Time;
use coral_model::time::SECOND;

use super::file::{Change, Identity, Print, Reading, Record, Tally};
use super::places::{FilePlace, Places};
use super::{Format, From, Limits};

/// A file that is gone is let go when it has not grown for so long.
const LET_GO: u64 = 10 * SECOND;
/// How many files that were emptied are remembered, to know their copies.
const EMPTIED: usize = 64;

/// The files of one source.
#[derive(Debug)]
pub struct Files {
    key: String,
    globs: Vec<String>,
    format: Format,
    from: From,
    /// Nothing of this source was ever read.
    first: bool,
    open: BTreeMap<Identity, Reading>,
    /// Places of files that were let go.
    done: BTreeMap<Identity, FilePlace>,
    /// What files began with before they were emptied, and how far they had been given away.
    emptied: Vec<(PathBuf, Print, u64)>,
    /// Files that cannot be read, and why.
    pub refused: BTreeMap<PathBuf, String>,
    /// Files beyond the bound.
    pub beyond: u64,
    /// Bytes of gone files that were given up on.
    pub given_up: u64,
}

/// Records of one file, and where it was read up to.
#[derive(Debug)]
pub struct Part {
    /// What was read.
    pub records: Vec<Record>,
    /// The place after it.
    pub place: FilePlace,
}

impl Files {
    /// A source, as remembered.
    #[must_use]
    pub fn new(
        key: String,
        globs: Vec<String>,
        format: Format,
        from: From,
        places: &Places,
    ) -> Self {
        let first = !places.sources.contains(&key);
        let of_source = places.files.iter().filter(|place| place.source == key);
        let done = of_source.map(|place| (place.id, place.clone())).collect();
        Self {
            key,
            globs,
            format,
            from,
            first,
            open: BTreeMap::new(),
            done,
            emptied: Vec::new(),
            refused: BTreeMap::new(),
            beyond: 0,
            given_up: 0,
        }
    }

    /// Looks for files: new ones are opened, names of known ones are learnt.
    pub fn discover(&mut self, limits: Limits, now: Time) {
        let mut named = BTreeSet::new();
        self.refused.clear();
        self.beyond = 0;
        for path in self.matches() {
            match fs::metadata(&path) {
                Ok(meta) if meta.is_file() => {
                    let id = Identity::of(&meta);
                    named.insert(id);
                    if let Some(known) = self.open.get_mut(&id) {
                        known.path = path;
                        known.gone = None;
                    } else if self.open.len() >= limits.files {
                        self.beyond += 1;
                    } else {
                        self.begin(&path, id, now);
                    }
                }
                Ok(_) => {}
                Err(error) => {
                    self.refused.insert(path, error.to_string());
                }
            }
        }
        if self.first || !self.done.is_empty() {
            self.find_renamed(&named, limits, now);
        }
        self.first = false;
        for (id, reading) in &mut self.open {
            if !named.contains(id) && reading.gone.is_none() {
                reading.gone = Some(now);
            }
        }
    }

    fn matches(&self) -> BTreeSet<PathBuf> {
        let mut found = BTreeSet::new();
        for pattern in &self.globs {
            // A pattern was checked when it was read.
            for path in glob::glob(pattern).into_iter().flatten().flatten() {
                let packed = path.extension().is_some_and(|e| {
                    ["gz", "zst", "xz", "bz2", "lz4"].iter().any(|known| e == *known)
                });
                if !packed {
                    found.insert(path);
                }
            }
        }
        found
    }

    fn begin(&mut self, path: &Path, id: Identity, now: Time) {
        let opened = Reading::open(path, self.format, 0, now);
        let mut reading = match opened {
            // Renamed between looking and opening: the next look sees it under its name.
            Ok(reading) if reading.id != id => return,
            Ok(reading) => reading,
            Err(error) => {
                self.refused.insert(path.to_owned(), error.to_string());
                return;
            }
        };
        let size = reading.size().unwrap_or_default();
        let known = self.done.get(&id).cloned();
        let known = known.filter(|place| place.safe <= size && fits(path, place.print));
        if let Some(place) = known {
            let again = Reading::open(path, self.format, place.safe, now);
            if let Ok(again) = again.inspect_err(|e| tracing::warn!(%e, "a log file")) {
                self.done.remove(&id);
                self.open.insert(id, again);
            }
            return;
        }
        if let Some(origin) = self.copy_of(path, &reading) {
            match origin {
                // Nothing was taken from the original: it may be emptied, or go on.
                Origin::Whole => return,
                Origin::Emptied(safe) => {
                    let Ok(copy) = Reading::open(path, self.format, safe.min(size), now) else {
                        return;
                    };
                    reading = copy;
                }
            }
        } else if self.first
            && self.from == From::End
            && let Err(error) = reading.to_end()
        {
            self.refused.insert(path.to_owned(), error.to_string());
            return;
        }
        self.open.insert(id, reading);
    }

    /// Whether a new file is the copy of one that is known: `app.log.1` of `app.log`.
    fn copy_of(&self, path: &Path, new: &Reading) -> Option<Origin> {
        let is_copy = |of: &Path| {
            let name = |p: &Path| p.file_name().map(|n| n.to_string_lossy().into_owned());
            let (copy, of_name) = (name(path)?, name(of)?);
            let beside = path.parent() == of.parent();
            (beside && copy.len() > of_name.len() && copy.starts_with(&of_name)).then_some(())
        };
        let begins =
            |print: Print| print.len > 0 && print.len <= new.print.len && fits(path, print);
        for (of, print, safe) in self.emptied.iter().rev() {
            if is_copy(of).is_some() && begins(*print) {
                return Some(Origin::Emptied(*safe));
            }
        }
        let whole =
            self.open.values().any(|known| is_copy(&known.path).is_some() && begins(known.print));
        whole.then_some(Origin::Whole)
    }

    /// After a restart: files that were read and are called something else now, which no pattern
    /// matches, are found beside their old name and read to their end.
    fn find_renamed(&mut self, named: &BTreeSet<Identity>, limits: Limits, now: Time) {
        let missing: Vec<FilePlace> = self
            .done
            .values()
            .filter(|place| place.open && !named.contains(&place.id))
            .cloned()
            .collect();
        for place in missing {
            // Asked once: a file that is not there now is not coming back.
            if let Some(kept) = self.done.get_mut(&place.id) {
                kept.open = false;
            }
            let Some(dir) = place.path.parent() else { continue };
            let Ok(entries) = fs::read_dir(dir) else { continue };
            for entry in entries.flatten().take(4096) {
                let path = entry.path();
                let Ok(meta) = entry.metadata() else { continue };
                if Identity::of(&meta) == place.id
                    && meta.len() > place.safe
                    && fits(&path, place.print)
                    && self.open.len() < limits.files
                    && let Ok(mut reading) = Reading::open(&path, self.format, place.safe, now)
                {
                    reading.gone = Some(now);
                    self.done.remove(&place.id);
                    self.open.insert(place.id, reading);
                    break;
                }
            }
        }
    }

    /// Reads on, within so many bytes and lines; oldest files first.
    pub fn read(
        &mut self,
        mut budget: (usize, u64),
        limits: Limits,
        now: Time,
        tally: &mut Tally,
    ) -> Vec<Part> {
        let mut parts = Vec::new();
        let mut over = Vec::new();
        let mut order: Vec<Identity> = self.open.keys().copied().collect();
        // Where a writer went on in a new file, what the old one held comes first.
        order.sort_by_key(|id| self.open.get(id).map(|r| (r.gone.is_none(), r.grew, r.found)));
        for id in order {
            let Some(reading) = self.open.get_mut(&id) else { continue };
            let mut records = Vec::new();
            let before = (tally.bytes, tally.lines, reading.safe);
            match reading.look(now) {
                Ok(Change::Same) => {}
                Ok(Change::Anew { was, safe }) => {
                    reading.settle(&mut records);
                    self.emptied.push((reading.path.clone(), was, safe));
                    if self.emptied.len() > EMPTIED {
                        self.emptied.remove(0);
                    }
                }
                Err(error) => {
                    self.refused.insert(reading.path.clone(), error.to_string());
                    continue;
                }
            }
            if let Err(error) = reading.read(budget, limits, now, tally, &mut records) {
                self.refused.insert(reading.path.clone(), error.to_string());
            }
            budget.0 = budget
                .0
                .saturating_sub(usize::try_from(tally.bytes - before.0).unwrap_or(usize::MAX));
            budget.1 = budget.1.saturating_sub(tally.lines - before.1);
            let quiet = now.since(reading.grew) > LET_GO;
            if reading.is_read() && quiet && reading.gone.is_some_and(|at| now.since(at) > LET_GO) {
                reading.finish(limits, now, tally, &mut records);
                over.push(id);
            }
            if !records.is_empty() || reading.safe != before.2 || over.last() == Some(&id) {
                parts.push(Part { records, place: place_of(reading, &self.key) });
            }
        }
        for id in over {
            self.let_go(id);
        }
        self.give_up(limits);
        parts
    }

    fn let_go(&mut self, id: Identity) {
        if let Some(reading) = self.open.remove(&id) {
            let place = FilePlace { open: false, ..place_of(&reading, &self.key) };
            self.done.insert(id, place);
        }
    }

    /// Files that are gone and cannot be kept up with hold their disk: beyond the bound the oldest is
    /// let go, and what was not read of it is counted.
    fn give_up(&mut self, limits: Limits) {
        let mut gone: Vec<(Time, Identity)> =
            self.open.iter().filter_map(|(id, r)| Some((r.gone?, *id))).collect();
        gone.sort();
        let beyond = gone.len().saturating_sub(limits.gone);
        for (_, id) in gone.into_iter().take(beyond) {
            self.given_up += self.open.get(&id).map_or(0, Reading::behind);
            self.let_go(id);
        }
    }

    /// Places of everything, to be saved.
    #[must_use]
    pub fn places(&self) -> Vec<FilePlace> {
        let open = self.open.values().map(|reading| place_of(reading, &self.key));
        open.chain(self.done.values().cloned()).collect()
    }

    /// Files that are read, and bytes that wait in them.
    #[must_use]
    pub fn level(&self) -> (usize, u64) {
        (self.open.len(), self.open.values().map(Reading::behind).sum())
    }
}

enum Origin {
    /// The original is as it was.
    Whole,
    /// It was emptied, after so much of it had been given away.
    Emptied(u64),
}

fn place_of(reading: &Reading, source: &str) -> FilePlace {
    FilePlace {
        id: reading.id,
        print: reading.print,
        safe: reading.safe,
        path: reading.path.clone(),
        source: source.to_owned(),
        open: true,
    }
}

fn fits(path: &Path, print: Print) -> bool {
    fs::File::open(path).and_then(|file| print.fits(&file)).unwrap_or(false)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write as _;

    struct Trial {
        dir: tempfile::TempDir,
        files: Files,
        at: u64,
        seen: Vec<String>,
    }

    impl Trial {
        fn new(from: From) -> Self {
            let dir = tempfile::tempdir().unwrap();
            let files = Self::files(&dir, from, &Places::default());
            Self { dir, files, at: 1, seen: Vec::new() }
        }

        fn files(dir: &tempfile::TempDir, from: From, places: &Places) -> Files {
            let glob = dir.path().join("app.log*").to_string_lossy().into_owned();
            Files::new("k".into(), vec![glob], Format::Auto, from, places)
        }

        fn path(&self, name: &str) -> PathBuf {
            self.dir.path().join(name)
        }

        fn write(&self, name: &str, text: &str) {
            let mut file =
                fs::OpenOptions::new().append(true).create(true).open(self.path(name)).unwrap();
            file.write_all(text.as_bytes()).unwrap();
        }

        /// Some passes, far enough apart that what is open is given away.
        fn pass(&mut self) {
            for _ in 0..3 {
                self.at += 2 * SECOND;
                let now = Time(self.at);
                self.files.discover(Limits::default(), now);
                let mut tally = Tally::default();
                for part in self.files.read((1 << 20, 10_000), Limits::default(), now, &mut tally) {
                    self.seen.extend(part.records.into_iter().map(|r| r.joined.text));
                }
            }
        }

        /// The agent ends without a word and begins again from what was saved.
        fn restart(&mut self) {
            let places = Places {
                sources: vec!["k".into()],
                files: self.files.places(),
                ..Places::default()
            };
            self.files = Self::files(&self.dir, From::End, &places);
        }
    }

    #[test]
    fn an_old_file_is_begun_at_its_end_and_a_new_one_at_its_beginning() {
        let mut trial = Trial::new(From::End);
        trial.write("app.log", "old\nhalf");
        trial.pass();
        trial.write("app.log", " a line\nnew\n");
        trial.write("app.log.other", "first\n");
        trial.pass();
        // Files have no order among themselves.
        trial.seen.sort();
        assert_eq!(trial.seen, ["first", "new"]);
        let mut trial = Trial::new(From::Start);
        trial.write("app.log", "old\n");
        trial.pass();
        assert_eq!(trial.seen, ["old"]);
    }

    #[test]
    fn rename_and_create_loses_and_doubles_nothing() {
        let mut trial = Trial::new(From::Start);
        trial.write("app.log", "1\n2\n");
        trial.pass();
        trial.write("app.log", "3\n");
        fs::rename(trial.path("app.log"), trial.path("app.log.1")).unwrap();
        // The writer goes on into the renamed file for a while.
        trial.write("app.log.1", "4\n");
        trial.write("app.log", "5\n");
        trial.pass();
        // To a name that no pattern matches, and deleted.
        fs::rename(trial.path("app.log"), trial.path("away")).unwrap();
        trial.write("away", "6\n");
        trial.pass();
        fs::remove_file(trial.path("away")).unwrap();
        trial.write("app.log", "7\n");
        trial.pass();
        assert_eq!(trial.seen, ["1", "2", "3", "4", "5", "6", "7"]);
    }

    #[test]
    fn copy_and_truncate_reads_the_copy_only_where_the_original_was_not() {
        let mut trial = Trial::new(From::Start);
        trial.write("app.log", "1\n2\n");
        trial.pass();
        trial.write("app.log", "3\n");
        fs::copy(trial.path("app.log"), trial.path("app.log.1")).unwrap();
        trial.pass();
        assert_eq!(trial.seen, ["1", "2", "3"], "the copy of a whole file says nothing new");
        fs::write(trial.path("app.log"), "").unwrap();
        trial.write("app.log", "4\n");
        trial.pass();
        assert_eq!(trial.seen, ["1", "2", "3", "4"]);
        // Now unread lines are in the copy only, and the file is longer than it was.
        trial.write("app.log", "5\n");
        fs::rename(trial.path("app.log.1"), trial.path("app.log.2")).unwrap();
        fs::copy(trial.path("app.log"), trial.path("app.log.1")).unwrap();
        fs::write(trial.path("app.log"), "6\n7\n8\n9\n").unwrap();
        trial.pass();
        trial.seen.sort();
        assert_eq!(trial.seen, ["1", "2", "3", "4", "5", "6", "7", "8", "9"]);
    }

    #[test]
    fn a_restart_reads_on_also_in_what_was_renamed_meanwhile() {
        let mut trial = Trial::new(From::Start);
        trial.write("app.log", "1\n2\n");
        trial.pass();
        trial.restart();
        trial.write("app.log", "3\n");
        trial.pass();
        trial.restart();
        trial.write("app.log", "4\n");
        fs::rename(trial.path("app.log"), trial.path("elsewhere")).unwrap();
        trial.write("app.log", "5\n");
        trial.pass();
        trial.seen.sort();
        assert_eq!(trial.seen, ["1", "2", "3", "4", "5"]);
    }

    #[test]
    fn compressed_files_and_folders_are_left_alone() {
        let mut trial = Trial::new(From::Start);
        trial.write("app.log.2.gz", "x\n");
        fs::create_dir(trial.path("app.log.d")).unwrap();
        trial.pass();
        assert_eq!(trial.files.level().0, 0);
        assert!(trial.files.refused.is_empty());
    }
}
