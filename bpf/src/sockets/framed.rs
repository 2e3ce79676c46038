//! What is told of a call on a socket of a protocol of which any number of messages may lie in one call:
//! all that it moved, in parts, as far as that is affordable.
//!
//! The programs at the tracepoints find the socket and end in the program of its protocol. One that
//! tells everything is three lines:
//!
//! ```ignore
//! struct Whole;
//! impl Long for Whole {}
//! #[raw_tracepoint]
//! pub fn framed_whole(_: RawTracePointContext) -> i32 { _ = framed::<Whole>(); 0 }
//! ```

use core::ffi::c_void;

use aya_ebpf::helpers::generated::bpf_loop;
use aya_ebpf::macros::map;
use aya_ebpf::maps::{PerCpuArray, ProgramArray};
use aya_ebpf::programs::RawTracePointContext;
use coral_bpf_types::{COPIED, lost, protocol, what};

use super::bytes::{Cursor, Source, copy};
use super::{SCRATCH, SOCKETS, Socket, affordable, chunk, tell};
use crate::count;

/// The program of each [`protocol`]; filled by the agent.
#[map]
static FRAMED: ProgramArray = ProgramArray::with_max_entries(protocol::PLACES, 0);

/// What is handed over to it.
#[map]
static CALLS: PerCpuArray<Call> = PerCpuArray::with_max_entries(1, 0);

/// Of one call so many parts are told, each copied whole or cut at what is long.
const PARTS: u32 = 24;

/// A call that moved bytes.
#[derive(Clone, Copy)]
pub(super) struct Call {
    /// Where the kernel has the socket.
    pub(super) key: u64,
    pub(super) at_ns: u64,
    pub(super) source: Source,
    pub(super) direction: u32,
    /// How many.
    pub(super) bytes: u32,
    /// It begins a message.
    pub(super) begins: bool,
    /// Its process was not met before.
    pub(super) new: bool,
}

/// Goes on in the program of a protocol; returns only where that is missing.
#[inline(always)]
pub(super) fn hand_over(context: &RawTracePointContext, call: Call, protocol: u16) -> Option<()> {
    let place = CALLS.get_ptr_mut(0)?;
    // SAFETY: this CPU's own; nothing else runs on it in between that uses it. What does not come back
    // leaves nothing behind that had to be dropped.
    unsafe {
        *place = call;
        FRAMED.tail_call(context, u32::from(protocol));
    }
    count(lost::CHUNKS, 1);
    None
}

/// What of a protocol is too long to be told, and of no interest.
pub(super) trait Long {
    /// Where the first such thing among these bytes begins, and where it ends; it may end behind them.
    /// As many bytes as there may be in a part can be read, so many of them are `known`; `place` is for
    /// [`super::bytes::forgotten`].
    #[inline(always)]
    fn find(_bytes: *const u8, _known: u32, _place: *mut u64) -> Option<(u32, u32)> {
        None
    }
}

/// A call that is being told of in parts.
struct Parts {
    source: Source,
    cursor: Cursor,
    socket: *mut Socket,
    at_ns: u64,
    direction: u32,
    /// Bytes that were not told of yet.
    rest: u32,
    /// Bytes of something long that come after this call.
    skip: u32,
    begins: bool,
    new: bool,
}

/// Tells of what the call moved that was handed over: all of it, in parts, but for what is long, of
/// which only the length is told.
#[inline(always)]
pub(super) fn framed<L: Long>() -> Option<()> {
    // SAFETY: this CPU's own; nothing else runs on it in between that uses it.
    let (call, scratch) = unsafe { (*CALLS.get_ptr(0)?, &mut *SCRATCH.get_ptr_mut(0)?) };
    let found = SOCKETS.get_ptr_mut(&call.key)?;
    // SAFETY: an entry stays in memory while a program runs that looked it up.
    let socket = unsafe { &mut *found };
    let [received, sent] = socket.skip;
    let mut parts = Parts {
        source: call.source,
        cursor: Cursor::of(&call.source),
        socket: found,
        at_ns: call.at_ns,
        direction: call.direction,
        rest: call.bytes,
        skip: if call.direction == what::RECEIVED { received } else { sent },
        begins: call.begins,
        new: call.new,
    };
    if parts.skip > 0 {
        let n = if parts.skip < parts.rest { parts.skip } else { parts.rest };
        parts.cursor.advance(&parts.source, n, &raw mut scratch.number);
        scratch.chunk = chunk(socket, parts.at_ns, parts.direction, n, 0);
        tell(scratch, socket, parts.new);
        parts.skip -= n;
        parts.rest -= n;
    }
    // A loop that the verifier goes through once, not as often as there may be parts.
    // SAFETY: `part` takes what it is given here, and is over when this is.
    unsafe { bpf_loop(PARTS, part::<L> as *mut c_void, (&raw mut parts).cast(), 0) };
    if parts.rest > 0 {
        // More parts than are told: that there was more is told at least.
        scratch.chunk = chunk(socket, parts.at_ns, parts.direction, parts.rest, 0);
        tell(scratch, socket, parts.new);
    }
    socket.skip = match parts.direction {
        what::RECEIVED => [parts.skip, sent],
        _ => [received, parts.skip],
    };
    Some(())
}

/// Tells of a part of a call; 1 when it was the last.
extern "C" fn part<L: Long>(n: u32, parts: *mut c_void) -> i64 {
    // SAFETY: as `framed` calls it.
    let parts = unsafe { &mut *parts.cast::<Parts>() };
    let Some(scratch) = SCRATCH.get_ptr_mut(0) else { return 1 };
    // SAFETY: this CPU's own, and the socket's entry, which stays in memory.
    let (scratch, socket) = unsafe { (&mut *scratch, &mut *parts.socket) };
    if parts.rest == 0 {
        return 1;
    }
    let most = if parts.rest < COPIED as u32 { parts.rest } else { COPIED as u32 };
    let before = parts.cursor;
    let mut copied = copy(&parts.source, most, &mut parts.cursor, scratch);
    let whole = copied == most && n + 1 < PARTS;
    let mut total = if whole { most } else { parts.rest };
    let bytes: *const u8 = (&raw const scratch.bytes).cast();
    if let Some((head, end)) = L::find(bytes, copied, &raw mut scratch.number) {
        copied = head & COPIED as u32;
        if end > parts.rest {
            total = parts.rest;
            parts.skip = end - parts.rest;
        } else {
            total = end;
            parts.cursor = before;
            parts.cursor.advance(&parts.source, end, &raw mut scratch.number);
        }
    }
    // Only what the agent is handed counts: of what is long that is its length.
    if !affordable(parts.at_ns, copied, parts.begins) {
        copied = 0;
    }
    scratch.chunk = chunk(socket, parts.at_ns, parts.direction, total, copied);
    tell(scratch, socket, parts.new);
    parts.rest -= total;
    0
}
