//! New log patterns: a service logs something that it never did while it was watched.
//!
//! Every service is listened to for [`LEARN`] from its first record on before anything of it is new;
//! so a colony that starts says nothing about what everybody knows. Then a pattern ([`crate::patterns`])
//! without a predecessor is an event, written at once with its first record. Bounded: so many services,
//! so many patterns of each, so many records of a batch that are looked at; and of one service at most
//! [`TOLD`] events in [`SPAN`], after which further ones are counted and told as one.

use std::sync::Arc;

use coral_model::RecordId;
use coral_model::filter::Level;
use coral_model::text::fit;
use coral_model::time::{SECOND, Time};
use coral_model::view::{EventKind, EventRow};
use hashbrown::HashMap;

use super::event;
use crate::patterns::Miner;
use crate::store::columns::logs::{LogColumns, Said};

/// How long a service is listened to before anything it says is new.
pub(super) const LEARN: u64 = 10 * 60 * SECOND;
/// Patterns of one service; beyond it nothing is new any more.
const PATTERNS: usize = 500;
/// Services listened to; of more, those that came first.
const SERVICES: usize = 500;
/// Records of a batch that are looked at, evenly spread.
const RECORDS: usize = 500;
/// Events of one service …
pub(super) const TOLD: u64 = 5;
/// … in this time.
const SPAN: u64 = 10 * 60 * SECOND;
/// Records older than this were kept somewhere while they could not be sent: they are learnt from.
const LATE: u64 = 60 * SECOND;
/// Characters of a pattern and of an example that an event quotes.
const QUOTED: usize = 200;

#[derive(Debug)]
struct Service {
    miner: Miner,
    /// Its first record.
    since: Time,
    /// When the span of the last events began, how many there were, and how many were held back.
    span: Time,
    told: u64,
    held: u64,
}

/// What every service says.
#[derive(Debug, Default)]
pub(super) struct Patterns {
    by_service: HashMap<Arc<str>, Service>,
    /// Records that were not looked at because there were too many.
    pub(super) skipped: u64,
    /// Services beyond the bound, by record.
    pub(super) unheard: u64,
}

impl Patterns {
    /// Looks at the records of a batch.
    pub(super) fn observe(&mut self, logs: &LogColumns, now: Time, events: &mut Vec<EventRow>) {
        let skipped = logs.sample(RECORDS, &mut |said| self.record(&said, now, events));
        self.skipped = self.skipped.saturating_add(skipped);
    }

    fn record(&mut self, said: &Said<'_>, now: Time, events: &mut Vec<EventRow>) {
        if !self.by_service.contains_key(said.service) {
            if self.by_service.len() >= SERVICES {
                self.unheard = self.unheard.saturating_add(1);
                return;
            }
            let miner = Miner::new(PATTERNS);
            let service = Service { miner, since: now, span: Time(0), told: 0, held: 0 };
            self.by_service.insert(said.service.into(), service);
        }
        let Some(service) = self.by_service.get_mut(said.service) else { return };
        let had = service.miner.len();
        let new = service.miner.add(said.body).filter(|at| *at == had);
        let late = now.since(said.time) > LATE;
        let Some(pattern) = new.filter(|_| now.since(service.since) >= LEARN && !late) else {
            return;
        };
        if now.since(service.span) >= SPAN {
            (service.span, service.told) = (now, 0);
        }
        if service.told >= TOLD {
            service.held = service.held.saturating_add(1);
            return;
        }
        service.told += 1;
        events.push(told(said, &service.miner.pattern(pattern), now));
    }

    /// Tells what was held back, once its span is over.
    pub(super) fn tick(&mut self, now: Time, events: &mut Vec<EventRow>) {
        for (name, service) in &mut self.by_service {
            if service.held == 0 || now.since(service.span) < SPAN {
                continue;
            }
            let n = std::mem::take(&mut service.held);
            (service.span, service.told) = (now, 0);
            let text = format!("{name}: {n} more new log patterns in the last 10 minutes");
            let draft = event(now, EventKind::NewPattern, text).service(name).with("count", n);
            events.push(EventRow { source: "logs".into(), ..draft.row });
        }
    }
}

fn told(said: &Said<'_>, pattern: &str, now: Time) -> EventRow {
    let level = Level::of_severity(said.severity).map_or("", Level::word);
    let pattern = fit(pattern, QUOTED);
    let of = if level.is_empty() { String::new() } else { format!(" ({level})") };
    let text = format!("{}: new log{of} \"{pattern}\"", said.service);
    let mut draft = event(said.time.min(now), EventKind::NewPattern, text)
        .service(said.service)
        .with("pattern", &pattern)
        .with("example", fit(said.body, QUOTED))
        .with("record", RecordId::of(said.time, said.service, said.body));
    if !level.is_empty() {
        draft = draft.with("level", level);
    }
    if let Some(trace) = said.trace {
        draft = draft.with("trace", trace);
    }
    EventRow { source: "logs".into(), ..draft.row }
}

