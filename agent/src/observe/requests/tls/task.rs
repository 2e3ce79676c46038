//! The thread that puts programs into files: that takes milliseconds, for which the ring does not wait.

use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::{Duration, Instant};

use tokio_util::sync::CancellationToken;

use super::Met;
use super::finder::{Finder, Hook};
use crate::senses::Senses;

/// Processes that may wait to be looked at; more are met again when they begin another connection.
pub const WAITING: usize = 1_024;
/// How often it looks whether to end.
const EVERY: Duration = Duration::from_millis(500);
/// How often files are let go that nobody uses.
const SWEEP: Duration = Duration::from_secs(30);

/// Looks at processes until cancelled.
pub fn run<H: Hook>(
    mut finder: Finder<H>,
    met: &Receiver<Met>,
    senses: &Senses,
    cancel: &CancellationToken,
) {
    let mut said = finder.sense();
    let mut swept = Instant::now();
    while !cancel.is_cancelled() {
        match met.recv_timeout(EVERY) {
            Ok(met) => finder.look(met),
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => return,
        }
        if swept.elapsed() >= SWEEP {
            finder.sweep();
            swept = Instant::now();
        }
        let now = finder.sense();
        if now != said {
            senses.set(now.clone());
            said = now;
        }
    }
}
