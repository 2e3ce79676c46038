//! A few times a second: look, read, append, remember.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use coral_model::Time;
use coral_model::text::{bytes, count};
use coral_model::time::SECOND;
use coral_model::view::{Sense, SenseState};
use coral_proto::record::Kind;
use opentelemetry_proto::tonic::logs::v1::ResourceLogs;
use prost::Message as _;
use tokio_util::sync::CancellationToken;

use super::file::Tally;
use super::follow::{Files, Part};
use super::places::{Place, Places};
use super::{Limits, Source, What, line, origin, otlp};
use crate::counters::Counters;
use crate::pipeline::Pipeline;
use crate::senses::Senses;

/// Between two looks at files.
const EVERY: Duration = Duration::from_millis(250);
/// Between two looks for files.
const DISCOVER: u64 = SECOND;
/// Between two savings of places.
const SAVE: u64 = 2 * SECOND;

/// What reading logs needs, shared by files and journals.
#[derive(Clone)]
pub struct Shared {
    /// `host.name`.
    pub host: String,
    /// Where records go.
    pub pipeline: Arc<Pipeline>,
    /// Told how each source is.
    pub senses: Senses,
    /// Where places are saved.
    pub file: PathBuf,
    /// Places; locked while a record is appended and its place noted, so that they agree.
    pub places: Arc<Mutex<Places>>,
}

impl Shared {
    /// The places.
    pub fn places(&self) -> MutexGuard<'_, Places> {
        self.places.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn counters(&self) -> &Counters {
        &self.pipeline.counters
    }

    /// Saves what is appended, after making it durable. Blocks.
    pub fn save(&self) {
        let mut places = self.places().clone();
        self.pipeline.spool.sync_now();
        if let Err(error) = places.save(&self.file) {
            tracing::error!(%error, file = %self.file.display(), "places in logs cannot be saved");
        }
    }
}

/// Follows files until cancelled.
pub async fn run(shared: Shared, sources: Vec<Source>, cancel: CancellationToken) {
    let names: Vec<String> = sources.iter().map(|s| s.sense.clone()).collect();
    let mut tail = Tail::new(shared.clone(), sources, Limits::default());
    let mut every = tokio::time::interval(EVERY);
    every.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            () = cancel.cancelled() => break,
            _ = every.tick() => {}
        }
        let work = tokio::task::spawn_blocking(move || {
            tail.pass(Time::now());
            tail
        });
        match work.await {
            Ok(back) => tail = back,
            // The runtime is going down.
            Err(_) => return,
        }
    }
    _ = tokio::task::spawn_blocking(move || tail.save(Time::now())).await;
    for name in names {
        shared.senses.remove(&name);
    }
}

/// One source and its right to lines.
struct Following {
    source: Source,
    files: Files,
    /// Lines it may read now.
    lines: u64,
    filled: Option<Time>,
    waited: u64,
    total: Tally,
    given_up: u64,
}

/// All file sources of an agent.
pub struct Tail {
    shared: Shared,
    limits: Limits,
    all: Vec<Following>,
    /// A request that the spool had no room for. Nothing more is read until it has.
    pending: Option<Vec<u8>>,
    discovered: Option<Time>,
    saved: Time,
    dirty: bool,
}

impl Tail {
    /// Sources as remembered. They are noted as known at once: what is written after this counts.
    #[must_use]
    pub fn new(shared: Shared, sources: Vec<Source>, limits: Limits) -> Self {
        let mut all = Vec::new();
        for source in sources {
            let What::Files { globs, format } = &source.what else { continue };
            let (key, globs, format) = (source.key(), globs.clone(), *format);
            let files = Files::new(key, globs, format, source.from, &shared.places());
            let (lines, filled) = (0, None);
            let (total, waited, given_up) = (Tally::default(), 0, 0);
            all.push(Following { source, files, lines, filled, waited, total, given_up });
        }
        let saved = Time::default();
        Self { shared, limits, all, pending: None, discovered: None, saved, dirty: true }
    }

    /// One pass. Blocks a little.
    pub fn pass(&mut self, now: Time) {
        if self.pending.is_some() && !self.append(None) {
            return;
        }
        if self.discovered.is_none_or(|at| now.since(at) >= DISCOVER) {
            self.discovered = Some(now);
            for following in &mut self.all {
                following.files.discover(self.limits, now);
            }
            self.tell();
        }
        let mut room = self.limits.pass;
        let mut parts = Vec::new();
        for following in &mut self.all {
            let mut tally = Tally::default();
            let lines = following.right(now);
            let read = following.files.read((room, lines), self.limits, now, &mut tally);
            room = room.saturating_sub(usize::try_from(tally.bytes).unwrap_or(usize::MAX));
            following.spend(&tally, self.shared.counters());
            for part in read {
                parts.push(resource_logs(&following.source, part, &self.shared.host, now));
            }
        }
        if !parts.is_empty() {
            self.dirty = true;
            let body = otlp::request(parts).encode_to_vec();
            if !self.append(Some(body)) {
                return;
            }
        }
        if self.dirty && now.since(self.saved) >= SAVE {
            self.save(now);
        }
    }

