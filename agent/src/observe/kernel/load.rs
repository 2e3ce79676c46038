//! Bringing the programs into the kernel, and saying what came of it.

use aya::maps::{MapData, PerCpuArray, RingBuf};
use aya::programs::RawTracePoint;
use aya::{Ebpf, EbpfError, EbpfLoader};
use coral_bpf_types::Offsets;

use super::btf::{Btf, BtfError};

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
    _ebpf: Ebpf,
    lost: PerCpuArray<MapData, u64>,
    /// The hooks in use.
    pub hooks: Vec<&'static str>,
    /// What could not be hooked, and why.
    pub missing: Vec<String>,
}

/// Process ends on their way.
pub type EndsRing = RingBuf<MapData>;

/// Loads and attaches.
///
/// # Errors
/// When nothing can be seen at all.
pub fn open() -> Result<(Eyes, EndsRing), EyesError> {
    if OBJECT.is_empty() {
        return Err(EyesError::NotBuilt(env!("CORAL_BPF_WHY")));
    }
    let offsets = offsets()?.to_bytes();
    let loaded =
        EbpfLoader::new().override_global("OFFSETS", offsets.as_slice(), true).load(OBJECT);
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
    let ring = map(&mut ebpf, "ENDS", RingBuf::try_from)?;
    let lost = map(&mut ebpf, "LOST", PerCpuArray::try_from)?;
    Ok((Eyes { _ebpf: ebpf, lost, hooks, missing }, ring))
}

fn map<T, E: std::fmt::Display>(
    ebpf: &mut Ebpf,
    name: &str,
    read: impl FnOnce(aya::maps::Map) -> Result<T, E>,
) -> Result<T, EyesError> {
    let map = ebpf.take_map(name).ok_or_else(|| EyesError::Load(format!("no map {name}")))?;
    read(map).map_err(|error| EyesError::Load(format!("map {name}: {error}")))
}

fn attach(ebpf: &mut Ebpf, name: &'static str) -> Result<(), String> {
    let program = ebpf.program_mut(name).ok_or("not in this build")?;
    let program: &mut RawTracePoint = program.try_into().map_err(|e| told(&e))?;
    program.load().map_err(|e| told(&e))?;
    program.attach(name).map_err(|e| told(&e))?;
    Ok(())
}

/// An error with its causes on one line; the verifier's log can be long.
fn told(error: &dyn std::error::Error) -> String {
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

fn offsets() -> Result<Offsets, EyesError> {
    let bytes = std::fs::read(BTF).map_err(EyesError::NoBtf)?;
    let btf = Btf::parse(&bytes)?;
    let ns = rustix::fs::stat("/proc/self/ns/pid").map_err(|e| EyesError::Namespace(e.into()))?;
    // The kernel's own numbering of devices, not the one it shows to programs.
    let (major, minor) = (rustix::fs::major(ns.st_dev), rustix::fs::minor(ns.st_dev));
    Ok(Offsets {
        task_tgid: btf.offset("task_struct", "tgid")?,
        task_exit_code: btf.offset("task_struct", "exit_code")?,
        task_start: btf.offset("task_struct", "start_boottime")?,
        task_signal: btf.offset("task_struct", "signal")?,
        signal_live: btf.offset("signal_struct", "live")?,
        pad: 0,
        pid_ns_dev: u64::from(major) << 20 | u64::from(minor),
        pid_ns_ino: ns.st_ino,
    })
}

impl Eyes {
    /// Process ends that found no room on their way, since the start.
    #[must_use]
    pub fn lost(&self) -> u64 {
        let values = self.lost.get(&0, 0);
        values.map_or(0, |values| values.iter().fold(0, |sum, n| sum.saturating_add(*n)))
    }
}
