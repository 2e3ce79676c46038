//! A process of a service ended, and perhaps another took its place.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use coral_model::time::{SECOND, Time};
use coral_model::view::EventKind;

use super::Noticed;
use crate::observe::kernel::{Ended, Ends};
use crate::observe::process::{Changes, Known, Likeness, ProcessReading};

/// How long a successor may take to report before the process counts as gone without one.
const GRACE: u64 = 6 * SECOND;
/// How long a later successor still makes it a restart.
const LATE: u64 = 120 * SECOND;
/// A service that restarts more often than this is told about once per that long, with a count.
const CALM: u64 = 30 * SECOND;
/// Ends remembered for each service, and services remembered.
const MAX_ENDS: usize = 64;
const MAX_SERVICES: usize = 1_024;
/// Processes of which is remembered what they were started as.
const MAX_LIKENESSES: usize = 1_024;

#[derive(Debug)]
struct End {
    was: Known,
    likeness: Option<Arc<Likeness>>,
    at: u64,
    wall: Time,
    told: bool,
}

#[derive(Debug, Default)]
struct Service {
    ends: Vec<End>,
    /// Steady time of the last restart told, and those since.
    told_at: Option<u64>,
    untold: u64,
    /// The newest restart among the untold: when, from which process, to which.
    newest: Option<(Time, Known, Known)>,
    /// What was different then, and is not told yet.
    changes: Option<Changes>,
}

/// Pairs the ends of processes with their successors.
#[derive(Debug, Default)]
pub struct ProcessWatch {
    services: BTreeMap<String, Service>,
    /// What those that run were started as.
    likenesses: HashMap<(u32, u64), Arc<Likeness>>,
}

impl ProcessWatch {
    /// Takes in which processes came and went since the last step. `steady` is time that does not step, in
    /// nanoseconds, `wall` what events are stamped with.
    pub fn step(
        &mut self,
        steady: u64,
        wall: Time,
        reading: &ProcessReading,
        ends: &Ends,
    ) -> Vec<Noticed> {
        for was in &reading.went {
            let likeness = self.likenesses.remove(&was.identity());
            if !self.services.contains_key(&was.service) && self.services.len() >= MAX_SERVICES {
                continue;
            }
            let service = self.services.entry(was.service.clone()).or_default();
            if service.ends.len() < MAX_ENDS {
                let was = was.clone();
                service.ends.push(End { was, likeness, at: steady, wall, told: false });
            }
        }
        for (identity, likeness) in &reading.likenesses {
            if self.likenesses.len() < MAX_LIKENESSES {
                self.likenesses.insert(*identity, Arc::clone(likeness));
            }
        }
        for new in &reading.came {
            let Some(service) = self.services.get_mut(&new.service) else { continue };
            // The oldest end is taken up first; one that began before the end was there beside it.
            let after = |end: &End| end.was.start_ticks < new.start_ticks;
            if let Some(at) = service.ends.iter().position(after) {
                let end = service.ends.remove(at);
                service.untold += 1;
                let to = self.likenesses.get(&new.identity());
                let changes = end.likeness.zip(to).and_then(|(from, to)| from.changes(to));
                service.changes = changes.or(service.changes.take());
                service.newest = Some((end.wall, end.was, new.clone()));
            }
        }
        let mut out = Vec::new();
        for (name, service) in &mut self.services {
            out.extend(service.tell(name, steady, ends));
        }
        self.services.retain(|_, service| !service.is_done(steady));
        out
    }
}

