//! Error bursts: a service fails far more often than it did just before.
//!
//! The last 30 s are compared with the service's own recent past, in counts that could not be
//! chance ([`crate::chance`]). One event per burst, written the moment it is noticed; its numbers are
//! those of that moment and say so, the peak is RED's to show. A burst is over when the share of
//! errors has come down again.

use std::collections::VecDeque;
use std::sync::Arc;

use coral_model::num::f64_from;
use coral_model::time::{BUCKET, SECOND, Time};
use coral_model::view::{EventKind, EventRow, Evidence};
use hashbrown::HashMap;

use super::{SeenBucket, event};
use crate::chance;
use crate::store::RedDelta;

/// Buckets that are judged: the newest, which may still grow, and two before it.
const NOW: u64 = 3;
/// Buckets they are compared with.
const BEFORE: u64 = 60;
/// Buckets with traffic without which there is no past to compare with.
const PAST: usize = 3;
/// Fewer errors than this are never a burst.
const MIN_ERRORS: u64 = 5;
/// A share of errors that has risen by less than this is never a burst.
const MIN_RISE: f64 = 0.02;
/// How many times the share before.
const TIMES: f64 = 3.0;
/// A burst is over when this many judgements of settled seconds found nothing.
const OVER: u64 = 30 * SECOND;
/// Services watched; beyond it the one longest without traffic is forgotten.
const MAX_SERVICES: usize = 5_000;

#[derive(Debug, Clone)]
struct Bucket {
    start: Time,
    requests: u64,
    errors: u64,
    /// The operation with most errors in one delta, and how many.
    worst: (Arc<str>, u64),
    /// When the first error in it was heard of.
    first_error: Option<Time>,
}

#[derive(Debug, Default)]
struct Service {
    /// Ascending by start.
    buckets: VecDeque<Bucket>,
    /// The share of errors before the burst, while there is one.
    burst: Option<f64>,
    calm_since: Option<Time>,
    touched: bool,
    /// Its spans tell of its requests; what the kernel sees of them is the same again.
    told: bool,
}

/// Errors of every service.
#[derive(Debug, Default)]
pub(super) struct Bursts {
    by_name: HashMap<Arc<str>, Service>,
    touched: Vec<Arc<str>>,
    /// Services forgotten because there were too many.
    pub(super) forgotten: u64,
}

impl Bursts {
    pub(super) fn seed(&mut self, buckets: &[SeenBucket], now: Time) {
        for seen in buckets {
            let service = self.by_name.entry_ref(&seen.service).or_default();
            service.told |= seen.told;
            let worst = (Arc::from(""), 0);
            service.add(seen.bucket, seen.requests, seen.errors, worst, seen.bucket);
        }
        for (name, service) in &mut self.by_name {
            // A burst that is under way was told in the earlier life.
            _ = service.judge(name, now);
        }
    }

    pub(super) fn add(&mut self, delta: &RedDelta, now: Time) {
        if self.by_name.len() >= MAX_SERVICES && !self.by_name.contains_key(&delta.service) {
            let last = |s: &Service| s.buckets.back().map(|b| b.start);
            let oldest = self.by_name.iter().min_by_key(|(_, s)| last(s));
            if let Some(name) = oldest.map(|(name, _)| Arc::clone(name)) {
                self.by_name.remove(&name);
                self.forgotten += 1;
            }
        }
        let service = self.by_name.entry_ref(&delta.service).or_default();
        if delta.evidence == Evidence::Otlp && !service.told {
            service.told = true;
            service.buckets.clear();
        } else if delta.evidence != Evidence::Otlp && service.told {
            return;
        }
        if !service.touched {
            service.touched = true;
            self.touched.push(Arc::clone(&delta.service));
        }
        let worst = (Arc::clone(&delta.operation), delta.errors);
        service.add(delta.bucket, delta.histogram.count(), delta.errors, worst, now);
    }

    /// Judges the services that had requests since the previous judgement.
    pub(super) fn judge(&mut self, now: Time, events: &mut Vec<EventRow>) {
        for name in self.touched.drain(..) {
            if let Some(service) = self.by_name.get_mut(&name) {
                service.touched = false;
                events.extend(service.judge(&name, now));
            }
        }
    }
}

