//! What programs say to each other through TCP sockets, as far as it is HTTP, Redis (RESP), PostgreSQL or
//! DNS; of UDP as far as it is DNS ([`datagrams`]); and what they say through them within TLS ([`tls`]).
//!
//! Hangs on the tracepoints that tell of bytes moved through a socket, not on system calls: whoever
//! uses no socket is never met, and one place sees `read`, `recvmsg`, `writev` and `sendfile` alike. Kernels that do
//! not have them yet tell of it where a call ends ([`calls`]).
//! The bytes are read from where the call that is under way has them. Of a socket on which nothing
//! that begins like one of them has passed nothing is told, and only its first bytes are looked at.
//!
//! Of HTTP the beginning of a call is copied: bodies have no beginnings of messages in them that
//! matter. Of protocols of which any number of messages may lie in one call everything is copied, in
//! parts, but what is long and of no interest. Each of them has a program of its own ([`framed`]),
//! which these here end in: so that each is small enough to be verified, and one that a kernel refuses
//! takes no other with it.
//!
//! Of connections that programs open it is told that they come about and end, whatever passes on them
//! ([`connections`]); and of what programs write elsewhere, their standard output, where the agent asks for it ([`output`]).

mod begins;
mod bytes;
mod calls;
mod connections;
mod datagrams;
mod dns;
mod framed;
mod http2;
mod output;
mod postgres;
mod resp;
mod room;
mod tls;

use aya_ebpf::EbpfContext;
use aya_ebpf::bindings::{BPF_F_NO_PREALLOC, BPF_RB_FORCE_WAKEUP, BPF_RB_NO_WAKEUP};
use aya_ebpf::helpers::bpf_get_current_comm;
use aya_ebpf::helpers::bpf_get_current_pid_tgid;
use aya_ebpf::helpers::generated::bpf_ktime_get_boot_ns;
use aya_ebpf::macros::{map, raw_tracepoint};
use aya_ebpf::maps::{HashMap, LruHashMap, PerCpuArray, RingBuf};
use aya_ebpf::programs::RawTracePointContext;
use coral_bpf_types::protocol::{ENCRYPTED, HTTP, NOTHING};
use coral_bpf_types::{COMM, COPIED, Chunk, SocketOffsets, lost, transport, what};

use self::begins::begins_message;
use self::bytes::{Cursor, Source, copy, source};
use self::framed::{Call, Flow, Parts, hand_over};
use self::http2::Place;
use self::postgres::Walk;
use self::room::{OfCpu, Room};
pub use self::tls::thread_ended;
use crate::{count, member, offsets, pid_seen_by_agent};

/// Set before loading; see [`SocketOffsets`].
#[unsafe(no_mangle)]
static SOCKET_OFFSETS: SocketOffsets = SocketOffsets {
    kind: 0,
    family: 0,
    state: 0,
    local_port: 0,
    remote_port: 0,
    local4: 0,
    remote4: 0,
    local6: 0,
    remote6: 0,
    call: 0,
    first: 0,
    second: 0,
    third: 0,
    fifth: 0,
    stack: 0,
    error: 0,
    bytes_sent: 0,
    bytes_again: 0,
    bytes_received: 0,
    round_trip: 0,
    retransmits: 0,
    write: 0,
    writev: 0,
    words: 0,
};

/// [`Chunk`]s on their way to the agent, each with its bytes. Made small where they are not wanted.
#[map]
static CHUNKS: RingBuf = RingBuf::with_byte_size(8 << 20, 0);

/// Sockets that are followed, by where the kernel has them.
#[map]
static SOCKETS: HashMap<u64, Socket> = HashMap::with_max_entries(16_384, BPF_F_NO_PREALLOC);

/// Processes of which nothing is wanted, by their pid in the first namespace.
#[map]
static IGNORED: HashMap<u32, u8> = HashMap::with_max_entries(16_384, BPF_F_NO_PREALLOC);

/// Processes that were met before, likewise.
#[map]
static MET: LruHashMap<u32, u8> = LruHashMap::with_max_entries(4096, 0);

/// Bytes copied in this moment.
#[map]
static SPENT: PerCpuArray<Spent> = PerCpuArray::with_max_entries(1, 0);

