//! Where the programs put things together: the stack has no room for it.
//!
//! Those at tracepoints have a place of each CPU's: nothing else runs on it until they are done. Those in
//! OpenSSL may be preempted by others of their kind, and have one of each thread's.

use core::ptr::NonNull;

use aya_ebpf::helpers::bpf_get_current_pid_tgid;
use aya_ebpf::macros::map;
use aya_ebpf::maps::{PerCpuArray, ProgramArray};
use coral_bpf_types::protocol;

use super::framed::Call;
use super::tls::{THREADS, Thread};
use super::{Scratch, Socket};

/// Where a chunk is put together.
#[map]
static SCRATCH: PerCpuArray<Scratch> = PerCpuArray::with_max_entries(1, 0);

/// Where what is known of a socket is.
#[map]
static MEETING: PerCpuArray<Socket> = PerCpuArray::with_max_entries(1, 0);

/// What is handed over to a protocol's program.
#[map]
static CALLS: PerCpuArray<Call> = PerCpuArray::with_max_entries(1, 0);

/// The program of each [`protocol`]; filled by the agent.
#[map]
static FRAMED: ProgramArray = ProgramArray::with_max_entries(protocol::PLACES, 0);

/// The same within TLS: a list holds programs of one type.
#[map]
static FRAMED_SEALED: ProgramArray = ProgramArray::with_max_entries(protocol::PLACES, 0);

/// Where a kind of program puts things together.
pub(super) trait Room {
    /// What it tells moved through a socket itself (0), or within TLS (1).
    const SEALED: u16;
    /// A chunk.
    fn scratch() -> Option<*mut Scratch>;
    /// What is known of a socket.
    fn meeting() -> Option<*mut Socket>;
    /// What is handed over.
    fn call() -> Option<*mut Call>;
    /// To which programs.
    fn programs() -> &'static ProgramArray;
}

/// The CPU's, for programs that nothing interrupts.
pub(super) struct OfCpu;

impl Room for OfCpu {
    const SEALED: u16 = 0;

    #[inline(always)]
    fn scratch() -> Option<*mut Scratch> {
        SCRATCH.get_ptr_mut(0)
    }

    #[inline(always)]
    fn meeting() -> Option<*mut Socket> {
        MEETING.get_ptr_mut(0)
    }

    #[inline(always)]
    fn call() -> Option<*mut Call> {
        CALLS.get_ptr_mut(0)
    }

    #[inline(always)]
    fn programs() -> &'static ProgramArray {
        &FRAMED
    }
}

/// The thread's that called OpenSSL.
pub(super) struct OfThread;

/// What there is of the current thread. Not inlined: each place where it was would take room for a key on a stack of
/// 512 bytes, which kernels before 6.13 share among all that call each other.
#[inline(never)]
fn thread() -> Option<NonNull<Thread>> {
    NonNull::new(THREADS.get_ptr_mut(&bpf_get_current_pid_tgid())?)
}

impl Room for OfThread {
    const SEALED: u16 = 1;

    #[inline(always)]
    fn scratch() -> Option<*mut Scratch> {
        let thread = thread()?.as_ptr();
        // SAFETY: a place in the entry.
        Some(unsafe { &raw mut (*thread).scratch })
    }

    #[inline(always)]
    fn meeting() -> Option<*mut Socket> {
        let thread = thread()?.as_ptr();
        // SAFETY: a place in the entry.
        Some(unsafe { &raw mut (*thread).meeting })
    }

    #[inline(always)]
    fn call() -> Option<*mut Call> {
        let thread = thread()?.as_ptr();
        // SAFETY: a place in the entry.
        Some(unsafe { &raw mut (*thread).call })
    }

    #[inline(always)]
    fn programs() -> &'static ProgramArray {
        &FRAMED_SEALED
    }
}
