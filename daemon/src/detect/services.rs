//! Services: appeared, vanished, another version, another process.

use std::sync::Arc;

use coral_model::time::{SECOND, Time};
use coral_model::view::{EventKind, EventRow};
use hashbrown::HashMap;

use super::batch::Sighting;
use super::fold::Fold;
use super::{SeenInstance, event};

/// A service without data for this long has vanished, unless longer pauses are its habit.
const VANISHED: u64 = 120 * SECOND;
/// Pauses of a service are a habit up to this long.
const HABIT: u64 = 3600 * SECOND;
/// Silence means nothing unless something else was heard this recently.
const OTHERS: u64 = 30 * SECOND;
/// A version or instance that was silent for this long is not running any more.
const GONE: u64 = 120 * SECOND;
/// A new version is told after this long, with how many instances run it by then. Longer than the
/// 5 s between two exports of an SDK, so that an old instance that still runs has been heard of.
const SETTLE: u64 = 6 * SECOND;
/// Data of an old instance that arrive this long after the new version was first seen were still on
/// their way.
const IN_TRANSIT: u64 = SECOND;
/// How long it may take until the last instance of a version that is rolled back falls silent.
const ROLLBACK: u64 = 120 * SECOND;
/// A rollout that takes longer is not waited for.
const ROLLOUT: u64 = 1800 * SECOND;
/// An instance was replaced when it has been silent for this long while its successor was not.
/// SDKs export every 5 s by default.
const SILENT: u64 = 15 * SECOND;
/// How much the end of one process and the first data of the next may overlap.
const OVERLAP: u64 = 5 * SECOND;
/// A new instance that replaced nobody for this long stands beside the others.
const CANDIDATE: u64 = 120 * SECOND;
/// A restart that an agent saw in its process table is not told again within this time.
const TOLD: u64 = 120 * SECOND;
/// Restarts of a service within this time are one event.
const FOLD: u64 = 60 * SECOND;
/// Bounds; beyond them the longest silent is forgotten.
const MAX_SERVICES: usize = 5_000;
const MAX_INSTANCES: usize = 512;
const MAX_VERSIONS: usize = 32;

#[derive(Debug)]
struct Instance {
    version: Option<Arc<str>>,
    host: Option<Arc<str>>,
    first_seen: Time,
    last_seen: Time,
    /// It may turn out to have replaced another one.
    candidate: bool,
}

#[derive(Debug)]
struct Version {
    name: Arc<str>,
    last_seen: Time,
    /// Sightings of other versions since, at least [`OTHERS`] apart.
    others_since: u32,
    last_other: Time,
}

#[derive(Debug)]
struct Rollout {
    from: Option<Arc<str>>,
    to: Arc<str>,
    begun: Time,
    at: Time,
    /// Instances when it was first told; 0 until then.
    told: usize,
}

#[derive(Debug, Default)]
struct Service {
    last_seen: Time,
    longest_pause: u64,
    vanished: bool,
    comebacks: u32,
    instances: HashMap<Arc<str>, Instance>,
    versions: Vec<Version>,
    /// The version introduced last.
    current: Option<Arc<str>>,
    rollout: Option<Rollout>,
    /// A version seen before that came back on a new or changed instance, and when.
    returned: Option<(Arc<str>, Time, Time)>,
    restarts: Fold,
    told_by_agent: Option<Time>,
    /// Instances and versions forgotten because there were too many, not yet added up.
    forgotten: u64,
}

/// Every service known.
#[derive(Debug, Default)]
pub(super) struct Services {
    by_name: HashMap<Arc<str>, Service>,
    /// Services, instances and versions forgotten because there were too many.
    pub(super) forgotten: u64,
    /// Newest and second-newest service heard of, to know whether others were heard.
    newest: Option<(Arc<str>, Time)>,
    runner_up: Option<(Arc<str>, Time)>,
}

impl Services {
    pub(super) fn seed(&mut self, instances: &[SeenInstance], now: Time) {
        for seen in instances {
            let service = self.by_name.entry_ref(&seen.service).or_default();
            let last = seen.last_seen.min(now);
            service.last_seen = service.last_seen.max(last);
            service.version(seen.version.as_ref(), last);
            service.current = service.newest_version();
            let (id, pid) = (seen.instance.as_ref(), seen.pid.as_ref());
            let key = super::batch::instance(id, pid, seen.host.as_ref());
            let instance = Instance {
                version: seen.version.clone(),
                host: seen.host.clone(),
                first_seen: last,
                last_seen: last,
                candidate: false,
            };
            service.instances.insert(key, instance);
        }
        for service in self.by_name.values_mut() {
            // Long gone before this life began; of the others silence counts from now.
            service.vanished = now.since(service.last_seen) > VANISHED;
            if !service.vanished {
                service.last_seen = now;
            }
        }
    }

