//! DNS over UDP: each call moves a message, which is told whole.
//!
//! The programs at the tracepoints end in the one here for every UDP socket. It looks at the twelve bytes
//! that a message of DNS begins with, and goes on only where they are such ones: so nothing but those is
//! read of anything else. Of a socket nothing is remembered. Who a datagram went to is in the call where
//! the socket is not connected; who it came from is told to the program after the tracepoint, and is not
//! known here: the agent has it from the other message.

use core::ffi::c_void;

use aya_ebpf::helpers::generated::{
    bpf_get_current_task_btf, bpf_ktime_get_boot_ns, bpf_loop, bpf_task_pt_regs,
};
use aya_ebpf::helpers::{bpf_get_current_comm, bpf_get_current_pid_tgid};
use aya_ebpf::macros::{map, raw_tracepoint};
use aya_ebpf::maps::PerCpuArray;
use aya_ebpf::programs::RawTracePointContext;
use coral_bpf_types::protocol::{DATAGRAMS, SEVERAL as OF_CALL};
use coral_bpf_types::{COMM, COPIED, Chunk, SocketOffsets, form, lost, transport, what};

use super::bytes::{Cursor, FORMS, Source, copy, user};
use super::framed::Call;
use super::room::{OfCpu, Room as _};
use super::{AF_INET, AF_INET6, MET, SOCKET_OFFSETS, affordable, put, socket_offsets};
use crate::{count, member, pid_seen_by_agent};

/// Names of the local network, which nobody is asked for in particular (mDNS, LLMNR).
const NOBODYS: [u16; 2] = [5353, 5355];
/// Bytes of a `struct mmsghdr`.
const MMSGHDR: u64 = 64;
/// Where it says how much was moved.
const MMSGHDR_LENGTH: u64 = 56;
/// Of a call that is over so many messages are looked at; more are lost, counted.
const MESSAGES: u32 = 64;
/// A call that moves several messages goes on from one to the next within this time, ns.
const TOGETHER: u64 = 100_000_000;

/// A call that moves several messages: each of them meets the tracepoint, which does not say which it is.
#[repr(C)]
#[derive(Clone, Copy)]
struct Several {
    thread: u64,
    /// Its list of messages.
    list: u64,
    at_ns: u64,
    /// The message that comes next.
    next: u32,
    /// How much the one before moved.
    moved: u32,
}

/// The last such call of this CPU.
#[map]
static SEVERAL: PerCpuArray<Several> = PerCpuArray::with_max_entries(1, 0);

/// A call has failed: no message of it comes any more.
#[inline(always)]
pub(super) fn broken_off() {
    let Some(several) = SEVERAL.get_ptr_mut(0) else { return };
    // SAFETY: this CPU's own slot.
    unsafe {
        if (*several).thread == bpf_get_current_pid_tgid() {
            (*several).thread = 0;
        }
    }
}

/// Goes on in the program for datagrams, where there is one.
#[inline(always)]
pub(super) fn hand_over(
    context: &RawTracePointContext,
    key: u64,
    bytes: u32,
    direction: u32,
) -> Option<()> {
    let place = OfCpu::call()?;
    let source = Source::NONE;
    // SAFETY: as in `framed::hand_over`.
    unsafe {
        *place = Call { key, at_ns: 0, source, direction, bytes, begins: false, new: false };
        OfCpu::programs().tail_call(context, u32::from(DATAGRAMS));
    }
    None
}

/// Goes on in the program for the messages of a call that is over, where there is one.
#[inline(always)]
pub(super) fn hand_over_several(
    context: &RawTracePointContext,
    key: u64,
    list: u64,
    messages: u32,
    direction: u32,
) -> Option<()> {
    let place = OfCpu::call()?;
    let source = Source { list, pieces: 0, base: 0 };
    // SAFETY: as in `framed::hand_over`.
    unsafe {
        *place =
            Call { key, at_ns: 0, source, direction, bytes: messages, begins: false, new: false };
        OfCpu::programs().tail_call(context, u32::from(OF_CALL));
    }
    None
}

/// Which message of its list a call that moves several has come to.
#[inline(always)]
unsafe fn message(list: u64, messages: u64, bytes: u32, at_ns: u64) -> Option<u64> {
    // SAFETY: this CPU's own slot.
    let several = unsafe { &mut *SEVERAL.get_ptr_mut(0)? };
    let thread = bpf_get_current_pid_tgid();
    let same = several.thread == thread
        && several.list == list
        && at_ns - several.at_ns < TOGETHER
        && u64::from(several.next) < messages;
    let mut at = 0;
    if same {
        let next = u64::from(several.next);
        // Of the one before the kernel has written how much it moved.
        // SAFETY: an address that the program gave; reading it may fail and does no harm.
        let moved = unsafe { user::<u32>(list + (next - 1) * MMSGHDR + MMSGHDR_LENGTH) };
        if moved == Some(several.moved) {
            at = next;
        }
    }
    *several = Several { thread, list, at_ns, next: at as u32 + 1, moved: bytes };
    Some(list + at * MMSGHDR)
}

