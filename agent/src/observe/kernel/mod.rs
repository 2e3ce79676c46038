//! What the agent sees through eBPF.
//!
//! The programs (`bpf/`, Rust too) hang on raw tracepoints, and on functions of OpenSSL; what they see
//! comes through a ring. They are in the kernel for as long as this process holds them and no longer.
//! Without the right to load them, without BTF, or in a build without them, the agent does everything else,
//! and the sense `ebpf` says what is missing and what to do; `requests`, `tls` and `output` say it of theirs.
//!
//! Now: how processes end ([`ends`]): exit code or signal, who sent it, whether memory had run out; the
//! bytes of HTTP, gRPC, Redis, PostgreSQL and DNS, which [`super::requests`] makes requests of; and what
//! services write to pipes and terminals, for [`super::remains`]. Of processes that live too short to be followed
//! [`short_lived`] keeps count.
//!
//! [`btf`] finds members of the running kernel's structures, [`load`] brings the programs in, [`hooks`] where requests
//! are seen, [`ask`] runs one of them, [`probes`] brings in those that read what OpenSSL is given and gives, where [`trial`] says that it costs
//! little. [`keeper`] opens the eyes and closes them, as people want it ([`lids`]) and as [`allowance`] allows.

pub mod allowance;
pub mod ask;
pub mod btf;
pub mod ends;
pub mod hooks;
pub mod keeper;
pub mod lids;
pub mod load;
pub mod probes;
mod short_lived;
mod trial;

use std::sync::Arc;
use std::time::Duration;

use coral_bpf_types::ProcessEnd;
use coral_model::view::{Sense, SenseState};
use tokio::io::unix::AsyncFd;
use tokio::sync::oneshot;
use tokio_util::sync::CancellationToken;

pub use ends::{By, Ended, Ends};
pub use hooks::Hooks;
use load::{EndsRing, Eyes, EyesError};

use crate::counters::Counters;
use crate::observe::clock::Clocks;
use crate::observe::files::Files;
use crate::observe::remains::{Capture, Remains};
use crate::observe::requests::tls::{self, When, finder::Finder};
use crate::observe::requests::watch::Watch;
use crate::observe::requests::{self, table::Table};
use crate::pipeline::Pipeline;
use crate::senses::Senses;

/// The names of the senses.
const SENSE: &str = "ebpf";
const REQUESTS: &str = "requests";
const TLS: &str = tls::finder::SENSE;
const OUTPUT: &str = "output";
/// What makes requests be seen.
const WATCH: &str = "start coral-agent with --watch all, or set CORAL_WATCH=all";
/// What makes them be seen within TLS.
const WITH_TLS: &str = "start coral-agent with --tls auto";
/// Where nothing needs to be captured.
const NOT_CAPTURED: &str = "of files, when a process dies; no service writes to a pipe or a terminal, so nothing is captured";
/// Where nothing is captured.
const OF_FILES: &str = "of files only: what goes to a pipe or a terminal is lost";
/// Where it cannot be.
const NOT_WITHOUT_REQUESTS: &str = "of files only: what goes to a pipe or a terminal is captured where requests are seen, and the kernel does not let them be";
/// What makes output be captured where requests are seen, and where they are turned off.
const WITH_OUTPUT: &str = "start coral-agent with --output auto";
const WITH_OUTPUT_AND_REQUESTS: &str = "start coral-agent with --output auto and --watch all";
/// How often the loss counter is read.
const LOOK: Duration = Duration::from_secs(2);

/// What [`run`] needs.
pub struct Setup {
    /// Told how processes end.
    pub ends: Arc<Ends>,
    /// Told what works.
    pub senses: Senses,
    /// What processes leave behind; says whether their output is to be captured.
    pub remains: Arc<Remains>,
    /// Whose requests are seen, and where; `None`: nobody's.
    pub requests: Option<(Table, Hooks)>,
    /// Whose of them within TLS, too; `None`: nobody's.
    pub tls: Option<(Watch, When)>,
    /// Takes the requests.
    pub pipeline: Arc<Pipeline>,
    /// Told once whether the eyes opened.
    pub opened: oneshot::Sender<bool>,
}

