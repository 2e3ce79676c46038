//! What is kept of processes in case that they die: what they said last, and what they left unanswered.
//!
//! Where a program's standard output goes says how it is read ([`Sink`]): a file's end is read when the
//! program has died; what goes to a pipe or a terminal nobody can read afterwards, so that is captured
//! while it is written, from the program's beginning on, and only then are programs hung where it passes.
//! It is kept of processes of services alone, in memory, bounded, and leaves the agent only when such a process
//! ended badly, as log records ([`told`]).

mod headline;
mod output;
mod sink;
mod tail;
pub mod told;

use std::collections::{HashMap, VecDeque};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use coral_bpf_types::Chunk;
use coral_model::num::u64_sat;
use coral_model::text::clean;
use coral_model::time::SECOND;

use super::files::Files;
use super::kernel::Ended;
use output::{Output, Written};
use sink::Sink;
pub(in crate::observe) use sink::is_at_terminal;
pub use told::LastWords;

/// Processes of which it is known where they write.
const PROCESSES: usize = 1_024;
/// Bytes of output of all of them.
const BYTES: usize = 8 << 20;
/// Processes remembered of which nothing is wanted.
const QUIET: usize = 16_384;
/// What is kept of a process that has ended is told within this, ns.
const KEPT: u64 = 180 * SECOND;
/// Requests remembered that a connection's end left unanswered.
const UNANSWERED: usize = 4_096;
/// What was left unanswered by a process ended no longer before or after it, ns.
const AT_ITS_END: u64 = SECOND;
/// Who wrote to a pipe and is gone is looked for again for so long, ns.
const WANTED: u64 = 600 * SECOND;
/// How long an end waits for what the kernel has told and nobody has read yet.
const DRAINING: Duration = Duration::from_millis(250);
const AGAIN: Duration = Duration::from_millis(5);

/// Which output of processes that die is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, clap::ValueEnum)]
pub enum Capture {
    /// What is in files, and what goes to a pipe or a terminal, captured while it is written
    #[default]
    Auto,
    /// What is in files
    Files,
    /// None
    Never,
}

/// A request whose connection ended before it was answered.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Unanswered {
    pid: u32,
    operation: String,
    since_ns: u64,
    at_ns: u64,
}

/// What the process that wrote is to be told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wants {
    /// Go on.
    More,
    /// What it writes is not wanted, or can be read elsewhere.
    Nothing,
}

/// What is kept; shared by whoever reads the kernel's ring and whoever tells of ends.
#[derive(Debug)]
pub struct Remains {
    capture: Capture,
    /// Somebody writes where nothing can be read afterwards.
    wanted: AtomicBool,
    /// Outputs that were dropped for room.
    forgotten: AtomicU64,
    /// Everything that the kernel told before then was read, ns since boot.
    drained_ns: AtomicU64,
    inner: Mutex<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    /// By pid.
    processes: HashMap<u32, Process>,
    bytes: usize,
    unanswered: VecDeque<Unanswered>,
    /// When somebody was last seen to need it, ns since boot.
    needed_ns: Option<u64>,
    /// Those of which nothing is wanted, by pid, with how the first namespace numbers them.
    quiet: HashMap<u32, u32>,
    /// Those of them (numbered so) of which something is wanted after all.
    wanted_again: Vec<u32>,
}

/// A process whose end would be told.
#[derive(Debug)]
struct Process {
    /// When it began, in clock ticks since boot.
    start_ticks: u64,
    /// Where its standard output and its standard error go.
    sinks: [Option<Sink>; 2],
    output: Output,
    /// When it was seen to be gone, ns since boot.
    gone_ns: Option<u64>,
}

impl Process {
    fn is_open(&self) -> bool {
        self.sinks.contains(&Some(Sink::Unreadable))
    }
}

impl Default for Remains {
    fn default() -> Self {
        Self::new(Capture::default())
    }
}

