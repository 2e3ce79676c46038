//! Bringing the programs into the kernel, and saying what came of it.

use std::sync::{Arc, Mutex, PoisonError};

use aya::maps::{HashMap, MapData, PerCpuArray, ProgramArray, RingBuf};
use aya::programs::RawTracePoint;
use aya::{Ebpf, EbpfError, EbpfLoader};
use coral_bpf_types::{Offsets, SocketOffsets, lost};

use super::ask::{self, Asker};
use super::btf::{Btf, BtfError};
use super::hooks::{self, Attached, Hooks};
use super::probes::{self, Probes};
use crate::counters::Counters;
use crate::observe::requests::task::Ends as Requests;
use crate::observe::requests::tls::When;

/// Where the kernel describes its own types.
const BTF: &str = "/sys/kernel/btf/vmlinux";

/// The programs, as the build made them; empty where it could not.
#[cfg(coral_bpf)]
static OBJECT: &[u8] = aya::include_bytes_aligned!(concat!(env!("OUT_DIR"), "/coral-bpf.o"));
#[cfg(not(coral_bpf))]
static OBJECT: &[u8] = &[];

/// Why nothing is seen.
#[derive(Debug, thiserror::Error)]
pub enum EyesError {
    /// The build had no compiler for them.
    #[error("this build has no eBPF programs ({0})")]
    NotBuilt(&'static str),
    /// No BTF.
    #[error("the kernel does not describe itself in {BTF}: {0}")]
    NoBtf(std::io::Error),
    /// BTF of an unknown kind.
    #[error(transparent)]
    Btf(#[from] BtfError),
    /// No pid namespace.
    #[error("cannot read the agent's own pid namespace: {0}")]
    Namespace(std::io::Error),
    /// Not allowed.
    #[error("not permitted to load eBPF programs")]
    NotPermitted,
    /// The kernel refused the object.
    #[error("the kernel refused the programs: {0}")]
    Load(String),
    /// The kernel refused what cannot be done without.
    #[error("the kernel refused {program}: {why}")]
    Program {
        /// Which.
        program: &'static str,
        /// What it said.
        why: String,
    },
}

impl EyesError {
    /// What a person can do about it.
    #[must_use]
    pub fn remedy(&self) -> Option<&'static str> {
        match self {
            Self::NotBuilt(_) => Some("make setup build"),
            Self::NotPermitted => {
                Some("setcap cap_bpf,cap_perfmon=ep \"$(command -v coral-agent)\"")
            }
            _ => None,
        }
    }
}

/// Programs at work. Dropping it takes them out of the kernel; so does the end of the process,
/// whichever way it comes.
pub struct Eyes {
    // Holds programs and links.
    ebpf: Arc<Mutex<Ebpf>>,
    lost: Lost,
    /// The hooks in use for how processes end.
    pub hooks: Vec<&'static str>,
    /// The hooks in use for requests; none: they are not seen.
    pub request_hooks: Vec<&'static str>,
    /// Why they hang where calls end, and not in sockets; `None` where they do not, or that was asked for.
    pub instead: Option<String>,
    /// The protocols that requests are read of.
    pub protocols: Vec<&'static str>,
    /// What could not be hooked, and why.
    pub missing: Vec<String>,
    /// The same for requests.
    pub requests_missing: Vec<String>,
    /// Within TLS: what of it the kernel refused, or why nothing is read; `None` where nobody wants it.
    pub tls: Option<Result<Vec<String>, Unread>>,
}

/// Why nothing within TLS is read, and what can be done about it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unread {
    /// Why.
    pub why: String,
    /// What can be done.
    pub remedy: Option<&'static str>,
}

impl From<String> for Unread {
    fn from(why: String) -> Self {
        Self { why, remedy: None }
    }
}

/// What captures output.
const OUTPUT: &str = "sys_enter";
/// Room for chunks where none will come: a page.
const NO_CHUNKS: u32 = 4_096;

