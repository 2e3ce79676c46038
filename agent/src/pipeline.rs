//! Where a checked body becomes a record: reducer and spool, kept in step.
//!
//! A span is counted exactly once because appending its record and applying its facts happen under
//! the reducer's lock, and a `Reduced` record names the last record whose facts it holds. Flushing
//! takes what was learnt under that lock and writes it outside; should the agent die in between, the
//! records it covered are read again at the next start.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use coral_model::Time;
use coral_proto::record::{Kind, Packer};
use prost::Message as _;

use crate::counters::Counters;
use crate::observe::{Peer, ServiceProcesses, Sighting, Witness};
use crate::reduce::decode::Batch;
use crate::reduce::{Connected, Limits, Reducer, Resource, Seen, Waiting, emit};
use crate::spans::{Maker, Traced};
use crate::spool::{AppendError, Class, Spool, Ticket};

/// Reducer and spool of one agent.
pub struct Pipeline {
    /// The spool.
    pub spool: Arc<Spool>,
    /// The counters.
    pub counters: Arc<Counters>,
    services: Arc<ServiceProcesses>,
    reducer: Mutex<Reducer>,
    flush: Mutex<Flush>,
    own: Mutex<Packer>,
    /// Makes spans of requests that the kernel saw, where somebody wants them.
    spans: Option<Mutex<Maker>>,
}

#[derive(Default)]
struct Flush {
    packer: Packer,
    /// A packed `Reduced` that the spool would not take, and what it covers.
    delayed: Option<u64>,
    covered: u64,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Pipeline {
    /// Joins them. Records that an earlier life accepted but had not counted are counted now.
    pub fn new(
        spool: Arc<Spool>,
        limits: Limits,
        services: Arc<ServiceProcesses>,
        counters: Arc<Counters>,
        covers: u64,
    ) -> Self {
        let pipeline = Self {
            reducer: Mutex::new(Reducer::new(limits, counters.clone())),
            flush: Mutex::new(Flush { covered: covers, ..Flush::default() }),
            own: Mutex::default(),
            spans: None,
            spool,
            counters,
            services,
        };
        pipeline.replay(covers);
        pipeline
    }

    /// The same, where spans are made of what the kernel sees.
    #[must_use]
    pub fn with_spans(self, maker: Maker) -> Self {
        Self { spans: Some(Mutex::new(maker)), ..self }
    }

    fn replay(&self, covers: u64) {
        let mut batch = Batch::default();
        let mut last = covers;
        let replayed = self.spool.replay(covers, |seq, time_ns, body| {
            let full = lock(&self.reducer).is_full();
            if full && let Err(error) = self.flush_up_to(Time(time_ns), Some(last)) {
                tracing::warn!(%error, "what was learnt from the spool waits in memory");
            }
            // What was accepted was checked then; a body that is no longer readable counts nothing.
            if batch.decode(body).is_ok() {
                lock(&self.reducer).apply(&batch, body, time_ns);
                self.counters.replayed_records.add(1);
            }
            last = seq;
        });
        if let Err(error) = replayed {
            tracing::error!(%error, "cannot read back the spool: some requests may not be counted");
        }
    }

    /// Appends a packed traces record and counts its spans.
    pub fn traces(
        &self,
        packer: &mut Packer,
        batch: &Batch,
        body: &[u8],
        peer: Option<Peer>,
        now: Time,
    ) -> Result<Ticket, AppendError> {
        let mut reducer = loop {
            let reducer = lock(&self.reducer);
            if !reducer.is_full() {
                break reducer;
            }
            drop(reducer);
            self.flush(now)?;
        };
        let (_, ticket) = self.spool.append(packer, Class::Otlp, Kind::Traces, now.0)?;
        let sighted = reducer.apply(batch, body, now.0);
        drop(reducer);
        for resource in sighted {
            let sighting = sighting(&resource, peer, now);
            if let Some(maker) = &self.spans {
                lock(maker).heard(&sighting.service, now.0);
            }
            self.services.note(sighting);
        }
        Ok(ticket)
    }

    /// Appends a packed logs or metrics record.
    pub fn other(&self, packer: &mut Packer, kind: Kind, now: Time) -> Result<Ticket, AppendError> {
        self.spool.append(packer, Class::Otlp, kind, now.0).map(|(_, ticket)| ticket)
    }

    /// Appends something the agent observed itself; dropped and counted when there is no room.
    pub fn own(&self, kind: Kind, body: &[u8], now: Time) {
        _ = self.kept(kind, body, now);
    }

    /// The same; whether there was room.
    fn kept(&self, kind: Kind, body: &[u8], now: Time) -> bool {
        let mut packer = lock(&self.own);
        let packed = packer.pack(kind, now.0, body).is_ok();
        let kept = packed && self.spool.append(&mut packer, Class::Own, kind, now.0).is_ok();
        self.counters.dropped_observations.add(u64::from(!kept));
        kept
    }

    /// Appends something the agent read for a person who named it; gives its number. Without room it
    /// is not taken, and whoever read it waits.
    pub fn keep(&self, kind: Kind, body: &[u8], now: Time) -> Result<u64, AppendError> {
        let mut packer = lock(&self.own);
        if let Err(error) = packer.pack(kind, now.0, body) {
            return Err(AppendError::Io(std::io::Error::other(error)));
        }
        self.spool.append(&mut packer, Class::Own, kind, now.0).map(|(seq, _)| seq)
    }

    /// Counts requests that the kernel saw end. Those that find no room are dropped and counted.
    pub fn see<'a>(&self, requests: impl Iterator<Item = Seen<'a>>, now: Time) {
        self.add(requests, now, |reducer, request| reducer.see(request, now.0));
    }

