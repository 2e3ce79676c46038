//! How processes ended: what the kernel said, until whoever tells of it asks.

use std::collections::VecDeque;
use std::fmt;
use std::sync::{Mutex, MutexGuard, PoisonError};

use coral_bpf_types::{ITSELF, KERNEL, OOM, ProcessEnd};
use coral_model::text::clean;
use coral_model::time::SECOND;
use coral_model::view::ShortLived;

use super::short_lived::ShortLives;
use crate::observe::process::Known;

/// Ends remembered; a host where more processes end between two readings forgets the oldest.
const REMEMBERED: usize = 4_096;

/// Of these, the newest among which a process may be told of again.
const AT_ONCE: usize = 64;

/// How a process ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ended {
    /// Its pid.
    pub pid: u32,
    /// When it began, in ns since boot.
    pub start_ns: u64,
    /// When it ended, likewise.
    pub at_ns: u64,
    /// Its command name.
    pub name: String,
    /// Its parent's, who started it or took it over; `None` where that could not be read.
    pub parent: Option<String>,
    /// Its exit code, unless a signal ended it.
    pub code: Option<u32>,
    /// The signal that ended it, or the last deadly one it was sent before it exited.
    pub signal: Option<u32>,
    /// Who sent that.
    pub by: Option<By>,
    /// A core was dumped.
    pub core: bool,
}

/// Who sent a signal.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum By {
    /// The kernel, because memory had run out.
    OutOfMemory,
    /// The kernel.
    Kernel,
    /// The process itself: a fault, `abort`, `raise`.
    Itself,
    /// Another process.
    Process {
        /// Its pid; `None` outside the agent's pid namespace.
        pid: Option<u32>,
        /// Its user.
        uid: u32,
        /// Its command name.
        name: String,
    },
}

impl From<&ProcessEnd> for Ended {
    fn from(end: &ProcessEnd) -> Self {
        let killer = end.status & 0x7f;
        let oom = end.flags & OOM != 0;
        let sent = Some(end.signal).filter(|signal| *signal != 0);
        let signal = if killer != 0 { Some(killer) } else { sent };
        // What was sent last need not be what it died of.
        let known = sent == signal;
        let by = match end.flags {
            _ if oom && killer == 9 => Some(By::OutOfMemory),
            _ if signal.is_none() || !known => None,
            flags if flags & KERNEL != 0 => Some(By::Kernel),
            flags if flags & ITSELF != 0 => Some(By::Itself),
            _ => Some(By::Process {
                pid: Some(end.sender_pid).filter(|pid| *pid != 0),
                uid: end.sender_uid,
                name: name_of(&end.sender),
            }),
        };
        Self {
            pid: end.pid,
            start_ns: end.start_ns,
            at_ns: end.at_ns,
            name: name_of(&end.comm),
            parent: Some(name_of(&end.parent)).filter(|name| !name.is_empty()),
            code: (killer == 0).then_some((end.status >> 8) & 0xff),
            signal,
            by,
            core: end.status & 0x80 != 0,
        }
    }
}

/// A process chooses its own name: it is as hostile as any text.
fn name_of(comm: &[u8]) -> String {
    let end = comm.iter().position(|byte| *byte == 0).unwrap_or(comm.len());
    clean(&String::from_utf8_lossy(comm.get(..end).unwrap_or_default())).into_owned()
}

impl fmt::Display for By {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::OutOfMemory => f.write_str("the kernel, for lack of memory"),
            Self::Kernel => f.write_str("the kernel"),
            Self::Itself => f.write_str("itself"),
            Self::Process { pid: Some(pid), uid, name } => {
                write!(f, "{name} (process {pid}, user {uid})")
            }
            Self::Process { pid: None, uid, name } => {
                write!(f, "{name} (user {uid}, outside the agent's view)")
            }
        }
    }
}

/// As in "process 7 *exited with 3*".
impl fmt::Display for Ended {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let core = if self.core { ", core dumped" } else { "" };
        match (self.code, self.signal.map(signal_name), &self.by) {
            (Some(code), Some(signal), Some(by)) => {
                write!(f, "exited with {code} after {signal} from {by}")
            }
            (Some(code), _, _) => write!(f, "exited with {code}"),
            (None, Some(signal), Some(By::Itself)) => write!(f, "died of {signal}{core}"),
            (None, Some(signal), Some(by)) => write!(f, "was killed by {signal} from {by}{core}"),
            (None, Some(signal), None) => write!(f, "was killed by {signal}{core}"),
            (None, None, _) => f.write_str("ended"),
        }
    }
}

impl Ended {
    /// Whether it failed: not where it exited with 0, nor where somebody asked it to end and it did.
    #[must_use]
    pub fn is_bad(&self) -> bool {
        let asked = matches!(self.by, Some(By::Process { .. }));
        match (self.code, self.signal) {
            (Some(0), _) => false,
            (code, Some(signal @ (1 | 2 | 3 | 15))) if asked => {
                code.is_some_and(|code| code != 128 + signal)
            }
            _ => true,
        }
    }