/// What found no room, as the kernel's side counts it.
#[derive(Clone)]
pub struct Lost(Arc<PerCpuArray<MapData, u64>>);

impl Lost {
    /// What was lost at a place (`coral_bpf_types::lost`) since the start.
    #[must_use]
    pub fn at(&self, place: u32) -> u64 {
        let values = self.0.get(&place, 0);
        values.map_or(0, |values| values.iter().fold(0u64, |sum, n| sum.saturating_add(*n)))
    }
}

/// Process ends on their way.
pub type EndsRing = RingBuf<MapData>;

/// Loads and attaches; the programs for requests only where those are wanted, and where; and those for what is
/// within TLS (`tls`) likewise; unless always, only where they cost little.
///
/// # Errors
/// When nothing can be seen at all.
pub fn open(
    requests: Option<Hooks>,
    tls: When,
) -> Result<(Eyes, EndsRing, Option<Requests>), EyesError> {
    if OBJECT.is_empty() {
        return Err(EyesError::NotBuilt(env!("CORAL_BPF_WHY")));
    }
    let types = std::fs::read(BTF).map_err(EyesError::NoBtf)?;
    let btf = Btf::parse(&types)?;
    let sockets = requests.map(|_| socket_offsets(&btf));
    let calls = hooks::offsets(&btf);
    let of_sockets = sockets.as_ref().and_then(|o| o.as_ref().ok()).copied();
    let offsets = offsets(&btf)?.to_bytes();
    let socket_bytes = of_sockets.unwrap_or_default().to_bytes();
    let call_bytes = calls.as_ref().ok().copied().unwrap_or_default().to_bytes();
    let mut loader = EbpfLoader::new();
    loader.override_global("OFFSETS", offsets.as_slice(), true);
    loader.override_global("SOCKET_OFFSETS", socket_bytes.as_slice(), true);
    loader.override_global("CALL_OFFSETS", call_bytes.as_slice(), true);
    if of_sockets.is_none() {
        loader.map_max_entries("CHUNKS", NO_CHUNKS);
    }
    let loaded = loader.load(OBJECT);
    let mut ebpf = loaded.map_err(|error| refused(&error))?;
    let (mut hooks, mut missing) = (Vec::new(), Vec::new());
    for (program, needed) in
        [("sched_process_exit", true), ("signal_generate", false), ("mark_victim", false)]
    {
        match attach(&mut ebpf, program) {
            Ok(()) => hooks.push(program),
            Err(why) if needed => return Err(EyesError::Program { program, why }),
            Err(why) => missing.push(format!("{program}: {why}")),
        }
    }
    let mut requests_missing = Vec::new();
    let (mut seen, mut within) = (Attached::default(), None);
    match (sockets, requests) {
        (Some(Ok(_)), Some(hooks)) => {
            let calls = calls.map(|_| ()).map_err(|error| error.to_string());
            match hooks::attach(&mut ebpf, hooks, calls, &mut requests_missing) {
                Ok(attached) => {
                    seen = attached;
                    let numbers: Vec<u16> = seen.protocols.iter().map(|(_, n)| *n).collect();
                    let wanted = tls != When::Never;
                    within = wanted.then(|| probes::prepare(&mut ebpf, &numbers, tls));
                }
                Err(why) => requests_missing.push(why),
            }
        }
        (Some(Err(error)), _) => requests_missing.push(error.to_string()),
        _ => {}
    }
    let Attached { hooks: request_hooks, instead, protocols } = seen;
    let protocols = protocols.into_iter().map(|(name, _)| name).collect();
    let asked = !request_hooks.is_empty()
        && match load(&mut ebpf, ask::PROGRAM) {
            Ok(_) => true,
            Err(why) => {
                requests_missing.push(format!("bytes and times of connections: {why}"));
                false
            }
        };
    let lost = Lost(Arc::new(map(&mut ebpf, "LOST", PerCpuArray::try_from)?));
    let ends = match request_hooks.is_empty() {
        true => None,
        false => Some(Requests {
            chunks: map(&mut ebpf, "CHUNKS", RingBuf::try_from)?,
            ignored: map(&mut ebpf, "IGNORED", HashMap::try_from)?,
            quiet: map(&mut ebpf, "QUIET", HashMap::try_from)?,
            lost: lost.clone(),
            asker: None,
        }),
    };
    let ring = map(&mut ebpf, "ENDS", RingBuf::try_from)?;
    let ebpf = Arc::new(Mutex::new(ebpf));
    let asker = asked.then(|| Asker::new(Arc::clone(&ebpf)));
    let ends = ends.map(|ends| Requests { asker, ..ends });
    let eyes = Eyes {
        ebpf,
        lost,
        hooks,
        request_hooks,
        instead,
        protocols,
        missing,
        requests_missing,
        tls: within,
    };
    Ok((eyes, ring, ends))
}

