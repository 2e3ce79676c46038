//! Asking the kernel what it has counted of a connection: by running a program that hangs on nothing.

use std::sync::{Arc, Mutex, PoisonError};

use aya::Ebpf;
use aya::programs::{RawTracePoint, RawTracePointRunOptions, TestRun as _};

/// The program; it tells through the ring.
pub const PROGRAM: &str = "connection_numbers";

/// Runs it.
#[derive(Clone)]
pub struct Asker(Arc<Mutex<Ebpf>>);

impl Asker {
    /// One that holds the programs.
    #[must_use]
    pub fn new(ebpf: Arc<Mutex<Ebpf>>) -> Self {
        Self(ebpf)
    }

    /// Asks of sockets, each with its number and where the kernel has it. Gives those that it does not know.
    #[must_use]
    pub fn unknown(&self, sockets: &[(u64, u64)]) -> Vec<u64> {
        let ebpf = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let program = ebpf.program(PROGRAM).and_then(|p| <&RawTracePoint>::try_from(p).ok());
        let Some(program) = program else { return Vec::new() };
        let mut unknown = Vec::new();
        for (socket, place) in sockets {
            let mut options = RawTracePointRunOptions::new();
            [options.args[0], options.args[1]] = [*place, *socket];
            // Where it cannot be run nothing is known of any.
            if program.test_run(options).is_ok_and(|run| run.return_value == 0) {
                unknown.push(*socket);
            }
        }
        unknown
    }
}
