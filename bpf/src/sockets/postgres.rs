//! PostgreSQL's protocol, version 3: a byte that says what a message is, four that say how long it is
//! (themselves included), and the rest
//! (<https://www.postgresql.org/docs/current/protocol-message-formats.html>).
//!
//! Rows and what is copied are told by their length alone, as soon as they are more than a few, and so
//! is what is long of any other message. For that the program follows the messages of each direction;
//! where it does not know where they are, nothing is told but that bytes passed, until a call begins
//! with what begins one.

use core::ffi::c_void;

use aya_ebpf::helpers::generated::bpf_loop;
use aya_ebpf::macros::{raw_tracepoint, uprobe};
use aya_ebpf::programs::{ProbeContext, RawTracePointContext};
use coral_bpf_types::COPIED;

use super::bytes::forgotten;
use super::framed::{Flow, Long, Told, Window, framed};
use super::room::{OfCpu, OfThread, Room};

/// Bytes of a head: what it is, and how long.
const HEAD: u32 = 5;
/// Rows of so many bytes in a row are not told.
const ROWS: u32 = 256;
/// Of any other message so many bytes are: the beginning of a statement is enough.
const KEPT: u32 = 2_048;
/// Longest message that there is, in bytes.
const LONGEST: u32 = 0x3fff_ffff;
/// Longest message with which a place that was lost is found again.
const PLAUSIBLE: u32 = 0x00ff_ffff;
/// Messages of a part that are looked at: no more fit in it.
const MESSAGES: u32 = COPIED as u32 / HEAD + 1;
/// A record of TLS.
const TLS: u8 = 0x16;
/// Nowhere.
const NONE: u32 = u32::MAX;

/// What a call may begin.
pub(super) enum Begins {
    /// Nothing of PostgreSQL's.
    No,
    /// A message.
    Yes,
    /// A message, if another one's head is so many bytes further on.
    If(u64),
}

/// Whether what begins so is worth a second look: what is sent first on a connection has a length of
/// two bytes in front, what is asked later a letter and a length of three.
#[inline(always)]
pub(super) fn may_begin(first: [u8; 4]) -> bool {
    let [kind, high, more, _] = first;
    high == 0 && (matches!(kind, b'Q' | b'P' | b'B' | b'F') || kind == 0 && more < 0x28)
}

/// Whether a client's message begins so, in a call of so many bytes. A letter and a length alone begin
/// much else: one message has to fill the call, or be followed by another.
#[inline(always)]
pub(super) fn begins(first: [u8; 4], second: [u8; 4], bytes: u64) -> Begins {
    let ([kind, a, b, c], [d, ..]) = (first, second);
    if kind == 0 {
        // Version 3.0 and 3.2; cancel, TLS and GSSAPI are asked for in place of a version.
        let length = u64::from(u32::from_be_bytes(first));
        let version = u32::from_be_bytes(second);
        let asks = length == bytes && (80_877_102..=80_877_104).contains(&version);
        let starts = length <= bytes && length > 8 && matches!(version, 0x3_0000 | 0x3_0002);
        return if asks || starts { Begins::Yes } else { Begins::No };
    }
    let length = u64::from(u32::from_be_bytes([a, b, c, d]));
    if length < 4 {
        return Begins::No;
    }
    let end = length + 1;
    if end == bytes {
        Begins::Yes
    } else if end < bytes {
        Begins::If(end)
    } else {
        // A statement that is longer than what was read of it.
        let [_, text @ ..] = second;
        let said = text.iter().all(|b| matches!(b, b' '..=b'~' | b'\n' | b'\r' | b'\t'));
        if kind == b'Q' && said { Begins::Yes } else { Begins::No }
    }
}

/// Whether a client's next message may begin so.
#[inline(always)]
pub(super) fn follows(header: [u8; 5]) -> bool {
    let [kind, high, ..] = header;
    high == 0 && matches!(kind, b'B' | b'C' | b'D' | b'E' | b'H' | b'P' | b'Q' | b'S' | b'X')
}

/// Whether there is such a message.
#[inline(always)]
fn is_message(kind: u8) -> bool {
    // Of either side: `A C D E F G H I K N P Q R S T V W X Z B` and `c d f n p s t v 1 2 3`.
    let capital =
        kind.is_ascii_uppercase() && !matches!(kind, b'J' | b'L' | b'M' | b'O' | b'U' | b'Y');
    capital || matches!(kind, b'c' | b'd' | b'f' | b'n' | b'p' | b's' | b't' | b'v' | b'1'..=b'3')
}

