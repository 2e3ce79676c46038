//! Programs that run in the kernel.
//!
//! Raw tracepoints: they need no tracefs, no kprobe, and cost nothing where nothing happens; and, for what is
//! within TLS, uprobes in OpenSSL ([`sockets`]). No program writes to anyone's memory. What a program cannot hand over because the ring is full is
//! counted in `LOST`, by kind.

#![no_std]
#![no_main]

mod sockets;

use aya_ebpf::bindings::bpf_pidns_info;
use aya_ebpf::helpers::generated::{bpf_get_ns_current_pid_tgid, bpf_ktime_get_boot_ns};
use aya_ebpf::helpers::{
    bpf_get_current_comm, bpf_get_current_pid_tgid, bpf_get_current_uid_gid, bpf_probe_read_kernel,
};
use aya_ebpf::macros::{map, raw_tracepoint};
use aya_ebpf::maps::{LruHashMap, PerCpuArray, RingBuf};
use aya_ebpf::programs::RawTracePointContext;
use coral_bpf_types::{COMM, ITSELF, KERNEL, OOM, Offsets, ProcessEnd, lost};

/// Set before loading; see [`Offsets`].
#[unsafe(no_mangle)]
static OFFSETS: Offsets = Offsets {
    task_tgid: 0,
    task_exit_code: 0,
    task_start: 0,
    task_signal: 0,
    signal_live: 0,
    task_leader: 0,
    task_comm: 0,
    task_parent: 0,
    pid_ns_dev: 0,
    pid_ns_ino: 0,
};

/// [`ProcessEnd`]s on their way to the agent.
#[map]
static ENDS: RingBuf = RingBuf::with_byte_size(256 << 10, 0);

/// What found no room, by [`lost`].
#[map]
static LOST: PerCpuArray<u64> = PerCpuArray::with_max_entries(lost::PLACES, 0);

/// The last deadly signal sent to a process, by its pid (of the first namespace).
#[map]
static SIGNALS: LruHashMap<u32, Sent> = LruHashMap::with_max_entries(4096, 0);

/// Processes the kernel chose when memory ran out.
#[map]
static VICTIMS: LruHashMap<u32, u8> = LruHashMap::with_max_entries(1024, 0);

#[repr(C)]
#[derive(Clone, Copy)]
struct Sent {
    at_ns: u64,
    signal: u32,
    pid: u32,
    uid: u32,
    flags: u32,
    comm: [u8; COMM],
}

/// A process that exits so long after a signal, in nanoseconds, does so for another reason.
const SOON: u64 = 90_000_000_000;

/// `SEND_SIG_PRIV`: in place of a pointer, says that the kernel itself sends.
const FROM_KERNEL: u64 = 1;

fn offsets() -> &'static Offsets {
    // The loader replaces it: what is here is not what it is. Each is read where it is needed.
    core::hint::black_box(&OFFSETS)
}

/// Whether the default action of a signal ends a process.
fn is_deadly(signal: i32) -> bool {
    // CHLD, CONT, STOP, TSTP, TTIN, TTOU, URG and WINCH do not.
    !matches!(signal, 17 | 18 | 19 | 20 | 21 | 22 | 23 | 28) && (1..=64).contains(&signal)
}

/// Whether programs take a signal for ends of their own: timers, input that is there, and what has no
/// meaning but theirs. A process may die of one, but does not exit for it.
fn is_daily(signal: i32) -> bool {
    // USR1, USR2, PIPE, ALRM, VTALRM, PROF, IO, and those for real time.
    matches!(signal, 10 | 12 | 13 | 14 | 26 | 27 | 29 | 32..)
}

/// The current process as the agent's pid namespace numbers it; 0 when it is not in there.
fn pid_seen_by_agent(offsets: &Offsets) -> u32 {
    let mut info = bpf_pidns_info { pid: 0, tgid: 0 };
    // SAFETY: the helper writes exactly the size it is told.
    let failed = unsafe {
        bpf_get_ns_current_pid_tgid(
            offsets.pid_ns_dev,
            offsets.pid_ns_ino,
            &raw mut info,
            size_of::<bpf_pidns_info>() as u32,
        )
    };
    if failed == 0 { info.tgid } else { 0 }
}

/// Counts what was lost.
fn count(place: u32, n: u64) {
    if let Some(lost) = LOST.get_ptr_mut(place) {
        // SAFETY: this CPU's own slot.
        unsafe { *lost += n };
    }
}

/// Reads a member of a kernel structure.
unsafe fn member<T>(structure: *const u8, offset: u32) -> Option<T> {
    // SAFETY: the helper checks the address and fails rather than fault.
    unsafe { bpf_probe_read_kernel(structure.add(offset as usize).cast::<T>()) }.ok()
}

/// Command name of a process's parent, which is that of its first thread; nothing where it cannot be read.
#[inline(always)]
fn parent_of(leader: *const u8, offsets: &Offsets) -> Option<[u8; COMM]> {
    // SAFETY: a task is not freed while a program runs that found it (RCU), and the helper checks addresses.
    unsafe {
        let thread: *const u8 = member(leader, offsets.task_parent)?;
        let parent: *const u8 = member(thread, offsets.task_leader)?;
        member(parent, offsets.task_comm)
    }
}

