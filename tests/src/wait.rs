//! Waiting for conditions.

use std::time::{Duration, Instant};

/// How long a condition may take on a slow, shared machine before the test gives up.
pub const PATIENCE: Duration = Duration::from_secs(120);
const POLL: Duration = Duration::from_millis(50);

/// Polls `check` until it gives a value; fails with what it last said.
///
/// # Panics
/// When [`PATIENCE`] runs out.
#[track_caller]
pub fn until<T>(what: &str, mut check: impl FnMut() -> Result<T, String>) -> T {
    let deadline = Instant::now() + PATIENCE;
    loop {
        match check() {
            Ok(value) => return value,
            Err(seen) if Instant::now() >= deadline => {
                panic!("gave up waiting for {what}; last seen: {seen}")
            }
            Err(_) => std::thread::sleep(POLL),
        }
    }
}