/// Rows and what is copied: of no interest. So is what a client wants described, which is short.
#[inline(always)]
fn is_bulk(kind: u8) -> bool {
    matches!(kind, b'D' | b'd')
}

/// Messages that are being looked at.
#[derive(Clone, Copy)]
pub(super) struct Walk {
    known: u32,
    /// Where the next begins; perhaps behind what is known.
    at: u32,
    /// Where the last began.
    last: u32,
    /// Where rows began that reach to here, or [`NONE`].
    rows: u32,
    /// 1: the next is no message.
    lost: u32,
    /// 1: the next is a long one.
    long: u32,
    /// How long that is.
    length: u32,
    /// 1: it asks whether to go on encrypted.
    asked: u32,
}

#[inline(always)]
fn byte(bytes: *const u8, at: u32) -> u8 {
    let at = core::hint::black_box(at) & COPIED as u32;
    // SAFETY: any masked place is within the scratch.
    unsafe { *bytes.add(at as usize) }
}

#[inline(always)]
fn put(bytes: *mut u8, at: u32, byte: u8) {
    let at = core::hint::black_box(at) & COPIED as u32;
    // SAFETY: as above.
    unsafe { *bytes.add(at as usize) = byte };
}

#[inline(always)]
fn word(bytes: *const u8, at: u32) -> u32 {
    let [a, b, c, d] =
        [byte(bytes, at), byte(bytes, at + 1), byte(bytes, at + 2), byte(bytes, at + 3)];
    u32::from_be_bytes([a, b, c, d])
}

/// Looks at one message; 1 when it was the last that is looked at.
extern "C" fn step<R: Room>(_: u32, _: *mut c_void) -> i64 {
    let Some(scratch) = R::scratch() else { return 1 };
    // SAFETY: nothing else uses the place in between.
    let (walk, bytes) = unsafe { (&mut (*scratch).walk, (&raw const (*scratch).bytes).cast()) };
    if walk.at >= walk.known || walk.known - walk.at < HEAD {
        return 1;
    }
    let kind = byte(bytes, walk.at);
    let length = word(bytes, walk.at + 1);
    if kind == 0 {
        // The first on a connection; whatever it is, it is told.
        walk.asked = if word(bytes, walk.at) == 8 { 1 } else { 0 };
        (walk.last, walk.at) = (walk.at, walk.known);
        return 1;
    }
    if !is_message(kind) || length < 4 || length > LONGEST {
        walk.lost = 1;
        return 1;
    }
    if is_bulk(kind) {
        if walk.rows == NONE {
            walk.rows = walk.at;
        }
    } else {
        if walk.rows != NONE && walk.at - walk.rows >= ROWS {
            return 1;
        }
        walk.rows = NONE;
        if length > KEPT {
            (walk.long, walk.length) = (1, length);
            return 1;
        }
    }
    walk.last = walk.at;
    walk.at += 1 + length;
    0
}

/// All that is known is told.
#[inline(always)]
fn all(window: &Window) -> Told {
    Told { copied: window.known, end: window.known }
}

/// What is left of a message whose head was cut by the end of the call before: where its body begins
/// here, how much of that is told, and how much is not. `None` where nothing more is known.
#[inline(always)]
fn headed(window: &Window, flow: &mut Flow) -> Option<(u32, u32, u32)> {
    let mut head = u64::from(flow.head);
    let mut have = u32::from(flow.have);
    let mut at: u32 = 0;
    let mut turn = 0;
    while turn < HEAD - 1 {
        if have < HEAD && at < window.known {
            head = head << 8 | u64::from(byte(window.bytes, at));
            have += 1;
            at += 1;
        }
        head = forgotten(head, window.place);
        have = forgotten(have.into(), window.place) as u32;
        at = forgotten(at.into(), window.place) as u32;
        turn += 1;
    }
    if have < HEAD {
        (flow.head, flow.have) = (head as u32, have as u8);
        return None;
    }
    flow.have = 0;
    let (kind, length) = ((head >> 32) as u8, head as u32);
    if !is_message(kind) || length < 4 || length > LONGEST {
        *flow = Flow::LOST;
        return None;
    }
    let body = length - 4;
    let told = match (is_bulk(kind), body < KEPT) {
        (true, _) => 0,
        (false, true) => body,
        (false, false) => KEPT,
    };
    Some((at, told, body - told))
}