impl Remains {
    /// Nothing yet.
    #[must_use]
    pub fn new(capture: Capture) -> Self {
        Self {
            capture,
            wanted: AtomicBool::new(false),
            forgotten: AtomicU64::new(0),
            drained_ns: AtomicU64::new(0),
            inner: Mutex::default(),
        }
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Which output is kept.
    #[must_use]
    pub fn capture(&self) -> Capture {
        self.capture
    }

    /// Whether output is to be captured now.
    #[must_use]
    pub fn wants_capture(&self) -> bool {
        self.capture == Capture::Auto && self.wanted.load(Ordering::Relaxed)
    }

    /// Outputs that were dropped for room since the start.
    #[must_use]
    pub fn forgotten(&self) -> u64 {
        self.forgotten.load(Ordering::Relaxed)
    }

    /// Forgets what was captured and left unanswered: what comes next does not go on with it.
    pub fn clear(&self) {
        let mut inner = self.lock();
        let processes = std::mem::take(&mut inner.processes);
        let emptied = |(pid, process): (u32, Process)| {
            (pid, Process { output: Output::default(), ..process })
        };
        inner.processes = processes.into_iter().map(emptied).collect();
        inner.bytes = 0;
        inner.unanswered.clear();
        inner.quiet.clear();
        inner.wanted_again.clear();
    }

    /// A process whose end would be told was met: where it writes is noted. `container` is the id of its
    /// container.
    pub fn meet(
        &self,
        files: &mut Files,
        pid: u32,
        start_ticks: u64,
        container: Option<&str>,
        now_ns: u64,
    ) {
        if self.capture == Capture::Never {
            return;
        }
        let sinks = sink::of(files, pid, container);
        let mut inner = self.lock();
        if let Some(known) = inner.processes.get_mut(&pid).filter(|p| p.start_ticks == start_ticks)
        {
            known.sinks = sinks;
        } else {
            self.make_room(&mut inner);
            let output = Output::default();
            let process = Process { start_ticks, sinks, output, gone_ns: None };
            inner.insert(pid, process);
        }
        let open = inner.processes.get(&pid).is_some_and(Process::is_open);
        if open {
            inner.needed_ns = Some(now_ns);
            self.wanted.store(true, Ordering::Relaxed);
            if let Some(process) = inner.quiet.remove(&pid) {
                inner.wanted_again.push(process);
            }
        }
    }

    /// Processes (as the first namespace numbers them) of which something is wanted after all.
    #[must_use]
    pub fn wanted_again(&self) -> Vec<u32> {
        std::mem::take(&mut self.lock().wanted_again)
    }

    /// A process is another program from now on.
    pub fn began(&self, pid: u32) {
        let mut inner = self.lock();
        inner.remove(pid);
        inner.quiet.remove(&pid);
    }

    /// A process wrote to its standard output or its standard error. `is_worker`: a service forked it for its
    /// work.
    pub fn said(&self, files: &mut Files, chunk: &Chunk, bytes: &[u8], is_worker: bool) -> Wants {
        let (pid, start_ticks) = (chunk.pid, ticks(chunk.socket));
        if pid == 0 || self.capture != Capture::Auto {
            return Wants::Nothing;
        }
        let its = |p: &&mut Process| p.start_ticks.abs_diff(start_ticks) <= 1;
        let known = |inner: &mut Inner| inner.processes.get_mut(&pid).filter(its).is_some();
        if is_worker && !known(&mut self.lock()) {
            self.meet(files, pid, start_ticks, None, chunk.at_ns);
        }
        let mut inner = self.lock();
        let Some(process) = inner.processes.get_mut(&pid).filter(its) else {
            if inner.quiet.len() >= QUIET {
                inner.quiet.clear();
            }
            inner.quiet.insert(pid, chunk.process);
            return Wants::Nothing;
        };
        if !process.is_open() {
            inner.quiet.insert(pid, chunk.process);
            return Wants::Nothing;
        }
        let [out, error] = &process.sinks;
        let sink = if chunk.local_port == 2 { error } else { out };
        if *sink != Some(Sink::Unreadable) {
            return Wants::More;
        }
        let before = process.output.bytes();
        let cut = u64::from(chunk.total).saturating_sub(u64_sat(bytes.len()));
        let (fd, at_ns, missed) = (chunk.local_port, chunk.at_ns, chunk.missed_sent.into());
        process.output.take(&Written { fd, at_ns, bytes, missed, cut });
        let after = process.output.bytes();
        inner.bytes = inner.bytes.saturating_add(after).saturating_sub(before);
        while inner.bytes > BYTES && inner.processes.len() > 1 {
            self.forget_one(&mut inner);
        }
        Wants::More
    }

    fn make_room(&self, inner: &mut Inner) {
        while inner.processes.len() >= PROCESSES {
            self.forget_one(inner);
        }
    }

    /// Of those that are gone the one that went first, else the one that has been silent for longest.
    fn forget_one(&self, inner: &mut Inner) {
        let order = |p: &Process| (p.gone_ns.is_none(), p.gone_ns, p.output.last_ns());
        let first = inner.processes.iter().min_by_key(|(_, process)| order(process));
        if let Some(pid) = first.map(|(pid, _)| *pid) {
            let said = inner.processes.get(&pid).is_some_and(|p| p.output.bytes() > 0);
            inner.remove(pid);
            self.forgotten.fetch_add(u64::from(said), Ordering::Relaxed);
        }
    }

    /// A request's connection ended before it was answered. Times since boot, ns.
    pub fn unanswered(&self, pid: u32, operation: &str, since_ns: u64, at_ns: u64) {
        let mut inner = self.lock();
        if inner.unanswered.len() >= UNANSWERED {
            inner.unanswered.pop_front();
        }
        let operation = clean(operation).into_owned();
        inner.unanswered.push_back(Unanswered { pid, operation, since_ns, at_ns });
    }

    /// Everything that the kernel told before `now_ns` was read.
    pub fn drained(&self, now_ns: u64) {
        self.drained_ns.store(now_ns, Ordering::Release);
    }

    /// Waits, not for long, until what the kernel told before `now_ns` was read, and ends are `heard` of.
    /// Blocks.
    pub fn settle(&self, now_ns: u64, heard: impl Fn() -> bool) {
        let drained = || self.drained_ns.load(Ordering::Acquire);
        let tries = DRAINING.as_nanos() / AGAIN.as_nanos();
        for _ in 0..tries {
            // Where nobody reads there is nothing to wait for.
            if drained() == 0 || drained() >= now_ns && heard() {
                return;
            }
            std::thread::sleep(AGAIN);
        }
    }

    /// What is kept of a process that has ended so.
    #[must_use]
    pub fn of(&self, pid: u32, start_ticks: u64, how: &Ended) -> Option<LastWords> {
        let (output, sinks, mut left) = {
            let inner = self.lock();
            let its = |p: &&Process| p.start_ticks.abs_diff(start_ticks) <= 1;
            let process = inner.processes.get(&pid).filter(its);
            let output = process.map(|p| p.output.clone()).unwrap_or_default();
            let sinks = process.map(|p| p.sinks.clone()).unwrap_or_default();
            let at_end = |u: &&Unanswered| how.at_ns.abs_diff(u.at_ns) <= AT_ITS_END;
            let left = inner.unanswered.iter().filter(|u| u.pid == pid).filter(at_end);
            let waited = |u: &Unanswered| u.at_ns.saturating_sub(u.since_ns);
            let left: Vec<_> = left.map(|u| (u.operation.clone(), waited(u))).collect();
            (output, sinks, left)
        };
        left.sort_unstable_by(|a, b| b.1.cmp(&a.1).then_with(|| a.0.cmp(&b.0)));
        let mut words = LastWords::leaving(left);
        let [out, error] = sinks;
        let other = error.filter(|error| out.as_ref() != Some(error));
        for sink in out.into_iter().chain(other) {
            words.read(&sink);
        }
        words.captured(output);
        (!words.is_empty()).then_some(words)
    }

    /// Forgets processes that ended long ago, and says whether anything is still to be captured. `lives` tells
    /// whether the process with that pid and beginning is there.
    pub fn sweep(&self, now_ns: u64, mut lives: impl FnMut(u32, u64) -> bool) {
        let key = |(pid, p): (&u32, &Process)| (*pid, p.start_ticks);
        let keys: Vec<_> = self.lock().processes.iter().map(key).collect();
        let gone: Vec<_> = keys.into_iter().filter(|(pid, start)| !lives(*pid, *start)).collect();
        let mut inner = self.lock();
        for (pid, start) in gone {
            let process = inner.processes.get_mut(&pid).filter(|p| p.start_ticks == start);
            let Some(process) = process else { continue };
            let since = *process.gone_ns.get_or_insert(now_ns);
            if now_ns.saturating_sub(since) >= KEPT {
                inner.remove(pid);
            }
        }
        if inner.processes.values().any(|p| p.gone_ns.is_none() && p.is_open()) {
            inner.needed_ns = Some(now_ns);
        }
        let wanted = inner.needed_ns.is_some_and(|at| now_ns.saturating_sub(at) < WANTED);
        self.wanted.store(wanted, Ordering::Relaxed);
    }
}

impl Inner {
    fn insert(&mut self, pid: u32, process: Process) {
        self.remove(pid);
        self.processes.insert(pid, process);
    }

    fn remove(&mut self, pid: u32) {
        if let Some(process) = self.processes.remove(&pid) {
            self.bytes = self.bytes.saturating_sub(process.output.bytes());
        }
    }
}

/// Clock ticks of a time since boot in ns, as `/proc/<pid>/stat` counts.
fn ticks(ns: u64) -> u64 {
    ns / (SECOND / rustix::param::clock_ticks_per_second().clamp(1, SECOND))
}

#[cfg(test)]
mod tests;
