//! RESP, the protocol of Redis: all is told but long strings, of which only the length is.

use aya_ebpf::macros::{raw_tracepoint, uprobe};
use aya_ebpf::programs::{ProbeContext, RawTracePointContext};
use coral_bpf_types::COPIED;

use super::bytes::forgotten;
use super::framed::{Flow, Long, Told, Window, framed};
use super::room::{OfCpu, OfThread, Room};

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

struct Resp;

impl Long for Resp {
    #[inline(always)]
    fn cut<R: Room>(window: &Window, _: &mut Flow) -> Told {
        let Window { bytes, known, place, .. } = *window;
        match long_string(bytes, known, place) {
            Some((copied, end)) => Told { copied, end },
            None => Told { copied: known, end: known },
        }
    }
}

/// What the programs at the tracepoints end in where a socket speaks RESP.
#[raw_tracepoint]
pub fn framed_resp(_: RawTracePointContext) -> i32 {
    _ = framed::<Resp, OfCpu>();
    0
}

/// The same within TLS.
#[uprobe]
pub fn sealed_resp(_: ProbeContext) -> u32 {
    _ = framed::<Resp, OfThread>();
    0
}