/// From a place on there are whole messages, the last of which may be cut.
#[inline(always)]
fn walked<R: Room>(window: &Window, flow: &mut Flow, from: u32) -> Told {
    let Window { bytes, known, rest, place, .. } = *window;
    let Some(scratch) = R::scratch() else { return all(window) };
    // SAFETY: nothing else uses the place in between; `step` is what the helper calls, and takes nothing.
    let walk = unsafe {
        (*scratch).walk =
            Walk { known, at: from, last: from, rows: NONE, lost: 0, long: 0, length: 0, asked: 0 };
        bpf_loop(MESSAGES, step::<R> as *mut c_void, core::ptr::null_mut(), 0);
        (*scratch).walk
    };
    let Walk { at, last, rows, lost, long, length, .. } = walk;
    flow.asked = walk.asked as u16;
    // What is not known here comes in the next part, or in the next call.
    let more = known < rest;
    if lost != 0 {
        *flow = Flow::LOST;
        return Told { copied: at, end: rest };
    }
    if rows != NONE && at - rows >= ROWS {
        // Told as one row, as long as they are together.
        let [a, b, c, d] = (at - rows - 1).to_be_bytes();
        put(bytes, rows + 1, a);
        put(bytes, rows + 2, b);
        put(bytes, rows + 3, c);
        put(bytes, rows + 4, d);
        return Told { copied: rows + HEAD, end: at };
    }
    if long != 0 {
        let end = at + 1 + length;
        if at + KEPT <= known {
            return Told { copied: at + KEPT, end };
        }
        if more {
            return Told { copied: at, end: at };
        }
        flow.left = at + KEPT - known;
        return Told { copied: known, end };
    }
    if at > known {
        if more {
            return Told { copied: last, end: last };
        }
        flow.left = at - known;
    } else if at < known {
        if more {
            return Told { copied: at, end: at };
        }
        let (mut head, mut have): (u32, u32) = (0, 0);
        while have < HEAD - 1 {
            if at + have >= known {
                break;
            }
            head = head << 8 | u32::from(byte(bytes, at + have));
            have += 1;
        }
        let head = forgotten(head.into(), place) as u32;
        (flow.head, flow.have) = (head, have as u8);
    }
    all(window)
}

struct Postgres;

impl Long for Postgres {
    #[inline(always)]
    fn cut<R: Room>(window: &Window, flow: &mut Flow) -> Told {
        let Window { bytes, known, rest, call, asked, place } = *window;
        if call == 1 && asked && flow.have == 0 && flow.left == 0 {
            // What answers who asks for TLS is one byte without a head.
            return all(window);
        }
        if flow.lost != 0 {
            let kind = byte(bytes, 0);
            let first = rest == call && known >= HEAD;
            let message = is_message(kind) && word(bytes, 1) >= 4 && word(bytes, 1) <= PLAUSIBLE;
            if !first || kind != 0 && !message {
                return Told { copied: 0, end: rest };
            }
            *flow = Flow { lost: 0, ..Flow::LOST };
        }
        // What is left of a message whose beginning came before.
        let left = match (flow.have > 0, flow.left > 0) {
            (true, _) => headed(window, flow),
            (false, true) => Some((0, flow.left, flow.skip)),
            (false, false) => Some((0, 0, 0)),
        };
        let Some((at, told, skip)) = left else {
            return if flow.lost == 0 { all(window) } else { Told { copied: 0, end: rest } };
        };
        let [at, told, skip] = [at, told, skip].map(|n| forgotten(n.into(), place) as u32);
        if told > known - at {
            (flow.left, flow.skip) = (told - (known - at), skip);
            return all(window);
        }
        (flow.left, flow.skip) = (0, 0);
        let at = at + told;
        if skip > 0 {
            return Told { copied: at, end: at + skip };
        }
        walked::<R>(window, flow, forgotten(at.into(), place) as u32)
    }

    #[inline(always)]
    fn is_encrypted(window: &Window, flow: &Flow) -> bool {
        let between = flow.lost == 0 && flow.have == 0 && flow.left == 0;
        between
            && window.rest == window.call
            && window.known >= HEAD
            && byte(window.bytes, 0) == TLS
            && byte(window.bytes, 1) == 3
    }
}

/// What the programs at the tracepoints end in where a socket speaks PostgreSQL's protocol.
#[raw_tracepoint]
pub fn framed_postgres(_: RawTracePointContext) -> i32 {
    _ = framed::<Postgres, OfCpu>();
    0
}

/// The same within TLS.
#[uprobe]
pub fn sealed_postgres(_: ProbeContext) -> u32 {
    _ = framed::<Postgres, OfThread>();
    0
}
