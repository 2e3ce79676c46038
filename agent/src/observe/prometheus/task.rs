//! The task of one target: ask, read, hand on, say how it went.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use coral_model::Time;
use coral_model::text::{count, duration};
use coral_model::view::{EventKind, Sense, SenseState};
use coral_proto::record::Kind;
use coral_proto::v1::AgentEvent;
use opentelemetry_proto::tonic::collector::metrics::v1::ExportMetricsServiceRequest;
use prost::Message as _;
use tokio::sync::Semaphore;
use tokio::time::{Instant, MissedTickBehavior};
use tokio_util::sync::CancellationToken;

use super::families::{self, Answer};
use super::http;
use super::otlp::{self, Origin, Outcome};
use super::series::Memory;
use super::target::Target;
use super::{Limits, Turned};
use crate::counters::Counters;
use crate::observe::Sink;
use crate::senses::Senses;

/// Longest a scrape may take, whatever its interval.
const DEADLINE: Duration = Duration::from_secs(10);

/// A target as the configuration names it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Scrape {
    /// `service.name` of what it gives.
    pub service: String,
    /// What the sense is called that tells of it.
    pub sense: String,
    /// Its address as written.
    pub url: String,
    /// Where that is.
    pub target: Target,
    /// Time between two scrapes.
    pub every: Duration,
}

/// What a target's task needs.
pub struct Setup {
    /// The target.
    pub scrape: Scrape,
    /// `host.name`.
    pub host: String,
    /// Takes OTLP metrics and events, encoded.
    pub sink: Arc<dyn Sink>,
    /// Told how the target is.
    pub senses: Senses,
    /// What is counted.
    pub counters: Arc<Counters>,
    /// How many answers are read at a time.
    pub turns: Arc<Semaphore>,
}

/// What went before.
struct State {
    memory: Arc<Mutex<Memory>>,
    /// Failures in a row, and since when.
    failing: Option<(u64, Time)>,
    answered: bool,
}

/// What a scrape gave.
type Read = (Answer, Vec<ExportMetricsServiceRequest>);

/// Scrapes until cancelled. One at a time: a scrape that takes longer than its interval skips turns.
pub async fn run(setup: Setup, cancel: CancellationToken) {
    let mut every =
        tokio::time::interval_at(Instant::now() + first(&setup.scrape), setup.scrape.every);
    every.set_missed_tick_behavior(MissedTickBehavior::Skip);
    let mut state = State { memory: Arc::default(), failing: None, answered: false };
    let name = setup.scrape.sense.clone();
    setup.senses.set(Sense {
        name: name.clone(),
        state: SenseState::Partial,
        why: format!("{} was not asked yet", setup.scrape.url),
        remedy: None,
    });
    loop {
        tokio::select! {
            () = cancel.cancelled() => break,
            _ = every.tick() => {}
        }
        tokio::select! {
            () = cancel.cancelled() => break,
            () = setup.once(&mut state) => {}
        }
    }
    setup.senses.remove(&name);
}

/// Targets of one agent are spread over their interval, the same way at every start.
fn first(scrape: &Scrape) -> Duration {
    let spread = u64::try_from(scrape.every.min(DEADLINE).as_millis()).unwrap_or(u64::MAX);
    let hash = xxhash_rust::xxh3::xxh3_64(scrape.url.as_bytes());
    Duration::from_millis(hash.checked_rem(spread).unwrap_or_default().min(2_000))
}

impl Setup {
    fn origin(&self) -> Origin {
        let target = &self.scrape.target;
        Origin {
            service: self.scrape.service.clone(),
            instance: target.authority(),
            // What runs elsewhere is not on this host.
            host: (!target.allowed).then(|| self.host.clone()),
        }
    }

    async fn once(&self, state: &mut State) {
        let began = Instant::now();
        let deadline = self.scrape.every.min(DEADLINE);
        let reading = self.read(state.memory.clone(), began);
        let read = tokio::time::timeout(deadline, reading).await;
        let took = began.elapsed();
        let now = Time::now();
        self.counters.scrapes.add(1);
        match read {
            Ok(Ok((answer, requests))) => {
                self.hand_over(&requests);
                self.counters.scrape_samples.add(answer.samples);
                self.answered(state, &answer, took, now);
            }
            Ok(Err(why)) => self.failed(state, &why, took, now),
            Err(_) => {
                let why = format!("no answer within {}", duration(nanos(deadline)));
                self.failed(state, &why, took, now);
            }
        }
    }