#[repr(C)]
#[derive(Clone, Copy)]
struct Socket {
    id: u64,
    /// Where the kernel has it.
    place: u64,
    process: u32,
    pid: u32,
    missed: [u32; 2],
    /// Bytes received and sent since a call began a message.
    since: [u32; 2],
    /// Where what is received and sent has come to, of protocols that have a program of their own.
    flow: [Flow; 2],
    /// Of HTTP/2: where what is received and sent is among the frames.
    places: [Place; 2],
    family: u16,
    local_port: u16,
    remote_port: u16,
    /// See [`coral_bpf_types::protocol`].
    protocol: u16,
    /// 1 where what is read of it is what OpenSSL is given or gives.
    sealed: u16,
    /// 1 where it was closed before it was met: what came in while it was still being written to broke it off.
    over: u16,
    pad: [u16; 2],
    local: [u8; 16],
    remote: [u8; 16],
    comm: [u8; COMM],
}

#[repr(C)]
struct Scratch {
    chunk: Chunk,
    /// Twice as much as is ever copied: so any place and any length within bounds fit.
    bytes: [u8; 2 * (COPIED + 1)],
    /// See [`bytes::forgotten`].
    number: u64,
    /// A call that is being told of in parts, and the messages of a part: here the verifier forgets
    /// what it knows of them, on the stack it does not.
    parts: Parts,
    walk: Walk,
}

#[repr(C)]
struct Spent {
    slice: u64,
    bytes: u64,
}

const AF_INET: u16 = 2;
const AF_INET6: u16 = 10;
const SOCK_STREAM: u16 = 1;
const SOCK_DGRAM: u16 = 2;
/// The bytes stay in the socket, are thrown away, or are of another kind.
const MSG_PEEK: i32 = 0x2;
const MSG_TRUNC: i32 = 0x20;
const MSG_ERRQUEUE: i32 = 0x2000;
const TCP_ESTABLISHED: i32 = 1;
const TCP_SYN_SENT: i32 = 2;
const TCP_SYN_RECV: i32 = 3;
const TCP_FIN_WAIT1: i32 = 4;
const TCP_CLOSE: i32 = 7;
const TCP_LAST_ACK: i32 = 9;

/// Moments in which bytes are budgeted: 2^27 ns are 134 ms.
const SLICE_BITS: u64 = 27;
/// Bytes a CPU may copy in one: some 60 MB a second, and as much again for what begins a message.
const SLICE_BYTES: u64 = 8 << 20;
/// Of a call that moved more than is ever copied and does not begin a message, as much as this.
const PART: u32 = 511;
/// As much as this where so many bytes passed since a message began that its head is over.
const BULK: u32 = 63;
const HEAD_OVER: u32 = 64 << 10;
/// The agent looks at the ring many times a second; it is only woken when so much waits.
const WAKE: u64 = 1 << 20;
/// `BPF_RB_AVAIL_DATA`.
const AVAILABLE: u64 = 0;

fn socket_offsets() -> &'static SocketOffsets {
    // The loader replaces it: what is here is not what it is. Each is read where it is needed.
    core::hint::black_box(&SOCKET_OFFSETS)
}

/// A process has ended or is another program now.
pub fn forget(process: u32) {
    _ = IGNORED.remove(&process);
    _ = MET.remove(&process);
    output::forget(process);
    tls::forget(process);
}

/// Notes what is known of a socket that is followed from now on; `None` where that cannot be read.
#[inline(always)]
fn meet<R: Room>(
    key: u64,
    process: u32,
    protocol: u16,
    offsets: &SocketOffsets,
    at_ns: u64,
) -> Option<Result<(), i32>> {
    let socket = describe::<R>(key, process, protocol, offsets, at_ns)?;
    Some(SOCKETS.insert(&key, &*socket, 0))
}

/// What is known of a socket.
#[inline(always)]
fn describe<R: Room>(
    key: u64,
    process: u32,
    protocol: u16,
    offsets: &SocketOffsets,
    at_ns: u64,
) -> Option<&'static mut Socket> {
    let sk = key as *const u8;
    // SAFETY: `sk` is what the kernel handed over; nothing else uses the place in between.
    unsafe {
        let socket = &mut *R::meeting()?;
        let family: u16 = member(sk, offsets.family)?;
        socket.id = connections::number_of(key).unwrap_or_else(|| number(key, at_ns));
        socket.place = key;
        socket.process = process;
        socket.pid = pid_seen_by_agent(crate::offsets());
        socket.missed = [0; 2];
        socket.since = [0; 2];
        socket.flow = [Flow::LOST; 2];
        socket.places = [Place::NEW; 2];
        socket.family = family;
        socket.local_port = member(sk, offsets.local_port)?;
        socket.remote_port = u16::from_be(member(sk, offsets.remote_port)?);
        socket.protocol = protocol;
        let over = i32::from(member::<u8>(sk, offsets.state)?) == TCP_CLOSE;
        (socket.sealed, socket.over, socket.pad) = (R::SEALED, over.into(), [0; 2]);
        socket.comm = bpf_get_current_comm().unwrap_or([0; COMM]);
        (socket.local, socket.remote) = addresses(sk, family, offsets)?;
        Some(socket)
    }
}

