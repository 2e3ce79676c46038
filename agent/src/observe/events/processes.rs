//! A process of a service ended, and perhaps another took its place.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::Arc;

use coral_model::time::{SECOND, Time};
use coral_model::view::EventKind;

use super::steps::Steps;
use super::{Kept, Noticed};
use crate::observe::kernel::{Ended, Ends};
use crate::observe::process::{Changes, Known, Likeness, ProcessReading, Run, Worker};
use crate::observe::remains::LastWords;

/// How long a successor may take to report before the process counts as gone without one.
const GRACE: u64 = 6 * SECOND;
/// How long a later successor still makes it a restart.
const LATE: u64 = 120 * SECOND;
/// A first process that ends so soon and has not served anybody has not come up.
const YOUNG: u64 = 30 * SECOND;
/// A service that restarts, or ends, more often than this is told about once per that long, with a count.
const CALM: u64 = 30 * SECOND;
/// Ends remembered for each service, and services remembered.
const MAX_ENDS: usize = 64;
const MAX_SERVICES: usize = 1_024;
/// Processes of which is remembered what they were started as.
const MAX_LIKENESSES: usize = 1_024;
/// Readings of a process that are kept for its end: two minutes of them; and processes they are kept of.
const READINGS: usize = 60;
const MAX_READ: usize = 512;

/// What a process used, reading by reading.
#[derive(Debug, Clone, Default)]
struct Used {
    readings: VecDeque<[Option<u64>; 3]>,
}

/// What is known of an end beside how it came.
#[derive(Debug, Clone, Default)]
struct Left {
    words: Option<LastWords>,
    used: Used,
}

#[derive(Debug)]
struct End {
    was: Known,
    likeness: Option<Arc<Likeness>>,
    at: u64,
    wall: Time,
    how: Option<Ended>,
    left: Left,
    /// It had served nobody, and ended soon.
    young: bool,
    /// systemd started it for a unit, which may be a job that serves nobody.
    of_unit: bool,
    told: bool,
}

#[derive(Debug, Default)]
struct Service {
    ends: Vec<End>,
    /// Steady time of the last restart told, and those since.
    told_at: Option<u64>,
    untold: u64,
    /// Steady time of the last end told.
    ended_at: Option<u64>,
    /// Ends that were forgotten for room before they were told.
    more: u64,
    /// The newest restart among the untold: when, from which process, to which.
    newest: Option<(End, Known)>,
    /// What was different then, and is not told yet.
    changes: Option<Changes>,
}

/// Pairs the ends of processes with their successors.
#[derive(Debug, Default)]
pub struct ProcessWatch {
    services: BTreeMap<String, Service>,
    /// What those that run were started as.
    likenesses: HashMap<(u32, u64), Arc<Likeness>>,
    /// What those that run used, by pid.
    used: HashMap<u32, Used>,
    /// Ends of units' processes that may have been steps on the way to their services.
    steps: Steps<End>,
}

impl ProcessWatch {
    /// Takes in what systemd started since the last call, with when, ns since boot, as `steady` is counted too.
    pub fn began(&mut self, begun: Vec<(Run, u64)>) {
        self.steps.began(begun);
    }

    /// Takes in which processes came and went since the last step; `early` are first ones of services that ended
    /// before they were followed. `steady` is time that does not step, in
    /// nanoseconds, `wall` what events are stamped with.
    pub fn step(
        &mut self,
        steady: u64,
        wall: Time,
        reading: &ProcessReading,
        early: Vec<(Worker, Ended)>,
        ends: &Ends,
        kept: Kept<'_>,
    ) -> Vec<Noticed> {
        for was in &reading.went {
            let likeness = self.likenesses.remove(&was.identity());
            let used = self.used.remove(&was.pid).unwrap_or_default();
            let how = ends.of(was);
            let bad = how.as_ref().filter(|how| how.is_bad());
            // Now: what takes its place may write to the same file.
            let words = |how: &Ended| kept(was.pid, was.start_ticks, how);
            let left = bad.map(|how| Left { words: words(how), used }).unwrap_or_default();
            let (was, at) = (was.clone(), steady);
            let (young, of_unit, told) = (false, false, false);
            self.end(End { was, likeness, at, wall, how, left, young, of_unit, told });
        }
        for (worker, how) in early {
            let (service, pid, start_ticks) = (worker.service, how.pid, worker.start_ticks);
            let was = Known { service, instance: None, pid, start_ticks };
            if !how.is_bad() {
                continue;
            }
            let words = kept(pid, start_ticks, &how);
            let left = Left { words, used: Used::default() };
            let young = !worker.served && how.at_ns.saturating_sub(how.start_ns) < YOUNG;
            let (likeness, at, at_ns, told) = (None, steady, how.at_ns, false);
            let (how, of_unit) = (Some(how), worker.run.is_some());
            let end = End { was, likeness, at, wall, how, left, young, of_unit, told };
            let failed = match worker.run {
                Some(run) => self.steps.ended(run, at_ns, end),
                None => Some(end),
            };
            if let Some(end) = failed {
                self.failed(end);
            }
        }
        for end in self.steps.settle(steady) {
            self.failed(end);
        }
        self.read(reading);
        for (identity, likeness) in &reading.likenesses {
            if self.likenesses.len() < MAX_LIKENESSES {
                self.likenesses.insert(*identity, Arc::clone(likeness));
            }
        }
        for new in &reading.came {
            self.take_place(new, false);
        }
        let mut out = Vec::new();
        for (name, service) in &mut self.services {
            out.extend(service.tell(name, steady, ends));
        }
        self.services.retain(|_, service| !service.is_done(steady));
        out
    }

