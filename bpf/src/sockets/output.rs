//! What programs write to their standard output and their standard error, in case that they die.
//!
//! Hangs on `sys_enter`, which every call of every program passes: there is no other place that the kernel
//! keeps stable. So the agent hangs it there only while somebody it follows writes where nothing can be
//! read afterwards, to a pipe or a terminal; and it begins with the cheapest questions.

use aya_ebpf::helpers::generated::{bpf_get_current_task, bpf_ktime_get_boot_ns};
use aya_ebpf::helpers::{bpf_get_current_comm, bpf_get_current_pid_tgid};
use aya_ebpf::macros::{map, raw_tracepoint};
use aya_ebpf::maps::LruHashMap;
use aya_ebpf::programs::RawTracePointContext;
use coral_bpf_types::{COMM, Chunk, SAID, lost, what};

use super::bytes::{Arguments, Cursor, PIECES, Source, arguments, copy};
use super::room::{OfCpu, Room};
use super::{AVAILABLE, CHUNKS, IGNORED, put, socket_offsets};
use crate::{count, member, pid_seen_by_agent};

/// Processes whose output is not wanted, because it can be read elsewhere; by their pid in the first namespace.
#[map]
static QUIET: LruHashMap<u32, u8> = LruHashMap::with_max_entries(16_384, 0);

/// What processes wrote in this moment, likewise.
#[map]
static WRITERS: LruHashMap<u32, Writer> = LruHashMap::with_max_entries(4_096, 0);

#[repr(C)]
#[derive(Clone, Copy)]
struct Writer {
    slice: u64,
    bytes: u32,
    /// Bytes written since the last that were told.
    missed: u32,
}

/// Moments in which output is budgeted: 2^30 ns are 1.07 s.
const SLICE_BITS: u64 = 30;
/// Bytes of a process's standard output that are told in one; and as many more of its standard error, where it says why it
/// dies.
const SLICE_BYTES: u32 = 64 << 10;
/// Output gives way to requests where so many bytes wait for the agent.
const CROWDED: u64 = 4 << 20;

/// A process has ended or is another program now.
pub(super) fn forget(process: u32) {
    _ = QUIET.remove(&process);
    _ = WRITERS.remove(&process);
}

/// `sys_enter(regs, id)`.
#[raw_tracepoint(tracepoint = "sys_enter")]
pub fn sys_enter(context: RawTracePointContext) -> i32 {
    _ = written(&context);
    0
}

#[inline(always)]
fn written(context: &RawTracePointContext) -> Option<()> {
    let call: u32 = context.arg(1);
    let offsets = socket_offsets();
    if call != offsets.write && call != offsets.writev {
        return None;
    }
    let regs: *const u8 = context.arg(0);
    // SAFETY: what the kernel handed over.
    let Arguments { first: fd, second, third, .. } = unsafe { arguments(regs, offsets)? };
    if !matches!(fd, 1 | 2) {
        return None;
    }
    let process = (bpf_get_current_pid_tgid() >> 32) as u32;
    // SAFETY: looked at only for being there.
    if unsafe { IGNORED.get(&process).is_some() || QUIET.get(&process).is_some() } {
        return None;
    }
    let is_buffer = call == offsets.write;
    let mut source = match is_buffer {
        true => Source { list: 0, pieces: 1, base: second },
        false => Source { list: second, pieces: third, base: 0 },
    };
    let total = match is_buffer {
        true if third > u64::from(u32::MAX) => return None,
        true => third as u32,
        false => length(&source),
    };
    if total == 0 {
        return None;
    }
    let most = if total < SAID { total } else { SAID };
    // The end of a long one: that is what was said last.
    if is_buffer {
        source.base += u64::from(total - most);
    }
    // SAFETY: a helper without arguments.
    let at_ns = unsafe { bpf_ktime_get_boot_ns() };
    let writer = writer(process, at_ns)?;
    let limit = if fd == 2 { 2 * SLICE_BYTES } else { SLICE_BYTES };
    if writer.bytes.saturating_add(most) > limit || CHUNKS.query(AVAILABLE) >= CROWDED {
        writer.missed = writer.missed.saturating_add(total);
        count(lost::SAID, u64::from(total));
        return None;
    }
    writer.bytes += most;
    // SAFETY: nothing else uses the place in between.
    let scratch = unsafe { &mut *OfCpu::scratch()? };
    let copied = copy(&source, most, &mut Cursor::of(&source), scratch);
    scratch.chunk = chunk(process, fd as u16, at_ns, writer.missed, total, copied)?;
    if put(scratch, false) {
        writer.missed = 0;
    } else {
        writer.missed = writer.missed.saturating_add(total);
        count(lost::SAID, u64::from(total));
    }
    Some(())
}

/// Bytes in the pieces that are looked at.
#[inline(always)]
fn length(source: &Source) -> u32 {
    let mut cursor = Cursor::of(source);
    let mut total: u64 = 0;
    let mut piece = 0;
    while piece < PIECES && cursor.piece(source) {
        total = total.saturating_add(cursor.left);
        piece += 1;
    }
    if total > u64::from(u32::MAX) { u32::MAX } else { total as u32 }
}

/// What a process wrote in this moment.
#[inline(always)]
fn writer(process: u32, at_ns: u64) -> Option<&'static mut Writer> {
    let slice = at_ns >> SLICE_BITS;
    let known = match WRITERS.get_ptr_mut(&process) {
        Some(known) => known,
        None => {
            WRITERS.insert(&process, &Writer { slice, bytes: 0, missed: 0 }, 0).ok()?;
            WRITERS.get_ptr_mut(&process)?
        }
    };
    // SAFETY: an entry stays in memory while a program runs that looked it up. Threads that write at once may
    // count a little wrongly.
    let writer = unsafe { &mut *known };
    if writer.slice != slice {
        (writer.slice, writer.bytes) = (slice, 0);
    }
    Some(writer)
}

/// [`what::SAID`]: in place of a socket's number there is when the process began, in that of a port which
/// descriptor it is.
#[inline(always)]
fn chunk(process: u32, fd: u16, at_ns: u64, missed: u32, total: u32, copied: u32) -> Option<Chunk> {
    let offsets = crate::offsets();
    // SAFETY: the current task, whose first thread is there until all have ended.
    let start_ns = unsafe {
        let leader: *const u8 = member(bpf_get_current_task() as *const u8, offsets.task_leader)?;
        member::<u64>(leader, offsets.task_start)?
    };
    Some(Chunk {
        at_ns,
        socket: start_ns,
        process,
        pid: pid_seen_by_agent(offsets),
        total,
        copied,
        missed_sent: missed,
        what: what::SAID,
        local_port: fd,
        comm: bpf_get_current_comm().unwrap_or([0; COMM]),
        ..Chunk::default()
    })
}