/// Addresses of both ends, this one's first.
#[inline(always)]
fn addresses(sk: *const u8, family: u16, offsets: &SocketOffsets) -> Option<([u8; 16], [u8; 16])> {
    // SAFETY: `sk` is what the kernel handed over.
    unsafe {
        if family != AF_INET {
            return Some((member(sk, offsets.local6)?, member(sk, offsets.remote6)?));
        }
        let wide = |[a, b, c, d]: [u8; 4]| [a, b, c, d, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
        Some((wide(member(sk, offsets.local4)?), wide(member(sk, offsets.remote4)?)))
    }
}

/// The number of a socket that was met then.
#[inline(always)]
fn number(key: u64, at_ns: u64) -> u64 {
    at_ns.rotate_left(20) ^ key
}

/// `SOCK_STREAM` of TCP, `SOCK_DGRAM` of UDP; `None` where it is neither.
#[inline(always)]
fn kind(sk: *const u8, offsets: &SocketOffsets) -> Option<u16> {
    // SAFETY: `sk` is what the kernel handed over.
    unsafe {
        let family = member::<u16>(sk, offsets.family)?;
        let kind = member::<u16>(sk, offsets.kind)?;
        if matches!(family, AF_INET | AF_INET6) { Some(kind) } else { None }
    }
}

/// Whether `bytes` more may be copied in this moment.
#[inline(always)]
fn affordable(at_ns: u64, bytes: u32, begins: bool) -> bool {
    let Some(spent) = SPENT.get_ptr_mut(0) else { return false };
    // SAFETY: this CPU's own slot.
    let spent = unsafe { &mut *spent };
    let slice = at_ns >> SLICE_BITS;
    if spent.slice != slice {
        spent.slice = slice;
        spent.bytes = 0;
    }
    let limit = if begins { 2 * SLICE_BYTES } else { SLICE_BYTES };
    if spent.bytes + u64::from(bytes) > limit {
        count(lost::BYTES, u64::from(bytes));
        return false;
    }
    spent.bytes += u64::from(bytes);
    true
}

/// Bytes moved through a socket, as a tracepoint there says.
#[inline(always)]
fn passed(context: &RawTracePointContext, direction: u32) -> Option<()> {
    let bytes: i32 = context.arg(1);
    if bytes <= 0 {
        datagrams::broken_off();
        return None;
    }
    let flags: i32 = context.arg(2);
    if flags & (MSG_PEEK | MSG_ERRQUEUE) != 0 {
        return None;
    }
    moved(context, context.arg(0), bytes as u32, flags, direction, wanted()?)
}

/// The process under way, unless nothing is wanted of it.
#[inline(always)]
fn wanted() -> Option<u32> {
    let process = (bpf_get_current_pid_tgid() >> 32) as u32;
    // SAFETY: looked at only for being there.
    if unsafe { IGNORED.get(&process) }.is_some() { None } else { Some(process) }
}

/// Bytes moved through a socket.
#[inline(always)]
fn moved(
    context: &RawTracePointContext,
    sk: *const u8,
    bytes: u32,
    flags: i32,
    direction: u32,
    process: u32,
) -> Option<()> {
    let key = sk as u64;
    let offsets = socket_offsets();
    let known = SOCKETS.get_ptr_mut(&key);
    if known.is_none() {
        match kind(sk, offsets) {
            Some(SOCK_STREAM) if flags & MSG_TRUNC == 0 && dns::is_spoken(sk, offsets) => {
                return dns::begin(context, key, bytes, direction);
            }
            Some(SOCK_STREAM) => {}
            Some(SOCK_DGRAM) => return datagrams::hand_over(context, key, bytes, direction),
            _ => return None,
        }
    }
    let source = if flags & MSG_TRUNC != 0 { None } else { source(offsets) };
    let mut begins = match &source {
        Some(source) => begins_message(source, bytes),
        None => NOTHING,
    };
    // SAFETY: a helper without arguments.
    let at_ns = unsafe { bpf_ktime_get_boot_ns() };
    if begins == ENCRYPTED {
        // SAFETY: an entry stays in memory while a program runs that looked it up.
        if known
            .is_none_or(|known| unsafe { (*known).sealed != 0 || (*known).protocol == ENCRYPTED })
        {
            let source = source.unwrap_or(Source::NONE);
            let call = Call { key, at_ns, source, direction, bytes, begins: true, new: false };
            return hand_over::<OfCpu>(context, call, ENCRYPTED);
        }
        begins = NOTHING;
    }
    let mut new = false;
    let known = match known {
        Some(known) => known,
        None if begins == NOTHING => return None,
        None => {
            if meet::<OfCpu>(key, process, begins, offsets, at_ns)?.is_err() {
                count(lost::SOCKETS, 1);
                return None;
            }
            new = is_new(process);
            match SOCKETS.get_ptr_mut(&key) {
                Some(known) => known,
                None => {
                    // Its end came in between; that it is over is noted now.
                    _ = meet::<OfCpu>(key, process, begins, offsets, at_ns)?;
                    SOCKETS.get_ptr_mut(&key)?
                }
            }
        }
    };
    // SAFETY: an entry stays in memory while a program runs that looked it up.
    let socket = unsafe { &mut *known };
    if socket.sealed != 0 {
        return None;
    }
    if socket.protocol == NOTHING {
        socket.protocol = begins;
    }
    if matches!(socket.protocol, NOTHING | ENCRYPTED) {
        return None;
    }
    let call = Moved { key, at_ns, direction, bytes, begins, new };
    pass_on::<OfCpu>(context, socket, process, source, call)
}

/// Whether a process was not met before.
#[inline(always)]
fn is_new(process: u32) -> bool {
    // SAFETY: looked at only for being there.
    let new = unsafe { MET.get(&process) }.is_none();
    if new {
        _ = MET.insert(&process, &1, 0);
    }
    new
}

/// A call that moved bytes through a socket that is followed.
struct Moved {
    key: u64,
    at_ns: u64,
    direction: u32,
    bytes: u32,
    /// Which protocol's message they begin.
    begins: u16,
    /// Its process was not met before.
    new: bool,
}

/// Tells of bytes that moved, in the program of the socket's protocol where it has one.
#[inline(always)]
fn pass_on<R: Room>(
    context: &impl EbpfContext,
    socket: &mut Socket,
    process: u32,
    source: Option<Source>,
    call: Moved,
) -> Option<()> {
    let Moved { key, at_ns, direction, bytes, begins, new } = call;
    if socket.process != process {
        socket.process = process;
        socket.pid = pid_seen_by_agent(crate::offsets());
        socket.comm = bpf_get_current_comm().unwrap_or([0; COMM]);
    }
    if socket.protocol != HTTP {
        let (source, begins) = (source.unwrap_or(Source::NONE), begins == socket.protocol);
        let call = Call { key, at_ns, source, direction, bytes, begins, new };
        return hand_over::<R>(context, call, socket.protocol);
    }
    let begins = begins == HTTP;
    let [received, sent] = socket.since;
    let since = match (begins, direction) {
        (true, _) => 0,
        (false, what::RECEIVED) => received,
        (false, _) => sent,
    };
    let after = since.saturating_add(bytes);
    socket.since = match direction {
        what::RECEIVED => [after, sent],
        _ => [received, after],
    };
    let most = match (begins, bytes <= COPIED as u32) {
        (false, _) if since > HEAD_OVER => BULK,
        (_, true) => COPIED as u32,
        (true, false) => COPIED as u32,
        (false, false) => PART,
    };
    let most = if bytes < most { bytes } else { most };
    // SAFETY: nothing else uses the place in between.
    let scratch = unsafe { &mut *R::scratch()? };
    let copied = match &source {
        Some(source) if affordable(at_ns, most, begins) => {
            copy(source, most, &mut Cursor::of(source), scratch)
        }
        _ => 0,
    };
    scratch.chunk = chunk(socket, at_ns, direction, bytes, copied);
    tell(scratch, socket, new);
    if socket.over != 0 {
        // Nothing else would take it out.
        _ = SOCKETS.remove(&key);
    }
    Some(())
}

/// A chunk without its bytes.
#[inline(always)]
fn chunk(socket: &Socket, at_ns: u64, what: u32, total: u32, copied: u32) -> Chunk {
    Chunk {
        at_ns,
        socket: socket.id,
        place: socket.place,
        process: socket.process,
        pid: socket.pid,
        total,
        copied,
        missed_received: socket.missed[0],
        missed_sent: socket.missed[1],
        what,
        family: socket.family,
        local_port: socket.local_port,
        remote_port: socket.remote_port,
        transport: transport::STREAM,
        sealed: socket.sealed,
        over: socket.over,
        local: socket.local,
        remote: socket.remote,
        comm: socket.comm,
    }
}

/// Hands a chunk over, or notes on its socket that it is missing. The agent looks at once at a process
/// that it does not know, for that may soon be gone.
#[inline(always)]
fn tell(scratch: &Scratch, socket: &mut Socket, new: bool) {
    if put(scratch, new) {
        socket.missed = [0; 2];
        return;
    }
    count(lost::CHUNKS, 1);
    let Chunk { what, total, .. } = scratch.chunk;
    let [received, sent] = socket.missed;
    socket.missed = match what {
        what::RECEIVED => [received.saturating_add(total), sent],
        _ => [received, sent.saturating_add(total)],
    };
}

/// Puts the chunk and its bytes into the ring; false where there was no room. `wake`: the agent shall look at once.
#[inline(always)]
fn put(scratch: &Scratch, wake: bool) -> bool {
    // As in `long_string`.
    let copied = core::hint::black_box(scratch.chunk.copied) as usize & COPIED;
    let size = size_of::<Chunk>() + copied;
    let wake = wake || CHUNKS.query(AVAILABLE) >= WAKE;
    let flags = if wake { BPF_RB_FORCE_WAKEUP } else { BPF_RB_NO_WAKEUP };
    // SAFETY: `size` bytes of it are initialised, from the start.
    let whole = unsafe { core::slice::from_raw_parts((&raw const *scratch).cast::<u8>(), size) };
    CHUNKS.output::<[u8]>(whole, u64::from(flags)).is_ok()
}

/// `sock_recv_length(sk, ret, flags)`, since Linux 6.3.
#[raw_tracepoint(tracepoint = "sock_recv_length")]
pub fn sock_recv_length(context: RawTracePointContext) -> i32 {
    _ = passed(&context, what::RECEIVED);
    0
}

/// `sock_send_length(sk, ret, flags)`, since Linux 6.3.
#[raw_tracepoint(tracepoint = "sock_send_length")]
pub fn sock_send_length(context: RawTracePointContext) -> i32 {
    _ = passed(&context, what::SENT);
    0
}

/// `inet_sock_set_state(sk, oldstate, newstate)`. May run in anybody's time.
#[raw_tracepoint(tracepoint = "inet_sock_set_state")]
pub fn inet_sock_set_state(context: RawTracePointContext) -> i32 {
    let key: u64 = context.arg(0);
    let (old, state): (i32, i32) = (context.arg(1), context.arg(2));
    match state {
        TCP_SYN_SENT => connections::begins(key),
        // As there, what begins here is another socket than the one whose end went unnoticed, if there was one.
        TCP_SYN_RECV => _ = SOCKETS.remove(&key),
        TCP_ESTABLISHED if old == TCP_SYN_SENT => connections::opened(key),
        TCP_FIN_WAIT1 | TCP_LAST_ACK => ending(key),
        TCP_CLOSE => {
            connections::ended(key, old);
            _ = SOCKETS.remove(&key);
        }
        _ => {}
    }
    0
}

/// This end of a socket that is followed sends no more.
#[inline(always)]
fn ending(key: u64) {
    let Some(known) = SOCKETS.get_ptr_mut(&key) else { return };
    // SAFETY: an entry stays in memory while a program runs that looked it up.
    let socket = unsafe { &*known };
    // Not by way of the scratch: this may run in the middle of `moved`.
    match CHUNKS.reserve::<Chunk>(0) {
        Some(mut slot) => {
            // SAFETY: a helper without arguments.
            slot.write(chunk(socket, unsafe { bpf_ktime_get_boot_ns() }, what::ENDING, 0, 0));
            slot.submit(u64::from(BPF_RB_NO_WAKEUP));
        }
        None => count(lost::CHUNKS, 1),
    }
}

/// `sched_process_fork(parent, child)`: what is not wanted of a process is not wanted of its children.
#[raw_tracepoint(tracepoint = "sched_process_fork")]
pub fn sched_process_fork(context: RawTracePointContext) -> i32 {
    let parent = (bpf_get_current_pid_tgid() >> 32) as u32;
    // SAFETY: looked at only for being there.
    if unsafe { IGNORED.get(&parent) }.is_none() {
        return 0;
    }
    let task: *const u8 = context.arg(1);
    // SAFETY: what the kernel handed over.
    if let Some(child) = unsafe { member::<u32>(task, offsets().task_tgid) } {
        _ = IGNORED.insert(&child, &1, 0);
    }
    0
}

/// `sched_process_exec(task, …)`: another program, which is looked at anew.
#[raw_tracepoint(tracepoint = "sched_process_exec")]
pub fn sched_process_exec(_: RawTracePointContext) -> i32 {
    let process = (bpf_get_current_pid_tgid() >> 32) as u32;
    forget(process);
    tls::began(process);
    0
}