/// Opens the eyes and reads what they see until cancelled, or until some of it cannot be read any more.
pub async fn run(setup: Setup, cancel: CancellationToken) {
    let cancel = cancel.child_token();
    let Setup { ends, remains, senses, requests, tls, pipeline, opened: told } = setup;
    let (table, wanted) = requests.unzip();
    let counters = Arc::clone(&pipeline.counters);
    let opened = tokio::task::spawn_blocking(move || {
        let when = tls.as_ref().map_or(When::Never, |(_, when)| *when);
        let (eyes, ring, chunks) = load::open(wanted, when)?;
        let finder = eyes.probes().zip(tls).map(|(probes, (watch, _))| {
            let mut finder = Finder::new(probes, Files::below("/"), watch, counters);
            finder.start();
            finder
        });
        Ok((eyes, ring, chunks, finder))
    });
    let (eyes, ring, chunks, finder) = match opened.await {
        Ok(Ok(opened)) => opened,
        Ok(Err(error)) => {
            closed(&senses, &error);
            // Whoever opened them may be gone.
            _ = told.send(false);
            return;
        }
        // The runtime is going down.
        Err(_) => return,
    };
    // Who reads that they are open may count on it.
    ends.begin(Clocks::now().boot_ns);
    senses.set(tls_sense(&eyes, finder.as_ref()));
    senses.set(sense(&eyes));
    senses.set(requests_sense(&eyes, wanted.is_some()));
    let hooks = [&eyes.hooks[..], &eyes.request_hooks[..]].concat();
    tracing::info!(?hooks, missing = ?eyes.missing, "eBPF programs attached");
    _ = told.send(true);
    let (met, waiting) = std::sync::mpsc::sync_channel(tls::task::WAITING);
    let finding = finder.map(|finder| {
        let (senses, cancel, end) = (senses.clone(), cancel.clone(), cancel.clone().drop_guard());
        tokio::task::spawn_blocking(move || {
            let _all_end_with_this = end;
            tls::task::run(finder, &waiting, &senses, &cancel);
        })
    });
    let reader = chunks.zip(table).map(|(chunks, table)| {
        let (pipeline, cancel) = (Arc::clone(&pipeline), cancel.clone());
        let end = cancel.clone().drop_guard();
        // A thread of its own: what it reads comes in bursts and must not hold up connections.
        tokio::task::spawn_blocking(move || {
            let _all_end_with_this = end;
            requests::task::run(chunks, table, &met, &pipeline, &cancel);
        })
    });
    let seen = Seen { ends: &ends, remains: &remains, senses: &senses };
    if let Err(error) = read(&eyes, ring, &seen, &pipeline.counters, &cancel).await {
        tracing::error!(%error, "what the eBPF programs see cannot be read");
        senses.off(SENSE, format!("the ring cannot be read: {error}"), None);
    }
    // Whichever of them ended first: what is left is taken out, and opened anew by who keeps the eyes.
    cancel.cancel();
    if let Some(reader) = reader
        && reader.await.is_err()
    {
        senses.off(REQUESTS, "they are no longer read: see the agent's log", None);
    }
    if let Some(finding) = finding
        && finding.await.is_err()
    {
        senses.off(TLS, "no more is looked for: see the agent's log", None);
    }
    // What comes when they are opened again does not go on with what was.
    remains.clear();
    ends.end();
    // Taking programs out of files waits for the kernel, once for each.
    _ = tokio::task::spawn_blocking(move || drop(eyes)).await;
}

fn closed(senses: &Senses, error: &EyesError) {
    tracing::info!(%error, "no eBPF");
    senses.off(SENSE, error.to_string(), error.remedy());
    senses.off(REQUESTS, error.to_string(), error.remedy());
    senses.off(TLS, error.to_string(), error.remedy());
    senses.off(OUTPUT, error.to_string(), error.remedy());
}

fn tls_sense(eyes: &Eyes, finder: Option<&Finder<probes::Probes>>) -> Sense {
    let mut sense = match (finder, &eyes.tls) {
        (Some(finder), _) => finder.sense(),
        (None, tls) => {
            let (why, remedy) = match tls {
                Some(Err(unread)) => (unread.why.clone(), unread.remedy.map(str::to_owned)),
                _ if eyes.request_hooks.is_empty() => ("requests are not seen".to_owned(), None),
                _ => ("turned off".to_owned(), Some(WITH_TLS.to_owned())),
            };
            Sense { name: TLS.to_owned(), state: SenseState::Off, why, remedy }
        }
    };
    if let Some(Ok(missing)) = &eyes.tls
        && !missing.is_empty()
    {
        sense.state = SenseState::Partial;
        sense.why = format!("{} · missing {}", sense.why, missing.join(" · "));
    }
    sense
}

