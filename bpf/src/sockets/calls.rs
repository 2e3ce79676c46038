//! Bytes that moved through sockets, on kernels that have no tracepoint in sockets which says so (before Linux 6.3).
//!
//! Hangs on `sys_exit`, where every call of every program ends, so that it begins with the cheapest questions; and
//! finds the socket by the descriptor that the call was given, as the kernel does. From there on all is as it is at
//! the tracepoints ([`super::moved`]). It costs whoever makes calls more than they do, comes a little later, and does
//! not see what goes through rings (`io_uring`).

use aya_ebpf::helpers::generated::bpf_get_current_task;
use aya_ebpf::macros::{map, raw_tracepoint};
use aya_ebpf::maps::Array;
use aya_ebpf::programs::RawTracePointContext;
use coral_bpf_types::{CallOffsets, way, what};

use super::bytes::{Arguments, arguments};
use super::{MSG_ERRQUEUE, MSG_PEEK, SOCK_DGRAM, datagrams, kind, moved, socket_offsets, wanted};
use crate::member;

/// [`way`] of each call, by its number; set by the agent.
#[map]
static WAYS: Array<u8> = Array::with_max_entries(512, 0);

/// Set before loading; see [`CallOffsets`].
#[unsafe(no_mangle)]
static CALL_OFFSETS: CallOffsets = CallOffsets {
    files: 0,
    table: 0,
    most: 0,
    list: 0,
    inode: 0,
    mode: 0,
    private: 0,
    sk: 0,
    first: 0,
    fourth: 0,
};

/// `S_IFMT` and `S_IFSOCK`.
const FORMAT: u16 = 0o170_000;
const SOCKET: u16 = 0o140_000;

fn call_offsets() -> &'static CallOffsets {
    // As in `socket_offsets`.
    core::hint::black_box(&CALL_OFFSETS)
}

/// The socket that a descriptor of the current process leads to; `None` where it leads to something else.
#[inline(always)]
fn socket(fd: u64, offsets: &CallOffsets) -> Option<*const u8> {
    // SAFETY: the current task, and what is found from there; each reading is checked and fails rather than fault.
    unsafe {
        let task = bpf_get_current_task() as *const u8;
        let files: *const u8 = member(task, offsets.files)?;
        let table: *const u8 = member(files, offsets.table)?;
        if fd >= u64::from(member::<u32>(table, offsets.most)?) {
            return None;
        }
        let list: *const u8 = member(table, offsets.list)?;
        let file: *const u8 = member(list, fd as u32 * 8)?;
        let inode: *const u8 = member(file, offsets.inode)?;
        if member::<u16>(inode, offsets.mode)? & FORMAT != SOCKET {
            return None;
        }
        let socket: *const u8 = member(file, offsets.private)?;
        let sk: *const u8 = member(socket, offsets.sk)?;
        if sk.is_null() { None } else { Some(sk) }
    }
}

/// A call is over that may have moved bytes.
#[inline(always)]
fn over(context: &RawTracePointContext) -> Option<()> {
    let given: i64 = context.arg(1);
    if given <= 0 {
        return None;
    }
    let regs: *const u8 = context.arg(0);
    let offsets = socket_offsets();
    // SAFETY: what the kernel handed over.
    let call: u64 = unsafe { member(regs, offsets.call)? };
    let way = *WAYS.get(u32::try_from(call).ok()?)?;
    if way == 0 {
        return None;
    }
    let process = wanted()?;
    // SAFETY: as above.
    let Arguments { first, second, third, .. } = unsafe { arguments(regs, offsets)? };
    let places = call_offsets();
    let first = match places.first == offsets.first {
        true => first,
        // SAFETY: what the kernel handed over.
        false => unsafe { member(regs, places.first)? },
    };
    let (mut sk, mut direction) = (None, what::RECEIVED);
    if way & (way::RECEIVES | way::SENDS) != 0 {
        sk = socket(first & 0xffff_ffff, places);
        direction = if way & way::SENDS != 0 { what::SENT } else { what::RECEIVED };
    }
    if sk.is_none() && way & way::SENDS_THIRD != 0 {
        (sk, direction) = (socket(third & 0xffff_ffff, places), what::SENT);
    }
    let sk = sk?;
    let flags = match way & (way::HOW_THIRD | way::HOW_FOURTH) {
        way::HOW_THIRD => third as i32,
        // SAFETY: what the kernel handed over.
        way::HOW_FOURTH => unsafe { member::<u64>(regs, places.fourth)? as i32 },
        _ => 0,
    };
    if flags & (MSG_PEEK | MSG_ERRQUEUE) != 0 {
        return None;
    }
    if way & way::SEVERAL != 0 {
        if kind(sk, offsets)? != SOCK_DGRAM {
            return None;
        }
        return datagrams::hand_over_several(context, sk as u64, second, given as u32, direction);
    }
    let bytes = if given > i64::from(i32::MAX) { i32::MAX as u32 } else { given as u32 };
    moved(context, sk, bytes, flags, direction, process)
}

/// `sys_exit(regs, ret)`.
#[raw_tracepoint(tracepoint = "sys_exit")]
pub fn sys_exit(context: RawTracePointContext) -> i32 {
    _ = over(&context);
    0
}