    /// Particulars for an event, with OpenTelemetry's names where it has them.
    #[must_use]
    pub fn attributes(&self) -> Vec<(String, String)> {
        let mut out = Vec::new();
        let mut put = |key: &str, value: String| out.push((key.to_owned(), value));
        if let Some(code) = self.code {
            put("process.exit.code", code.to_string());
        }
        if let Some(signal) = self.signal {
            put("signal", signal_name(signal));
        }
        match &self.by {
            Some(By::Process { pid, uid, name }) => {
                put("sender", name.clone());
                put("sender.uid", uid.to_string());
                if let Some(pid) = pid {
                    put("sender.pid", pid.to_string());
                }
            }
            Some(By::OutOfMemory) => put("sender", "kernel: out of memory".to_owned()),
            Some(By::Kernel) => put("sender", "kernel".to_owned()),
            Some(By::Itself) => put("sender", "itself".to_owned()),
            None => {}
        }
        if self.core {
            put("core_dumped", "true".to_owned());
        }
        out
    }
}

/// `SIGKILL`; `signal 40` for those without a name.
#[must_use]
pub fn signal_name(signal: u32) -> String {
    const NAMES: [&str; 31] = [
        "HUP", "INT", "QUIT", "ILL", "TRAP", "ABRT", "BUS", "FPE", "KILL", "USR1", "SEGV", "USR2",
        "PIPE", "ALRM", "TERM", "STKFLT", "CHLD", "CONT", "STOP", "TSTP", "TTIN", "TTOU", "URG",
        "XCPU", "XFSZ", "VTALRM", "PROF", "WINCH", "IO", "PWR", "SYS",
    ];
    let at = usize::try_from(signal).ok().and_then(|signal| signal.checked_sub(1));
    let name = at.and_then(|at| NAMES.get(at));
    name.map_or_else(|| format!("signal {signal}"), |name| format!("SIG{name}"))
}

/// The newest ends, shared by whoever hears of them and whoever tells.
#[derive(Debug, Default)]
pub struct Ends {
    inner: Mutex<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    newest: VecDeque<Ended>,
    /// Since the last time somebody asked for all.
    new: VecDeque<Ended>,
    victims: VecDeque<Ended>,
    short_lived: ShortLives,
}

impl Ends {
    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A process ended. Where its last threads end at once each of them tells it; the first knows more.
    pub fn heard(&self, ended: Ended) {
        let mut inner = self.lock();
        let same = |other: &&Ended| (other.pid, other.start_ns) == (ended.pid, ended.start_ns);
        if inner.newest.iter().rev().take(AT_ONCE).any(|other| same(&other)) {
            return;
        }
        inner.short_lived.count(&ended);
        if ended.by == Some(By::OutOfMemory) {
            keep(&mut inner.victims, ended.clone());
        }
        keep(&mut inner.new, ended.clone());
        keep(&mut inner.newest, ended);
    }

    /// Every end is told from now on, ns since boot.
    pub fn begin(&self, now_ns: u64) {
        self.lock().short_lived.begin(now_ns);
    }

    /// No end is told any more.
    pub fn end(&self) {
        self.lock().short_lived.end();
    }

    /// Processes of the last whole minute that lived too short to be followed.
    ///
    /// # Errors
    /// Why that is not known.
    pub fn short_lived(&self, now_ns: u64) -> Result<ShortLived, &'static str> {
        self.lock().short_lived.told(now_ns)
    }

    /// Those of them for whose program there was no room, since the agent was started.
    #[must_use]
    pub fn folded_programs(&self) -> u64 {
        self.lock().short_lived.folded()
    }

    /// Every end since the last call, as far as they are remembered.
    #[must_use]
    pub fn take_new(&self) -> Vec<Ended> {
        self.lock().new.drain(..).collect()
    }

    /// Whether there are any since the last call of [`Self::take_new`].
    #[must_use]
    pub fn is_any_new(&self) -> bool {
        !self.lock().new.is_empty()
    }

    /// How a process ended. The same pid with another beginning is another process.
    #[must_use]
    pub fn of(&self, was: &Known) -> Option<Ended> {
        let tick_ns = SECOND / rustix::param::clock_ticks_per_second().clamp(1, SECOND);
        let its =
            |e: &&Ended| e.pid == was.pid && (e.start_ns / tick_ns).abs_diff(was.start_ticks) <= 1;
        self.lock().newest.iter().rev().find(its).cloned()
    }

    /// Those the kernel chose when memory had run out, since the last call.
    #[must_use]
    pub fn take_victims(&self) -> Vec<Ended> {
        self.lock().victims.drain(..).collect()
    }
}

