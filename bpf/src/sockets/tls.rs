//! What programs say through OpenSSL, within TLS.
//!
//! Hangs on where a program calls OpenSSL and where that returns: what a call was given or has given is
//! told as if it had moved through the connection's socket, by which both ends know each other. Which
//! socket that is, is not guessed from what happens at the same time. A connection begins with a
//! ClientHello, which is not encrypted and has a random number in it that is no other connection's; OpenSSL
//! keeps that number in the connection's object. Where it has one that passed through a socket of the same
//! process, they belong together. Of a connection that is older than the programs here it is the socket
//! that moved a record of TLS while the object's call was under way. Where there is neither, the
//! connection has no addresses.
//!
//! Nothing is written to anybody's memory.

mod hello;
mod tie;

use aya_ebpf::EbpfContext;
use aya_ebpf::bindings::{BPF_F_NO_PREALLOC, BPF_RB_NO_WAKEUP};
use aya_ebpf::helpers::generated::bpf_ktime_get_boot_ns;
use aya_ebpf::helpers::{bpf_get_current_comm, bpf_get_current_pid_tgid};
use aya_ebpf::macros::{map, uprobe, uretprobe};
use aya_ebpf::maps::{Array, HashMap};
use aya_ebpf::programs::{ProbeContext, RetProbeContext};
use coral_bpf_types::protocol::{ENCRYPTED, NOTHING, PLACES};
use coral_bpf_types::{COMM, Chunk, lost, what};

use self::hello::ports;
pub(super) use self::hello::{began, forget};
use self::tie::{Object, Tie, tie_of, tied, untie};
use super::begins::begins_message;
use super::bytes::{Source, user};
use super::framed::{Call, Flow};
use super::http2::Place;
use super::room::{OfThread, Room};
use super::{CHUNKS, IGNORED, Moved, SOCKETS, Scratch, Socket, chunk};
use super::{is_new, meet, pass_on, socket_offsets};
use crate::{count, member, pid_seen_by_agent};

/// Threads that have called OpenSSL, until they end.
#[map]
pub(super) static THREADS: HashMap<u64, Thread> = HashMap::with_max_entries(512, BPF_F_NO_PREALLOC);

/// One that has not called it yet.
#[map]
static NEW: Array<Thread> = Array::with_max_entries(1, 0);

/// 1 at each protocol that has its program within TLS; set by the agent.
#[map]
static TOLD: Array<u8> = Array::with_max_entries(PLACES, 0);

/// A thread that calls OpenSSL, with the places its programs need.
#[repr(C)]
pub(super) struct Thread {
    inside: Inside,
    pub(super) call: Call,
    pub(super) meeting: Socket,
    pub(super) scratch: Scratch,
}

/// A call into OpenSSL that is under way.
#[repr(C)]
#[derive(Clone, Copy)]
struct Inside {
    /// The object; 0 when none is.
    ssl: u64,
    /// Where its bytes are; 0 where they are nowhere.
    buffer: u64,
    /// Where it leaves how many moved; 0 where it gives that back.
    length: u64,
    /// Where the stack was: one that is called within it, or by another that shares the thread, is not it.
    frame: u64,
    /// The socket through which a record of TLS moved meanwhile, or 0.
    key: u64,
    direction: u32,
    pad: u32,
}

/// How a call says how many bytes moved.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Says {
    /// It gives that back.
    Back,
    /// Where its fourth argument points.
    There,
    /// It gives that back, and they are in a file.
    File,
}

/// A thread is over.
#[inline(always)]
pub fn thread_ended() {
    _ = THREADS.remove(&bpf_get_current_pid_tgid());
}

/// Where the stack is: the same when a call begins and when it has returned.
#[inline(always)]
fn frame(context: &impl EbpfContext) -> Option<u64> {
    // SAFETY: the registers that the kernel handed over.
    let stack: u64 = unsafe { member(context.as_ptr().cast(), socket_offsets().stack) }?;
    // Of x86-64 the return address is on it meanwhile.
    Some((stack + 8) & !15)
}

