//! Worker threads: inflate, check, reduce to facts, compress, append.
//!
//! The IO threads only move bytes. A worker keeps its memory (inflated body, facts, packed record)
//! from one request to the next.

use std::collections::VecDeque;
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread::JoinHandle;

use bytes::Bytes;
use coral_model::Time;
use coral_proto::otlp::prune::{self, Survey};
use coral_proto::otlp::schema;
use coral_proto::otlp::wire::WireError;
use coral_proto::record::{Kind, Packer};
use tokio::sync::oneshot;

use super::{Accepted, Encoding, Form, Limits, Refused, Signal, body, json};
use crate::budget::Held;
use crate::observe::Peer;
use crate::pipeline::Pipeline;
use crate::reduce::decode::{Batch, DecodeError};
use crate::spool::{AppendError, Ticket};

/// A body to be taken.
pub struct Job {
    /// What it carries.
    pub signal: Signal,
    /// How it is written. The prefix of gRPC is already off.
    pub form: Form,
    /// How it is compressed.
    pub encoding: Encoding,
    /// Its bytes.
    pub body: Bytes,
    /// The budget's bytes it holds.
    pub held: Held,
    /// The connection it came through.
    pub peer: Option<Peer>,
    /// Who waits for the answer.
    pub reply: oneshot::Sender<Result<(Accepted, Ticket), Refused>>,
}

struct Queue {
    jobs: Mutex<(VecDeque<Job>, bool)>,
    wake: Condvar,
    bound: usize,
}

/// The pool. Dropping it finishes what is queued and ends the threads.
pub struct Workers {
    queue: Arc<Queue>,
    threads: Vec<JoinHandle<()>>,
}

impl Workers {
    /// Starts so many threads.
    pub fn start(
        threads: usize,
        limits: &Limits,
        pipeline: &Arc<Pipeline>,
    ) -> Result<Self, std::io::Error> {
        let queue =
            Arc::new(Queue { jobs: Mutex::default(), wake: Condvar::new(), bound: limits.queue });
        let start = |n: usize| {
            let (queue, pipeline, limits) = (queue.clone(), pipeline.clone(), limits.clone());
            std::thread::Builder::new()
                .name(format!("decode-{n}"))
                .spawn(move || Worker::new(pipeline, limits).run(&queue))
        };
        let threads = (0..threads.max(1)).map(start).collect::<Result<_, _>>()?;
        Ok(Self { queue, threads })
    }

    /// Queues a job; gives it back when too many wait already.
    #[expect(clippy::result_large_err, reason = "the job is handed back whole, and rarely")]
    pub fn submit(&self, job: Job) -> Result<(), Job> {
        let mut jobs = self.queue.jobs.lock().unwrap_or_else(PoisonError::into_inner);
        if jobs.1 || jobs.0.len() >= self.queue.bound {
            return Err(job);
        }
        jobs.0.push_back(job);
        drop(jobs);
        self.queue.wake.notify_one();
        Ok(())
    }
}

impl Drop for Workers {
    fn drop(&mut self) {
        self.queue.jobs.lock().unwrap_or_else(PoisonError::into_inner).1 = true;
        self.queue.wake.notify_all();
        for thread in self.threads.drain(..) {
            _ = thread.join();
        }
    }
}

impl Queue {
    fn next(&self) -> Option<Job> {
        let mut jobs = self.jobs.lock().unwrap_or_else(PoisonError::into_inner);
        loop {
            if let Some(job) = jobs.0.pop_front() {
                return Some(job);
            }
            if jobs.1 {
                return None;
            }
            jobs = self.wake.wait(jobs).unwrap_or_else(PoisonError::into_inner);
        }
    }
}

struct Worker {
    pipeline: Arc<Pipeline>,
    limits: Limits,
    batch: Batch,
    packer: Packer,
    inflated: Vec<u8>,
}

/// Memory of inflated bodies a worker keeps.
const KEEP: usize = 2 << 20;

impl Worker {
    fn new(pipeline: Arc<Pipeline>, limits: Limits) -> Self {
        let (batch, packer) = (Batch::default(), Packer::default());
        Self { pipeline, limits, batch, packer, inflated: Vec::new() }
    }

    fn run(mut self, queue: &Queue) {
        while let Some(mut job) = queue.next() {
            if job.reply.is_closed() {
                // The sender went away before its export was taken: it will come again, or not.
                self.pipeline.counters.requests_broken_off.add(1);
                continue;
            }
            let taken = self.take(&mut job);
            let counters = &self.pipeline.counters;
            match &taken {
                Ok(_) => counters.requests_accepted.add(1),
                Err(Refused::Invalid(_)) => counters.requests_invalid.add(1),
                Err(Refused::TooLarge(_)) => counters.requests_too_large.add(1),
                Err(_) => {}
            }
            // The sender may be gone; what was accepted stays accepted.
            _ = job.reply.send(taken);
            if self.inflated.capacity() > KEEP {
                self.inflated = Vec::new();
            }
        }
    }

