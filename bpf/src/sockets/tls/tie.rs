//! Which socket an object of OpenSSL's belongs to; the rule is in [`super`].

use aya_ebpf::helpers::generated::{bpf_ktime_get_boot_ns, bpf_probe_read_user};
use aya_ebpf::macros::map;
use aya_ebpf::maps::LruHashMap;
use coral_bpf_types::protocol::HTTP;
use coral_bpf_types::what;

use super::super::SOCKETS;
use super::super::bytes::{forgotten, user};
use super::hello::{HELLOS, Hello, Random, ports};
use super::{Inside, Thread};

/// OpenSSL's objects, with their sockets.
#[map]
static TIES: LruHashMap<Object, Tie> = LruHashMap::with_max_entries(16_384, 0);

/// One of OpenSSL's.
#[repr(C)]
#[derive(Clone, Copy)]
pub(super) struct Object {
    pub(super) ssl: u64,
    pub(super) process: u32,
    pub(super) pad: u32,
}

/// Its socket.
#[repr(C)]
#[derive(Clone, Copy)]
pub(super) struct Tie {
    /// Where the kernel has it; an odd number of its own where that is not known.
    pub(super) key: u64,
    /// The number it is told of by, once it was told of; 0 before.
    pub(super) socket: u64,
    /// What the object has at a place, as long as it is the same connection's.
    word: u64,
    /// The place; 0 where it was not found by that.
    at: u32,
    pub(super) ports: u32,
}

/// As much of an object is looked at.
const OBJECT: u32 = 2048;
/// In words.
const WORDS: u32 = OBJECT / 8;

/// The socket that was found before, if it is still the same connection.
#[inline(always)]
pub(super) fn tie_of(object: &Object, key: u64) -> Option<*mut Tie> {
    let found = TIES.get_ptr_mut(object)?;
    // SAFETY: an entry stays in memory while a program runs that looked it up.
    let tie = unsafe { *found };
    let same = if tie.at == 0 {
        key == 0 || key == tie.key
    } else {
        // SAFETY: an address that the program gave; reading it may fail and does no harm.
        let word = unsafe { user::<u64>(object.ssl + u64::from(tie.at)) };
        word == Some(tie.word)
    };
    if same {
        return Some(found);
    }
    untie(object, &tie);
    None
}

/// It is freed, or another connection's by now.
#[inline(always)]
pub(super) fn untie(object: &Object, tie: &Tie) {
    _ = TIES.remove(object);
    if tie.key & 1 == 1 {
        _ = SOCKETS.remove(&tie.key);
    }
}

/// The socket through which a ClientHello passed, and its ports, as seen by an object that has its number.
#[inline(always)]
fn of_hello(hello: &Hello, inside: &Inside, begins: u16) -> Option<(u64, u32)> {
    let Hello { keys: [received, sent], ports: [of_received, of_sent], .. } = *hello;
    let asks = match (received, sent) {
        (0, _) => true,
        (_, 0) => false,
        // It speaks with itself: who sends a request is who sent the ClientHello.
        _ => {
            // SAFETY: an address that the program gave; reading it may fail and does no harm.
            let first = unsafe { user::<[u8; 4]>(inside.buffer) }?;
            if begins == HTTP && first == *b"HTTP" {
                return None;
            }
            inside.direction == what::SENT
        }
    };
    Some(if asks { (sent, of_sent) } else { (received, of_received) })
}

/// Finds the socket of an object that has none yet.
#[inline(always)]
pub(super) fn tied(
    thread: *mut Thread,
    object: &Object,
    inside: &Inside,
    begins: u16,
) -> Option<*mut Tie> {
    let tie = find(thread, object, inside, begins)?;
    _ = TIES.insert(object, &tie, 0);
    TIES.get_ptr_mut(object)
}

/// Where that socket is; see [`super`].
#[inline(always)]
fn find(thread: *mut Thread, object: &Object, inside: &Inside, begins: u16) -> Option<Tie> {
    // SAFETY: the current thread's own, and has room for much more.
    let words: *mut u64 = unsafe { (&raw mut (*thread).scratch.bytes).cast() };
    // SAFETY: the helper checks the address and fails rather than fault.
    let failed = unsafe { bpf_probe_read_user(words.cast(), OBJECT, object.ssl as *const _) };
    if failed == 0 {
        // SAFETY: places in what was read.
        let two = |at: u32| unsafe { (*words.add(at as usize), *words.add(at as usize + 1)) };
        let process = object.process;
        let mut at = 1;
        while at < WORDS - 1 {
            let (word, next) = two(at);
            // SAFETY: looked at only for what it is.
            let hello = unsafe { HELLOS.get(&Random { word, process, pad: 0 }) };
            if hello.is_some_and(|hello| hello.next == next) {
                break;
            }
            at += 1;
        }
        // SAFETY: the current thread's own.
        let at = forgotten(at.into(), unsafe { &raw mut (*thread).scratch.number }) as u32;
        if at < WORDS - 1 {
            let (word, _) = two(at);
            // SAFETY: copied at once.
            let hello = *unsafe { HELLOS.get(&Random { word, process, pad: 0 }) }?;
            let (key, ports) = of_hello(&hello, inside, begins)?;
            return Some(Tie { key, socket: 0, word, at: at * 8, ports });
        }
    }
    if inside.key != 0 {
        let ports = ports(inside.key)?;
        return Some(Tie { key: inside.key, socket: 0, word: 0, at: 0, ports });
    }
    // What is received may have come in an earlier call. What is sent leaves in this one, unless the
    // program takes it to the socket itself.
    if inside.direction == what::RECEIVED {
        return None;
    }
    // SAFETY: a helper without arguments.
    let at_ns = unsafe { bpf_ktime_get_boot_ns() };
    let key = (at_ns.rotate_left(20) ^ object.ssl) << 1 | 1;
    Some(Tie { key, socket: 0, word: 0, at: 0, ports: 0 })
}

/// The tie of an object that is freed.
#[inline(always)]
pub(super) fn of(object: &Object) -> Option<Tie> {
    // SAFETY: copied at once.
    unsafe { TIES.get(object) }.copied()
}