    /// A process ended before it was followed.
    fn failed(&mut self, end: End) {
        self.take_place(&end.was, true);
        self.end(end);
    }

    fn end(&mut self, end: End) {
        let name = &end.was.service;
        if !self.services.contains_key(name) && self.services.len() >= MAX_SERVICES {
            return;
        }
        let service = self.services.entry(name.clone()).or_default();
        // Only the newest is told of whole.
        service.ends.iter_mut().for_each(|end| end.left = Left::default());
        if service.ends.len() >= MAX_ENDS {
            let oldest = service.ends.remove(0);
            service.more += u64::from(!oldest.told);
        }
        service.ends.push(end);
    }

    /// A process takes the place of one that ended, if there is one; `early`: it has ended too, and one that did not
    /// come up leaves no place to take.
    fn take_place(&mut self, new: &Known, early: bool) {
        let Some(service) = self.services.get_mut(&new.service) else { return };
        // The oldest end is taken up first; one that began before the end was there beside it.
        let after = |end: &End| end.was.start_ticks < new.start_ticks && !(early && end.young);
        if let Some(at) = service.ends.iter().position(after) {
            let end = service.ends.remove(at);
            service.untold += 1;
            let to = self.likenesses.get(&new.identity());
            let changes = end.likeness.as_ref().zip(to).and_then(|(from, to)| from.changes(to));
            service.changes = changes.or(service.changes.take());
            service.newest = Some((end, new.clone()));
        }
    }

    fn read(&mut self, reading: &ProcessReading) {
        for row in &reading.rows {
            if self.used.len() >= MAX_READ && !self.used.contains_key(&row.pid) {
                continue;
            }
            let used = self.used.entry(row.pid).or_default();
            if used.readings.len() >= READINGS {
                used.readings.pop_front();
            }
            used.readings.push_back([row.rss_bytes, row.fds.map(|(open, _)| open), row.threads]);
        }
        if self.used.len() >= MAX_READ {
            self.used.retain(|pid, _| reading.rows.iter().any(|row| row.pid == *pid));
        }
    }
}

impl End {
    /// How it ended, as far as anybody saw; that may come to be known late.
    fn how(&self, ends: &Ends) -> Option<Ended> {
        self.how.clone().or_else(|| ends.of(&self.was))
    }
}

impl Used {
    /// Each number's way to the end, oldest first, one every 2 s; `-` where it was not known.
    fn attributes(&self) -> Vec<(String, String)> {
        let names = ["process.memory.usage", "process.open_file_descriptors", "process.threads"];
        let series = |at: usize| {
            let value = |reading: &[Option<u64>; 3]| reading.get(at).copied().flatten();
            let values: Vec<Option<u64>> = self.readings.iter().map(value).collect();
            let word =
                |value: &Option<u64>| value.map_or_else(|| "-".to_owned(), |v| v.to_string());
            let known = values.iter().any(Option::is_some);
            known.then(|| values.iter().map(word).collect::<Vec<_>>().join(" "))
        };
        let named = names.into_iter().enumerate();
        named.filter_map(|(at, name)| Some((name.to_owned(), series(at)?))).collect()
    }
}

