//! Which sockets TLS begins on, and which processes speak it.

use aya_ebpf::bindings::BPF_RB_FORCE_WAKEUP;
use aya_ebpf::helpers::generated::bpf_ktime_get_boot_ns;
use aya_ebpf::helpers::{bpf_get_current_comm, bpf_get_current_pid_tgid};
use aya_ebpf::macros::{map, raw_tracepoint};
use aya_ebpf::maps::LruHashMap;
use aya_ebpf::programs::RawTracePointContext;
use coral_bpf_types::protocol::ENCRYPTED;
use coral_bpf_types::{COMM, Chunk, what};

use super::super::bytes::{Cursor, copy};
use super::super::room::{OfCpu, Room};
use super::super::{CHUNKS, SOCKETS, affordable, chunk, describe, socket_offsets, tell};
use super::THREADS;
use crate::{member, pid_seen_by_agent};

/// Connections of which a ClientHello passed.
#[map]
pub(super) static HELLOS: LruHashMap<Random, Hello> = LruHashMap::with_max_entries(16_384, 0);

/// Processes that the agent was told of, because they speak TLS.
#[map]
static SPEAKS: LruHashMap<u32, u8> = LruHashMap::with_max_entries(4096, 0);

/// The first bytes of a connection's random number, with the process that sent or received it.
#[repr(C)]
#[derive(Clone, Copy)]
pub(super) struct Random {
    pub(super) word: u64,
    pub(super) process: u32,
    pub(super) pad: u32,
}

/// Where it passed.
#[repr(C)]
#[derive(Clone, Copy)]
pub(super) struct Hello {
    /// The bytes of the number that come next.
    pub(super) next: u64,
    /// The sockets through which it was received and sent: both, where a process speaks with itself.
    pub(super) keys: [u64; 2],
    /// Their ports.
    pub(super) ports: [u32; 2],
}

/// Of a record as much: a ClientHello up to its random number, and that.
const RECORD: u32 = 48;
/// Of a ClientHello that is sent as much is told: the name of the server is near its beginning, unless keys
/// of post-quantum cryptography come first.
const TOLD: u32 = 2_047;

/// A process has ended or is another program now.
#[inline(always)]
pub fn forget(process: u32) {
    _ = SPEAKS.remove(&process);
}

/// The agent wants to know: it may be a service's first process, and its executable may export OpenSSL. At once,
/// for it may soon be gone.
#[inline(always)]
pub fn began(process: u32) {
    _ = say(process, what::BEGAN, BPF_RB_FORCE_WAKEUP);
}

/// Says something of a process.
#[inline(always)]
fn say(process: u32, what: u32, flags: u32) -> Option<()> {
    let mut slot = CHUNKS.reserve::<Chunk>(0)?;
    slot.write(Chunk {
        // SAFETY: a helper without arguments.
        at_ns: unsafe { bpf_ktime_get_boot_ns() },
        process,
        pid: pid_seen_by_agent(crate::offsets()),
        what,
        comm: bpf_get_current_comm().unwrap_or([0; COMM]),
        ..Chunk::default()
    });
    slot.submit(u64::from(flags));
    Some(())
}

/// Local and remote port of a socket, as one number.
#[inline(always)]
pub(super) fn ports(key: u64) -> Option<u32> {
    let (sk, offsets) = (key as *const u8, socket_offsets());
    // SAFETY: what the kernel once handed over; reading it may fail and does no harm.
    unsafe {
        let local: u16 = member(sk, offsets.local_port)?;
        let remote: u16 = member(sk, offsets.remote_port)?;
        Some(u32::from(local) << 16 | u32::from(remote))
    }
}

/// What the programs at the tracepoints end in where a record of TLS moves.
#[raw_tracepoint]
pub fn framed_tls(_: RawTracePointContext) -> i32 {
    _ = record();
    0
}

#[inline(always)]
fn record() -> Option<()> {
    let thread = bpf_get_current_pid_tgid();
    let process = (thread >> 32) as u32;
    let scratch = OfCpu::scratch()?;
    // SAFETY: this CPU's own; nothing else runs on it in between that uses it.
    let call = unsafe { *OfCpu::call()? };
    if let Some(thread) = THREADS.get_ptr_mut(&thread) {
        // SAFETY: the current thread's own.
        unsafe { (*thread).inside.key = call.key };
    }
    let most = if call.bytes < RECORD { call.bytes } else { RECORD };
    let known = copy(&call.source, most, &mut Cursor::of(&call.source), scratch);
    // SAFETY: this CPU's own, and has room for much more.
    let (bytes, random): (*const u8, _) = unsafe {
        let bytes: *const u8 = (&raw const (*scratch).bytes).cast();
        let at = |n: usize| *bytes.add(n);
        // Within its record (RFC 8446, 5.1 and 4.1.2): kind, version (2), length (2); and without: kind,
        // length (3), version (2), random.
        let whole = known >= 43 && at(0) == 22 && at(5) == 1 && at(9) == 3;
        let alone = known >= 38 && at(0) == 1 && at(4) == 3;
        match (whole, alone) {
            (true, _) => (bytes, 11),
            (false, true) => (bytes, 6),
            (false, false) => return None,
        }
    };
    // SAFETY: as above.
    let [word, next] = unsafe { bytes.add(random).cast::<[u64; 2]>().read_unaligned() };
    let name = Random { word, process, pad: 0 };
    let ports = ports(call.key)?;
    let mut hello = Hello { next, keys: [0; 2], ports: [0; 2] };
    // SAFETY: copied at once.
    if let Some(other) = unsafe { HELLOS.get(&name) }
        && other.next == next
    {
        hello = *other;
    }
    if call.direction == what::RECEIVED {
        (hello.keys[0], hello.ports[0]) = (call.key, ports);
    } else {
        (hello.keys[1], hello.ports[1]) = (call.key, ports);
    }
    _ = HELLOS.insert(&name, &hello, 0);
    if call.direction == what::SENT {
        let most = if call.bytes < TOLD { call.bytes } else { TOLD };
        let socket = describe::<OfCpu>(call.key, process, ENCRYPTED, socket_offsets(), call.at_ns)?;
        if affordable(call.at_ns, most, true) {
            let known = copy(&call.source, most, &mut Cursor::of(&call.source), scratch);
            // SAFETY: this CPU's own; nothing else runs on it in between that uses it.
            let scratch = unsafe { &mut *scratch };
            scratch.chunk = chunk(socket, call.at_ns, what::HELLO, call.bytes, known);
            tell(scratch, socket, false);
        }
    }
    // What begins now is another connection than what was followed at this place, if anything was.
    if let Some(socket) = SOCKETS.get_ptr_mut(&call.key) {
        // SAFETY: an entry stays in memory while a program runs that looked it up.
        if unsafe { (*socket).sealed } != 0 {
            _ = SOCKETS.remove(&call.key);
        }
    }
    // SAFETY: looked at only for being there.
    if unsafe { SPEAKS.get(&process) }.is_none()
        && say(process, what::SEALED, BPF_RB_FORCE_WAKEUP).is_some()
    {
        _ = SPEAKS.insert(&process, &1, 0);
    }
    Some(())
}
