//! Which bytes of which segments wait to be sent, acknowledged, counted or deleted.
//!
//! No files, no clock: what happened is told to it, what to do next is asked of it.

use coral_model::SegmentId;
use coral_proto::record::FILE_HEADER;

/// A segment's bookkeeping.
#[derive(Debug, Clone)]
pub struct Segment {
    /// Its id.
    pub id: SegmentId,
    /// Sequence number of its first record.
    pub first_seq: u64,
    /// Sequence number of its last record; `first_seq - 1` while empty.
    pub last_seq: u64,
    /// Sequence number of the last record that the reducer counts; 0 for none.
    pub last_counted: u64,
    /// Length of its file.
    pub bytes: u64,
    /// Places to start reading from: ascending, one about every 64 KiB.
    pub marks: Vec<Mark>,
}

/// A record boundary inside a segment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Mark {
    /// The record that begins here.
    pub seq: u64,
    /// Offset in the file.
    pub offset: u64,
    /// When it was appended, Unix ns.
    pub time_ns: u64,
}

const MARK_EVERY: u64 = 64 << 10;

impl Segment {
    /// A segment without records.
    #[must_use]
    pub fn empty(id: SegmentId, first_seq: u64) -> Self {
        Self {
            id,
            first_seq,
            last_seq: first_seq.saturating_sub(1),
            last_counted: 0,
            bytes: FILE_HEADER as u64,
            marks: Vec::new(),
        }
    }

    /// Takes note of a record at its end.
    pub fn push(&mut self, record: Appended) {
        let offset = self.bytes;
        if self.marks.last().is_none_or(|mark| offset >= mark.offset + MARK_EVERY) {
            self.marks.push(Mark { seq: record.seq, offset, time_ns: record.time_ns });
        }
        self.bytes += record.len;
        self.last_seq = record.seq;
        if record.counts {
            self.last_counted = record.seq;
        }
    }
}

/// A record that was written.
#[derive(Debug, Clone, Copy)]
pub struct Appended {
    /// Its sequence number.
    pub seq: u64,
    /// Its bytes on disk.
    pub len: u64,
    /// When.
    pub time_ns: u64,
    /// Whether the reducer counts it.
    pub counts: bool,
}

#[derive(Debug)]
struct Entry {
    segment: Segment,
    sealed: bool,
    acked: u64,
    /// Offset of the first byte not sent in this session.
    sent: u64,
    /// Nothing more can be read from it in this life.
    given_up: bool,
}

/// From which end of the backlog to ship.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Prefer {
    /// What people are looking at.
    Newest,
    /// What has waited longest.
    Oldest,
}

/// Bytes to read and send.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Plan {
    /// Of which segment.
    pub segment: SegmentId,
    /// First byte.
    pub from: u64,
    /// End of what is written.
    pub to: u64,
}

/// The index.
#[derive(Debug, Default)]
pub struct Index {
    /// Oldest first; the last one is active unless sealed.
    entries: Vec<Entry>,
    covers: u64,
}

impl Index {
    /// Adds a segment from an earlier life, oldest first.
    pub fn recovered(&mut self, segment: Segment) {
        self.add(segment, true);
    }

    /// Adds a new active segment; the one before is sealed.
    pub fn opened(&mut self, id: SegmentId, first_seq: u64, _now_ns: u64) {
        self.seal_active();
        self.add(Segment::empty(id, first_seq), false);
    }

    fn add(&mut self, segment: Segment, sealed: bool) {
        let sent = FILE_HEADER as u64;
        self.entries.push(Entry { segment, sealed, acked: 0, sent, given_up: false });
    }

    /// Nothing more is appended to the last segment.
    pub fn seal_active(&mut self) {
        if let Some(entry) = self.entries.last_mut() {
            entry.sealed = true;
        }
    }

    /// A record was written to the active segment.
    pub fn appended(&mut self, record: Appended) {
        if let Some(entry) = self.entries.last_mut() {
            entry.segment.push(record);
        }
    }

    /// OTLP records up to here are counted in a `Reduced` record that is itself in the spool.
    pub fn set_covers(&mut self, covers: u64) {
        self.covers = self.covers.max(covers);
    }

