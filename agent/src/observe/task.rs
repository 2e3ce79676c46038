//! The task that reads every 2 s.

use std::sync::Arc;
use std::time::Duration;

use coral_proto::record::Kind;
use prost::Message;
use tokio::time::MissedTickBehavior;
use tokio_util::sync::CancellationToken;

use super::kernel::Ends;
use super::logs::otlp;
use super::observer::{Observer, Tick};
use super::process::ServiceProcesses;
use super::remains::Remains;
use crate::senses::Senses;

/// Between two readings.
const EVERY: Duration = Duration::from_secs(2);
/// Between the first, which has no rates, and the second, so that a new agent shows a host at once.
const SOON: Duration = Duration::from_millis(250);

/// Where records go. Must not block: a sink that is full drops the record and counts it.
pub trait Sink: Send + Sync + 'static {
    /// Takes the body of one record.
    fn append(&self, kind: Kind, body: Vec<u8>);
}

impl<F: Fn(Kind, Vec<u8>) + Send + Sync + 'static> Sink for F {
    fn append(&self, kind: Kind, body: Vec<u8>) {
        self(kind, body);
    }
}

/// Bytes in the spool, and its bound.
pub type SpoolUse = Arc<dyn Fn() -> Option<(u64, u64)> + Send + Sync>;

/// What [`run`] needs.
pub struct Setup {
    /// `host.name`.
    pub host: String,
    /// Filled by the receiving side.
    pub services: Arc<ServiceProcesses>,
    /// Filled by the eBPF side, where there is one.
    pub ends: Arc<Ends>,
    /// Filled by it, too: what processes leave.
    pub remains: Arc<Remains>,
    /// How full the spool is.
    pub spool: SpoolUse,
    /// Takes `HostReading`s, `AgentEvent`s and logs, encoded.
    pub sink: Arc<dyn Sink>,
    /// Told the state of the senses `host` and `process`.
    pub senses: Senses,
}

/// Reads until cancelled. Readings are taken on a blocking thread; one that hangs delays the next
/// one and nothing else.
pub async fn run(setup: Setup, cancel: CancellationToken) {
    let mut observer = Observer::new(setup.host, setup.services, setup.ends, setup.remains);
    let mut every = tokio::time::interval_at(tokio::time::Instant::now() + SOON, EVERY);
    every.set_missed_tick_behavior(MissedTickBehavior::Skip);
    let mut first = true;
    loop {
        if !std::mem::take(&mut first) {
            tokio::select! {
                () = cancel.cancelled() => return,
                _ = every.tick() => {}
            }
        }
        let spool = (setup.spool)();
        let read = tokio::task::spawn_blocking(move || {
            let tick = observer.tick(spool);
            (observer, tick)
        });
        let tick = tokio::select! {
            () = cancel.cancelled() => return,
            read = read => match read {
                Ok((back, tick)) => {
                    observer = back;
                    tick
                }
                // The runtime is going down.
                Err(_) => return,
            },
        };
        hand_out(&*setup.sink, &setup.senses, tick);
    }
}

fn hand_out(sink: &dyn Sink, senses: &Senses, tick: Tick) {
    if let Some(reading) = tick.reading().filter(|_| !tick.first) {
        sink.append(Kind::Host, reading.encode_to_vec());
    }
    for event in &tick.events {
        sink.append(Kind::Event, event.encode_to_vec());
    }
    if !tick.words.is_empty() {
        sink.append(Kind::Logs, otlp::request(tick.words).encode_to_vec());
    }
    for sense in tick.senses {
        senses.set(sense);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use coral_proto::v1::HostReading;
    use std::sync::mpsc;

    #[tokio::test]
    async fn readings_reach_the_sink_and_senses_are_told() {
        let (send, receive) = mpsc::channel();
        let senses = Senses::default();
        let setup = Setup {
            host: "h".into(),
            services: Arc::new(ServiceProcesses::new("h")),
            ends: Arc::default(),
            remains: Arc::default(),
            spool: Arc::new(|| None),
            sink: Arc::new(move |kind, body| {
                let _ = send.send((kind, body));
            }),
            senses: senses.clone(),
        };
        let cancel = CancellationToken::new();
        let task = tokio::spawn(run(setup, cancel.clone()));
        // The machine may have something to tell first: a clock that was set, a disk that filled.
        let first = move || receive.into_iter().find(|(kind, _)| *kind == Kind::Host).unwrap();
        let (_, body) = tokio::task::spawn_blocking(first).await.unwrap();
        let reading = HostReading::decode(body.as_slice()).unwrap();
        assert!(reading.at_ns > 0 && !reading.row_json.is_empty());
        let told: Vec<_> = senses.report().into_iter().map(|s| s.name).collect();
        assert_eq!(told, ["host", "process"]);
        cancel.cancel();
        task.await.unwrap();
    }
}