/// Loads the program of a protocol, and puts it where those at the tracepoints end in it.
pub(super) fn put_in_place(ebpf: &mut Ebpf, name: &str, number: u16) -> Result<(), String> {
    let fd = load(ebpf, name)?.fd().and_then(|fd| Ok(fd.try_clone()?)).map_err(|e| told(&e))?;
    let map = ebpf.map_mut("FRAMED").ok_or("no map FRAMED")?;
    let mut programs = ProgramArray::try_from(map).map_err(|e| told(&e))?;
    programs.set(number.into(), &fd, 0).map_err(|e| told(&e))
}

/// Takes a program out again.
pub(super) fn detach(ebpf: &mut Ebpf, name: &str) {
    let program = ebpf.program_mut(name).and_then(|p| <&mut RawTracePoint>::try_from(p).ok());
    if let Some(program) = program {
        // It is out of the kernel when its descriptor is closed, which unloading does.
        _ = program.unload();
    }
}

fn map<T, E: std::fmt::Display>(
    ebpf: &mut Ebpf,
    name: &str,
    read: impl FnOnce(aya::maps::Map) -> Result<T, E>,
) -> Result<T, EyesError> {
    let map = ebpf.take_map(name).ok_or_else(|| EyesError::Load(format!("no map {name}")))?;
    read(map).map_err(|error| EyesError::Load(format!("map {name}: {error}")))
}

pub(super) fn attach(ebpf: &mut Ebpf, name: &'static str) -> Result<(), String> {
    load(ebpf, name)?.attach(name).map_err(|e| told(&e))?;
    Ok(())
}

/// Brings a program into the kernel.
fn load<'a>(ebpf: &'a mut Ebpf, name: &str) -> Result<&'a mut RawTracePoint, String> {
    let program = ebpf.program_mut(name).ok_or("not in this build")?;
    let program: &mut RawTracePoint = program.try_into().map_err(|e| told(&e))?;
    program.load().map_err(|e| told(&e))?;
    let verified = program.info().ok().and_then(|info| info.verified_instruction_count());
    tracing::debug!(name, verified, "eBPF program loaded");
    Ok(program)
}

/// An error with its causes on one line; the verifier's log can be long.
pub(super) fn told(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text.push_str(": ");
        text.push_str(&error.to_string());
        cause = error.source();
    }
    coral_model::text::fit(&text, 400)
}

fn refused(error: &EbpfError) -> EyesError {
    let mut cause: Option<&dyn std::error::Error> = Some(error);
    while let Some(found) = cause {
        let denied = found
            .downcast_ref::<std::io::Error>()
            .is_some_and(|e| e.kind() == std::io::ErrorKind::PermissionDenied);
        if denied {
            return EyesError::NotPermitted;
        }
        cause = found.source();
    }
    EyesError::Load(told(error))
}

/// The number of a call.
fn number(call: libc::c_long) -> u32 {
    // They are small.
    u32::try_from(call).unwrap_or(u32::MAX)
}

