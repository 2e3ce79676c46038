//! The agent about itself: cost, counters, senses.

use coral_model::{Time, num};
use coral_proto::v1::AgentReport;

use crate::observe::clock::own_cpu_ns;
use crate::observe::kernel::lids::Lids;
use crate::pipeline::Pipeline;
use crate::senses::Senses;

/// Measures the agent's own CPU use between two reports.
#[derive(Debug, Default)]
pub struct OwnCost {
    last: Option<(u64, u64)>,
}

impl OwnCost {
    /// Cores used since the last call; `None` at first.
    fn cores(&mut self, now_ns: u64) -> Option<f64> {
        let cpu = own_cpu_ns();
        let before = self.last.replace((now_ns, cpu));
        let (then, cpu_then) = before?;
        let wall = now_ns.checked_sub(then).filter(|&wall| wall > 0)?;
        Some(num::f64_from(cpu.saturating_sub(cpu_then)) / num::f64_from(wall))
    }
}

/// Resident memory of this process.
#[must_use]
pub fn rss_bytes() -> Option<u64> {
    let statm = std::fs::read_to_string("/proc/self/statm").ok()?;
    let pages: u64 = statm.split_ascii_whitespace().nth(1)?.parse().ok()?;
    Some(pages.saturating_mul(rustix::param::page_size() as u64))
}

/// The report of now.
pub fn report(
    pipeline: &Pipeline,
    senses: &Senses,
    lids: &Lids,
    cost: &mut OwnCost,
    offset: Option<i64>,
    now: Time,
) -> AgentReport {
    let (spool_bytes, spool_capacity_bytes) = pipeline.spool.usage();
    let oldest = pipeline.spool.oldest_unacked_ns();
    AgentReport {
        at_ns: now.0,
        spool_bytes,
        spool_capacity_bytes,
        lag_ns: oldest.map_or(0, |then| now.0.saturating_sub(then)),
        clock_offset_ns: offset,
        rss_bytes: rss_bytes(),
        cpu_cores: cost.cores(now.0),
        counters: pipeline.counters.to_map(),
        senses: senses.report(),
        eyes: Some(lids.report()),
    }
}
