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
//! pub fn framed_whole(_: RawTracePointContext) -> i32 { _ = framed::<Whole, OfCpu>(); 0 }
//! ```
//!
//! What OpenSSL is given and gives is told likewise, by programs of another type ([`super::tls`]).

use core::ffi::c_void;

use aya_ebpf::EbpfContext;
use aya_ebpf::helpers::generated::bpf_loop;
use coral_bpf_types::protocol::ENCRYPTED;
use coral_bpf_types::{COPIED, lost, what};

use super::bytes::{Cursor, Source, copy, forgotten};
use super::room::Room;
use super::{SOCKETS, Scratch, Socket, affordable, chunk, tell};
use crate::count;

/// Of one call so many parts are told, each copied whole or cut at what is long.
const PARTS: u32 = 64;

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
pub(super) fn hand_over<R: Room>(
    context: &impl EbpfContext,
    call: Call,
    protocol: u16,
) -> Option<()> {
    let place = R::call()?;
    // SAFETY: nothing else uses the place in between. What does not come back leaves nothing behind that
    // had to be dropped.
    unsafe {
        *place = call;
        R::programs().tail_call(context, u32::from(protocol));
    }
    count(lost::CHUNKS, 1);
    None
}

/// Where something long or, of protocols whose program follows them, messages are in one direction.
#[repr(C)]
#[derive(Clone, Copy)]
pub(super) struct Flow {
    /// Bytes left of a message that are told.
    pub(super) left: u32,
    /// After those, bytes left of something long that are not.
    pub(super) skip: u32,
    /// Bytes of the next message's head that have passed.
    pub(super) head: u32,
    /// How many.
    pub(super) have: u8,
    /// 1 where it is not known.
    pub(super) lost: u8,
    /// 1 where the last message was a question that is answered by a byte without a head.
    pub(super) asked: u16,
}

impl Flow {
    /// Not known yet.
    pub(super) const LOST: Self = Self { left: 0, skip: 0, head: 0, have: 0, lost: 1, asked: 0 };
}

/// What is known of a part: its bytes are at the beginning of the scratch, which has room for twice as
/// many as a part has.
pub(super) struct Window {
    pub(super) bytes: *mut u8,
    /// How many there are.
    pub(super) known: u32,
    /// How many of the call were not told of yet, these included.
    pub(super) rest: u32,
    /// How many the call moved.
    pub(super) call: u32,
    /// The other end asked for a byte without a head.
    pub(super) asked: bool,
    /// For [`super::bytes::forgotten`].
    pub(super) place: *mut u64,
}

/// How a part is told.
pub(super) struct Told {
    /// Its first so many bytes as they are.
    pub(super) copied: u32,
    /// It ends here; perhaps behind the call, or with what is long and was not copied.
    pub(super) end: u32,
}

/// What of a protocol is too long to be told, and of no interest.
pub(super) trait Long {
    /// How a part is told. Bytes of a message that is cut by the call's end and that are told when they
    /// come are left in the flow.
    #[inline(always)]
    fn cut<R: Room>(window: &Window, _flow: &mut Flow) -> Told {
        Told { copied: window.known, end: window.known }
    }

    /// Whether it went on encrypted.
    #[inline(always)]
    fn is_encrypted(_window: &Window, _flow: &Flow) -> bool {
        false
    }
}

/// A call that is being told of in parts.
#[derive(Clone, Copy)]
pub(super) struct Parts {
    call: Call,
    cursor: Cursor,
    /// Bytes that were not told of yet.
    rest: u32,
    flow: Flow,
    /// See [`Window`].
    asked: bool,
}

