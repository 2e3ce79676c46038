//! Which protocol a call begins a message of.

use aya_ebpf::macros::map;
use aya_ebpf::maps::Array;
use coral_bpf_types::protocol::{HTTP, NOTHING, PLACES, RESP};

use super::bytes::{Source, user};

/// 1 at each [`coral_bpf_types::protocol`] that is read; set by the agent.
#[map]
static READ: Array<u8> = Array::with_max_entries(PLACES, 0);

/// Whether anybody reads a protocol.
#[inline(always)]
fn is_read(protocol: u16) -> bool {
    READ.get(u32::from(protocol)).is_some_and(|read| *read != 0)
}

/// Which protocol's message begins so. Fewer than four bytes may be any method's beginning.
#[inline(always)]
fn begins(first: [u8; 4], length: u64) -> u16 {
    if length < 4 {
        return if first[0].is_ascii_uppercase() { HTTP } else { NOTHING };
    }
    // A command: `*3\r\n`, `*12\r`, `*100`.
    let [star, some, more, last] = first;
    let one = more == b'\r' && last == b'\n';
    let many = more.is_ascii_digit() && (last == b'\r' || last.is_ascii_digit());
    if star == b'*' && some.is_ascii_digit() && some != b'0' && (one || many) {
        return RESP;
    }
    let first = u32::from_be_bytes(first);
    const fn word(text: &[u8; 4]) -> u32 {
        u32::from_be_bytes(*text)
    }
    const WORDS: [u32; 10] = [
        word(b"GET "),
        word(b"HTTP"),
        word(b"POST"),
        word(b"PUT "),
        word(b"HEAD"),
        word(b"DELE"),
        word(b"PATC"),
        word(b"OPTI"),
        word(b"CONN"),
        word(b"TRAC"),
    ];
    let [a, b, c, d, e, f, g, h, i, j] = WORDS;
    let http = first == a
        || first == b
        || first == c
        || first == d
        || first == e
        || first == f
        || first == g
        || first == h
        || first == i
        || first == j;
    // What health checks send in place of a command.
    match (http, first == word(b"PING")) {
        (true, _) => HTTP,
        (false, true) => RESP,
        (false, false) => NOTHING,
    }
}

/// Which protocol's message begins with what the call moved, of those that are read.
#[inline(always)]
pub(super) fn begins_message(source: &Source) -> u16 {
    // SAFETY: addresses that the program gave; reading them may fail and does no harm.
    unsafe {
        let (base, length) = if source.list == 0 {
            (source.base, 4)
        } else {
            match user::<[u64; 2]>(source.list) {
                Some([_, 0]) if source.pieces > 1 => match user::<[u64; 2]>(source.list + 16) {
                    Some([base, length]) => (base, length),
                    None => return NOTHING,
                },
                Some([base, length]) => (base, length),
                None => return NOTHING,
            }
        };
        let protocol = match user::<[u8; 4]>(base) {
            Some(first) => begins(first, length),
            None => NOTHING,
        };
        if protocol == NOTHING || is_read(protocol) { protocol } else { NOTHING }
    }
}