fn sense(eyes: &Eyes) -> Sense {
    let hooks = format!("process ends: raw tracepoints {}", eyes.hooks.join(", "));
    let state = if eyes.missing.is_empty() { SenseState::On } else { SenseState::Partial };
    let why = match eyes.missing.is_empty() {
        true => hooks,
        false => format!("{hooks} · missing {}", eyes.missing.join(" · ")),
    };
    Sense { name: SENSE.to_owned(), state, why, remedy: None }
}

fn requests_sense(eyes: &Eyes, wanted: bool) -> Sense {
    let hooks = hooks::words(&eyes.request_hooks, eyes.instead.as_deref());
    let (state, why) = requests_why(&eyes.protocols, &hooks, &eyes.requests_missing);
    let remedy = (!wanted).then(|| WATCH.to_owned());
    Sense { name: REQUESTS.to_owned(), state, why, remedy }
}

/// What is seen of requests, by which hooks, and what is missing, each with its reason.
fn requests_why(protocols: &[&str], hooks: &str, missing: &[String]) -> (SenseState, String) {
    let missing = missing.join(" · ");
    let seen = || format!("{}: raw tracepoints {hooks}", protocols.join(", "));
    match (hooks.is_empty(), missing.is_empty()) {
        (true, true) => (SenseState::Off, "turned off".to_owned()),
        (true, false) => (SenseState::Off, missing),
        (false, true) => (SenseState::On, seen()),
        (false, false) => (SenseState::Partial, format!("{} · missing {missing}", seen())),
    }
}

/// Says that nobody wants eyes.
pub fn turned_off(senses: &Senses) {
    senses.off(SENSE, "turned off", Some("start coral-agent without --no-ebpf"));
    senses.off(REQUESTS, "turned off", Some("start coral-agent without --no-ebpf"));
    senses.off(TLS, "turned off", Some("start coral-agent without --no-ebpf"));
    senses.off(OUTPUT, "turned off", Some("start coral-agent without --no-ebpf"));
}

#[allow(unsafe_code, reason = "tokio has no safe way to watch a descriptor it does not know")]
fn register(ring: EndsRing) -> std::io::Result<AsyncFd<EndsRing>> {
    // SAFETY: the ring owns its descriptor, never replaces it, and moves into the registration.
    let registered =
        unsafe { AsyncFd::register_with_interest(ring, tokio::io::Interest::READABLE) };
    Ok(registered?)
}

/// Who is told of what is seen.
struct Seen<'a> {
    ends: &'a Ends,
    remains: &'a Remains,
    senses: &'a Senses,
}

/// Captures what programs write, where somebody needs it, and says so. `captured`: whether that is so now.
fn capture(eyes: &Eyes, seen: &Seen<'_>, captured: &mut Option<bool>) {
    let wanted = seen.remains.wants_capture() && !eyes.request_hooks.is_empty();
    if captured.replace(wanted) == Some(wanted) {
        return;
    }
    let mut sense =
        Sense { name: OUTPUT.to_owned(), state: SenseState::On, why: String::new(), remedy: None };
    if wanted {
        match eyes.hang_output() {
            Ok(()) => {
                let why =
                    "captured where it goes to a pipe or a terminal: raw tracepoint sys_enter";
                sense.why = why.to_owned();
            }
            Err(why) => {
                sense.state = SenseState::Partial;
                sense.why = format!("of files only · missing sys_enter: {why}");
            }
        }
    } else {
        eyes.unhang_output();
        let (state, why, remedy) =
            uncaptured(seen.remains.capture(), &eyes.request_hooks, &eyes.requests_missing);
        (sense.state, sense.why, sense.remedy) = (state, why.to_owned(), remedy.map(str::to_owned));
    }
    seen.senses.set(sense);
}

