//! DNS over TCP: two bytes that say how long a message is, and the message (RFC 1035, 4.2.2). Nothing in
//! them tells it from anything else, and some servers read those bytes one by one: it is known by its
//! port, and all of it is told.

use aya_ebpf::helpers::bpf_get_current_pid_tgid;
use aya_ebpf::helpers::generated::bpf_ktime_get_boot_ns;
use aya_ebpf::macros::raw_tracepoint;
use aya_ebpf::programs::RawTracePointContext;
use coral_bpf_types::protocol::DNS;
use coral_bpf_types::{SocketOffsets, lost};

use super::begins::is_read;
use super::bytes::{Source, source};
use super::framed::{Call, Long, framed, hand_over};
use super::room::OfCpu;
use super::{MET, meet, socket_offsets};
use crate::{count, member};

/// Where it is served.
const PORT: u16 = 53;

/// Whether a socket has that port, at either end.
#[inline(always)]
pub(super) fn is_spoken(sk: *const u8, offsets: &SocketOffsets) -> bool {
    // Both of them in one read: `skc_portpair` is the remote one, in network order, and the local one.
    // SAFETY: `sk` is what the kernel handed over.
    let Some([a, b, c, d]) = (unsafe { member::<[u8; 4]>(sk, offsets.remote_port) }) else {
        return false;
    };
    let (remote, local) = (u16::from_be_bytes([a, b]), u16::from_ne_bytes([c, d]));
    (remote == PORT || local == PORT) && is_read(DNS)
}

/// Follows such a socket from now on. On a way of its own: so it is nothing to the others that are looked at.
#[inline(always)]
pub(super) fn begin(
    context: &RawTracePointContext,
    key: u64,
    bytes: u32,
    direction: u32,
) -> Option<()> {
    let offsets = socket_offsets();
    let process = (bpf_get_current_pid_tgid() >> 32) as u32;
    // SAFETY: a helper without arguments.
    let at_ns = unsafe { bpf_ktime_get_boot_ns() };
    if meet::<OfCpu>(key, process, DNS, offsets, at_ns)?.is_err() {
        count(lost::SOCKETS, 1);
        return None;
    }
    // SAFETY: looked at only for being there.
    let new = unsafe { MET.get(&process) }.is_none();
    if new {
        _ = MET.insert(&process, &1, 0);
    }
    let source = source(offsets).unwrap_or(Source::NONE);
    hand_over::<OfCpu>(
        context,
        Call { key, at_ns, source, direction, bytes, begins: true, new },
        DNS,
    )
}

struct Whole;

impl Long for Whole {}

/// What the programs at the tracepoints end in where a socket speaks DNS.
#[raw_tracepoint]
pub fn framed_dns(_: RawTracePointContext) -> i32 {
    _ = framed::<Whole, OfCpu>();
    0
}
