//! What is told of a call on a socket that speaks RESP, the protocol of Redis.

use core::ffi::c_void;

use aya_ebpf::helpers::generated::bpf_loop;
use coral_bpf_types::{COPIED, what};

use super::bytes::{Cursor, Source, copy, forgotten};
use super::{SCRATCH, Socket, affordable, chunk, tell};

/// Of one call of RESP so many parts are told, each copied whole or cut at a long string.
const PARTS: u32 = 24;
/// A string of this length is long: copying it would take a part of its own.
const LONG: u32 = 8192;
/// Lines of a part that are looked at for a long string's header.
const LINES: u32 = 4;
/// Digits of its length; longer ones Redis does not take.
const DIGITS: u32 = 9;

/// Where the first long string among these bytes begins, and where it ends, its line end included,
/// when they begin with lines of RESP.
#[inline(always)]
fn long_string(bytes: *const u8, known: u32, place: *mut u64) -> Option<(u32, u32)> {
    let byte = |at: u32| {
        // The compiler knows that the mask changes nothing; the verifier does not.
        let at = core::hint::black_box(at) & COPIED as u32;
        // SAFETY: any masked place is within the scratch.
        unsafe { *bytes.add(at as usize) }
    };
    let mut at: u32 = 0;
    let mut line = 0;
    while line < LINES {
        if at >= known {
            return None;
        }
        let kind = byte(at);
        if !matches!(kind, b'*' | b'$' | b'%' | b'~' | b'>' | b'=' | b':') {
            return None;
        }
        at += 1;
        let mut n: u32 = 0;
        let mut digits = 0;
        while digits < DIGITS {
            let digit = byte(at);
            if !digit.is_ascii_digit() {
                break;
            }
            n = n * 10 + u32::from(digit - b'0');
            at += 1;
            digits += 1;
        }
        if digits == 0 || byte(at) != b'\r' {
            return None;
        }
        at += 2;
        if kind == b'$' || kind == b'=' {
            let end = at + n + 2;
            if n >= LONG {
                return if at <= known { Some((at, end)) } else { None };
            }
            at = end;
        }
        at = forgotten(u64::from(at), place) as u32;
        line += 1;
    }
    None
}

/// A call that is being told of in parts.
pub(super) struct Parts {
    pub(super) source: Source,
    pub(super) cursor: Cursor,
    pub(super) socket: *mut Socket,
    pub(super) at_ns: u64,
    pub(super) direction: u32,
    /// Bytes that were not told of yet.
    pub(super) rest: u32,
    /// Bytes of a long string that come after this call.
    pub(super) skip: u32,
    pub(super) begins: bool,
    pub(super) new: bool,
}

/// Tells of what a call moved through a socket that speaks RESP: all of it, in parts, but for long
/// strings, of which only the length is told.
#[inline(always)]
pub(super) fn framed(mut parts: Parts) -> Option<()> {
    // SAFETY: this CPU's own; nothing else runs on it in between that uses it.
    let scratch = unsafe { &mut *SCRATCH.get_ptr_mut(0)? };
    // SAFETY: an entry stays in memory while a program runs that looked it up.
    let socket = unsafe { &mut *parts.socket };
    let [received, sent] = socket.skip;
    parts.skip = if parts.direction == what::RECEIVED { received } else { sent };
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
    unsafe { bpf_loop(PARTS, part as *mut c_void, (&raw mut parts).cast(), 0) };
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
extern "C" fn part(n: u32, parts: *mut c_void) -> i64 {
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
    if let Some((head, end)) = long_string(bytes, copied, &raw mut scratch.number) {
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
    // Only what the agent is handed counts: of a long string that is its length.
    if !affordable(parts.at_ns, copied, parts.begins) {
        copied = 0;
    }
    scratch.chunk = chunk(socket, parts.at_ns, parts.direction, total, copied);
    tell(scratch, socket, parts.new);
    parts.rest -= total;
    0
}