/// Where a call has the bytes of its message, and the address it sends them to.
struct Found {
    source: Source,
    name: u64,
}

#[inline(always)]
fn found(offsets: &SocketOffsets, bytes: u32, at_ns: u64) -> Option<Found> {
    // SAFETY: helpers without arguments but the current task; what they give is read by `member`.
    unsafe {
        let regs = bpf_task_pt_regs(bpf_get_current_task_btf()) as *const u8;
        let call: u64 = member(regs, offsets.call)?;
        let form = *FORMS.get(u32::try_from(call).ok()?)?;
        if form == form::NONE {
            return None;
        }
        let second: u64 = member(regs, offsets.second)?;
        if form == form::BUFFER {
            let name: u64 = member(regs, offsets.fifth)?;
            return Some(Found { source: Source { list: 0, pieces: 1, base: second }, name });
        }
        let third: u64 = member(regs, offsets.third)?;
        if form == form::PIECES {
            let source = Source { list: second, pieces: third, base: 0 };
            return Some(Found { source, name: 0 });
        }
        let header = match form {
            form::MESSAGES => message(second, third & 0xffff_ffff, bytes, at_ns)?,
            _ => second,
        };
        of_header(header)
    }
}

/// What a message's header says: `struct user_msghdr` has name, its length, list of pieces, how many.
#[inline(always)]
unsafe fn of_header(header: u64) -> Option<Found> {
    // SAFETY: an address that the program gave; reading it may fail and does no harm.
    let [name, _, list, pieces] = unsafe { user::<[u64; 4]>(header)? };
    Some(Found { source: Source { list, pieces, base: 0 }, name })
}

/// Whether a message of DNS begins so (RFC 1035, 4.1.1): a question, or what was answered to one.
#[inline(always)]
fn is_dns(header: [u8; 12], bytes: u32) -> bool {
    let [_, _, high, low, q, questions, a, answers, n, names, _, more] = header;
    // An ordinary query or its answer; nothing in the bit that is kept free.
    if high & 0x78 != 0 || low & 0x40 != 0 || q != 0 {
        return false;
    }
    if high & 0x80 == 0 {
        // Nothing but a question, and perhaps what the asker can do, or who it is.
        let none = low & 0x0f == 0 && a == 0 && answers == 0 && n == 0 && names == 0;
        return none && questions == 1 && more <= 2 && bytes >= 17;
    }
    // What could not even be read is answered without its question.
    questions == 1 && bytes >= 17 || questions == 0 && low & 0x0f != 0
}

/// An address of IPv4 or IPv6 with its port: family, port, address.
type Address = (u16, u16, [u8; 16]);

const NO_ADDRESS: Address = (0, 0, [0; 16]);

/// The address of a `struct sockaddr` of the program.
#[inline(always)]
unsafe fn address(name: u64) -> Option<Address> {
    // SAFETY: an address that the program gave; reading it may fail and does no harm.
    unsafe {
        let [a, b, c, d, p, q, r, s] = user::<[u8; 8]>(name)?;
        let (family, port) = (u16::from_ne_bytes([a, b]), u16::from_be_bytes([c, d]));
        match family {
            AF_INET => Some((family, port, [p, q, r, s, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0])),
            AF_INET6 => Some((family, port, user::<[u8; 16]>(name + 8)?)),
            _ => None,
        }
    }
}

/// Tells of the message that a call is moving.
#[inline(always)]
fn datagram() -> Option<()> {
    // SAFETY: this CPU's own; nothing else runs on it in between that uses it.
    let Call { key, direction, bytes, .. } = unsafe { *OfCpu::call()? };
    // SAFETY: a helper without arguments.
    let at_ns = unsafe { bpf_ktime_get_boot_ns() };
    told(key, direction, bytes, at_ns, found(socket_offsets(), bytes, at_ns)?)
}

/// Tells of a message of a call that is over.
extern "C" fn one(n: u32, _: *mut c_void) -> i64 {
    _ = of_call(n);
    0
}

#[inline(always)]
fn of_call(n: u32) -> Option<()> {
    // SAFETY: this CPU's own; nothing else runs on it in between that uses it.
    let Call { key, direction, source, .. } = unsafe { *OfCpu::call()? };
    let header = source.list + u64::from(n) * MMSGHDR;
    // SAFETY: a helper without arguments; addresses that the program gave.
    unsafe {
        let bytes = user::<u32>(header + MMSGHDR_LENGTH)?;
        told(key, direction, bytes, bpf_ktime_get_boot_ns(), of_header(header)?)
    }
}

