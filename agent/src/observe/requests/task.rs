//! The thread that reads the ring.

use std::sync::Arc;
use std::sync::mpsc::SyncSender;
use std::time::Duration;

use aya::maps::{HashMap, MapData, RingBuf};
use coral_bpf_types::{Chunk, what};
use coral_model::Time;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use tokio_util::sync::CancellationToken;

use super::table::{Table, Wanted};
use super::tls::Met;
use crate::observe::clock::Clocks;
use crate::observe::kernel::ask::Asker;
use crate::observe::kernel::load::Lost;
use crate::pipeline::Pipeline;

/// How long chunks may wait in the ring, unless it fills.
const EVERY: Duration = Duration::from_millis(50);
/// Requests in flight are told this often, ns.
const WAITING_NS: u64 = 1_000_000_000;
/// Chunks after which the requests found are handed on.
const AT_ONCE: usize = 4_096;

/// What comes from the kernel, and what is told to it.
pub struct Ends {
    /// Chunks.
    pub chunks: RingBuf<MapData>,
    /// Processes of which nothing is wanted.
    pub ignored: HashMap<MapData, u32, u8>,
    /// Those of which nothing is wanted that they write to their standard output.
    pub quiet: HashMap<MapData, u32, u8>,
    /// What found no room.
    pub lost: Lost,
    /// Asks the kernel what it has counted of a connection; `None` where it cannot be asked.
    pub asker: Option<Asker>,
}

/// Reads until cancelled. Processes that may use OpenSSL are handed to `met`.
pub fn run(
    mut ends: Ends,
    mut table: Table,
    met: &SyncSender<Met>,
    pipeline: &Arc<Pipeline>,
    cancel: &CancellationToken,
) {
    let mut told_ns = 0;
    let mut lost = 0;
    while !cancel.is_cancelled() {
        wait(&ends.chunks);
        let clocks = Clocks::now();
        let epoch_ns = clocks.wall_ns.saturating_sub(clocks.boot_ns);
        // Before what is in the ring: the loss came after some of it.
        let now_lost = ends.lost.at(coral_bpf_types::lost::CHUNKS);
        if std::mem::replace(&mut lost, now_lost) != now_lost {
            table.lost(clocks.wall_ns);
        }
        loop {
            let read = drain(&mut ends, &mut table, met, epoch_ns);
            let now = Time(clocks.wall_ns);
            let requests: Vec<_> = table.ended().collect();
            if !requests.is_empty() {
                pipeline.see(requests.iter().map(|request| request.seen()), now);
                pipeline.trace(requests.iter().map(|request| request.traced()), now);
            }
            if read < AT_ONCE || cancel.is_cancelled() {
                break;
            }
        }
        table.remains().drained(clocks.boot_ns);
        if clocks.boot_ns.saturating_sub(told_ns) >= WAITING_NS {
            told_ns = clocks.boot_ns;
            for process in table.remains().wanted_again() {
                // It may have ended since.
                _ = ends.quiet.remove(&process);
            }
            table.settle(clocks.boot_ns, epoch_ns);
            table.waiting(clocks.boot_ns, epoch_ns, |waiting| {
                pipeline.wait(waiting, Time(clocks.wall_ns));
            });
            table.sweep(clocks.boot_ns, epoch_ns);
            count_connections(ends.asker.as_ref(), &mut table, pipeline, &clocks);
        }
    }
}

/// Tells what became of connections since the last time, and asks what the kernel has counted of them,
/// which comes through the ring.
fn count_connections(
    asker: Option<&Asker>,
    table: &mut Table,
    pipeline: &Arc<Pipeline>,
    clocks: &Clocks,
) {
    let deltas: Vec<_> = table.connections(clocks.boot_ns).collect();
    if !deltas.is_empty() {
        let connected = deltas.iter().map(|delta| delta.connected(clocks.wall_ns));
        pipeline.connect(connected, Time(clocks.wall_ns));
    }
    let Some(asker) = asker else { return };
    let sockets = table.to_ask(clocks.boot_ns);
    for socket in asker.unknown(&sockets) {
        table.gone(socket, clocks.boot_ns);
    }
}

fn drain(ends: &mut Ends, table: &mut Table, met: &SyncSender<Met>, epoch_ns: u64) -> usize {
    let mut read = 0;
    while read < AT_ONCE {
        let Some(item) = ends.chunks.next() else { break };
        read += 1;
        let Some((chunk, bytes)) = Chunk::from_bytes(&item) else { continue };
        let speaks = chunk.what == what::SEALED;
        let wanted = match chunk.what {
            what::BEGAN => {
                table.began(&chunk);
                Wanted::Yes
            }
            what::SAID => table.said(&chunk, bytes),
            what::HELLO => table.hello(&chunk, bytes),
            what::SEALED => table.wants(&chunk),
            _ => table.take(&chunk, bytes, epoch_ns),
        };
        if wanted == Wanted::Yes && (speaks || chunk.what == what::BEGAN) && chunk.pid != 0 {
            // Where too many wait, it is met again when it is another program.
            _ = met.try_send(Met { pid: chunk.pid, speaks });
        }
        // Without room it is told of again, and answered so again.
        match wanted {
            Wanted::No(process) => _ = ends.ignored.insert(process, 1, 0),
            Wanted::Quiet(process) => _ = ends.quiet.insert(process, 1, 0),
            Wanted::Yes => {}
        }
    }
    read
}

fn wait(ring: &RingBuf<MapData>) {
    let timeout = Timespec { tv_sec: 0, tv_nsec: EVERY.subsec_nanos().into() };
    let mut fds = [PollFd::new(ring, PollFlags::IN)];
    // Interrupted or not, what is there is read.
    _ = poll(&mut fds, Some(&timeout));
}