    /// Services heard of since then.
    pub(super) fn since(&self, time: Time) -> usize {
        self.by_name.values().filter(|s| !s.vanished && s.last_seen >= time).count()
    }

    /// Whether this one was.
    pub(super) fn knows(&self, name: &str, since: Time) -> bool {
        self.by_name.get(name).is_some_and(|s| !s.vanished && s.last_seen >= since)
    }

    pub(super) fn saw(&mut self, seen: &Sighting, now: Time, events: &mut Vec<EventRow>) {
        self.heard(&seen.service, now);
        let Some(service) = self.by_name.get_mut(&seen.service) else {
            self.make_room();
            let mut service = Service { last_seen: now, ..Service::default() };
            service.version(seen.version.as_ref(), now);
            service.current = seen.version.clone();
            service.instance(seen, now);
            service.instances.values_mut().for_each(|i| i.candidate = false);
            self.by_name.insert(Arc::clone(&seen.service), service);
            let version = seen.version.as_deref().map_or_else(String::new, |v| format!(" {v}"));
            let text = format!("{}{version} was seen for the first time", seen.service);
            let draft = event(seen.at, EventKind::ServiceAppeared, text);
            let draft = draft.service(&seen.service).host(seen.host.as_deref());
            events.push(draft.with("instance", &seen.instance).row);
            return;
        };
        let pause = now.since(service.last_seen);
        service.last_seen = service.last_seen.max(now);
        if service.vanished {
            service.vanished = false;
            service.comebacks = service.comebacks.saturating_add(1);
            if service.comebacks > 1 {
                // Once is an outage, twice is a habit.
                service.longest_pause = service.longest_pause.max(pause).min(HABIT);
            }
            let silent = coral_model::text::duration(pause);
            let text = format!("{} is back after {silent} of silence", seen.service);
            let draft = event(seen.at, EventKind::ServiceAppeared, text).service(&seen.service);
            events.push(draft.host(seen.host.as_deref()).with("silent_ns", pause).row);
        } else {
            service.longest_pause = service.longest_pause.max(pause).min(HABIT);
        }
        let changed = service.instance(seen, now);
        service.new_version(seen, changed, now);
        self.forgotten += std::mem::take(&mut service.forgotten);
    }

    /// An agent saw a process of that service replaced.
    pub(super) fn told_restart(&mut self, service: &str, now: Time) {
        if let Some(service) = self.by_name.get_mut(service) {
            service.told_by_agent = Some(now);
        }
    }

    fn heard(&mut self, service: &Arc<str>, now: Time) {
        match &mut self.newest {
            Some((newest, at)) if newest == service => *at = now,
            newest => {
                self.runner_up = newest.replace((Arc::clone(service), now));
            }
        }
    }

    /// When something other than `service` was last heard.
    fn others(&self, service: &str) -> Option<Time> {
        let mut heard = [&self.newest, &self.runner_up].into_iter().flatten();
        heard.find(|(name, _)| &**name != service).map(|(_, at)| *at)
    }

    fn make_room(&mut self) {
        if self.by_name.len() >= MAX_SERVICES {
            let oldest = self.by_name.iter().min_by_key(|(_, s)| s.last_seen);
            if let Some(name) = oldest.map(|(name, _)| Arc::clone(name)) {
                self.by_name.remove(&name);
                self.forgotten += 1;
            }
        }
    }

    /// Time passed; `watched` when an agent reports, so that silence means something.
    pub(super) fn tick(&mut self, now: Time, watched: bool, events: &mut Vec<EventRow>) {
        let mut silent = Vec::new();
        for (name, service) in &mut self.by_name {
            service.tell_rollout(name, now, events);
            service.tell_restarts(name, now, events);
            let patience = VANISHED.max(service.longest_pause.saturating_mul(3).min(HABIT));
            if !service.vanished && now.since(service.last_seen) >= patience {
                silent.push(Arc::clone(name));
            }
        }
        for name in silent {
            let others = self.others(&name).is_some_and(|at| now.since(at) < OTHERS);
            let Some(service) = self.by_name.get_mut(&name).filter(|_| others || watched) else {
                continue;
            };
            service.vanished = true;
            service.rollout = None;
            let for_ns = now.since(service.last_seen);
            let text = format!(
                "{name} reports nothing any more, for {} now",
                coral_model::text::duration(for_ns)
            );
            let draft = event(service.last_seen, EventKind::ServiceVanished, text).service(&name);
            events.push(draft.with("silent_ns", for_ns).row);
        }
    }
}