    fn take(&mut self, job: &mut Job) -> Result<(Accepted, Ticket), Refused> {
        let mut inflated = std::mem::take(&mut self.inflated);
        let taken = self.read(job, &mut inflated);
        self.inflated = inflated;
        taken
    }

    fn read(
        &mut self,
        job: &mut Job,
        inflated: &mut Vec<u8>,
    ) -> Result<(Accepted, Ticket), Refused> {
        let limit = self.limits.inflated;
        let body = body::inflate(&job.body, job.encoding, &mut job.held, inflated, limit);
        let body = body.map_err(|e| self.count_busy(e))?;
        if job.form != Form::Json {
            return self.check(job.signal, body, job.peer);
        }
        // The message it becomes is never larger than a few times its text.
        if !job.held.grow_to(job.held.bytes().saturating_add(2 * body.len() as u64)) {
            return Err(self.count_busy(Refused::Busy(body::NO_ROOM.to_owned())));
        }
        let message = json::to_protobuf(job.signal, body)?;
        if message.len() > limit {
            return Err(body::too_large(limit));
        }
        self.check(job.signal, &message, job.peer)
    }

    fn count_busy(&self, refused: Refused) -> Refused {
        if matches!(refused, Refused::Busy(_)) {
            self.pipeline.counters.requests_refused_busy.add(1);
        }
        refused
    }

    fn check(
        &mut self,
        signal: Signal,
        body: &[u8],
        peer: Option<Peer>,
    ) -> Result<(Accepted, Ticket), Refused> {
        let now = Time::now();
        let counters = self.pipeline.counters.clone();
        let done = match signal {
            Signal::Traces => {
                self.batch.decode(body).map_err(|error| match error {
                    DecodeError::Wire(_) => Refused::Invalid(error.to_string()),
                    DecodeError::TooMany => Refused::TooLarge(error.to_string()),
                })?;
                self.pack(Kind::Traces, body, now)?;
                let done = self.pipeline.traces(&mut self.packer, &self.batch, body, peer, now);
                let ticket = done.map_err(|e| self.full(&e))?;
                counters.spans_received.add(self.batch.spans - self.batch.rejected);
                counters.spans_rejected.add(self.batch.rejected);
                counters.spans_passed_over.add(self.batch.passed_over);
                (self.partial(), ticket)
            }
            Signal::Logs => {
                let taken = self.records(&schema::LOGS, Kind::Logs, body, now)?;
                counters.logs_received.add(taken.found.kept);
                counters.logs_rejected.add(taken.found.rejected);
                (partly(&taken.found, "log records"), taken.ticket)
            }
            Signal::Metrics => {
                let taken = self.records(&schema::METRICS, Kind::Metrics, body, now)?;
                counters.metric_points_received.add(taken.found.kept);
                counters.metric_points_rejected.add(taken.found.rejected);
                (partly(&taken.found, "metric points"), taken.ticket)
            }
        };
        Ok(done)
    }

    /// Takes the log records or metric points that can be read.
    fn records(
        &mut self,
        schema: &'static schema::Schema,
        kind: Kind,
        body: &[u8],
        now: Time,
    ) -> Result<Taken, Refused> {
        let invalid = |error: WireError| Refused::Invalid(DecodeError::Wire(error).to_string());
        let found = prune::survey(schema, body).map_err(invalid)?;
        if found.rejected == 0 {
            self.pack(kind, body, now)?;
        } else {
            self.pack(kind, &prune::without_rejected(schema, body).map_err(invalid)?, now)?;
        }
        let ticket = self.pipeline.other(&mut self.packer, kind, now);
        Ok(Taken { found, ticket: ticket.map_err(|e| self.full(&e))? })
    }

    fn pack(&mut self, kind: Kind, body: &[u8], now: Time) -> Result<(), Refused> {
        self.packer.pack(kind, now.0, body).map_err(|e| Refused::TooLarge(e.to_string()))
    }

    fn full(&self, error: &AppendError) -> Refused {
        self.pipeline.counters.requests_refused_spool.add(1);
        Refused::Busy(format!("{error}; send again later"))
    }

    fn partial(&self) -> Accepted {
        let Batch { spans, rejected, first_rejected, .. } = &self.batch;
        let Some(first) = first_rejected else { return Accepted::default() };
        let message = format!(
            "{rejected} of {spans} spans have invalid ids; the first is span {} (`{}`) with a trace \
             id of {} bytes and a span id of {}: they must have 16 and 8, not all zero",
            first.place, first.name, first.trace_len, first.span_len
        );
        Accepted { rejected: *rejected, message }
    }
}

/// Log records or metric points that are in the spool.
struct Taken {
    found: Survey,
    ticket: Ticket,
}

/// What the sender is told of those that were not taken.
fn partly(found: &Survey, what: &str) -> Accepted {
    let Some((place, reason)) = found.first else { return Accepted::default() };
    let (rejected, all) = (found.rejected, found.kept + found.rejected);
    let message =
        format!("{rejected} of {all} {what} are invalid; the first is number {place}: {reason}");
    Accepted { rejected, message }
}