/// A program calls OpenSSL.
#[inline(always)]
fn called(context: &ProbeContext, direction: u32, says: Says) -> Option<()> {
    let name = bpf_get_current_pid_tgid();
    let process = (name >> 32) as u32;
    // SAFETY: looked at only for being there.
    if unsafe { IGNORED.get(&process) }.is_some() {
        return None;
    }
    let thread = match THREADS.get_ptr_mut(&name) {
        Some(thread) => thread,
        None => {
            // SAFETY: it is never written to.
            let new = unsafe { &*NEW.get_ptr(0)? };
            if THREADS.insert(&name, new, 0).is_err() {
                count(lost::THREADS, 1);
                return None;
            }
            THREADS.get_ptr_mut(&name)?
        }
    };
    let inside = Inside {
        ssl: context.arg(0)?,
        buffer: if says == Says::File { 0 } else { context.arg(1)? },
        length: if says == Says::There { context.arg(3)? } else { 0 },
        frame: frame(context)?,
        key: 0,
        direction,
        pad: 0,
    };
    // SAFETY: the current thread's own.
    unsafe { (*thread).inside = inside };
    Some(())
}

/// `SSL_read(ssl, buffer, length)`.
#[uprobe]
pub fn ssl_read(context: ProbeContext) -> u32 {
    _ = called(&context, what::RECEIVED, Says::Back);
    0
}

/// `SSL_write(ssl, buffer, length)`.
#[uprobe]
pub fn ssl_write(context: ProbeContext) -> u32 {
    _ = called(&context, what::SENT, Says::Back);
    0
}

/// `SSL_read_ex(ssl, buffer, length, &moved)`, `SSL_read_early_data` likewise.
#[uprobe]
pub fn ssl_read_ex(context: ProbeContext) -> u32 {
    _ = called(&context, what::RECEIVED, Says::There);
    0
}

/// `SSL_write_ex(ssl, buffer, length, &moved)`, `SSL_write_early_data` likewise.
#[uprobe]
pub fn ssl_write_ex(context: ProbeContext) -> u32 {
    _ = called(&context, what::SENT, Says::There);
    0
}

/// `SSL_sendfile(ssl, file, offset, length, flags)`.
#[uprobe]
pub fn ssl_sendfile(context: ProbeContext) -> u32 {
    _ = called(&context, what::SENT, Says::File);
    0
}

/// What each of them ends with.
#[uretprobe]
pub fn ssl_returned(context: RetProbeContext) -> u32 {
    _ = returned(&context);
    0
}

#[inline(always)]
fn returned(context: &RetProbeContext) -> Option<()> {
    let name = bpf_get_current_pid_tgid();
    let process = (name >> 32) as u32;
    let thread = THREADS.get_ptr_mut(&name)?;
    // SAFETY: the current thread's own.
    let inside = unsafe { (*thread).inside };
    if inside.ssl == 0 || inside.frame != frame(context)? {
        return None;
    }
    // SAFETY: as above.
    unsafe { (*thread).inside.ssl = 0 };
    let back: i32 = context.ret();
    if back <= 0 {
        return None;
    }
    let bytes = match inside.length {
        0 => back as u32,
        // SAFETY: an address that the program gave; reading it may fail and does no harm.
        there => unsafe { user::<u64>(there) }? as u32,
    };
    if bytes == 0 {
        return None;
    }
    let source = match inside.buffer {
        0 => None,
        base => Some(Source { list: 0, pieces: 1, base }),
    };
    let begins = match &source {
        Some(source) => begins_message(source, bytes),
        None => NOTHING,
    };
    let begins = match TOLD.get(u32::from(begins)) {
        Some(1) => begins,
        _ => NOTHING,
    };
    let object = Object { ssl: inside.ssl, process, pad: 0 };
    let tie = match tie_of(&object, inside.key) {
        Some(tie) => tie,
        None if begins == NOTHING => return None,
        None => tied(thread, &object, &inside, begins)?,
    };
    tell_of(context, thread, tie, process, source, begins, bytes)
}