/// What is kept of output while nothing is captured, why, and what makes it be captured. `hooks` are those that see
/// requests, `missing` what the kernel refused of them.
fn uncaptured(
    capture: Capture,
    hooks: &[&str],
    missing: &[String],
) -> (SenseState, &'static str, Option<&'static str>) {
    match (capture, hooks.is_empty(), missing.is_empty()) {
        (Capture::Never, _, _) => (SenseState::Off, "turned off", Some(WITH_OUTPUT)),
        (Capture::Auto, false, _) => (SenseState::On, NOT_CAPTURED, None),
        (Capture::Files, false, _) => (SenseState::Partial, OF_FILES, Some(WITH_OUTPUT)),
        (_, true, false) => (SenseState::Partial, NOT_WITHOUT_REQUESTS, None),
        (Capture::Auto, true, true) => (SenseState::Partial, OF_FILES, Some(WATCH)),
        (Capture::Files, true, true) => {
            (SenseState::Partial, OF_FILES, Some(WITH_OUTPUT_AND_REQUESTS))
        }
    }
}

async fn read(
    eyes: &Eyes,
    ring: EndsRing,
    seen: &Seen<'_>,
    counters: &Counters,
    cancel: &CancellationToken,
) -> std::io::Result<()> {
    let mut ring = register(ring)?;
    let mut look = tokio::time::interval(LOOK);
    let mut captured = None;
    loop {
        tokio::select! {
            () = cancel.cancelled() => return Ok(()),
            _ = look.tick() => {
                eyes.count_lost(counters);
                counters.outputs_forgotten.set(seen.remains.forgotten());
                counters.folded_programs.set(seen.ends.folded_programs());
                capture(eyes, seen, &mut captured);
            }
            ready = ring.readable_mut() => {
                let mut ready = ready?;
                while let Some(item) = ready.get_inner_mut().next() {
                    if let Some(end) = ProcessEnd::from_bytes(&item) {
                        seen.ends.heard(Ended::from(&end));
                    }
                }
                ready.clear_ready();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_protocol_that_the_kernel_refuses_is_named_and_the_others_go_on() {
        let hooks = "sock_recv_length, sock_send_length";
        let all = requests_why(&["HTTP/1.1", "Redis"], hooks, &[]);
        let seen = "HTTP/1.1, Redis: raw tracepoints sock_recv_length, sock_send_length";
        assert_eq!(all, (SenseState::On, seen.to_owned()));
        let refused = ["Redis: the BPF_PROG_LOAD syscall returned Argument list too long".into()];
        let (state, why) = requests_why(&["HTTP/1.1"], hooks, &refused);
        let told = "HTTP/1.1: raw tracepoints sock_recv_length, sock_send_length · missing Redis: \
                    the BPF_PROG_LOAD syscall returned Argument list too long";
        assert_eq!((state, why.as_str()), (SenseState::Partial, told));
        let none = requests_why(&[], "", &["no BTF".to_owned()]);
        assert_eq!(none, (SenseState::Off, "no BTF".to_owned()));
        assert_eq!(requests_why(&[], "", &[]).1, "turned off");
    }

    #[test]
    fn what_captures_output_is_named_only_where_it_would() {
        use SenseState::{Off, On, Partial};
        let (hooks, refused) = (["sock_recv_length"], ["sock_recv_length: no such".to_owned()]);
        let none: [&str; 0] = [];
        let of = |capture, hooks: &[&str], missing: &[String]| {
            let (state, _, remedy) = uncaptured(capture, hooks, missing);
            (state, remedy)
        };
        assert_eq!(of(Capture::Auto, &hooks, &[]), (On, None));
        assert_eq!(of(Capture::Files, &hooks, &[]), (Partial, Some(WITH_OUTPUT)));
        assert_eq!(of(Capture::Never, &hooks, &[]), (Off, Some(WITH_OUTPUT)));
        assert_eq!(of(Capture::Auto, &none, &[]), (Partial, Some(WATCH)));
        // Nothing that a person could start it with would help.
        for capture in [Capture::Auto, Capture::Files] {
            assert_eq!(of(capture, &none, &refused), (Partial, None));
        }
        assert!(uncaptured(Capture::Auto, &none, &refused).1.contains("the kernel does not"));
    }
}
