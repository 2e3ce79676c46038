//! The spool: what was accepted lies here until the colony has it.
//!
//! In come packed records, from many threads; each gets the next sequence number of this agent and
//! is written to the active segment before `append` returns. Out go byte ranges of segments for the
//! uplink to ship, and, once acknowledged *and* counted into RED, deleted segments. What a record
//! means is nobody's business here, except for one thing: a `Reduced` record says up to which
//! sequence number OTLP records have been counted, and a segment is kept until that is said of it.
//!
//! Sequence numbers ascend over all segments of one agent, so that `covers_seq` means something
//! across them. Every segment begins with a `Reduced` record that repeats how far counting had come;
//! so the newest segment alone tells it, whichever older ones are already gone.
//!
//! [`index`] is the bookkeeping, without files; [`recover`] reads what an earlier life left behind;
//! [`sync`] makes writes durable in groups.

pub mod index;
pub mod recover;
mod segment;
mod sync;

use std::fs::File;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use coral_model::SegmentId;
use coral_proto::record::{self, Kind, Packer};
use coral_proto::v1::Reduced;
use prost::Message as _;

use crate::counters::Counters;
use index::{Appended, Index, Plan};
use segment::Writer;
use sync::Syncer;
pub use sync::Ticket;

/// A segment is sealed when the next record would make it larger.
pub const SEGMENT_BYTES: u64 = 8 << 20;

/// When an export is acknowledged.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, clap::ValueEnum)]
pub enum Durability {
    /// Once written: survives the death of the agent. Synced within a second.
    #[default]
    Process,
    /// Once synced: survives the loss of power.
    Power,
}

/// Whose record it is: decides what happens when space runs out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Class {
    /// From an application: refused while it can still be told.
    Otlp,
    /// From a sense: dropped and counted.
    Own,
    /// What the reducer learnt: may use the reserve, since it lets segments go.
    Reduced,
}