    async fn read(&self, memory: Arc<Mutex<Memory>>, began: Instant) -> Result<Read, String> {
        let limits = Limits::default();
        let got = http::get(&self.scrape.target, limits.body).await;
        let (body, dialect) = got.map_err(|e| e.to_string())?;
        let origin = self.origin();
        let turn = self.turns.acquire().await.map_err(|e| e.to_string())?;
        let read = tokio::task::spawn_blocking(move || {
            let mut answer =
                families::read(&body, dialect, limits).map_err(|error| error.to_string())?;
            let seconds = began.elapsed().as_secs_f64();
            let outcome = Outcome { up: true, seconds, samples: answer.samples };
            let now = Time::now();
            let mut memory = memory.lock().unwrap_or_else(PoisonError::into_inner);
            let requests = otlp::requests(&mut answer, &origin, &mut memory, limits, outcome, now);
            memory.forget(now);
            Ok((answer, requests))
        });
        let read = read.await.map_err(|e| e.to_string())?;
        drop(turn);
        read
    }

    fn hand_over(&self, requests: &[ExportMetricsServiceRequest]) {
        for request in requests {
            self.sink.append(Kind::Metrics, request.encode_to_vec());
        }
    }

    fn answered(&self, state: &mut State, answer: &Answer, took: Duration, now: Time) {
        let Turned { samples, series, repeated } = answer.turned;
        self.counters.dropped_scrape_samples.add(samples);
        self.counters.folded_scrape_series.add(series);
        self.counters.scrape_repeated.add(repeated);
        let url = &self.scrape.url;
        let every = duration(nanos(self.scrape.every));
        let mut why = format!(
            "{url}: {} samples in {}, every {every}",
            count(answer.samples),
            duration(nanos(took))
        );
        if samples + series > 0 {
            why.push_str(&format!(
                "; beyond bounds: {} samples left out, {} series folded",
                count(samples),
                count(series)
            ));
        }
        let whole = if samples + series > 0 { SenseState::Partial } else { SenseState::On };
        self.senses.set(Sense { name: self.scrape.sense.clone(), state: whole, why, remedy: None });
        state.answered = true;
        if let Some((times, since)) = state.failing.take() {
            let silent = duration(now.since(since));
            let text = format!("{url} answers again after {times} failed scrapes ({silent})");
            self.tell(EventKind::SourceBack, text, now);
        }
    }

    fn failed(&self, state: &mut State, why: &str, took: Duration, now: Time) {
        self.counters.scrapes_failed.add(1);
        let outcome = Outcome { up: false, seconds: took.as_secs_f64(), samples: 0 };
        self.hand_over(&[otlp::failed(&self.origin(), outcome, now)]);
        let url = &self.scrape.url;
        let (times, since) = state.failing.map_or((1, now), |(n, since)| (n + 1, since));
        state.failing = Some((times, since));
        if times == 1 {
            self.tell(EventKind::SourceLost, format!("{url} cannot be scraped: {why}"), now);
        }
        let silent = duration(now.since(since));
        let text = format!("{url}: {why} ({times} failed scrapes in {silent})");
        let remedy = if state.answered {
            format!("curl {url}")
        } else {
            format!("curl {url}, then correct [[scrape]] in agent.toml")
        };
        self.senses.set(Sense {
            name: self.scrape.sense.clone(),
            state: SenseState::Off,
            why: text,
            remedy: Some(remedy),
        });
    }

    fn tell(&self, kind: EventKind, text: String, now: Time) {
        let event = AgentEvent {
            at_ns: now.0,
            kind: kind.word().to_owned(),
            service: self.scrape.service.clone(),
            host: self.host.clone(),
            text,
            ..Default::default()
        };
        self.sink.append(Kind::Event, event.encode_to_vec());
    }
}

fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}