    /// Bytes of all segments.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.entries.iter().map(|e| e.segment.bytes).sum()
    }

    /// When the oldest unacknowledged record was appended (to the nearest mark before it).
    #[must_use]
    pub fn oldest_unacked_ns(&self) -> Option<u64> {
        let waiting = self.entries.iter().filter(|e| e.acked < e.segment.last_seq);
        waiting
            .filter_map(|e| {
                let marks = &e.segment.marks;
                let after = marks.partition_point(|mark| mark.seq <= e.acked + 1);
                marks.get(after.saturating_sub(1)).map(|mark| mark.time_ns)
            })
            .min()
    }

    /// Whether the active segment holds more than `least` bytes, all of them acknowledged and counted.
    #[must_use]
    pub fn active_is_done(&self, least: u64) -> bool {
        self.entries.last().is_some_and(|e| {
            !e.sealed
                && e.segment.bytes > least
                && e.acked >= e.segment.last_seq
                && e.segment.last_counted <= self.covers
        })
    }

    /// What to read next: the newest or oldest segment with bytes that were not sent yet.
    #[must_use]
    pub fn plan(&self, prefer: Prefer) -> Option<Plan> {
        let waits = |e: &&Entry| !e.given_up && e.sent < e.segment.bytes;
        let found = match prefer {
            Prefer::Newest => self.entries.iter().rev().find(waits),
            Prefer::Oldest => self.entries.iter().find(waits),
        };
        found.map(|e| Plan { segment: e.segment.id, from: e.sent, to: e.segment.bytes })
    }

    fn entry(&mut self, id: SegmentId) -> Option<&mut Entry> {
        self.entries.iter_mut().rev().find(|e| e.segment.id == id)
    }

    /// `len` bytes ending in record `last_seq` are on their way.
    pub fn sent(&mut self, id: SegmentId, len: u64, _last_seq: u64) {
        if let Some(entry) = self.entry(id) {
            entry.sent += len;
        }
    }

    /// No more can be read from this segment.
    pub fn give_up(&mut self, id: SegmentId) {
        if let Some(entry) = self.entry(id) {
            entry.given_up = true;
        }
    }

    /// The colony has committed a segment up to `seq`.
    pub fn acked(&mut self, id: SegmentId, seq: u64) {
        if let Some(entry) = self.entry(id) {
            entry.acked = entry.acked.max(seq.min(entry.segment.last_seq));
        }
    }

    /// A new session: everything beyond `marks` is to be sent (again). A place inside a segment is
    /// found to the nearest mark before it; the colony skips what it has.
    pub fn restart(&mut self, marks: &[(SegmentId, u64)]) -> Vec<SegmentId> {
        for entry in &mut self.entries {
            let committed = marks.iter().find(|(id, _)| *id == entry.segment.id).map(|m| m.1);
            // The colony's word is final: a colony that lost its store wants everything again.
            entry.acked = committed.unwrap_or(0).min(entry.segment.last_seq);
            entry.sent = if entry.acked >= entry.segment.last_seq {
                entry.segment.bytes
            } else {
                let places = &entry.segment.marks;
                let after = places.partition_point(|mark| mark.seq <= entry.acked + 1);
                places.get(after.saturating_sub(1)).map_or(FILE_HEADER as u64, |mark| mark.offset)
            };
        }
        let known = |id: &SegmentId| self.entries.iter().any(|e| e.segment.id == *id);
        marks.iter().map(|m| m.0).filter(|id| !known(id)).collect()
    }

    /// Takes out every segment that may be deleted.
    pub fn take_deletable(&mut self) -> Vec<SegmentId> {
        let covers = self.covers;
        let done = |e: &Entry| {
            e.sealed && e.acked >= e.segment.last_seq && e.segment.last_counted <= covers
        };
        let mut gone = Vec::new();
        let newest = self.entries.len().saturating_sub(1);
        let mut at = 0;
        self.entries.retain(|e| {
            // The newest one tells how far counting has come: it stays.
            let keep = at == newest || !done(e);
            at += 1;
            if !keep {
                gone.push(e.segment.id);
            }
            keep
        });
        gone
    }

    /// Segments with records above `after` that the reducer counts, oldest first.
    #[must_use]
    pub fn uncounted(&self, after: u64) -> Vec<SegmentId> {
        let some = self.entries.iter().filter(|e| e.segment.last_counted > after);
        some.map(|e| e.segment.id).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(n: u8) -> SegmentId {
        SegmentId([n; 16])
    }

    fn with(segments: &[(u8, u64, u64)]) -> Index {
        let mut index = Index::default();
        for &(n, first, last) in segments {
            index.opened(id(n), first, 0);
            for seq in first..=last {
                index.appended(Appended { seq, len: 40 << 10, time_ns: seq * 10, counts: true });
            }
        }
        index
    }

    #[test]
    fn a_segment_goes_only_when_acked_and_counted() {
        let mut index = with(&[(1, 1, 4), (2, 5, 8)]);
        index.acked(id(1), 4);
        assert!(index.take_deletable().is_empty(), "not counted");
        index.set_covers(4);
        assert_eq!(index.take_deletable(), [id(1)]);
        index.acked(id(2), 8);
        index.set_covers(8);
        assert!(index.take_deletable().is_empty(), "active");
        index.opened(id(3), 9, 0);
        assert_eq!(index.take_deletable(), [id(2)]);
    }

    #[test]
    fn the_newest_segment_stays_even_when_sealed() {
        let mut index = with(&[(1, 1, 4)]);
        index.seal_active();
        index.acked(id(1), 4);
        index.set_covers(4);
        assert!(index.take_deletable().is_empty());
    }

    #[test]
    fn shipping_resumes_at_or_before_the_mark() {
        let mut index = with(&[(1, 1, 8)]);
        let unknown = index.restart(&[(id(1), 5), (id(9), 3)]);
        assert_eq!(unknown, [id(9)]);
        let plan = index.plan(Prefer::Newest).unwrap();
        // Marks lie at records 1, 3, 5 and 7; record 6 comes next, so reading starts at 5.
        assert_eq!(plan.from, FILE_HEADER as u64 + 4 * (40 << 10));
        assert_eq!(index.oldest_unacked_ns(), Some(50));
        assert!(index.restart(&[(id(1), 8)]).is_empty());
        assert_eq!(index.plan(Prefer::Newest), None);
        assert_eq!(index.oldest_unacked_ns(), None);
    }

    #[test]
    fn both_ends_of_the_backlog_can_be_asked_for() {
        let index = with(&[(1, 1, 2), (2, 3, 4)]);
        assert_eq!(index.plan(Prefer::Newest).unwrap().segment, id(2));
        assert_eq!(index.plan(Prefer::Oldest).unwrap().segment, id(1));
    }
}