/// Tells of what the call moved that was handed over: all of it, in parts, but for what is long, of
/// which only the length is told.
#[inline(always)]
pub(super) fn framed<L: Long, R: Room>() -> Option<()> {
    let scratch = R::scratch()?;
    // SAFETY: nothing else uses these places in between.
    let (call, parts) = unsafe { (&*R::call()?, &mut (*scratch).parts) };
    // SAFETY: an entry stays in memory while a program runs that looked it up.
    let socket = unsafe { &mut *SOCKETS.get_ptr_mut(&call.key)? };
    let [received, sent] = socket.flow;
    let (flow, other) =
        if call.direction == what::RECEIVED { (received, sent) } else { (sent, received) };
    let asked = other.asked != 0;
    // One by one: put together first, they would be on the stack.
    parts.call = *call;
    parts.cursor = Cursor::of(&call.source);
    (parts.rest, parts.flow, parts.asked) = (call.bytes, flow, asked);
    // What is left of a message and told comes before what is not.
    if flow.skip > 0 && flow.left == 0 {
        let n = if flow.skip < call.bytes { flow.skip } else { call.bytes };
        // SAFETY: as above.
        let place = unsafe { &raw mut (*scratch).number };
        parts.cursor.advance(&call.source, n, place);
        parts.flow.skip = flow.skip - n;
        parts.rest = call.bytes - n;
        tell_part(scratch, socket, call, n, 0);
    }
    // A loop that the verifier goes through once, not as often as there may be parts.
    // SAFETY: `part` is what the helper calls, and takes nothing.
    unsafe { bpf_loop(PARTS, part::<L, R> as *mut c_void, core::ptr::null_mut(), 0) };
    let (rest, mut flow) = (parts.rest, parts.flow);
    if rest > 0 {
        // More parts than are told: that there was more is told at least.
        flow = Flow::LOST;
        tell_part(scratch, socket, call, rest, 0);
    }
    let [received, sent] = &mut socket.flow;
    *(if call.direction == what::RECEIVED { received } else { sent }) = flow;
    if socket.over != 0 {
        // Nothing else would take it out.
        _ = SOCKETS.remove(&call.key);
    }
    Some(())
}

/// Tells of so many bytes, the first of which are in the scratch.
#[inline(always)]
fn tell_part(scratch: *mut Scratch, socket: &mut Socket, call: &Call, total: u32, copied: u32) {
    // SAFETY: as in `framed`.
    unsafe {
        (*scratch).chunk = chunk(socket, call.at_ns, call.direction, total, copied);
        tell(&*scratch, socket, call.new);
    }
}

/// Tells of a part of a call; 1 when it was the last.
extern "C" fn part<L: Long, R: Room>(n: u32, _: *mut c_void) -> i64 {
    let Some(scratch) = R::scratch() else { return 1 };
    // SAFETY: as in `framed`.
    let parts = unsafe { &mut (*scratch).parts };
    let (rest, before) = (parts.rest, parts.cursor);
    if rest == 0 {
        return 1;
    }
    // SAFETY: as in `framed`.
    let Some(call) = R::call().map(|call| unsafe { &*call }) else { return 1 };
    let Some(socket) = SOCKETS.get_ptr_mut(&call.key) else { return 1 };
    // SAFETY: an entry stays in memory while a program runs that looked it up.
    let socket = unsafe { &mut *socket };
    let most = if rest < COPIED as u32 { rest } else { COPIED as u32 };
    let known = copy(&call.source, most, &mut parts.cursor, scratch);
    // SAFETY: places in the scratch.
    let (bytes, place) =
        unsafe { ((&raw mut (*scratch).bytes).cast(), &raw mut (*scratch).number) };
    let window = Window { bytes, known, rest, call: call.bytes, asked: parts.asked, place };
    let (mut copied, mut total) = (known, rest);
    if known == most && n + 1 < PARTS {
        if L::is_encrypted(&window, &parts.flow) {
            socket.protocol = ENCRYPTED;
        }
        let told = L::cut::<R>(&window, &mut parts.flow);
        copied = forgotten(told.copied.into(), place) as u32 & COPIED as u32;
        total = forgotten(told.end.into(), place) as u32;
        if total > rest {
            parts.flow.skip = total - rest - parts.flow.left;
            total = rest;
        } else if total != known {
            parts.cursor = before;
            parts.cursor.advance(&call.source, total, place);
        }
    } else {
        parts.flow = Flow::LOST;
    }
    parts.rest = rest - total;
    // Only what the agent is handed counts: of what is long that is its length.
    if !affordable(call.at_ns, copied, call.begins) {
        copied = 0;
    }
    tell_part(scratch, socket, call, total, copied);
    0
}