impl Service {
    fn tell(&mut self, name: &str, steady: u64, ends: &Ends) -> Vec<Noticed> {
        let mut out = Vec::new();
        let calm = self.told_at.is_none_or(|at| steady.saturating_sub(at) >= CALM);
        if let Some((end, to)) = self.newest.take_if(|_| calm) {
            let how = end.how(ends);
            let End { was: from, wall: at, left, .. } = end;
            let ended = sentence(how.as_ref());
            let (from, instance) = (from.pid, from.instance);
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
                .with("count", &self.untold)
                .with_words(from, instance, how.as_ref(), left.words);
            event.attributes.extend(left.used.attributes());
            event.attributes.extend(to.instance.map(|i| ("instance".to_owned(), i)));
            event.attributes.extend(how.iter().flat_map(Ended::attributes));
            event.service = Some(name.to_owned());
            out.push(event);
            out.extend(self.changes.take().map(|changes| changed(name, at, &changes)));
            self.untold = 0;
            self.told_at = Some(steady);
        }
        out.extend(self.tell_ended(name, steady, ends));
        self.ends.retain(|end| steady.saturating_sub(end.at) < LATE);
        out
    }

    /// Of ends without a successor.
    fn tell_ended(&mut self, name: &str, steady: u64, ends: &Ends) -> Option<Noticed> {
        let due = |end: &End| !end.told && steady.saturating_sub(end.at) >= GRACE;
        let calm = self.ended_at.is_none_or(|at| steady.saturating_sub(at) >= CALM);
        if !calm || !self.ends.iter().any(due) {
            return None;
        }
        // With them go the newest of those that did not come up: nobody waits for a successor of these, and the
        // newest of all has its words.
        let told_now = |end: &&mut End| due(end) || !end.told && end.young;
        let (mut count, mut young, mut of_unit) = (0_u64, true, false);
        let mut newest = None;
        for end in self.ends.iter_mut().filter(told_now) {
            end.told = true;
            (count, young, of_unit) = (count + 1, young && end.young, end.of_unit);
            newest =
                Some((end.wall, end.was.clone(), end.how(ends), std::mem::take(&mut end.left)));
        }
        let (at, was, how, left) = newest?;
        self.ended_at = Some(steady);
        count += std::mem::take(&mut self.more);
        let (pid, ended) = (was.pid, sentence(how.as_ref()));
        // True of a job as well.
        let failed = if of_unit { "failed" } else { "did not come up" };
        let text = match (count, young) {
            (1, true) => format!("{name} {failed}: process {pid} {ended}"),
            (n, true) => format!("{name} {failed} {n} times; last, process {pid} {ended}"),
            (1, false) => format!("process {pid} of {name} {ended}"),
            (n, false) => format!("{n} processes of {name} ended; the last, {pid}, {ended}"),
        };
        let mut event = Noticed::new(at, EventKind::ProcessEnded, text)
            .with("pid", &pid)
            .with("count", &count)
            .with_words(pid, was.instance.clone(), how.as_ref(), left.words);
        event.attributes.extend(left.used.attributes());
        event.attributes.extend(was.instance.map(|i| ("instance".to_owned(), i)));
        event.attributes.extend(how.iter().flat_map(Ended::attributes));
        event.service = Some(name.to_owned());
        Some(event)
    }

