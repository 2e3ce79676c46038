//! HTTP/2: all is told but what DATA frames carry, of which only the length is.
//!
//! A call may end anywhere, so each way of a socket has its [`Place`] among the frames. Where that is
//! not known it is found where a call begins with what is likely a frame.

use core::ffi::c_void;

use aya_ebpf::helpers::generated::bpf_loop;
use aya_ebpf::macros::{raw_tracepoint, uprobe};
use aya_ebpf::programs::{ProbeContext, RawTracePointContext};
use coral_bpf_types::{COPIED, what};

use super::bytes::{Cursor, Source, copy, forgotten};
use super::room::{OfCpu, OfThread, Room};
use super::{SOCKETS, Scratch, Socket, affordable, chunk, tell};

/// Of one call so many parts are told: that many DATA frames, with what stands between them.
const PARTS: u32 = 1024;
/// DATA of this length is rather copied than told of in a part of its own.
const SMALL: u32 = 512;
/// Bytes of a frame before its payload: length (3), kind, flags, stream (4).
const HEAD: u32 = 9;
/// A part has room for no more frames.
const FRAMES: u32 = COPIED as u32 / HEAD + 1;
/// What a client says first begins like this frame's head, and has this many bytes behind it.
const PREFACE: u32 = u32::from_be_bytes(*b"PRI ");
const PREFACE_REST: u32 = 15;
/// No frame of a kind that nobody knows is longer.
const ODD: u32 = 64 << 10;

const DATA: u32 = 0;
const HEADERS: u32 = 1;

/// Where one way of a socket is among the frames.
#[repr(C)]
#[derive(Clone, Copy)]
pub(super) struct Place {
    /// Bytes left of a payload.
    left: u32,
    /// The first four bytes of a head of which not all has come: its length and kind.
    word: u32,
    /// Bytes of that head that came.
    have: u8,
    /// The payload is DATA's.
    data: u8,
    /// The place is known.
    found: u8,
    pad: u8,
}

impl Place {
    pub(super) const NEW: Self = Self { left: 0, word: 0, have: 0, data: 0, found: 0, pad: 0 };

    /// Behind a head that begins with this word.
    #[inline(always)]
    fn behind(&mut self, word: u32) {
        self.left = payload(word);
        self.data = (word & 0xff == DATA) as u8;
        self.found = legal(word) as u8;
    }

    /// See [`forgotten`].
    #[inline(always)]
    fn forget(&mut self, number: *mut u64) {
        self.left = forgotten(u64::from(self.left), number) as u32;
        self.word = forgotten(u64::from(self.word), number) as u32;
        self.have = forgotten(u64::from(self.have), number) as u8;
        self.data = forgotten(u64::from(self.data), number) as u8;
        self.found = forgotten(u64::from(self.found), number) as u8;
    }
}

#[inline(always)]
fn byte(bytes: *const u8, at: u32) -> u32 {
    // The compiler knows that the mask changes nothing; the verifier does not.
    let at = core::hint::black_box(at) & COPIED as u32;
    // SAFETY: any masked place is within the scratch.
    u32::from(unsafe { *bytes.add(at as usize) })
}

#[inline(always)]
fn word(bytes: *const u8, at: u32) -> u32 {
    byte(bytes, at) << 24
        | byte(bytes, at + 1) << 16
        | byte(bytes, at + 2) << 8
        | byte(bytes, at + 3)
}

#[inline(always)]
fn payload(word: u32) -> u32 {
    if word == PREFACE { PREFACE_REST } else { word >> 8 }
}

/// Whether there are frames of this length and kind.
#[inline(always)]
fn legal(word: u32) -> bool {
    let (length, kind) = (word >> 8, word & 0xff);
    match kind {
        // PRIORITY; RST_STREAM, WINDOW_UPDATE; PING.
        2 => length == 5,
        3 | 8 => length == 4,
        6 => length == 8,
        0..=9 => true,
        _ => word == PREFACE || length <= ODD,
    }
}

/// Whether a call of so many bytes that begins so begins with a frame.
#[inline(always)]
fn likely(bytes: *const u8, rest: u32) -> bool {
    let first = word(bytes, 0);
    let (length, kind, flags) = (first >> 8, first & 0xff, byte(bytes, 4));
    let stream = word(bytes, 5);
    // Flags that there are: of DATA and HEADERS, of SETTINGS and PING, of what begins and goes on with a
    // header block.
    let odd = match kind {
        DATA => flags & !0x09,
        HEADERS => flags & !0x2d,
        4 | 6 => flags & !0x01,
        5 => flags & !0x0c,
        9 => flags & !0x04,
        _ => flags,
    };
    let of_all = kind == 4 || kind == 6 || kind == 7;
    let stream_fits = kind == 8 || of_all == (stream == 0);
    kind <= 9
        && odd == 0
        && stream_fits
        && stream >> 31 == 0
        && legal(first)
        && HEAD + length <= rest
}