impl Service {
    fn add(&mut self, start: Time, requests: u64, errors: u64, worst: (Arc<str>, u64), now: Time) {
        let error = (errors > 0).then_some(now);
        let at = self.buckets.partition_point(|b| b.start < start);
        match self.buckets.get_mut(at).filter(|b| b.start == start) {
            Some(bucket) => {
                bucket.requests = bucket.requests.saturating_add(requests);
                bucket.errors = bucket.errors.saturating_add(errors);
                bucket.first_error = bucket.first_error.or(error);
                if worst.1 > bucket.worst.1 {
                    bucket.worst = worst;
                }
            }
            None => self
                .buckets
                .insert(at, Bucket { start, requests, errors, worst, first_error: error }),
        }
        let Some(newest) = self.buckets.back().map(|b| b.start) else { return };
        while self.buckets.front().is_some_and(|b| newest.since(b.start) >= (NOW + BEFORE) * BUCKET)
        {
            self.buckets.pop_front();
        }
    }

    fn judge(&mut self, name: &str, now: Time) -> Option<EventRow> {
        let newest = self.buckets.back()?.start;
        let from = newest.minus((NOW - 1) * BUCKET);
        let split = self.buckets.partition_point(|b| b.start < from);
        let sum = |buckets: &mut dyn Iterator<Item = &Bucket>| {
            buckets.fold((0u64, 0u64), |(r, e), b| {
                (r.saturating_add(b.requests), e.saturating_add(b.errors))
            })
        };
        let (requests, errors) = sum(&mut self.buckets.range(split..));
        let (requests_before, errors_before) = sum(&mut self.buckets.range(..split));
        let share = ratio(errors, requests);
        if let Some(before) = self.burst {
            let high = share >= (before * 1.5).max(before + MIN_RISE / 2.0);
            if high {
                self.calm_since = None;
            } else if now.since(*self.calm_since.get_or_insert(now)) >= OVER {
                self.burst = None;
                self.calm_since = None;
            }
            return None;
        }
        if split < PAST || errors < MIN_ERRORS {
            return None;
        }
        let before = ratio(errors_before, requests_before);
        let expected = before * f64_from(requests);
        let high = share >= before * TIMES && share - before >= MIN_RISE;
        if !high || !chance::beyond(errors, expected) {
            return None;
        }
        self.burst = Some(before);
        self.calm_since = None;
        let worst = self.buckets.range(split..).max_by_key(|b| b.worst.1);
        let worst = worst.filter(|b| b.worst.1 > 0).map(|b| Arc::clone(&b.worst.0));
        let on = worst.as_deref().map_or_else(String::new, |op| format!(", most in {op}"));
        let text = format!(
            "{name}: errors rose from {:.1} % to {:.1} % and more ({errors} of {requests} requests in the \
             30 s until this was noticed){on}",
            before * 100.0,
            share * 100.0
        );
        let onset = self
            .buckets
            .range(split..)
            .find(|b| ratio(b.errors, b.requests) >= (before * TIMES).max(before + MIN_RISE));
        // A bucket of 10 s names when it began, which may be before the cause: the first word of an
        // error in it is closer, unless it came late.
        let at = onset.map_or(newest, |b| {
            let heard = b.first_error.filter(|heard| heard.since(b.start) < 2 * BUCKET);
            heard.map_or(b.start, |heard| heard.clamp(b.start, b.start.plus(BUCKET)))
        });
        let draft = event(at.min(now), EventKind::ErrorBurst, text).service(name);
        let draft = draft.with("errors", errors).with("requests", requests);
        let draft = draft.with("error_ratio", format!("{share:.4}"));
        let mut draft = draft.with("before", format!("{before:.4}"));
        if let Some(worst) = worst {
            draft = draft.with("operation", worst);
        }
        Some(draft.row)
    }
}

fn ratio(errors: u64, requests: u64) -> f64 {
    if requests == 0 { 0.0 } else { f64_from(errors) / f64_from(requests) }
}
