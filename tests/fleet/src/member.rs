//! One agent: spool, reducer and session as every agent has them, fed from within.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use coral_agent::counters::Counters;
use coral_agent::observe::ServiceProcesses;
use coral_agent::observe::kernel::lids::Lids;
use coral_agent::pipeline::Pipeline;
use coral_agent::reduce::{self, decode::Batch};
use coral_agent::senses::Senses;
use coral_agent::spool::{self, Spool};
use coral_agent::uplink::{Identity, Uplink};
use coral_model::{AgentId, Time};
use coral_proto::record::{Kind, Packer};
use tokio_util::sync::CancellationToken;

use crate::traffic::Traffic;

/// How often what was counted is written, as the agent itself does.
const FLUSH: Duration = Duration::from_millis(250);
/// A host's spool here is small: there are hundreds of them.
const SPOOL: u64 = 64 << 20;

/// One agent.
pub struct Member {
    pipeline: Arc<Pipeline>,
}

/// What was sent.
#[derive(Debug, Default)]
pub struct Tally {
    pub spans: u64,
    pub servers: u64,
    pub refused: u64,
    pub exports: u64,
}

impl Tally {
    /// Adds another's.
    pub fn add(&mut self, other: &Self) {
        self.spans += other.spans;
        self.servers += other.servers;
        self.refused += other.refused;
        self.exports += other.exports;
    }
}

impl Member {
    /// Starts the session of the agent with a number.
    pub fn start(
        n: u32,
        colony: &str,
        dir: &Path,
        out: &CancellationToken,
    ) -> anyhow::Result<Arc<Self>> {
        let counters = Arc::new(Counters::default());
        let options = spool::Options {
            capacity: Some(SPOOL),
            segment_bytes: 1 << 20,
            ..spool::Options::new(dir.to_owned())
        };
        std::fs::create_dir_all(dir)?;
        let (spool, recovered) = Spool::open(&options, Arc::clone(&counters), Time::now().0)?;
        let host = format!("node-{n:03}");
        let services = Arc::new(ServiceProcesses::new(host.clone()));
        let pipeline = Arc::new(Pipeline::new(
            Arc::new(spool),
            reduce::Limits::default(),
            services,
            counters,
            recovered.covers,
        ));
        let mut id = [0xf1; 16];
        id[12..].copy_from_slice(&n.to_be_bytes());
        let uplink = Uplink {
            colony: colony.parse()?,
            identity: Identity { agent: AgentId(id), host, scope: "host".into() },
            pipeline: Arc::clone(&pipeline),
            senses: Senses::default(),
            lids: Lids::alone(),
            last_seen: Arc::default(),
        };
        tokio::spawn(uplink.run(out.clone()));
        Ok(Arc::new(Self { pipeline }))
    }

    /// Exports what its services do until told to stop; then writes what was counted.
    pub async fn send(
        self: Arc<Self>,
        mut services: Vec<Traffic>,
        export: Duration,
        stop: Arc<AtomicBool>,
    ) -> Tally {
        let mut tally = Tally::default();
        let (mut batch, mut packer) = (Batch::default(), Packer::default());
        let count = u32::try_from(services.len().max(1)).unwrap_or(1);
        let mut beat = tokio::time::interval(FLUSH.min(export / count));
        beat.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let began = tokio::time::Instant::now();
        let mut flushed = began;
        // Services export in turn, so that the colony hears something all the time.
        let mut due: Vec<_> = (1..=count).map(|n| began + export * n / count).collect();
        while !stop.load(Ordering::Relaxed) {
            let now = beat.tick().await;
            for (service, due) in services.iter_mut().zip(&mut due).filter(|(_, due)| **due <= now)
            {
                *due += export;
                let since = u64::try_from(export.as_nanos()).unwrap_or(u64::MAX);
                let Some(made) = service.export(Time::now(), since) else { continue };
                let at = Time::now();
                let taken = batch.decode(&made.body).is_ok()
                    && packer.pack(Kind::Traces, at.0, &made.body).is_ok()
                    && self.pipeline.traces(&mut packer, &batch, &made.body, None, at).is_ok();
                if taken {
                    tally.spans += made.spans;
                    tally.servers += made.servers;
                    tally.exports += 1;
                } else {
                    tally.refused += made.spans;
                }
            }
            if now - flushed >= FLUSH {
                flushed = now;
                _ = self.pipeline.flush(Time::now());
            }
        }
        while self.pipeline.flush(Time::now()).is_err() {
            tokio::time::sleep(FLUSH).await;
        }
        tally
    }

    /// Everything is acknowledged.
    pub fn is_done(&self) -> bool {
        self.pipeline.spool.oldest_unacked_ns().is_none()
    }
}