impl Service {
    /// Notes that an instance was seen. True when it is new, or runs another version than before.
    fn instance(&mut self, seen: &Sighting, now: Time) -> bool {
        if self.instances.len() >= MAX_INSTANCES && !self.instances.contains_key(&seen.instance) {
            let oldest = self.instances.iter().min_by_key(|(_, i)| i.last_seen);
            if let Some(key) = oldest.map(|(key, _)| Arc::clone(key)) {
                self.instances.remove(&key);
                self.forgotten += 1;
            }
        }
        let mut new = false;
        let instance = self.instances.entry_ref(&seen.instance).or_insert_with(|| {
            new = true;
            Instance {
                version: seen.version.clone(),
                host: seen.host.clone(),
                first_seen: seen.at,
                last_seen: now,
                candidate: true,
            }
        });
        instance.last_seen = instance.last_seen.max(now);
        let changed = instance.version != seen.version;
        if changed {
            instance.version.clone_from(&seen.version);
        }
        new || changed
    }

    /// Notes that a version was seen. True when it was not running before.
    fn version(&mut self, version: Option<&Arc<str>>, now: Time) -> bool {
        let Some(version) = version else { return false };
        for other in self.versions.iter_mut().filter(|v| v.name != *version) {
            if now.since(other.last_other) >= OTHERS {
                other.last_other = now;
                other.others_since = other.others_since.saturating_add(1);
            }
        }
        if let Some(known) = self.versions.iter_mut().find(|v| v.name == *version) {
            let gone = now.since(known.last_seen) >= GONE && known.others_since >= 3;
            known.last_seen = known.last_seen.max(now);
            known.others_since = 0;
            known.last_other = now;
            return gone;
        }
        if self.versions.len() >= MAX_VERSIONS {
            let oldest = self.versions.iter().enumerate().min_by_key(|(_, v)| v.last_seen);
            if let Some(at) = oldest.map(|(at, _)| at) {
                self.versions.swap_remove(at);
                self.forgotten += 1;
            }
        }
        let name = Arc::clone(version);
        self.versions.push(Version { name, last_seen: now, others_since: 0, last_other: now });
        true
    }

    fn new_version(&mut self, seen: &Sighting, changed: bool, now: Time) {
        let new = self.version(seen.version.as_ref(), now);
        let Some(version) = &seen.version else { return };
        let Some(current) = &self.current else {
            // Of a service that never named a version, the first name is no deploy.
            self.current = Some(Arc::clone(version));
            return;
        };
        if version == current {
            self.returned = None;
        } else if new {
            self.roll_out(version, seen.at, now);
        } else if changed && self.returned.is_none() {
            self.returned = Some((Arc::clone(version), seen.at, now));
        }
    }

    fn roll_out(&mut self, to: &Arc<str>, at: Time, now: Time) {
        let from = self.current.replace(Arc::clone(to));
        self.rollout = Some(Rollout { from, to: Arc::clone(to), begun: now, at, told: 0 });
        self.returned = None;
    }

    /// An older version that is back is a rollback once nothing runs the current one any more.
    /// Until then it may be one more instance of two versions that run side by side.
    fn find_rollback(&mut self, now: Time) {
        let Some((version, at, since)) = self.returned.clone() else { return };
        let current = self.current.clone().unwrap_or_default();
        let (_, of_current) = self.running(&current, now);
        if of_current == 0 {
            self.roll_out(&version, at, now);
        } else if now.since(since) > ROLLBACK {
            self.returned = None;
        }
    }

    /// The version seen last.
    fn newest_version(&self) -> Option<Arc<str>> {
        self.versions.iter().max_by_key(|v| v.last_seen).map(|v| Arc::clone(&v.name))
    }

    /// Running instances, and how many of them run `version`.
    fn running(&self, version: &str, now: Time) -> (usize, usize) {
        let running = self.instances.values().filter(|i| now.since(i.last_seen) < SILENT);
        running.fold((0, 0), |(all, of), instance| {
            (all + 1, of + usize::from(instance.version.as_deref() == Some(version)))
        })
    }