/// A call that is being told of.
struct Walk {
    source: Source,
    cursor: Cursor,
    socket: *mut Socket,
    at_ns: u64,
    direction: u32,
    /// Bytes that were not told of yet.
    rest: u32,
    place: Place,
    begins: bool,
    new: bool,
}

/// Frames of a part.
struct Seen {
    /// How far they were seen.
    at: u32,
    /// Bytes that are there.
    known: u32,
    place: Place,
}

/// What the programs at the tracepoints end in where a socket speaks HTTP/2.
#[raw_tracepoint]
pub fn framed_http2(_: RawTracePointContext) -> i32 {
    _ = told::<OfCpu>();
    0
}

/// The same within TLS.
#[uprobe]
pub fn sealed_http2(_: ProbeContext) -> u32 {
    _ = told::<OfThread>();
    0
}

#[inline(always)]
fn told<R: Room>() -> Option<()> {
    // SAFETY: nothing else uses the place in between.
    let call = unsafe { &*R::call()? };
    let found = SOCKETS.get_ptr_mut(&call.key)?;
    // SAFETY: an entry stays in memory while a program runs that looked it up.
    let socket = unsafe { &mut *found };
    let [received, sent] = socket.places;
    let mut walk = Walk {
        source: call.source,
        cursor: Cursor::of(&call.source),
        socket: found,
        at_ns: call.at_ns,
        direction: call.direction,
        rest: call.bytes,
        place: if call.direction == what::RECEIVED { received } else { sent },
        begins: call.begins,
        new: call.new,
    };
    // SAFETY: `part` takes what it is given here, and is over when this is.
    unsafe { bpf_loop(PARTS, part::<R> as *mut c_void, (&raw mut walk).cast(), 0) };
    if walk.rest > 0 {
        // More parts than are told: that there was more is told at least.
        walk.place = Place::NEW;
        // SAFETY: nothing else uses the place in between.
        let scratch = unsafe { &mut *R::scratch()? };
        scratch.chunk = chunk(socket, walk.at_ns, walk.direction, walk.rest, 0);
        tell(scratch, socket, walk.new);
    }
    match walk.direction {
        what::RECEIVED => socket.places[0] = walk.place,
        _ => socket.places[1] = walk.place,
    }
    Some(())
}

/// Tells of a part of a call; 1 when it was the last.
extern "C" fn part<R: Room>(n: u32, walk: *mut c_void) -> i64 {
    // SAFETY: as `told` calls it.
    let walk = unsafe { &mut *walk.cast::<Walk>() };
    let Some(scratch) = R::scratch() else { return 1 };
    // SAFETY: nothing else uses the place in between; the socket's entry, which stays in memory.
    let (scratch, socket) = unsafe { (&mut *scratch, &mut *walk.socket) };
    if walk.rest == 0 {
        return 1;
    }
    let number = &raw mut scratch.number;
    let (total, copied) = next::<R>(n, walk, scratch, socket);
    let total = forgotten(u64::from(total), number) as u32;
    let mut copied = forgotten(u64::from(copied), number) as u32;
    walk.place.forget(number);
    walk.cursor.forget(number);
    // Only what the agent is handed counts: of DATA that is its length.
    if !affordable(walk.at_ns, copied, walk.begins) {
        copied = 0;
    }
    scratch.chunk = chunk(socket, walk.at_ns, walk.direction, total, copied);
    tell(scratch, socket, walk.new);
    walk.rest = forgotten(u64::from(walk.rest - total), &raw mut scratch.number) as u32;
    0
}