fn socket_offsets(btf: &Btf<'_>) -> Result<SocketOffsets, BtfError> {
    let argument = |number, name| hooks::argument(btf, number, name);
    let call = btf.offset("pt_regs", "orig_ax");
    Ok(SocketOffsets {
        kind: btf.offset("sock", "sk_type")?,
        family: btf.offset("sock_common", "skc_family")?,
        state: btf.offset("sock_common", "skc_state")?,
        local_port: btf.offset("sock_common", "skc_num")?,
        remote_port: btf.offset("sock_common", "skc_dport")?,
        local4: btf.offset("sock_common", "skc_rcv_saddr")?,
        remote4: btf.offset("sock_common", "skc_daddr")?,
        local6: btf.offset("sock_common", "skc_v6_rcv_saddr")?,
        remote6: btf.offset("sock_common", "skc_v6_daddr")?,
        call: call.or_else(|_| btf.offset("pt_regs", "syscallno"))?,
        first: argument(0, "di")?,
        second: argument(1, "si")?,
        third: argument(2, "dx")?,
        fifth: argument(4, "r8")?,
        stack: btf.offset("pt_regs", "sp")?,
        error: btf.offset("sock", "sk_err")?,
        bytes_sent: btf.offset("tcp_sock", "bytes_sent")?,
        bytes_again: btf.offset("tcp_sock", "bytes_retrans")?,
        bytes_received: btf.offset("tcp_sock", "bytes_received")?,
        round_trip: btf.offset("tcp_sock", "srtt_us")?,
        retransmits: btf.offset("tcp_sock", "total_retrans")?,
        write: number(libc::SYS_write),
        writev: number(libc::SYS_writev),
        words: 0,
    }
    .with_words())
}

fn offsets(btf: &Btf<'_>) -> Result<Offsets, EyesError> {
    let ns = rustix::fs::stat("/proc/self/ns/pid").map_err(|e| EyesError::Namespace(e.into()))?;
    // The kernel's own numbering of devices, not the one it shows to programs.
    let (major, minor) = (rustix::fs::major(ns.st_dev), rustix::fs::minor(ns.st_dev));
    Ok(Offsets {
        task_tgid: btf.offset("task_struct", "tgid")?,
        task_exit_code: btf.offset("task_struct", "exit_code")?,
        task_start: btf.offset("task_struct", "start_boottime")?,
        task_signal: btf.offset("task_struct", "signal")?,
        signal_live: btf.offset("signal_struct", "live")?,
        task_leader: btf.offset("task_struct", "group_leader")?,
        task_comm: btf.offset("task_struct", "comm")?,
        task_parent: btf.offset("task_struct", "real_parent")?,
        pid_ns_dev: u64::from(major) << 20 | u64::from(minor),
        pid_ns_ino: ns.st_ino,
    })
}

impl Eyes {
    /// Counts what was lost since the start.
    pub fn count_lost(&self, counters: &Counters) {
        let of = |place| self.lost.at(place);
        counters.process_ends_lost.set(of(lost::ENDS));
        counters.requests_chunks_lost.set(of(lost::CHUNKS));
        counters.requests_sockets_refused.set(of(lost::SOCKETS));
        counters.requests_bytes_unread.set(of(lost::BYTES));
        counters.requests_tls_calls_refused.set(of(lost::THREADS));
        counters.output_bytes_not_kept.set(of(lost::SAID));
    }

    /// Hangs the program that captures output where every call passes.
    ///
    /// # Errors
    /// What the kernel said.
    pub fn hang_output(&self) -> Result<(), String> {
        attach(&mut self.ebpf.lock().unwrap_or_else(PoisonError::into_inner), OUTPUT)
    }

    /// Takes it out again.
    pub fn unhang_output(&self) {
        detach(&mut self.ebpf.lock().unwrap_or_else(PoisonError::into_inner), OUTPUT);
    }

    /// The programs in OpenSSL, where there are any.
    #[must_use]
    pub fn probes(&self) -> Option<Probes> {
        let usable = matches!(self.tls, Some(Ok(_)));
        usable.then(|| Probes::new(Arc::clone(&self.ebpf)))
    }
}
