//! What the writer does about a database or a segment that fails, and how it tells a person.

use coral_model::view::{EventKind, EventRow};

use super::super::sealed::{self, Sealed};
use super::super::segment::{self, Segment};
use super::super::{Batch, StoreError, database, sweep};
use super::Writer;

/// Events about the store that wait for room; beyond it the oldest are lost, counted.
const UNTOLD: usize = 64;

impl Writer {
    /// Keeps events about the store, with those that found no room before.
    pub(super) fn tell(&mut self, events: Vec<EventRow>) {
        if events.is_empty() && (self.untold.is_empty() || self.room.is_full()) {
            return;
        }
        self.untold.extend(events);
        let sealed = Sealed::new(Batch::of_events(self.untold.clone())).map_err(sealed::arrow);
        match sealed.and_then(|sealed| self.transact(&[sealed])) {
            Ok(_) => self.untold.clear(),
            Err(error) => {
                tracing::error!(%error, "an event about the store waits to be kept");
                let lost = self.untold.len().saturating_sub(UNTOLD);
                self.untold.drain(..lost);
                self.options.counters.add("events_lost", coral_model::num::u64_sat(lost));
            }
        }
    }

    /// Sets aside those of some segments that are not what was written.
    pub(super) fn examine(&mut self, segments: Vec<Segment>) -> usize {
        let dir = self.dir.join(segment::DIR);
        let now = self.board.now();
        let mut bad: Vec<(Segment, String)> = Vec::new();
        for segment in segments.into_iter().filter(|s| now.segments().contains(s)) {
            if let Err(why) = sweep::examine(&dir.join(segment.file()), &segment) {
                bad.push((segment, why));
            }
        }
        let gone: Vec<Segment> = bad.iter().map(|(segment, _)| segment.clone()).collect();
        if gone.is_empty() {
            return 0;
        }
        let useless = segment::useless(now.segments(), &gone);
        let all = [gone, useless.clone()].concat();
        let made = self.connection().and_then(|c| self.board.make(c, now.replaced(&all, &[])));
        if let Err(error) = made {
            tracing::error!(%error, "a damaged segment could not be set aside");
            return 0;
        }
        for segment in &useless {
            // What cannot be removed now is swept at the next start.
            _ = std::fs::remove_file(dir.join(segment.file()));
        }
        for (segment, why) in &bad {
            sweep::put_aside(&dir, segment);
            self.tell_segment(segment, why);
        }
        bad.len()
    }

    /// Says, in the log and as an event, that a damaged segment was set aside.
    pub fn tell_segment(&mut self, segment: &Segment, why: &str) {
        let file = format!("{}.damaged", segment.file());
        let (name, (from, to)) = (segment.signal.name(), segment.received);
        let lost = match segment.form.is_index() {
            true => format!("nothing is lost, {name} received until {to} are found more slowly"),
            false => format!("{} {name} received from {from} to {to} are not shown", segment.rows),
        };
        let text = format!("a file of the store was damaged and set aside as {file}: {lost}");
        self.tell_loss(&text, &file, why);
    }

    /// Closes the instance and opens it again: after a failed write DuckDB refuses everything until
    /// then. If the file itself is damaged it is set aside.
    pub(super) fn reopen(&mut self) {
        tracing::error!("the database failed; opening it again");
        self.options.counters.add("store_reopened", 1);
        self.archive.stop();
        self.readers.close();
        self.connection = None;
        let opened = database::open(&self.dir, &self.options).and_then(|opened| {
            self.readers.reopen(opened.connection.try_clone()?);
            self.connection = Some(opened.connection);
            self.recall()?;
            Ok((opened.set_aside, opened.damaged))
        });
        match opened {
            Ok((aside, damaged)) => {
                if let Some((path, why)) = aside {
                    self.tell_damage(&path.to_string_lossy(), &why);
                }
                damaged.iter().for_each(|(segment, why)| self.tell_segment(segment, why));
            }
            Err(error) => tracing::error!(%error, "the database cannot be opened again"),
        }
    }

    /// Says, in the log and as an event, that a damaged file was moved away.
    pub fn tell_damage(&mut self, path: &str, why: &str) {
        let text = format!(
            "the store was damaged and set aside as {path}; what was not yet sealed of earlier data is not shown"
        );
        self.tell_loss(&text, path, why);
    }

    fn tell_loss(&mut self, text: &str, file: &str, why: &str) {
        tracing::error!(why, "{text}");
        self.options.counters.add("store_damaged", 1);
        let event = EventRow {
            time: (self.options.clock)(),
            kind: EventKind::StoreDamaged,
            service: None,
            host: None,
            text: text.to_owned(),
            source: "colony".into(),
            attributes: [("file".into(), file.into()), ("error".into(), why.into())].into(),
        };
        let sealed = Sealed::new(Batch::of_events(vec![event])).map_err(sealed::arrow);
        if let Err(error) = sealed.and_then(|sealed| self.try_transact(&[sealed], &mut None)) {
            tracing::error!(%error, "the event about the damage could not be kept");
        }
    }
}

/// Whether DuckDB will refuse everything until it is opened again.
pub fn is_fatal(error: &StoreError) -> bool {
    let text = error.to_string();
    text.contains("has been invalidated") || text.contains("FATAL Error")
}