    fn is_done(&self, steady: u64) -> bool {
        let calm = |at: &Option<u64>| at.is_none_or(|at| steady.saturating_sub(at) >= CALM);
        calm(&self.told_at) && calm(&self.ended_at) && self.ends.is_empty() && self.newest.is_none()
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
    use coral_bpf_types::ProcessEnd;
    use coral_model::view::ProcessRow;
    use proptest::prelude::*;

    fn process(service: &str, pid: u32, start_ticks: u64) -> Known {
        Known { service: service.into(), instance: None, pid, start_ticks }
    }

    fn step(watch: &mut ProcessWatch, s: u64, came: &[Known], went: &[Known]) -> Vec<String> {
        let (came, went) = (came.to_vec(), went.to_vec());
        let reading = ProcessReading { came, went, ..ProcessReading::default() };
        let wall = Time(1_000 * SECOND + s * SECOND);
        let ends = Ends::default();
        let told = watch.step(s * SECOND, wall, &reading, Vec::new(), &ends, &|_, _, _| None);
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
            let ends = Ends::default();
            let (at, none) = (Time(s * SECOND), Vec::new());
            let told = watch.step(s * SECOND, at, &reading, none, &ends, &|_, _, _| None);
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
    fn what_it_used_and_said_is_told_with_its_end_and_not_with_a_good_one() {
        let mut watch = ProcessWatch::default();
        let ends = Ends::default();
        let known = process("cart", 5, 0);
        let row = |rss: Option<u64>| ProcessRow {
            service: "cart".into(),
            instance: None,
            pid: 5,
            cpu: None,
            rss_bytes: rss,
            fds: Some((7, 100)),
            threads: None,
            blind: None,
        };
        let mut step = |s: u64, reading: ProcessReading| {
            let kept = |pid, _, _: &Ended| {
                let words = LastWords::leaving(vec![("GET /a".to_owned(), SECOND)]);
                (pid == 5).then_some(words)
            };
            watch.step(s * SECOND, Time(s * SECOND), &reading, Vec::new(), &ends, &kept)
        };
        for (s, rss) in [(0, Some(10)), (2, None), (4, Some(30))] {
            let rows = vec![row(rss)];
            assert!(step(s, ProcessReading { rows, ..ProcessReading::default() }).is_empty());
        }
        let end = |status| Ended::from(&ProcessEnd { pid: 5, status, ..ProcessEnd::default() });
        ends.heard(end(3 << 8));
        let went = vec![known];
        step(6, ProcessReading { went, ..ProcessReading::default() });
        let told = step(12, ProcessReading::default());
        let of = |name: &str| told[0].attributes.get(name).map(String::as_str);
        assert_eq!(of("process.memory.usage"), Some("10 - 30"));
        assert_eq!(of("process.open_file_descriptors"), Some("7 7 7"));
        assert_eq!((of("process.threads"), of("in_flight")), (None, Some("1")));

        // Another one of that number.
        let known = process("cart", 5, 900);
        let start_ns = 900 * SECOND / rustix::param::clock_ticks_per_second();
        ends.heard(Ended { start_ns, ..end(0) });
        step(50, ProcessReading { went: vec![known], ..ProcessReading::default() });
        let told = step(56, ProcessReading::default());
        assert!(told[0].text.ends_with("exited with 0"), "{told:?}");
        assert!(!told[0].attributes.contains_key("in_flight"), "{told:?}");
    }

    /// First processes that ended before they were followed, with their beginnings in seconds.
    fn early(pids: &[(u32, u64)], code: u32) -> Vec<(Worker, Ended)> {
        let of = |(pid, start_s): &(u32, u64)| {
            let start_ns = start_s * SECOND;
            let end =
                ProcessEnd { pid: *pid, start_ns, status: code << 8, ..ProcessEnd::default() };
            let ended = Ended { at_ns: start_ns + SECOND, ..Ended::from(&end) };
            let start_ticks = start_ns * rustix::param::clock_ticks_per_second() / SECOND;
            let (service, first, run) = ("till".to_owned(), *pid, None);
            (Worker { service, first, start_ticks, served: false, run }, ended)
        };
        pids.iter().map(of).collect()
    }

    #[test]
    fn a_service_that_does_not_come_up_is_told_with_a_count() {
        let mut watch = ProcessWatch::default();
        let ends = Ends::default();
        let said = |pid: u32, _, _: &Ended| (pid > 10).then(|| LastWords::saying(&pid.to_string()));
        let mut step = |s: u64, early: Vec<(Worker, Ended)>| {
            early.iter().for_each(|(_, ended)| ends.heard(ended.clone()));
            let (at, reading) = (Time(s * SECOND), ProcessReading::default());
            let told = watch.step(s * SECOND, at, &reading, early, &ends, &said);
            told.into_iter().map(|n| n.text).collect::<Vec<_>>()
        };
        assert!(step(1, early(&[(7, 0)], 0)).is_empty());
        assert!(step(2, early(&[(8, 1)], 3)).is_empty());
        assert_eq!(step(8, Vec::new()), ["till did not come up: process 8 exited with 3"]);
        assert!(step(20, early(&[(9, 18), (10, 19)], 3)).is_empty());
        assert!(step(37, Vec::new()).is_empty());
        // The newest ends with the others, and its words are told.
        let many = "till did not come up 3 times; last, process 11 exited with 3 · last said “11”";
        assert_eq!(step(38, early(&[(11, 37)], 3)), [many]);
        for s in 40..60 {
            let five: Vec<_> = (0..5).map(|n| (u32::try_from(s).unwrap() * 9 + n, s)).collect();
            assert!(step(s, early(&five, 3)).is_empty());
        }
        let more =
            "till did not come up 100 times; last, process 535 exited with 3 · last said “535”";
        assert_eq!(step(70, Vec::new()), [more]);
    }

    /// A process of a unit, at that start of it.
    fn run(start: u32, program: &str) -> Run {
        Run {
            unit: "till".into(),
            cgroup: "/system.slice/till.service".into(),
            invocation: Some(start.to_string()),
            executable: program.into(),
        }
    }

    /// As [`early`], of a unit.
    fn of_unit(pid: u32, start_s: u64, run: &Run) -> Vec<(Worker, Ended)> {
        let with =
            |(worker, ended): (Worker, Ended)| (Worker { run: Some(run.clone()), ..worker }, ended);
        early(&[(pid, start_s)], 1).into_iter().map(with).collect()
    }

    #[test]
    fn a_unit_that_fails_again_and_again_is_told_and_the_steps_on_its_way_are_not() {
        let mut watch = ProcessWatch::default();
        let ends = Ends::default();
        let said = |pid: u32, _, _: &Ended| Some(LastWords::saying(&pid.to_string()));
        let mut step = |s: u64, begun: Vec<(Run, u64)>, early: Vec<(Worker, Ended)>| {
            let (at, reading) = (Time(s * SECOND), ProcessReading::default());
            watch.began(begun);
            let told = watch.step(s * SECOND, at, &reading, early, &ends, &said);
            told.into_iter().map(|n| n.text).collect::<Vec<_>>()
        };
        // What may fail before the service does, and the service goes on.
        let check = of_unit(7, 0, &run(1, "check"));
        let begun = vec![(run(1, "check"), 1), (run(1, "till"), SECOND + 1)];
        assert!(step(1, begun, check).is_empty());
        for s in 2..20 {
            assert!(step(s, Vec::new(), Vec::new()).is_empty());
        }
        // Now the service does, and systemd starts it again, with its check first; the last time it does not.
        for n in 0..14_u32 {
            let s = 20 + 2 * u64::from(n);
            let next = (run(n + 3, "check"), (s + 1) * SECOND + 1);
            let begun = if n < 13 { vec![next] } else { Vec::new() };
            let told = step(s + 1, begun, of_unit(8 + n, s, &run(n + 2, "till")));
            let first = "till failed 4 times; last, process 11 exited with 1 · last said “11”";
            let expected = if s + 1 == 27 { vec![first.to_owned()] } else { Vec::new() };
            assert_eq!(told, expected, "{n}");
        }
        let told: Vec<String> = (48..70).flat_map(|s| step(s, Vec::new(), Vec::new())).collect();
        let more = "till failed 10 times; last, process 21 exited with 1 · last said “21”";
        assert_eq!(told, [more]);
    }

    #[test]
    fn who_comes_up_and_dies_between_two_readings_still_takes_a_place() {
        let mut watch = ProcessWatch::default();
        step(&mut watch, 0, &[process("till", 5, 1)], &[]);
        let (reading, ends) = (
            ProcessReading { went: vec![process("till", 5, 1)], ..ProcessReading::default() },
            Ends::default(),
        );
        let early = early(&[(6, 1)], 3);
        let told = watch.step(4 * SECOND, Time(1), &reading, early, &ends, &|_, _, _| None);
        assert_eq!(told[0].text, "till restarted: process 5 ended, 6 took its place");
        let told = step(&mut watch, 10, &[], &[]);
        assert_eq!(told, ["process_ended: till did not come up: process 6 exited with 3"]);
    }

    #[test]
    fn what_ends_well_before_it_is_followed_takes_no_place() {
        let mut watch = ProcessWatch::default();
        let ends = Ends::default();
        step(&mut watch, 0, &[process("till", 5, 1)], &[]);
        // A check of the configuration, a launcher.
        let went = vec![process("till", 5, 1)];
        let reading = ProcessReading { went, ..ProcessReading::default() };
        let good = early(&[(6, 1)], 0);
        let told = watch.step(4 * SECOND, Time(1), &reading, good, &ends, &|_, _, _| None);
        assert!(told.is_empty(), "{told:?}");
        let told = step(&mut watch, 6, &[process("till", 8, 900)], &[]);
        assert_eq!(told, ["restart: till restarted: process 5 ended, 8 took its place"]);
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
