//! Connections that programs open: that they come about or do not, and what the kernel itself counts of
//! them, whatever is spoken on them.
//!
//! Costs nothing where bytes move: a connection is told of when it came about, when it ended, and when
//! the agent asks ([`connection_numbers`]).

use core::ffi::c_void;

use aya_ebpf::bindings::{BPF_F_NO_PREALLOC, BPF_RB_NO_WAKEUP};
use aya_ebpf::helpers::generated::bpf_ktime_get_boot_ns;
use aya_ebpf::helpers::{bpf_get_current_comm, bpf_get_current_pid_tgid};
use aya_ebpf::macros::map;
use aya_ebpf::maps::HashMap;
use aya_ebpf::programs::RawTracePointContext;
use coral_bpf_types::{COMM, Chunk, Numbers, lost, numbers, transport, what};

use super::{
    CHUNKS, IGNORED, SOCK_STREAM, SOCKETS, TCP_ESTABLISHED, addresses, chunk, kind, number,
    socket_offsets,
};
use crate::{count, member, pid_seen_by_agent};

/// `TCP_CLOSE_WAIT`: the other end sends no more, this one may.
const TCP_CLOSE_WAIT: i32 = 8;

/// Connections that programs opened, by where the kernel has their sockets.
#[map]
static CONNECTIONS: HashMap<u64, Connection> = HashMap::with_max_entries(16_384, BPF_F_NO_PREALLOC);

#[repr(C)]
#[derive(Clone, Copy)]
struct Connection {
    id: u64,
    began_ns: u64,
    process: u32,
    pid: u32,
    family: u16,
    /// 0 before it came about.
    local_port: u16,
    remote_port: u16,
    /// 1 once it came about.
    open: u16,
    local: [u8; 16],
    remote: [u8; 16],
    comm: [u8; COMM],
}

/// What is told of a connection.
#[repr(C)]
#[derive(Clone, Copy)]
struct Told {
    chunk: Chunk,
    numbers: Numbers,
}

/// The number of the connection whose socket is there.
#[inline(always)]
pub(super) fn number_of(key: u64) -> Option<u64> {
    // SAFETY: looked at, not kept.
    unsafe { CONNECTIONS.get(&key) }.map(|connection| connection.id)
}

/// A program begins to open a connection.
#[inline(always)]
pub(super) fn begins(key: u64) {
    _ = note(key);
}

#[inline(always)]
fn note(key: u64) -> Option<()> {
    // Whatever was there before is gone.
    _ = SOCKETS.remove(&key);
    let process = (bpf_get_current_pid_tgid() >> 32) as u32;
    // SAFETY: looked at only for being there.
    if unsafe { IGNORED.get(&process) }.is_some() {
        _ = CONNECTIONS.remove(&key);
        return None;
    }
    let (sk, offsets) = (key as *const u8, socket_offsets());
    if kind(sk, offsets)? != SOCK_STREAM {
        return None;
    }
    // SAFETY: `sk` is what the kernel handed over; a helper without arguments.
    let (family, remote_port, began_ns) = unsafe {
        let remote_port = u16::from_be(member(sk, offsets.remote_port)?);
        (member::<u16>(sk, offsets.family)?, remote_port, bpf_ktime_get_boot_ns())
    };
    let (local, remote) = addresses(sk, family, offsets)?;
    let connection = Connection {
        id: number(key, began_ns),
        began_ns,
        process,
        pid: pid_seen_by_agent(crate::offsets()),
        family,
        local_port: 0,
        remote_port,
        open: 0,
        local,
        remote,
        comm: bpf_get_current_comm().unwrap_or([0; COMM]),
    };
    if CONNECTIONS.insert(&key, &connection, 0).is_err() {
        count(lost::SOCKETS, 1);
    }
    Some(())
}

/// A connection has come about. May run in anybody's time.
#[inline(always)]
pub(super) fn opened(key: u64) {
    let Some(connection) = CONNECTIONS.get_ptr_mut(&key) else { return };
    let (sk, offsets) = (key as *const u8, socket_offsets());
    // SAFETY: an entry stays in memory while a program runs that looked it up; `sk` is what the kernel
    // handed over.
    unsafe {
        let Some(local_port) = member(sk, offsets.local_port) else { return };
        if let Some((local, _)) = addresses(sk, (*connection).family, offsets) {
            (*connection).local = local;
        }
        (*connection).local_port = local_port;
        (*connection).open = 1;
        let of = (*connection).of();
        tell(key, (*connection).chunk(key, what::OPENED), of, numbers::OPEN);
    }
}