/// Bytes of the next part, and how many of them are in the scratch.
#[inline(always)]
fn next<R: Room>(
    n: u32,
    walk: &mut Walk,
    scratch: &mut Scratch,
    socket: &mut Socket,
) -> (u32, u32) {
    let bytes: *const u8 = (&raw const scratch.bytes).cast();
    let rest = walk.rest;
    if walk.place.left > 0 {
        let within = if walk.place.left < rest { walk.place.left } else { rest };
        if walk.place.data != 0 {
            let passed = walk.cursor.advance(&walk.source, within, &raw mut scratch.number);
            walk.place.left -= passed;
            // In more pieces than are looked at in one go, the next part goes on; where there are none,
            // nothing is known of the rest.
            if passed > 0 {
                return (passed, 0);
            }
        } else {
            let most = if within < COPIED as u32 { within } else { COPIED as u32 };
            let copied = copy(&walk.source, most, &mut walk.cursor, scratch);
            walk.place.left -= copied;
            if copied > 0 {
                return (copied, copied);
            }
        }
        walk.place = Place::NEW;
        return (rest, 0);
    }
    let before = walk.cursor;
    let wanted = HEAD - u32::from(walk.place.have);
    let most = if wanted < rest { wanted } else { rest };
    let copied = copy(&walk.source, most, &mut walk.cursor, scratch);
    if copied < most {
        walk.place = Place::NEW;
        return (rest, 0);
    }
    if walk.place.found == 0 {
        // Only where a call begins a frame may.
        if n > 0 || copied < HEAD || word(bytes, 0) != PREFACE && !likely(bytes, rest) {
            walk.place = Place::NEW;
            return (rest, 0);
        }
        if word(bytes, 0) == PREFACE {
            // The other way begins now, too.
            let begun = Place { found: 1, ..Place::NEW };
            socket.places = [begun, begun];
        }
        walk.place = Place { found: 1, ..Place::NEW };
    }
    if walk.place.have > 0 || copied < HEAD {
        hold(&mut walk.place, bytes, 0, copied, &raw mut scratch.number);
        return (copied, copied);
    }
    let first = word(bytes, 0);
    if first & 0xff == DATA && payload(first) > SMALL {
        walk.place.behind(first);
        let within = if walk.place.left < rest - HEAD { walk.place.left } else { rest - HEAD };
        let passed = walk.cursor.advance(&walk.source, within, &raw mut scratch.number);
        walk.place.left -= passed;
        return (HEAD + passed, HEAD);
    }
    walk.cursor = before;
    let most = if rest < COPIED as u32 { rest } else { COPIED as u32 };
    let known = copy(&walk.source, most, &mut walk.cursor, scratch);
    let mut seen = Seen { at: 0, known, place: walk.place };
    // A loop that the verifier goes through once, not as often as there may be frames.
    // SAFETY: `frame` takes what it is given here, and is over when this is.
    unsafe { bpf_loop(FRAMES, frame::<R> as *mut c_void, (&raw mut seen).cast(), 0) };
    walk.place = seen.place;
    if seen.place.found == 0 || known == 0 {
        walk.place = Place::NEW;
        return (rest, known);
    }
    let mut at = seen.at & COPIED as u32;
    if at < known && known - at < HEAD && known == rest {
        // The call ends within a head.
        hold(&mut walk.place, bytes, at, known, &raw mut scratch.number);
        at = known;
    }
    if at < known {
        walk.cursor = before;
        _ = walk.cursor.advance(&walk.source, at, &raw mut scratch.number);
    }
    (at, at)
}

/// Keeps what is known of a head that goes on in the next call, or of one that has come in whole now.
#[inline(always)]
fn hold(place: &mut Place, bytes: *const u8, from: u32, to: u32, number: *mut u64) {
    let (mut at, mut n) = (from, 0);
    while n < HEAD {
        if at >= to {
            break;
        }
        if place.have < 4 {
            place.word = place.word << 8 | byte(bytes, at);
        }
        place.have += 1;
        place.forget(number);
        at = forgotten(u64::from(at + 1), number) as u32;
        n += 1;
    }
    if u32::from(place.have) >= HEAD {
        let word = place.word;
        *place = Place::NEW;
        place.behind(word);
    }
}

/// Passes over a frame of a part; 1 when there are no more of them in it.
extern "C" fn frame<R: Room>(_: u32, seen: *mut c_void) -> i64 {
    // SAFETY: as `next` calls it.
    let seen = unsafe { &mut *seen.cast::<Seen>() };
    let Some(scratch) = R::scratch() else { return 1 };
    // SAFETY: this CPU's own.
    let bytes: *const u8 = unsafe { (&raw const (*scratch).bytes).cast() };
    let start = seen.at;
    if start + HEAD > seen.known {
        return 1;
    }
    let first = word(bytes, start);
    if !legal(first) {
        seen.place.found = 0;
        return 1;
    }
    let length = payload(first);
    if first & 0xff == DATA && length > SMALL {
        return 1;
    }
    let end = start + HEAD + length;
    if end > seen.known {
        seen.place.behind(first);
        seen.place.left = end - seen.known;
        seen.at = seen.known;
        return 1;
    }
    // SAFETY: as above.
    seen.at = forgotten(u64::from(end), unsafe { &raw mut (*scratch).number }) as u32;
    0
}
