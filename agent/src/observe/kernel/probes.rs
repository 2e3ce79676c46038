//! The programs in OpenSSL: bringing them into the kernel, and into files.

use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use aya::Ebpf;
use aya::maps::{Array, ProgramArray};
use aya::programs::UProbe;
use aya::programs::uprobe::{UProbeLinkId, UProbeScope};
use coral_bpf_types::protocol;
use coral_model::num::f64_from;

use super::load::{Unread, put_in_place, told};
use super::trial;
use crate::observe::requests::tls::finder::Hook;
use crate::observe::requests::tls::{FUNCTIONS, When};

/// What a call into OpenSSL ends with.
const RETURNED: &str = "ssl_returned";
/// A function that ends nothing.
const FREE: &str = "ssl_free";
/// Programs of protocols within TLS; HTTP/1.1 needs none.
const PROTOCOLS: [(u16, &str); 3] = [
    (protocol::HTTP2, "sealed_http2"),
    (protocol::RESP, "sealed_resp"),
    (protocol::POSTGRES, "sealed_postgres"),
];

/// Loads them; protocols that are not read in the clear are not read within TLS either. Gives those that the
/// kernel refuses, each with its reason.
///
/// # Errors
/// Why nothing within TLS can be read.
pub(super) fn prepare(ebpf: &mut Ebpf, read: &[u16], when: When) -> Result<Vec<String>, Unread> {
    let mut loaded: Vec<&str> = FUNCTIONS.iter().map(|(_, program)| *program).collect();
    loaded.sort_unstable();
    loaded.dedup();
    loaded.push(RETURNED);
    for name in loaded {
        load(ebpf, name).map_err(|why| format!("{name}: {why}"))?;
    }
    let nanoseconds = trial::cost(probe(ebpf, FREE)?)?;
    tracing::info!(nanoseconds, "what a call into OpenSSL takes longer when it is read");
    if when == When::Auto && nanoseconds > trial::DEAR {
        return Err(too_dear(nanoseconds));
    }
    put_in_place(ebpf, "framed_tls", protocol::ENCRYPTED)?;
    let mut missing = Vec::new();
    let mut tell = vec![protocol::HTTP];
    for (number, name) in PROTOCOLS {
        if !read.contains(&number) {
            continue;
        }
        match put(ebpf, name, number) {
            Ok(()) => tell.push(number),
            Err(why) => missing.push(format!("{name}: {why}")),
        }
    }
    for number in tell {
        set(ebpf, "TOLD", number)?;
    }
    set(ebpf, "READ", protocol::ENCRYPTED)?;
    Ok(missing)
}

fn too_dear(nanoseconds: u64) -> Unread {
    let why = format!(
        "on this machine every call into OpenSSL, of any program, would take {:.0} µs longer",
        f64_from(nanoseconds) / 1e3
    );
    Unread { why, remedy: Some("start coral-agent with --tls always, if that may be") }
}

fn set(ebpf: &mut Ebpf, name: &str, number: u16) -> Result<(), String> {
    let map = ebpf.map_mut(name).ok_or_else(|| format!("no map {name}"))?;
    let mut map: Array<_, u8> = Array::try_from(map).map_err(|e| told(&e))?;
    map.set(number.into(), 1, 0).map_err(|e| told(&e))
}

fn put(ebpf: &mut Ebpf, name: &str, number: u16) -> Result<(), String> {
    let program = load(ebpf, name)?;
    let fd = program.fd().and_then(|fd| Ok(fd.try_clone()?)).map_err(|e| told(&e))?;
    let map = ebpf.map_mut("FRAMED_SEALED").ok_or("no map FRAMED_SEALED")?;
    let mut programs = ProgramArray::try_from(map).map_err(|e| told(&e))?;
    programs.set(number.into(), &fd, 0).map_err(|e| told(&e))
}

fn load<'a>(ebpf: &'a mut Ebpf, name: &str) -> Result<&'a mut UProbe, String> {
    let program = probe(ebpf, name)?;
    program.load().map_err(|e| told(&e))?;
    let verified = program.info().ok().and_then(|info| info.verified_instruction_count());
    tracing::debug!(name, verified, "eBPF program loaded");
    Ok(program)
}

fn probe<'a>(ebpf: &'a mut Ebpf, name: &str) -> Result<&'a mut UProbe, String> {
    let program = ebpf.program_mut(name).ok_or("not in this build")?;
    program.try_into().map_err(|e| told(&e))
}

/// The loaded programs, for whoever finds files.
pub struct Probes {
    ebpf: Arc<Mutex<Ebpf>>,
}

impl Probes {
    pub(super) fn new(ebpf: Arc<Mutex<Ebpf>>) -> Self {
        Self { ebpf }
    }

    fn lock(&self) -> MutexGuard<'_, Ebpf> {
        self.ebpf.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Where a program is put, to take it out again.
pub struct Held(Vec<(&'static str, UProbeLinkId)>);

impl Hook for Probes {
    type Held = Held;

    fn hook(&mut self, file: &Path, places: &[(usize, u64)]) -> Result<Held, String> {
        let mut held = Held(Vec::new());
        let mut ebpf = self.lock();
        // What ends a call comes first: a call that is under way meanwhile is not told of.
        let known = || places.iter().filter_map(|(n, at)| Some((FUNCTIONS.get(*n)?.1, *at)));
        let ends = known().filter(|(name, _)| *name != FREE).map(|(_, at)| (RETURNED, at));
        for (name, at) in ends.chain(known()) {
            let attached = probe(&mut ebpf, name).and_then(|program| {
                program.attach(at, file, UProbeScope::AllProcesses).map_err(|e| told(&e))
            });
            match attached {
                Ok(link) => held.0.push((name, link)),
                Err(why) => {
                    drop(ebpf);
                    self.let_go(held);
                    return Err(why);
                }
            }
        }
        Ok(held)
    }

    fn let_go(&mut self, held: Held) {
        let mut ebpf = self.lock();
        for (name, link) in held.0 {
            if let Ok(program) = probe(&mut ebpf, name) {
                // What is not in it any more need not be taken out.
                _ = program.detach(link);
            }
        }
    }
}