    fn tell_rollout(&mut self, name: &str, now: Time, events: &mut Vec<EventRow>) {
        self.find_rollback(now);
        let Some(rollout) = &self.rollout else { return };
        let age = now.since(rollout.begun);
        if age < SETTLE {
            return;
        }
        let still = rollout.begun.plus(IN_TRANSIT);
        let gone = self.instances.values().filter(|i| {
            i.version.as_ref() != Some(&rollout.to)
                && i.last_seen <= still
                && now.since(i.last_seen) < SILENT
        });
        let gone = gone.count();
        let (all, of) = self.running(&rollout.to, now);
        let all = all.saturating_sub(gone);
        let first = rollout.told == 0;
        let complete = of > 0 && of >= all;
        if !first && !complete && age < ROLLOUT {
            return;
        }
        if first || (complete && of > rollout.told) {
            let from = rollout.from.as_deref().map_or_else(String::new, |f| format!("{f}→"));
            let done = if first { "" } else { ": rollout complete" };
            let text = format!("{name} {from}{} ({of}/{all} instances){done}", rollout.to);
            let at = if first { rollout.at } else { now };
            let mut draft = event(at, EventKind::Deploy, text).service(name);
            if let Some(from) = &rollout.from {
                draft = draft.with("from", from);
            }
            let draft = draft.with("to", &rollout.to).with("instances", of).with("of", all);
            events.push(draft.row);
        }
        if complete && !first || age >= ROLLOUT {
            self.rollout = None;
        } else if let Some(rollout) = &mut self.rollout {
            rollout.told = of.max(1);
        }
    }

    fn tell_restarts(&mut self, name: &str, now: Time, events: &mut Vec<EventRow>) {
        let host = self.find_restarts(now);
        let restarts = host.len();
        let total = match coral_model::num::u64_sat(restarts) {
            0 => self.restarts.due(now, FOLD),
            n => self.restarts.add(n, now, FOLD),
        };
        // Forgets instances that are long gone; those of a vanished service are needed to tell a
        // restart from a new place when it comes back.
        if self.instances.len() > 1 {
            self.instances.retain(|_, i| now.since(i.last_seen) < 4 * GONE);
        }
        let Some(total) = total else { return };
        let place = host.first();
        let at = place.map_or(now, |(at, _)| *at);
        let host = place.and_then(|(_, host)| host.as_deref());
        let on = host.map_or_else(String::new, |host| format!(" on {host}"));
        let times = if total > 1 { format!(" ×{total}") } else { String::new() };
        let text = format!("{name} was restarted{on}{times}");
        let draft = event(at, EventKind::Restart, text).service(name).host(host);
        let mut draft = draft.with("count", total);
        if let Some(since) = self.restarts.since().filter(|_| total > 1) {
            draft = draft.with("since", since);
        }
        events.push(draft.row);
    }

    /// Instances that took the place of another on the same host: when, and where. One of another
    /// version is part of a deploy and counts as nothing.
    fn find_restarts(&mut self, now: Time) -> Vec<(Time, Option<Arc<str>>)> {
        let mut found = Vec::new();
        let mut candidates: Vec<_> = self.instances.iter().filter(|(_, i)| i.candidate).collect();
        if candidates.is_empty() {
            return found;
        }
        candidates.sort_by_key(|(_, i)| i.first_seen);
        let candidates: Vec<_> = candidates.into_iter().map(|(key, _)| Arc::clone(key)).collect();
        for key in candidates {
            let Some(new) = self.instances.get(&key) else { continue };
            let replaced = self.instances.iter().filter(|(other, old)| {
                **other != key
                    && old.host == new.host
                    && now.since(old.last_seen) >= SILENT
                    && old.last_seen <= new.first_seen.plus(OVERLAP)
                    && old.first_seen <= new.first_seen
            });
            let replaced = replaced.max_by_key(|(_, old)| old.last_seen);
            let replaced = replaced.map(|(old, i)| (Arc::clone(old), i.version == new.version));
            let (at, host) = (new.first_seen, new.host.clone());
            let too_old = now.since(new.first_seen) > CANDIDATE;
            if let Some((old, same_version)) = replaced {
                self.instances.remove(&old);
                let told = self.told_by_agent.is_some_and(|t| now.since(t) < TOLD);
                if same_version && !told {
                    found.push((at, host));
                }
            } else if !too_old {
                continue;
            }
            if let Some(new) = self.instances.get_mut(&key) {
                new.candidate = false;
            }
        }
        found
    }
}