/// A connection has ended, or did not come about. May run in anybody's time.
#[inline(always)]
pub(super) fn ended(key: u64, before: i32) {
    let abrupt = matches!(before, TCP_ESTABLISHED | TCP_CLOSE_WAIT);
    _ = look(key, what::ENDED, if abrupt { numbers::ABRUPT } else { 0 });
    _ = CONNECTIONS.remove(&key);
}

/// Tells of the connection whose socket is there, if it is known.
#[inline(always)]
fn look(key: u64, what: u32, flags: u32) -> Option<u64> {
    let connection = CONNECTIONS.get_ptr_mut(&key);
    // SAFETY: an entry stays in memory while a program runs that looked it up.
    let of = connection.map(|connection| unsafe { (*connection).of() });
    let (began_ns, open) = of.unwrap_or((0, numbers::OPEN));
    let chunk = match (SOCKETS.get_ptr_mut(&key), connection) {
        // SAFETY: as above; a helper without arguments.
        (Some(socket), _) => unsafe { chunk(&*socket, bpf_ktime_get_boot_ns(), what, 0, 0) },
        // SAFETY: as above.
        (None, Some(connection)) => unsafe { (*connection).chunk(key, what) },
        (None, None) => return None,
    };
    tell(key, chunk, (began_ns, open), flags);
    Some(chunk.socket)
}

/// Hands over what the kernel has counted of a socket.
#[inline(always)]
fn tell(key: u64, chunk: Chunk, (began_ns, open): (u64, u32), flags: u32) {
    let (sk, offsets) = (key as *const u8, socket_offsets());
    // Not by way of the scratch: this may run in the middle of `moved`.
    let Some(mut slot) = CHUNKS.reserve::<Told>(0) else {
        count(lost::CHUNKS, 1);
        return;
    };
    // SAFETY: `sk` is what the kernel handed over; where it is gone reading fails, or the numbers are
    // somebody else's of a connection whose end went unnoticed.
    let numbers = unsafe {
        Numbers {
            began_ns,
            bytes_sent: member(sk, offsets.bytes_sent).unwrap_or(0),
            bytes_again: member(sk, offsets.bytes_again).unwrap_or(0),
            bytes_received: member(sk, offsets.bytes_received).unwrap_or(0),
            round_trip: member(sk, offsets.round_trip).unwrap_or(0),
            retransmits: member(sk, offsets.retransmits).unwrap_or(0),
            error: member(sk, offsets.error).unwrap_or(0),
            flags: open | flags,
        }
    };
    let copied = size_of::<Numbers>() as u32;
    slot.write(Told { chunk: Chunk { copied, ..chunk }, numbers });
    slot.submit(u64::from(BPF_RB_NO_WAKEUP));
}

/// Tells what the kernel has counted of the socket at its first argument, if that is still the one whose
/// number is its second; 1 where it is. Run by the agent, and by nothing that happens. (What
/// `#[raw_tracepoint]` makes returns nothing.)
#[unsafe(no_mangle)]
#[unsafe(link_section = "raw_tp")]
pub extern "C" fn connection_numbers(context: *mut c_void) -> u32 {
    let context = RawTracePointContext::new(context);
    let (key, id): (u64, u64) = (context.arg(0), context.arg(1));
    // What is not at an even address is no socket: it stands for an object of OpenSSL's.
    if key & 1 == 1 {
        return 0;
    }
    u32::from(look(key, what::NUMBERS, 0) == Some(id))
}

impl Connection {
    /// When it began, and whether it came about.
    #[inline(always)]
    fn of(&self) -> (u64, u32) {
        (self.began_ns, if self.open == 1 { numbers::OPEN } else { 0 })
    }

    #[inline(always)]
    fn chunk(&self, key: u64, what: u32) -> Chunk {
        Chunk {
            // SAFETY: a helper without arguments.
            at_ns: unsafe { bpf_ktime_get_boot_ns() },
            socket: self.id,
            place: key,
            process: self.process,
            pid: self.pid,
            total: 0,
            copied: 0,
            missed_received: 0,
            missed_sent: 0,
            what,
            family: self.family,
            local_port: self.local_port,
            remote_port: self.remote_port,
            transport: transport::STREAM,
            sealed: 0,
            over: 0,
            local: self.local,
            remote: self.remote,
            comm: self.comm,
        }
    }
}