    /// Makes spans of requests that the kernel saw end, where somebody wants them. They are in the spool like an
    /// application's, and not counted again ([`crate::reduce::decode`]); without room they are dropped, which is.
    pub fn trace<'a>(&self, requests: impl Iterator<Item = Traced<'a>>, now: Time) {
        let Some(maker) = &self.spans else { return };
        let made = lock(maker).make(requests, now.0);
        if let Some(export) = made {
            let kept = self.kept(Kind::Traces, &export.encode_to_vec(), now);
            lock(maker).went(&export, kept);
        }
    }

    /// Adds each, and makes room where `add` says that there is none.
    fn add<T>(
        &self,
        items: impl Iterator<Item = T>,
        now: Time,
        add: impl Fn(&mut Reducer, &T) -> bool,
    ) {
        let mut reducer = lock(&self.reducer);
        let mut full = reducer.is_full();
        for item in items {
            if full {
                drop(reducer);
                let flushed = self.flush(now);
                reducer = lock(&self.reducer);
                if flushed.is_err() && reducer.is_full() {
                    self.counters.dropped_observations.add(1);
                    continue;
                }
            }
            full = add(&mut reducer, &item);
        }
    }

    /// Counts connections that programs opened. Those that find no room are dropped and counted.
    pub fn connect<'a>(&self, connected: impl Iterator<Item = Connected<'a>>, now: Time) {
        self.add(connected, now, |reducer, connected| reducer.connect(connected, now.0));
    }

    /// Notes how many requests the kernel sees in flight.
    pub fn wait(&self, waiting: &Waiting<'_>, now: Time) {
        lock(&self.reducer).wait(waiting, now.0);
    }

    /// RED rows that wait to be written.
    #[must_use]
    pub fn rows_waiting(&self) -> usize {
        lock(&self.reducer).rows_waiting()
    }

    /// Writes what the reducer learnt since the last flush.
    pub fn flush(&self, now: Time) -> Result<(), AppendError> {
        self.flush_up_to(now, None)
    }

    /// The same while only records up to `applied` have been applied.
    fn flush_up_to(&self, now: Time, applied: Option<u64>) -> Result<(), AppendError> {
        let mut flush = lock(&self.flush);
        let Flush { packer, delayed, covered } = &mut *flush;
        if let Some(covers) = *delayed {
            self.spool.append_reduced(packer, covers, now.0)?;
            (*delayed, *covered) = (None, covers);
        }
        let mut reducer = lock(&self.reducer);
        // Traces that count are only appended under this lock, and every one up to here has been applied; of an
        // agent's own spans nothing is counted.
        let covers = applied.unwrap_or_else(|| self.spool.last_counted());
        let taken = reducer.take(now.0);
        drop(reducer);
        let message = match taken {
            Some(taken) => emit::reduced(taken, covers),
            // Only INTERNAL spans: nothing was learnt, but their segment may go.
            None if covers > *covered => {
                coral_proto::v1::Reduced { at_ns: now.0, covers_seq: covers, ..Default::default() }
            }
            None => return Ok(()),
        };
        if let Err(error) = packer.pack(Kind::Reduced, now.0, &message.encode_to_vec()) {
            // Unreachable within the reducer's bounds.
            tracing::error!(%error, "a reduced record is too large");
            return Ok(());
        }
        match self.spool.append_reduced(packer, covers, now.0) {
            Ok(_) => {
                *covered = covers;
                self.counters.reduced_written.add(1);
                Ok(())
            }
            Err(error) => {
                *delayed = Some(covers);
                self.counters.reduced_delayed.add(1);
                Err(error)
            }
        }
    }
}

fn sighting(resource: &Resource, peer: Option<Peer>, now: Time) -> Sighting {
    let text = |key| resource.get(key).map(str::to_owned);
    let path = || {
        let path = resource.get("process.executable.path")?;
        path.rsplit('/').next().map(str::to_owned)
    };
    Sighting {
        service: text("service.name").unwrap_or_else(|| "unknown_service".to_owned()),
        instance: text("service.instance.id"),
        host: text("host.name"),
        pid: resource.get("process.pid").and_then(|pid| pid.parse().ok()),
        executable: text("process.executable.name").or_else(path),
        peer,
        at: now,
        witness: Witness::Service,
    }
}