impl Service {
    fn tell(&mut self, name: &str, steady: u64, ends: &Ends) -> Vec<Noticed> {
        let mut out = Vec::new();
        let calm = self.told_at.is_none_or(|at| steady.saturating_sub(at) >= CALM);
        if let Some((at, from, to)) = self.newest.take_if(|_| calm) {
            let how = ends.of(&from);
            let ended = sentence(how.as_ref());
            let from = from.pid;
            let text = match (self.untold, &how) {
                (1, _) => {
                    format!("{name} restarted: process {from} {ended}, {} took its place", to.pid)
                }
                (n, None) => {
                    format!("{name} restarted {n} times, last process {from} → {}", to.pid)
                }
                (n, Some(_)) => format!(
                    "{name} restarted {n} times; last, process {from} {ended}, {} took its place",
                    to.pid
                ),
            };
            let mut event = Noticed::new(at, EventKind::Restart, text)
                .with("from", &from)
                .with("to", &to.pid)
                .with("count", &self.untold);
            event.attributes.extend(to.instance.map(|i| ("instance".to_owned(), i)));
            event.attributes.extend(how.iter().flat_map(Ended::attributes));
            event.service = Some(name.to_owned());
            out.push(event);
            out.extend(self.changes.take().map(|changes| changed(name, at, &changes)));
            self.untold = 0;
            self.told_at = Some(steady);
        }
        for end in &mut self.ends {
            if !end.told && steady.saturating_sub(end.at) >= GRACE {
                end.told = true;
                let how = ends.of(&end.was);
                let text = format!("process {} of {name} {}", end.was.pid, sentence(how.as_ref()));
                let mut event =
                    Noticed::new(end.wall, EventKind::ProcessEnded, text).with("pid", &end.was.pid);
                let instance = end.was.instance.clone();
                event.attributes.extend(instance.map(|i| ("instance".to_owned(), i)));
                event.attributes.extend(how.iter().flat_map(Ended::attributes));
                event.service = Some(name.to_owned());
                out.push(event);
            }
        }
        self.ends.retain(|end| steady.saturating_sub(end.at) < LATE);
        out
    }

    fn is_done(&self, steady: u64) -> bool {
        let calm = self.told_at.is_none_or(|at| steady.saturating_sub(at) >= CALM);
        calm && self.ends.is_empty() && self.newest.is_none()
    }
}

/// What is different since a service's process took the place of another.
fn changed(name: &str, at: Time, changes: &Changes) -> Noticed {
    let text = format!("{name} came back with {changes}");
    let mut event = Noticed::new(at, EventKind::Deploy, text);
    event.attributes.extend(changes.attributes());
    event.service = Some(name.to_owned());
    event
}