fn keep(list: &mut VecDeque<Ended>, ended: Ended) {
    if list.len() >= REMEMBERED {
        list.pop_front();
    }
    list.push_back(ended);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn comm(name: &str) -> [u8; 16] {
        let mut out = [0; 16];
        out[..name.len()].copy_from_slice(name.as_bytes());
        out
    }

    fn told(status: u32, signal: u32, flags: u32) -> String {
        let end = ProcessEnd {
            pid: 7,
            status,
            signal,
            flags,
            sender_pid: 9,
            sender_uid: 33,
            comm: comm("cart"),
            sender: comm("kill\u{7}"),
            ..ProcessEnd::default()
        };
        Ended::from(&end).to_string()
    }

    #[test]
    fn every_way_to_end_has_its_sentence() {
        assert_eq!(told(0, 0, 0), "exited with 0");
        assert_eq!(told(3 << 8, 0, 0), "exited with 3");
        assert_eq!(told(0, 15, 0), "exited with 0 after SIGTERM from kill· (process 9, user 33)");
        assert_eq!(told(9, 9, 0), "was killed by SIGKILL from kill· (process 9, user 33)");
        assert_eq!(told(11 | 0x80, 11, ITSELF), "died of SIGSEGV, core dumped");
        assert_eq!(told(9, 9, KERNEL), "was killed by SIGKILL from the kernel");
        assert_eq!(
            told(9, 9, KERNEL | OOM),
            "was killed by SIGKILL from the kernel, for lack of memory"
        );
        // What it was sent last is not what it died of: nobody is blamed.
        assert_eq!(told(6, 15, 0), "was killed by SIGABRT");
        assert_eq!(told(40, 40, ITSELF), "died of signal 40");
    }

    #[test]
    fn who_ends_as_he_was_asked_to_has_not_failed() {
        let bad = |status, signal, flags| {
            let end = ProcessEnd { status, signal, flags, ..ProcessEnd::default() };
            Ended::from(&end).is_bad()
        };
        assert!(!bad(0, 0, 0) && !bad(0, 15, 0) && !bad(15, 15, 0) && !bad(143 << 8, 15, 0));
        assert!(bad(1 << 8, 0, 0) && bad(1 << 8, 15, 0) && bad(9, 9, 0));
        assert!(bad(11, 11, ITSELF) && bad(15, 15, KERNEL));
    }

    #[test]
    fn an_end_is_found_by_pid_and_start_and_the_oldest_are_forgotten() {
        let ends = Ends::default();
        let tick = SECOND / rustix::param::clock_ticks_per_second();
        for pid in 0..u32::try_from(REMEMBERED).unwrap() + 10 {
            let start_ns = 7 * tick + u64::from(pid);
            ends.heard(Ended::from(&ProcessEnd { pid, start_ns, ..ProcessEnd::default() }));
        }
        let of = |pid, start_ticks| {
            let known = Known { service: "cart".into(), instance: None, pid, start_ticks };
            ends.of(&known).map(|e| e.pid)
        };
        assert_eq!(of(9, 7), None);
        assert_eq!(of(500, 7), Some(500));
        // The number was given to another process since.
        assert_eq!(of(500, 70), None);
    }

    #[test]
    fn threads_that_end_at_once_are_one_end() {
        let ends = Ends::default();
        ends.begin(0);
        // Outside the agent's view they are told apart by when they began.
        for (pid, start_ns) in [(7, 9), (0, 11), (0, 12)] {
            let end = |signal| ProcessEnd { pid, start_ns, signal, ..ProcessEnd::default() };
            ends.heard(Ended::from(&end(15)));
            ends.heard(Ended::from(&end(0)));
        }
        let told: Vec<_> = ends.take_new().iter().map(|end| (end.pid, end.signal)).collect();
        assert_eq!(told, [(7, Some(15)), (0, Some(15)), (0, Some(15))]);
        let short = ends.short_lived(60 * SECOND).unwrap();
        assert_eq!(short.programs.iter().map(|row| row.count).collect::<Vec<_>>(), [3]);
    }

    #[test]
    fn who_started_it_is_told_where_that_was_read() {
        let parent = |name: &str| {
            let end = ProcessEnd { parent: comm(name), ..ProcessEnd::default() };
            // By way of the ring.
            let mut bytes = [0; size_of::<ProcessEnd>()];
            bytes[72..].copy_from_slice(&end.parent);
            Ended::from(&ProcessEnd::from_bytes(&bytes).unwrap()).parent
        };
        assert_eq!(parent("sh\u{7}").as_deref(), Some("sh·"));
        assert_eq!(parent(""), None);
    }

    #[test]
    fn victims_are_told_once() {
        let ends = Ends::default();
        let end = ProcessEnd {
            pid: 4,
            status: 9,
            signal: 9,
            flags: OOM | KERNEL,
            ..ProcessEnd::default()
        };
        ends.heard(Ended::from(&end));
        assert_eq!(ends.take_victims().len(), 1);
        assert!(ends.take_victims().is_empty());
    }
}
