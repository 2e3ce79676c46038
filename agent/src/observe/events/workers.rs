//! A process that a service forked for its work ended badly; the service went on.

use std::collections::BTreeMap;

use coral_model::time::{SECOND, Time};
use coral_model::view::EventKind;

use super::{Kept, Noticed};
use crate::observe::kernel::{By, Ended};
use crate::observe::process::Worker;
use crate::observe::remains::LastWords;

/// A service whose workers end more often than this is told of once per that long, with a count.
const CALM: u64 = 30 * SECOND;
/// Services remembered.
const MAX_SERVICES: usize = 1_024;

#[derive(Debug, Default)]
struct Service {
    told_at: Option<u64>,
    untold: u64,
    newest: Option<(Time, Ended, Option<LastWords>)>,
}

/// Folds the ends of workers.
#[derive(Debug, Default)]
pub struct WorkerWatch {
    services: BTreeMap<String, Service>,
}

/// A worker that exits by itself so soon, heard of within the 2 s of a reading, has turned a client away:
/// servers with a process for each connection do (PostgreSQL).
const SHORT: u64 = 7 * SECOND;

/// Whether an end is worth telling: one that failed, and that its own service did not bring about.
fn is_bad(worker: &Worker, ended: &Ended, steady: u64) -> bool {
    let short = steady.saturating_sub(ended.start_ns) < SHORT;
    let turned_away = short && ended.code.is_some() && ended.signal.is_none();
    let failed = ended.code.is_none_or(|code| code != 0);
    let own = match &ended.by {
        Some(By::Process { pid, name, .. }) => *pid == Some(worker.first) || *name == ended.name,
        _ => false,
    };
    failed && !turned_away && !own
}

impl WorkerWatch {
    /// Workers that ended since the last step. `steady` is time that does not step, in nanoseconds, `wall`
    /// what events are stamped with.
    pub fn step(
        &mut self,
        steady: u64,
        wall: Time,
        ends: Vec<(Worker, Ended)>,
        kept: Kept<'_>,
    ) -> Vec<Noticed> {
        for (worker, ended) in ends {
            if !is_bad(&worker, &ended, steady) {
                continue;
            }
            if !self.services.contains_key(&worker.service) && self.services.len() >= MAX_SERVICES {
                continue;
            }
            let words = kept(ended.pid, worker.start_ticks, &ended);
            let service = self.services.entry(worker.service).or_default();
            service.untold += 1;
            service.newest = Some((wall, ended, words));
        }
        let mut out = Vec::new();
        for (name, service) in &mut self.services {
            out.extend(service.tell(name, steady));
        }
        let calm = |at: u64| steady.saturating_sub(at) >= CALM;
        self.services.retain(|_, s| s.newest.is_some() || s.told_at.is_some_and(|at| !calm(at)));
        out
    }
}

impl Service {
    fn tell(&mut self, name: &str, steady: u64) -> Option<Noticed> {
        let calm = self.told_at.is_none_or(|at| steady.saturating_sub(at) >= CALM);
        let (at, ended, words) = self.newest.take_if(|_| calm)?;
        let count = std::mem::take(&mut self.untold);
        self.told_at = Some(steady);
        let pid = ended.pid;
        let text = match count {
            1 => format!("a worker of {name}, process {pid}, {ended}"),
            n => format!("{n} workers of {name} ended; the last, process {pid}, {ended}"),
        };
        let mut event = Noticed::new(at, EventKind::ProcessEnded, text)
            .with("pid", &pid)
            .with("count", &count)
            .with_words(pid, None, Some(&ended), words);
        event.attributes.extend(ended.attributes());
        event.service = Some(name.to_owned());
        Some(event)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn worker() -> Worker {
        Worker { service: "web".into(), first: 7, start_ticks: 1, served: true, run: None }
    }

    fn ended(pid: u32, code: Option<u32>, by: Option<By>) -> (Worker, Ended) {
        let signal = code.is_none().then_some(9);
        let (name, parent) = ("web".to_owned(), None);
        let (start_ns, at_ns, core) = (1, 1, false);
        (worker(), Ended { pid, start_ns, at_ns, name, parent, code, signal, by, core })
    }

    fn told(watch: &mut WorkerWatch, s: u64, ends: Vec<(Worker, Ended)>) -> Vec<String> {
        let noticed = watch.step(s * SECOND, Time(s * SECOND), ends, &|_, _, _| None);
        noticed.into_iter().map(|n| format!("{}: {}", n.kind.word(), n.text)).collect()
    }

    #[test]
    fn bad_ends_are_told_and_many_together() {
        let mut watch = WorkerWatch::default();
        assert!(told(&mut watch, 1, vec![ended(8, Some(0), None)]).is_empty());
        let killer = || Some(By::Process { pid: Some(3), uid: 0, name: "sh".into() });
        assert!(
            told(&mut watch, 2, vec![ended(8, Some(1), None)]).is_empty(),
            "it turned somebody away"
        );
        assert_eq!(
            told(&mut watch, 2, vec![ended(9, None, killer())]),
            [
                "process_ended: a worker of web, process 9, was killed by SIGKILL from sh (process 3, user 0)"
            ]
        );
        let many = |n: u32| (0..n).map(|pid| ended(20 + pid, Some(1), None)).collect();
        assert!(told(&mut watch, 10, many(7)).is_empty());
        assert_eq!(
            told(&mut watch, 32, many(7)),
            ["process_ended: 14 workers of web ended; the last, process 26, exited with 1"]
        );
        assert!(told(&mut watch, 70, Vec::new()).is_empty());
        assert!(watch.services.is_empty());
    }

    #[test]
    fn a_service_that_ends_its_own_workers_means_to() {
        let mut watch = WorkerWatch::default();
        let first = Some(By::Process { pid: Some(7), uid: 0, name: "web".into() });
        assert!(told(&mut watch, 1, vec![ended(9, None, first)]).is_empty());
        let another = Some(By::Process { pid: Some(8), uid: 0, name: "web".into() });
        assert!(told(&mut watch, 1, vec![ended(9, None, another)]).is_empty());
    }
}
