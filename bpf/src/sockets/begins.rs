//! Which protocol a call begins a message of.

use aya_ebpf::macros::map;
use aya_ebpf::maps::Array;
use coral_bpf_types::protocol::{ENCRYPTED, HTTP, HTTP2, NOTHING, PLACES, POSTGRES, RESP};

use super::bytes::{Source, user};
use super::postgres;

/// 1 at each [`coral_bpf_types::protocol`] that is read; set by the agent. ENCRYPTED: within TLS, too.
#[map]
static READ: Array<u8> = Array::with_max_entries(PLACES, 0);

/// Whether anybody reads a protocol.
#[inline(always)]
pub(super) fn is_read(protocol: u16) -> bool {
    READ.get(u32::from(protocol)).is_some_and(|read| *read != 0)
}

/// Which protocol of text begins so. Fewer than four bytes may be any method's beginning.
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
    if first == *b"PRI " {
        return HTTP2;
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

/// Whether HEADERS of HTTP/2 are there whose beginning looks like it: on a connection that is older than
/// the reading, which did not begin before its eyes.
#[inline(always)]
unsafe fn headers(base: u64) -> u16 {
    // SAFETY: an address that the program gave; reading it may fail and does no harm.
    let Some([_, _, _, _, flags, a, b, c, d]) = (unsafe { user::<[u8; 9]>(base) }) else {
        return NOTHING;
    };
    let stream = u32::from_be_bytes([a, b, c, d]);
    // They end in it (END_HEADERS), and a client began the stream.
    let fits = flags & !0x2d == 0 && flags & 0x04 != 0 && stream >> 31 == 0 && stream & 1 == 1;
    if fits { HTTP2 } else { NOTHING }
}

/// Which protocol's message begins with the `bytes` that the call moved, of those that are read.
#[inline(always)]
pub(super) fn begins_message(source: &Source, bytes: u32) -> u16 {
    let bytes = u64::from(bytes);
    // SAFETY: addresses that the program gave; reading them may fail and does no harm.
    unsafe {
        let (base, length) = if source.list == 0 {
            // Of one that is shorter what lies behind it says that it is nothing.
            (source.base, if bytes < 4 { 4 } else { bytes })
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
        let Some(first) = user::<[u8; 4]>(base) else { return NOTHING };
        if matches!(first, [0, ..64, _, 1]) && length >= 9 && bytes >= 9 {
            let http2 = headers(base);
            if http2 != NOTHING {
                return if is_read(http2) { http2 } else { NOTHING };
            }
        }
        let text = begins(first, length);
        if text != NOTHING {
            return if is_read(text) { text } else { NOTHING };
        }
        if !postgres::may_begin(first) || length < 8 || bytes < 8 || !is_read(POSTGRES) {
            // A record of TLS, or the ClientHello of one whose head was read alone.
            let sealed = matches!(first, [20..=23, 3, 0..=4, _] | [1, 0, _, _]);
            return if sealed && is_read(ENCRYPTED) { ENCRYPTED } else { NOTHING };
        }
        let Some(second) = user::<[u8; 4]>(base + 4) else { return NOTHING };
        match postgres::begins(first, second, bytes) {
            postgres::Begins::Yes => POSTGRES,
            postgres::Begins::If(next) if next + 5 <= length => {
                match user::<[u8; 5]>(base + next) {
                    Some(header) if postgres::follows(header) => POSTGRES,
                    _ => NOTHING,
                }
            }
            _ => NOTHING,
        }
    }
}