/// `signal_generate(sig, info, task, group, result)`.
#[raw_tracepoint(tracepoint = "signal_generate")]
pub fn signal_generate(context: RawTracePointContext) -> i32 {
    let signal: i32 = context.arg(0);
    if !is_deadly(signal) {
        return 0;
    }
    let info: u64 = context.arg(1);
    let task: *const u8 = context.arg(2);
    let offsets = offsets();
    // SAFETY: `task` is what the kernel handed over.
    let Some(target) = (unsafe { member::<u32>(task, offsets.task_tgid) }) else { return 0 };
    // What asked it to end stands.
    // SAFETY: looked at, not kept.
    if is_daily(signal)
        && unsafe { SIGNALS.get(&target) }.is_some_and(|sent| !is_daily(sent.signal as i32))
    {
        return 0;
    }
    let sender = (bpf_get_current_pid_tgid() >> 32) as u32;
    let mut flags = 0;
    // A fault's signal is raised while the faulting thread runs, with particulars of its own; both
    // it and what `abort` raises come out of the process itself.
    if info == FROM_KERNEL {
        flags |= KERNEL;
    } else if sender == target {
        flags |= ITSELF;
    }
    let sent = Sent {
        // SAFETY: a helper without arguments.
        at_ns: unsafe { bpf_ktime_get_boot_ns() },
        signal: signal as u32,
        pid: pid_seen_by_agent(offsets),
        uid: bpf_get_current_uid_gid() as u32,
        flags,
        comm: bpf_get_current_comm().unwrap_or([0; COMM]),
    };
    _ = SIGNALS.insert(&target, &sent, 0);
    0
}

/// `mark_victim(task, uid)`; before Linux 6.9 `mark_victim(pid)`.
#[raw_tracepoint(tracepoint = "mark_victim")]
pub fn mark_victim(context: RawTracePointContext) -> i32 {
    let first: u64 = context.arg(0);
    // A pid is small, an address of the kernel is not.
    let pid = if first <= u64::from(u32::MAX) {
        first as u32
    } else {
        // SAFETY: an address the kernel handed over.
        let task = first as *const u8;
        match unsafe { member::<u32>(task, offsets().task_tgid) } {
            Some(pid) => pid,
            None => return 0,
        }
    };
    _ = VICTIMS.insert(&pid, &1, 0);
    0
}

/// `sched_process_exit(task, …)`, once per thread; the current task is the one that ends.
#[raw_tracepoint(tracepoint = "sched_process_exit")]
pub fn sched_process_exit(context: RawTracePointContext) -> i32 {
    sockets::thread_ended();
    let task: *const u8 = context.arg(0);
    let offsets = offsets();
    // SAFETY: what the kernel handed over; the first thread's task is there until all have ended.
    let (signals, code, leader) = unsafe {
        (
            member::<*const u8>(task, offsets.task_signal),
            member::<i32>(task, offsets.task_exit_code),
            member::<*const u8>(task, offsets.task_leader),
        )
    };
    let (Some(signals), Some(code), Some(leader)) = (signals, code, leader) else { return 0 };
    // SAFETY: as above.
    let (start, comm) = unsafe {
        (member::<u64>(leader, offsets.task_start), member::<[u8; COMM]>(leader, offsets.task_comm))
    };
    let (Some(start), Some(comm)) = (start, comm) else { return 0 };
    // SAFETY: its signal_struct lives as long as any of its threads.
    let Some(live) = (unsafe { member::<i32>(signals, offsets.signal_live) }) else { return 0 };
    if live != 0 {
        return 0;
    }
    let parent = parent_of(leader, offsets).unwrap_or([0; COMM]);
    let pid = (bpf_get_current_pid_tgid() >> 32) as u32;
    sockets::forget(pid);
    let Some(mut slot) = ENDS.reserve::<ProcessEnd>(0) else {
        count(lost::ENDS, 1);
        return 0;
    };
    let mut end = ProcessEnd {
        // SAFETY: helpers without arguments.
        at_ns: unsafe { bpf_ktime_get_boot_ns() },
        start_ns: start,
        pid: pid_seen_by_agent(offsets),
        status: code as u32,
        sender_pid: 0,
        sender_uid: 0,
        signal: 0,
        flags: 0,
        comm,
        sender: [0; COMM],
        parent,
    };
    // SAFETY: copied at once; a replaced entry would be one of the same process.
    let sent = unsafe { SIGNALS.get(&pid) };
    let died = code & 0x7f != 0;
    let meant =
        |sent: &&Sent| !is_daily(sent.signal as i32) && end.at_ns.wrapping_sub(sent.at_ns) < SOON;
    if let Some(sent) = sent.filter(|sent| died || meant(sent)) {
        end.sender_pid = sent.pid;
        end.sender_uid = sent.uid;
        end.signal = sent.signal;
        end.flags = sent.flags;
        end.sender = sent.comm;
    }
    // SAFETY: as above.
    if unsafe { VICTIMS.get(&pid) }.is_some() {
        end.flags |= OOM;
    }
    _ = SIGNALS.remove(&pid);
    _ = VICTIMS.remove(&pid);
    slot.write(end);
    slot.submit(0);
    0
}

#[cfg(not(test))]
#[panic_handler]
fn panic(_: &core::panic::PanicInfo) -> ! {
    loop {}
}

/// Tracing helpers are for programs under a licence that the kernel knows.
#[unsafe(link_section = "license")]
#[unsafe(no_mangle)]
static LICENSE: [u8; 13] = *b"Dual MIT/GPL\0";