/// Tells of a message, if it is one of DNS.
#[inline(always)]
fn told(key: u64, direction: u32, bytes: u32, at_ns: u64, found: Found) -> Option<()> {
    // Each by itself: on the stack there is no room for where they all are, of which kernels before 6.13 give all parts
    // of a program 512 bytes together.
    // SAFETY: a static of plain integers; volatile because the loader replaces it.
    let offset = |place: *const u32| unsafe { core::ptr::read_volatile(place) };
    let Found { source, name } = found;
    let mut cursor = Cursor::of(&source);
    if source.list != 0 && !cursor.piece(&source) || cursor.left < 12 || bytes < 12 {
        return None;
    }
    // SAFETY: an address that the program gave; reading it may fail and does no harm.
    if !is_dns(unsafe { user::<[u8; 12]>(cursor.base)? }, bytes) {
        return None;
    }
    let sk = key as *const u8;
    // SAFETY: `sk` is what the kernel handed over.
    let (mut family, local_port, mut remote_port) = unsafe {
        (
            member::<u16>(sk, offset(&raw const SOCKET_OFFSETS.family))?,
            member::<u16>(sk, offset(&raw const SOCKET_OFFSETS.local_port))?,
            u16::from_be(member::<u16>(sk, offset(&raw const SOCKET_OFFSETS.remote_port))?),
        )
    };
    let (mut local, mut remote) = ([0; 16], [0; 16]);
    // SAFETY: as above.
    unsafe {
        if family == AF_INET6 {
            local = member(sk, offset(&raw const SOCKET_OFFSETS.local6))?;
            remote = member(sk, offset(&raw const SOCKET_OFFSETS.remote6))?;
        } else {
            let [a, b, c, d]: [u8; 4] = member(sk, offset(&raw const SOCKET_OFFSETS.local4))?;
            let [p, q, r, s]: [u8; 4] = member(sk, offset(&raw const SOCKET_OFFSETS.remote4))?;
            (local[0], local[1], local[2], local[3]) = (a, b, c, d);
            (remote[0], remote[1], remote[2], remote[3]) = (p, q, r, s);
        }
    }
    if remote_port == 0 && direction == what::SENT && name != 0 {
        // A socket of IPv6 may be told an address of IPv4 only as one of IPv6.
        // SAFETY: as above.
        let (kind, port, address) = unsafe { address(name).unwrap_or(NO_ADDRESS) };
        if kind == family {
            (remote_port, remote) = (port, address);
        } else if kind == AF_INET6 {
            family = kind;
            (remote_port, remote, local) = (port, address, [0; 16]);
        }
    }
    let [mdns, llmnr] = NOBODYS;
    if local_port == mdns || local_port == llmnr || remote_port == mdns || remote_port == llmnr {
        return None;
    }
    let process = (bpf_get_current_pid_tgid() >> 32) as u32;
    // SAFETY: looked at only for being there.
    let new = unsafe { MET.get(&process) }.is_none();
    if new {
        _ = MET.insert(&process, &1, 0);
    }
    // SAFETY: this CPU's own; nothing else runs on it in between that uses it.
    let scratch = unsafe { &mut *OfCpu::scratch()? };
    let most = if bytes < COPIED as u32 { bytes } else { COPIED as u32 };
    let copied = match affordable(at_ns, most, true) {
        true => copy(&source, most, &mut Cursor::of(&source), scratch),
        false => 0,
    };
    scratch.chunk = Chunk {
        at_ns,
        socket: 0,
        place: 0,
        process,
        pid: pid_seen_by_agent(crate::offsets()),
        total: bytes,
        copied,
        missed_received: 0,
        missed_sent: 0,
        what: direction,
        family,
        local_port,
        remote_port,
        transport: transport::DATAGRAM,
        sealed: 0,
        over: 0,
        local,
        remote,
        comm: bpf_get_current_comm().unwrap_or([0; COMM]),
    };
    if !put(scratch, new) {
        count(lost::CHUNKS, 1);
    }
    Some(())
}

/// What the programs at the tracepoints end in for a UDP socket.
#[raw_tracepoint]
pub fn datagrams(_: RawTracePointContext) -> i32 {
    _ = datagram();
    0
}

/// What the program at the end of calls ends in for those that moved several messages through a UDP socket.
#[raw_tracepoint]
pub fn datagrams_of_call(_: RawTracePointContext) -> i32 {
    // SAFETY: this CPU's own; nothing else runs on it in between that uses it.
    let Some(messages) = OfCpu::call().map(|call| unsafe { (*call).bytes }) else { return 0 };
    if messages > MESSAGES {
        count(lost::CHUNKS, u64::from(messages - MESSAGES));
    }
    let messages = if messages < MESSAGES { messages } else { MESSAGES };
    // SAFETY: `one` is what the helper calls, and takes nothing.
    unsafe { bpf_loop(messages, one as *mut c_void, core::ptr::null_mut(), 0) };
    0
}