/// Notes a connection without addresses.
#[inline(always)]
fn meet_alone(key: u64, process: u32, protocol: u16, at_ns: u64) -> Option<Result<(), i32>> {
    // SAFETY: the current thread's own.
    let socket = unsafe { &mut *OfThread::meeting()? };
    socket.id = at_ns.rotate_left(20) ^ key;
    socket.process = process;
    socket.pid = pid_seen_by_agent(crate::offsets());
    (socket.missed, socket.since) = ([0; 2], [0; 2]);
    socket.flow = [Flow::LOST; 2];
    socket.places = [Place::NEW; 2];
    (socket.family, socket.local_port, socket.remote_port) = (0, 0, 0);
    (socket.protocol, socket.sealed) = (protocol, OfThread::SEALED);
    (socket.place, socket.over, socket.pad) = (0, 0, [0; 2]);
    (socket.local, socket.remote) = ([0; 16], [0; 16]);
    socket.comm = bpf_get_current_comm().unwrap_or([0; COMM]);
    Some(SOCKETS.insert(&key, &*socket, 0))
}

/// Tells of bytes as if they had moved through the socket.
#[inline(always)]
fn tell_of(
    context: &RetProbeContext,
    thread: *mut Thread,
    found: *mut Tie,
    process: u32,
    source: Option<Source>,
    begins: u16,
    bytes: u32,
) -> Option<()> {
    // SAFETY: a helper without arguments.
    let at_ns = unsafe { bpf_ktime_get_boot_ns() };
    // SAFETY: an entry stays in memory while a program runs that looked it up; the thread's is its own.
    let (tie, direction) = unsafe { (*found, (*thread).inside.direction) };
    let key = tie.key;
    let mut new = false;
    let socket = match SOCKETS.get_ptr_mut(&key) {
        Some(socket) => socket,
        // It is closed, or nothing began on it that is read.
        None if begins == NOTHING || tie.socket != 0 => return None,
        None => {
            let met = if key & 1 == 1 {
                meet_alone(key, process, begins, at_ns)?
            } else if ports(key)? == tie.ports {
                meet::<OfThread>(key, process, begins, socket_offsets(), at_ns)?
            } else {
                // Another socket has its place by now.
                return None;
            };
            if met.is_err() {
                count(lost::SOCKETS, 1);
                return None;
            }
            new = is_new(process);
            SOCKETS.get_ptr_mut(&key)?
        }
    };
    // SAFETY: as above.
    let socket = unsafe { &mut *socket };
    if socket.sealed == 0 {
        // In the clear it was agreed to go on encrypted. Else it is told of already: the kernel encrypts.
        if socket.protocol != ENCRYPTED || begins == NOTHING {
            return None;
        }
        (socket.sealed, socket.protocol) = (1, begins);
        (socket.flow, socket.places) = ([Flow::LOST; 2], [Place::NEW; 2]);
        socket.since = [0; 2];
    }
    if tie.socket == 0 {
        // SAFETY: as above.
        unsafe { (*found).socket = socket.id };
    } else if tie.socket != socket.id {
        return None;
    }
    let call = Moved { key, at_ns, direction, bytes, begins, new };
    pass_on::<OfThread>(context, socket, process, source, call)
}

/// `SSL_free(ssl)`.
#[uprobe]
pub fn ssl_free(context: ProbeContext) -> u32 {
    _ = freed(&context);
    0
}

#[inline(always)]
fn freed(context: &ProbeContext) -> Option<()> {
    let process = (bpf_get_current_pid_tgid() >> 32) as u32;
    let object = Object { ssl: context.arg(0)?, process, pad: 0 };
    let tie = tie::of(&object)?;
    if tie.key & 1 == 1
        && let Some(socket) = SOCKETS.get_ptr_mut(&tie.key)
    {
        match CHUNKS.reserve::<Chunk>(0) {
            Some(mut slot) => {
                // SAFETY: an entry stays in memory while a program runs that looked it up; a helper
                // without arguments.
                slot.write(unsafe { chunk(&*socket, bpf_ktime_get_boot_ns(), what::ENDED, 0, 0) });
                slot.submit(u64::from(BPF_RB_NO_WAKEUP));
            }
            None => count(lost::CHUNKS, 1),
        }
    }
    untie(&object, &tie);
    Some(())
}