/// Why the spool could not be opened.
#[derive(Debug, thiserror::Error)]
pub enum SpoolError {
    /// A file or folder could not be used.
    #[error("cannot {what} {}", path.display())]
    Io {
        /// What was tried.
        what: &'static str,
        /// On which file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
}

/// Why a record was not taken.
#[derive(Debug, thiserror::Error)]
pub enum AppendError {
    /// The byte cap is reached.
    #[error("the agent's spool is full ({used} of {capacity} bytes wait for the colony)")]
    Full {
        /// Bytes in it.
        used: u64,
        /// Its bound.
        capacity: u64,
    },
    /// The file system is nearly full.
    #[error("the disk of the agent's spool is more than 90 % full: make room in {}", path.display())]
    Disk {
        /// The spool's folder.
        path: PathBuf,
    },
    /// The system refused the write; nothing of the record remains.
    #[error("the agent cannot write its spool: {0}")]
    Io(#[from] std::io::Error),
}

/// A bound nobody asked for is never more than this.
const MOST_UNASKED: u64 = 1 << 30;

/// How a spool is set up.
#[derive(Debug, Clone)]
pub struct Options {
    /// Folder of the segments.
    pub dir: PathBuf,
    /// Most bytes of segments. `None`: the smaller of 1 GiB and 10 % of the most that was free.
    pub capacity: Option<u64>,
    /// When a ticket is ready.
    pub durability: Durability,
    /// Size at which a segment is sealed.
    pub segment_bytes: u64,
}

impl Options {
    /// The defaults, in this folder.
    #[must_use]
    pub fn new(dir: PathBuf) -> Self {
        Self {
            dir,
            capacity: None,
            durability: Durability::default(),
            segment_bytes: SEGMENT_BYTES,
        }
    }
}

struct State {
    index: Index,
    active: Option<Writer>,
    next_seq: u64,
    covers: u64,
    last_counted: u64,
    packer: Packer,
}

/// The spool. Cheap to share behind an `Arc`.
pub struct Spool {
    dir: PathBuf,
    /// As asked for; else what the disk allows, see [`Spool::check_disk`].
    asked: Option<u64>,
    capacity: AtomicU64,
    segment_bytes: u64,
    durability: Durability,
    state: Mutex<State>,
    disk_full: AtomicBool,
    changed: tokio::sync::Notify,
    syncer: Syncer,
    counters: Arc<Counters>,
}

/// A piece of a segment, ready to be sent.
#[derive(Debug, Clone)]
pub struct Chunk {
    /// The segment.
    pub segment: SegmentId,
    /// Sequence number of its first record.
    pub first_seq: u64,
    /// Sequence number of its last record.
    pub last_seq: u64,
    /// Whole records, back to back.
    pub bytes: Bytes,
}

impl Spool {
    /// Opens the folder, reads what is there and continues in a new segment.
    pub fn open(
        options: &Options,
        counters: Arc<Counters>,
        now_ns: u64,
    ) -> Result<(Self, recover::Recovered), SpoolError> {
        let recovered = recover::recover(&options.dir)?;
        let mut index = Index::default();
        for segment in &recovered.segments {
            index.recovered(segment.clone());
        }
        index.set_covers(recovered.covers);
        let state = State {
            index,
            active: None,
            next_seq: recovered.next_seq,
            covers: recovered.covers,
            last_counted: recovered.last_counted,
            packer: Packer::default(),
        };
        counters.spool_damaged_bytes.add(recovered.damaged_bytes());
        let spool = Self {
            dir: options.dir.clone(),
            asked: options.capacity,
            capacity: AtomicU64::new(options.capacity.unwrap_or(0)),
            segment_bytes: options.segment_bytes,
            durability: options.durability,
            state: Mutex::new(state),
            disk_full: AtomicBool::new(false),
            changed: tokio::sync::Notify::new(),
            syncer: Syncer::start(counters.clone()),
            counters,
        };
        spool.check_disk();
        if !recovered.segments.is_empty() {
            // At once, so that the newest segment always tells how far counting has come.
            let rotated = spool.rotate(&mut spool.lock(), now_ns);
            match rotated {
                Ok(()) => {}
                // What is there can be shipped, which makes room; the next append tries again.
                Err(error) if error.kind() == std::io::ErrorKind::StorageFull => {
                    tracing::warn!(%error, "no room for a new spool segment yet");
                }
                Err(source) => {
                    let (what, path) = ("start a segment in", spool.dir);
                    return Err(SpoolError::Io { what, path, source });
                }
            }
        }
        Ok((spool, recovered))
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // State is only changed after the file operation it describes has succeeded.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Appends a packed record. When this returns its bytes are with the kernel; the ticket is ready
    /// when they are as safe as [`Durability`] asks.
    pub fn append(
        &self,
        packer: &mut Packer,
        class: Class,
        kind: Kind,
        now_ns: u64,
    ) -> Result<(u64, Ticket), AppendError> {
        self.append_covering(packer, class, kind, now_ns, 0)
    }

    /// Appends what the reducer learnt from every OTLP record up to `covers`, as packed.
    pub fn append_reduced(
        &self,
        packer: &mut Packer,
        covers: u64,
        now_ns: u64,
    ) -> Result<u64, AppendError> {
        let done = self.append_covering(packer, Class::Reduced, Kind::Reduced, now_ns, covers);
        done.map(|(seq, _)| seq)
    }

    fn append_covering(
        &self,
        packer: &mut Packer,
        class: Class,
        kind: Kind,
        now_ns: u64,
        covers: u64,
    ) -> Result<(u64, Ticket), AppendError> {
        let len = packer.packed_len() as u64;
        let mut guard = self.lock();
        let state = &mut *guard;
        self.admit(state.index.bytes(), len, class)?;
        let full = state.active.as_ref().is_none_or(|w| {
            w.bytes() > record::FILE_HEADER as u64 && w.bytes() + len > self.segment_bytes
        });
        if full {
            self.rotate(state, now_ns)?;
        }
        let seq = self.write(state, packer, kind, now_ns)?;
        // Under the same lock as the record that says so: the next segment must repeat it.
        state.covers = state.covers.max(covers);
        state.index.set_covers(covers);
        let ticket = self.syncer.written(self.durability);
        drop(guard);
        self.changed.notify_one();
        Ok((seq, ticket))
    }

    fn admit(&self, used: u64, len: u64, class: Class) -> Result<(), AppendError> {
        let whole = self.capacity.load(Ordering::Relaxed);
        let reserve = (whole / 16).min(16 << 20);
        let capacity = match class {
            Class::Otlp | Class::Own => whole.saturating_sub(reserve),
            Class::Reduced => whole,
        };
        if used.saturating_add(len) > capacity {
            return Err(AppendError::Full { used, capacity });
        }
        if class != Class::Reduced && self.disk_full.load(Ordering::Relaxed) {
            return Err(AppendError::Disk { path: self.dir.clone() });
        }
        Ok(())
    }

    fn write(
        &self,
        state: &mut State,
        packer: &mut Packer,
        kind: Kind,
        now_ns: u64,
    ) -> Result<u64, std::io::Error> {
        let seq = state.next_seq;
        let writer = state.active.as_mut().ok_or_else(|| std::io::Error::other("no segment"))?;
        let len = packer.packed_len() as u64;
        if let Err(error) = writer.append(packer.seal(seq)) {
            self.failed(&error);
            if !writer.usable() {
                // Its tail may hold half a record: close it, recovery will cut there.
                state.index.seal_active();
                state.active = None;
            }
            return Err(error);
        }
        let counts = kind == Kind::Traces;
        if counts {
            state.last_counted = seq;
        }
        state.index.appended(Appended { seq, len, time_ns: now_ns, counts });
        state.next_seq += 1;
        self.counters.spool_records.add(1);
        Ok(seq)
    }

    /// Seals the active segment and opens the next, which exists only once it holds the record that
    /// tells how far counting has come: on a full disk the segment before stays the newest.
    fn rotate(&self, state: &mut State, now_ns: u64) -> Result<(), std::io::Error> {
        let id = SegmentId(crate::random_bytes());
        let first = Reduced { at_ns: now_ns, covers_seq: state.covers, ..Default::default() };
        state
            .packer
            .pack(Kind::Reduced, now_ns, &first.encode_to_vec())
            .map_err(std::io::Error::other)?;
        let (seq, len) = (state.next_seq, state.packer.packed_len() as u64);
        let begun = Writer::create(&self.dir, id).and_then(|mut writer| {
            let written = writer.append(state.packer.seal(seq));
            written.map(|()| writer).inspect_err(|_| {
                // A file without records is nothing to keep.
                _ = std::fs::remove_file(segment::path(&self.dir, id));
            })
        });
        let writer = begun.inspect_err(|error| self.failed(error))?;
        self.syncer.opened(writer.file());
        state.index.opened(id, seq, now_ns);
        state.index.appended(Appended { seq, len, time_ns: now_ns, counts: false });
        state.next_seq += 1;
        state.active = Some(writer);
        self.counters.spool_records.add(1);
        Ok(())
    }

    /// Seals an active segment that has grown and is wholly acknowledged, so that an idle agent's
    /// spool shrinks.
    pub fn seal_when_idle(&self, now_ns: u64) {
        const WORTH_IT: u64 = 256 << 10;
        let mut state = self.lock();
        if state.index.active_is_done(WORTH_IT)
            && let Err(error) = self.rotate(&mut state, now_ns)
        {
            tracing::warn!(%error, "cannot start a new spool segment");
        }
    }

    /// Sequence number of the newest record that the reducer counts.
    #[must_use]
    pub fn last_counted(&self) -> u64 {
        self.lock().last_counted
    }

    /// Bytes of all segments, and their bound.
    #[must_use]
    pub fn usage(&self) -> (u64, u64) {
        (self.lock().index.bytes(), self.capacity.load(Ordering::Relaxed))
    }

    /// When the oldest record was appended that the colony has not acknowledged.
    #[must_use]
    pub fn oldest_unacked_ns(&self) -> Option<u64> {
        self.lock().index.oldest_unacked_ns()
    }

    /// Whether the file system is too full to go on.
    #[must_use]
    pub fn disk_is_full(&self) -> bool {
        self.disk_full.load(Ordering::Relaxed)
    }

    /// Looks at the file system; called about twice a second. A bound nobody asked for grows with
    /// the room there is, so that an agent begun on a full disk does not stay small for good; it
    /// does not shrink when others fill the disk.
    pub fn check_disk(&self) {
        if self.asked.is_none() {
            let free = segment::free_bytes(&self.dir).unwrap_or(u64::MAX);
            let room = free.saturating_add(self.lock().index.bytes());
            self.capacity.fetch_max(MOST_UNASKED.min(room / 10), Ordering::Relaxed);
        }
        self.disk_is(segment::is_nearly_full(&self.dir).unwrap_or(false));
    }

    fn disk_is(&self, full: bool) {
        self.disk_full.store(full, Ordering::Relaxed);
        self.counters.spool_disk_full.set(u64::from(full));
    }

    /// Takes note of a write that failed. A disk without inodes is full as well, however many bytes
    /// it has left: until it is looked at again nobody else needs to try.
    fn failed(&self, error: &std::io::Error) {
        self.counters.spool_errors.add(1);
        if error.kind() == std::io::ErrorKind::StorageFull {
            self.disk_is(true);
        }
    }

    /// Waits until something was appended since the last call returned.
    pub async fn changed(&self) {
        self.changed.notified().await;
    }

    /// Begins shipping anew: everything beyond these marks is to be sent. Returns the marked
    /// segments that no longer exist.
    pub fn restart_shipping(&self, marks: &[(SegmentId, u64)]) -> Vec<SegmentId> {
        self.lock().index.restart(marks)
    }

    /// The next records to ship, newest segment or oldest first; at most `max` bytes unless a single
    /// record is larger.
    pub fn next_chunk(
        &self,
        max: usize,
        prefer: index::Prefer,
    ) -> Result<Option<Chunk>, std::io::Error> {
        let Some(plan) = self.lock().index.plan(prefer) else { return Ok(None) };
        let file = File::open(segment::path(&self.dir, plan.segment))?;
        let chunk = read_chunk(&file, plan, max)?;
        if let Some(chunk) = &chunk {
            self.lock().index.sent(plan.segment, chunk.bytes.len() as u64, chunk.last_seq);
        } else {
            // The index knows only whole written records: bytes that are not one have gone bad on
            // disk since. What lies before them was sent; the next start sets the rest aside.
            self.counters.spool_errors.add(1);
            self.lock().index.give_up(plan.segment);
        }
        Ok(chunk)
    }

    /// Notes that the colony has committed a segment up to `seq`.
    pub fn acked(&self, segment: SegmentId, seq: u64) {
        self.lock().index.acked(segment, seq);
    }

    /// Deletes every segment that is acknowledged and counted; returns their ids.
    pub fn reap(&self) -> Vec<SegmentId> {
        let gone = self.lock().index.take_deletable();
        for &id in &gone {
            let path = segment::path(&self.dir, id);
            if let Err(error) = std::fs::remove_file(&path) {
                tracing::warn!(%error, path = %path.display(), "cannot delete a shipped segment");
            }
        }
        self.counters.segments_deleted.add(gone.len() as u64);
        gone
    }

    /// Reads back every record whose sequence number is above `after` and that the reducer counts.
    pub fn replay(
        &self,
        after: u64,
        mut each: impl FnMut(u64, u64, &[u8]),
    ) -> Result<(), SpoolError> {
        let ids = self.lock().index.uncounted(after);
        for id in ids {
            let path = segment::path(&self.dir, id);
            let bytes = std::fs::read(&path).map_err(|source| SpoolError::Io {
                what: "read",
                path: path.clone(),
                source,
            })?;
            let mut bytes = Bytes::from(bytes).split_off(record::FILE_HEADER);
            while let Ok(record) = record::take(&mut bytes) {
                if record.kind == Kind::Traces
                    && record.seq > after
                    && let Ok(body) = record.body()
                {
                    each(record.seq, record.time_ns, &body);
                }
            }
        }
        Ok(())
    }

    /// Makes everything appended so far durable.
    pub fn sync_now(&self) {
        self.syncer.sync_now();
    }

    /// Where the segments are.
    #[must_use]
    pub fn dir(&self) -> &Path {
        &self.dir
    }
}

/// Cuts whole records out of a segment file, beginning at the plan's offset.
fn read_chunk(file: &File, plan: Plan, max: usize) -> Result<Option<Chunk>, std::io::Error> {
    let available = coral_model::num::usize_sat(plan.to.saturating_sub(plan.from));
    let mut bytes = vec![0u8; available.min(max.max(record::HEADER))];
    file.read_exact_at(&mut bytes, plan.from)?;
    let (mut end, mut first, mut last) = (0usize, None, 0);
    while let Some(header) = bytes.get(end..).and_then(|rest| rest.first_chunk()) {
        let (length, seq) = record::peek(header);
        let next = end.saturating_add(length);
        if next > bytes.len() {
            if end > 0 || length > available {
                break;
            }
            // One record larger than `max`: it travels alone.
            bytes.resize(length, 0);
            file.read_exact_at(&mut bytes, plan.from)?;
        }
        first.get_or_insert(seq);
        last = seq;
        end = next;
    }
    bytes.truncate(end);
    let segment = plan.segment;
    Ok(first.map(|first_seq| Chunk { segment, first_seq, last_seq: last, bytes: bytes.into() }))
}

#[cfg(test)]
mod tests;