    /// Appends a request and notes the places it was read up to; keeps it when there is no room.
    fn append(&mut self, body: Option<Vec<u8>>) -> bool {
        let Some(body) = body.or_else(|| self.pending.take()) else { return true };
        let mut places = self.shared.places();
        match self.shared.pipeline.keep(Kind::Logs, &body, Time::now()) {
            Ok(seq) => {
                places.seq = places.seq.max(seq);
                true
            }
            Err(error) => {
                drop(places);
                self.shared.counters().log_waits.add(1);
                tracing::debug!(%error, "log files wait");
                self.pending = Some(body);
                false
            }
        }
    }

    /// Saves every place, unless something read is not appended yet.
    pub fn save(&mut self, now: Time) {
        if self.pending.is_some() {
            return;
        }
        let keys: Vec<String> = self.all.iter().map(|f| f.source.key()).collect();
        {
            let mut places = self.shared.places();
            let known = &mut places.files;
            known.retain(|place| !keys.contains(&place.source));
            known.extend(self.all.iter().flat_map(|f| f.files.places()));
            for key in keys {
                if !places.sources.contains(&key) {
                    places.sources.push(key);
                }
            }
        }
        self.shared.save();
        (self.saved, self.dirty) = (now, false);
    }

    fn tell(&mut self) {
        for following in &mut self.all {
            self.shared.senses.set(following.sense());
            let given_up = following.files.given_up;
            self.shared.counters().dropped_log_bytes.add(given_up - following.given_up);
            following.given_up = given_up;
        }
    }
}

impl Following {
    /// How many lines may be read now: a second's worth at once, no more.
    fn right(&mut self, now: Time) -> u64 {
        let rate = self.source.lines_per_s;
        let since = self.filled.map_or(SECOND, |at| now.since(at)).min(SECOND);
        let earned = u128::from(rate) * u128::from(since) / u128::from(SECOND);
        let earned = u64::try_from(earned).unwrap_or(rate);
        if earned > 0 {
            self.filled = Some(now);
            self.lines = self.lines.saturating_add(earned).min(rate);
        }
        self.lines
    }

    fn spend(&mut self, tally: &Tally, counters: &Counters) {
        self.lines = self.lines.saturating_sub(tally.lines);
        if self.lines == 0 {
            self.waited += 1;
            counters.log_rate_waits.add(1);
        }
        counters.log_lines_read.add(tally.lines);
        counters.log_lines_cut.add(tally.cut);
        self.total.lines += tally.lines;
        self.total.cut += tally.cut;
    }

    fn sense(&self) -> Sense {
        let (files, behind) = self.files.level();
        let globs: &[String] = match &self.source.what {
            What::Files { globs, .. } => globs,
            What::Journal { .. } => &[],
        };
        let mut why = format!(
            "{} {}: {} lines",
            count(coral_model::num::u64_sat(files)),
            if files == 1 { "file" } else { "files" },
            count(self.total.lines)
        );
        if behind > 0 {
            why.push_str(&format!(", {} behind", bytes(behind)));
        }
        if self.waited > 0 && behind > 0 {
            why.push_str(&format!(" (read at most {} lines a second)", self.source.lines_per_s));
        }
        if self.total.cut > 0 {
            why.push_str(&format!(", {} cut at 64 KiB", count(self.total.cut)));
        }
        if self.files.given_up > 0 {
            why.push_str(&format!(", {} given up", bytes(self.files.given_up)));
        }
        let mut remedy = None;
        let mut state = SenseState::On;
        if let Some((path, error)) = self.files.refused.first_key_value() {
            let more = self.files.refused.len() - 1;
            why = format!("{} cannot be read: {error} (and {more} more) · {why}", path.display());
            remedy = Some(format!("let the agent's user read {}", path.display()));
            state = SenseState::Partial;
        } else if self.files.beyond > 0 {
            why = format!("{} files beyond the bound are not read · {why}", self.files.beyond);
            state = SenseState::Partial;
        } else if files == 0 {
            why = format!("no file is called {}", globs.join(" or "));
            state = SenseState::Partial;
        }
        Sense { name: self.source.sense.clone(), state, why, remedy }
    }
}

fn resource_logs(source: &Source, part: Part, host: &str, now: Time) -> ResourceLogs {
    let Part { records, place } = part;
    let labels = records.first().map_or_else(BTreeMap::new, |r| r.labels.clone());
    let resource = origin::resource(source.service.as_deref(), &place.path, &labels, host);
    let path = place.path.to_string_lossy().into_owned();
    let records = records.into_iter().map(|record| {
        let joined = record.joined;
        let mut more = vec![("log.file.path".to_owned(), path.clone())];
        if let Some(stream) = joined.stream {
            more.push(("log.iostream".to_owned(), stream.word().to_owned()));
        }
        otlp::record(line::said(&joined.text), joined.time, more, now)
    });
    let records = records.collect();
    otlp::part(resource, records, &Place::File(place))
}