/// How it ended, as far as anybody saw.
fn sentence(how: Option<&Ended>) -> String {
    how.map_or_else(|| "ended".to_owned(), ToString::to_string)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::observe::files::Files;
    use crate::observe::process::Key;
    use proptest::prelude::*;

    fn process(service: &str, pid: u32, start_ticks: u64) -> Known {
        Known { service: service.into(), instance: None, pid, start_ticks }
    }

    fn step(watch: &mut ProcessWatch, s: u64, came: &[Known], went: &[Known]) -> Vec<String> {
        let (came, went) = (came.to_vec(), went.to_vec());
        let reading = ProcessReading { came, went, ..ProcessReading::default() };
        let wall = Time(1_000 * SECOND + s * SECOND);
        let told = watch.step(s * SECOND, wall, &reading, &Ends::default());
        told.into_iter().map(|n| format!("{}: {}", n.kind.word(), n.text)).collect()
    }

    #[test]
    fn a_successor_makes_it_a_restart() {
        let mut watch = ProcessWatch::default();
        assert!(step(&mut watch, 0, &[process("cart", 5, 1)], &[]).is_empty());
        assert!(step(&mut watch, 2, &[], &[process("cart", 5, 1)]).is_empty());
        let told = step(&mut watch, 4, &[process("cart", 6, 9)], &[]);
        assert_eq!(told, ["restart: cart restarted: process 5 ended, 6 took its place"]);
        assert!(step(&mut watch, 60, &[], &[]).is_empty());
        assert!(watch.services.is_empty());
    }

    #[test]
    fn what_came_back_different_is_told_once() {
        let dir = tempfile::tempdir().unwrap();
        let started = |pid: u32, environment: &str| {
            let at = dir.path().join(format!("proc/{pid}"));
            std::fs::create_dir_all(&at).unwrap();
            std::fs::write(at.join("environ"), environment).unwrap();
        };
        let (mut files, key) = (Files::below(dir.path()), Key::default());
        let mut watch = ProcessWatch::default();
        let mut step = |s: u64, came: Option<Known>, went: Option<Known>| {
            let mut reading = ProcessReading::default();
            if let Some(known) = &came {
                let likeness = Arc::new(Likeness::of(&mut files, known.pid, &key));
                reading.likenesses.insert(known.identity(), likeness);
            }
            (reading.came, reading.went) = (came.into_iter().collect(), went.into_iter().collect());
            let told = watch.step(s * SECOND, Time(s * SECOND), &reading, &Ends::default());
            told.into_iter().map(|n| format!("{}: {}", n.kind.word(), n.text)).collect::<Vec<_>>()
        };
        started(5, "DB_HOST=a");
        started(6, "DB_HOST=b");
        started(7, "DB_HOST=b");
        let cart = |pid: u32| Some(process("cart", pid, pid.into()));
        assert!(step(0, cart(5), None).is_empty());
        let told = step(2, cart(6), cart(5));
        assert_eq!(told[1..], ["deploy: cart came back with DB_HOST changed"], "{told:?}");
        assert_eq!(step(40, cart(7), cart(6)).len(), 1, "only that it restarted");
    }

    #[test]
    fn without_one_it_has_ended_and_a_late_one_is_still_a_restart() {
        let mut watch = ProcessWatch::default();
        step(&mut watch, 0, &[], &[process("cart", 5, 1)]);
        assert!(step(&mut watch, 5, &[], &[]).is_empty());
        assert_eq!(step(&mut watch, 6, &[], &[]), ["process_ended: process 5 of cart ended"]);
        assert!(step(&mut watch, 8, &[], &[]).is_empty());
        assert_eq!(step(&mut watch, 60, &[process("cart", 6, 9)], &[]).len(), 1);
        // Another service's process, or one that ran beside it all along, is no successor.
        step(&mut watch, 100, &[], &[process("cart", 6, 9)]);
        let others = [process("stock", 7, 50), process("cart", 8, 9)];
        assert!(step(&mut watch, 102, &others, &[]).is_empty());
    }

    #[test]
    fn a_crash_loop_is_told_with_a_count() {
        let mut watch = ProcessWatch::default();
        let mut told = Vec::new();
        for n in 0..20_u32 {
            let (old, new) =
                (process("cart", n, n.into()), process("cart", n + 1, u64::from(n) + 1));
            told.extend(step(&mut watch, u64::from(n) * 4, &[], &[old]));
            told.extend(step(&mut watch, u64::from(n) * 4 + 2, &[new], &[]));
        }
        told.extend(step(&mut watch, 200, &[], &[]));
        assert_eq!(told.len(), 4, "{told:?}");
        assert!(told[1].contains("restarted 7 times"), "{told:?}");
        let count =
            |t: &String| t.split(" restarted ").nth(1)?.split(' ').next()?.parse::<u32>().ok();
        let counted: u32 = told.iter().skip(1).filter_map(count).sum::<u32>() + 1;
        assert_eq!(counted, 20);
    }

    proptest! {
        #[test]
        fn what_is_remembered_is_bounded(
            steps in prop::collection::vec((0_u64..5, 0_u8..40, any::<bool>(), 0_u32..50), 0..400),
        ) {
            let mut watch = ProcessWatch::default();
            let mut now = 0;
            for (pause, service, went, pid) in steps {
                now += pause;
                let one = [process(&format!("s{service}"), pid, u64::from(pid))];
                if went { step(&mut watch, now, &[], &one); } else { step(&mut watch, now, &one, &[]); }
                prop_assert!(watch.services.len() <= MAX_SERVICES);
                prop_assert!(watch.services.values().all(|s| s.ends.len() <= MAX_ENDS));
            }
            step(&mut watch, now + 1000, &[], &[]);
            step(&mut watch, now + 2000, &[], &[]);
            prop_assert!(watch.services.is_empty());
        }
    }
}