#[cfg(test)]
mod tests {
    use coral_model::ResourceId;

    use super::*;
    use crate::store::columns::logs::Log;

    const START: Time = Time(1_790_078_400 * SECOND);

    fn batch(lines: &[(&str, String)], at: Time) -> LogColumns {
        let mut logs = LogColumns::default();
        for (service, body) in lines {
            let log = Log {
                time_ns: at.0,
                service,
                severity: 17,
                body,
                trace: None,
                span: None,
                resource: ResourceId(1),
            };
            logs.push(&log).unwrap();
        }
        logs
    }

    fn heard(patterns: &mut Patterns, lines: &[(&str, String)], seconds: u64) -> Vec<EventRow> {
        let now = START.plus(seconds * SECOND);
        let mut events = Vec::new();
        patterns.observe(&batch(lines, now), now, &mut events);
        patterns.tick(now, &mut events);
        events
    }

    /// Text without digits, different for every number.
    fn word(n: u64) -> String {
        n.to_string().bytes().map(|b| char::from(b'a' + b - b'0')).collect()
    }

    #[test]
    fn what_was_never_said_before_is_an_event_after_learning() {
        let mut patterns = Patterns::default();
        let usual = |n: u64| ("payments", format!("charged {n} cents"));
        for second in 0..LEARN / SECOND {
            let lines = [usual(second), ("payments", "once at the start".into())];
            assert_eq!(heard(&mut patterns, &lines, second), []);
        }
        assert_eq!(heard(&mut patterns, &[usual(7)], 600), []);
        let new = ("payments", "pool exhausted: 2 of 2 in use".to_owned());
        let told = heard(&mut patterns, &[usual(8), new.clone()], 601);
        assert_eq!(told.len(), 1);
        assert_eq!(told[0].kind, EventKind::NewPattern);
        assert_eq!(told[0].service.as_deref(), Some("payments"));
        assert_eq!(
            told[0].text,
            "payments: new log (error) \"pool exhausted: <num> of <num> in use\""
        );
        assert_eq!(told[0].attributes["example"], new.1);
        let id: RecordId = told[0].attributes["record"].parse().unwrap();
        assert_eq!(id, RecordId::of(START.plus(601 * SECOND), "payments", &new.1));
        // Once is enough; and a service that appears later learns first.
        assert_eq!(heard(&mut patterns, &[new], 602), []);
        assert_eq!(heard(&mut patterns, &[("cart", "hello".into())], 603), []);
    }

    #[test]
    fn a_storm_is_a_few_events_and_a_number() {
        let mut patterns = Patterns::default();
        heard(&mut patterns, &[("payments", "hello".into())], 0);
        let lines: Vec<(&str, String)> =
            (0..100).map(|n| ("payments", format!("{}x is {}y", word(n), word(n)))).collect();
        let told = heard(&mut patterns, &lines, 700);
        assert_eq!(told.len() as u64, TOLD);
        let later = heard(&mut patterns, &[], 700 + SPAN / SECOND);
        assert_eq!(later.len(), 1);
        assert_eq!(later[0].attributes["count"], (100 - TOLD).to_string());
        assert_eq!(heard(&mut patterns, &[], 5_000), []);
    }

    #[test]
    fn late_records_are_learnt_from_and_memory_is_bounded() {
        let mut patterns = Patterns::default();
        heard(&mut patterns, &[("payments", "hello".into())], 0);
        let mut events = Vec::new();
        let old = batch(&[("payments", "from before the outage".into())], START);
        let now = START.plus(900 * SECOND);
        patterns.observe(&old, now, &mut events);
        assert_eq!(events, []);
        let many: Vec<(String, String)> =
            (0..2_000).map(|n| (format!("s{n}"), "x".to_owned())).collect();
        let many: Vec<(&str, String)> = many.iter().map(|(s, b)| (s.as_str(), b.clone())).collect();
        patterns.observe(&batch(&many, now), now, &mut events);
        assert_eq!(patterns.skipped, 1_500);
        for chunk in many.chunks(400) {
            patterns.observe(&batch(chunk, now), now, &mut events);
        }
        assert_eq!(patterns.by_service.len(), SERVICES);
        assert!(patterns.unheard > 1_000);
        // No line of a batch of many is counted twice or forgotten.
        let logs = batch(&many, now);
        let mut seen = 0u64;
        let left = logs.sample(RECORDS, &mut |_| seen += 1);
        assert_eq!((seen + left, seen), (2_000, 500));
    }
}
