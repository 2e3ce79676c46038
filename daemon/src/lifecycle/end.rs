//! How a daemon ends: by whom, and with which code.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio_util::sync::CancellationToken;

use super::PANICKED;

/// Longest an orderly end may take after a panic; then the process ends as it is.
const PATIENCE: Duration = Duration::from_secs(20);

/// Why the daemon ends.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Why {
    /// Somebody asked, over the socket.
    Asked,
    /// SIGTERM or SIGINT.
    Signal,
    /// Nobody used it.
    Unused,
    /// A part it cannot do without ended.
    Failed,
    /// A task panicked.
    Panicked,
}

impl Why {
    /// The exit code this makes.
    #[must_use]
    pub fn code(self) -> u8 {
        match self {
            Self::Asked | Self::Signal | Self::Unused => 0,
            Self::Failed => 1,
            Self::Panicked => PANICKED,
        }
    }
}

/// The end of the process, which anybody may bring about and everybody sees.
#[derive(Debug, Default)]
pub struct Ending {
    token: CancellationToken,
    why: Mutex<Option<Why>>,
}

impl Ending {
    /// Begins the end. The first reason stands, except that a panic outranks all.
    pub fn begin(&self, why: Why) {
        let mut first = self.why.lock().unwrap_or_else(PoisonError::into_inner);
        if first.is_none() || why == Why::Panicked {
            *first = Some(why);
        }
        drop(first);
        self.token.cancel();
    }

    /// Cancelled when the end begins.
    #[must_use]
    pub fn token(&self) -> &CancellationToken {
        &self.token
    }

    /// Why, once it has begun.
    #[must_use]
    pub fn why(&self) -> Option<Why> {
        *self.why.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// From now on a panic anywhere is logged and ends the process: a colony that lost one of its tasks
/// would go on looking alive.
pub(super) fn end_on_panic(ending: std::sync::Weak<Ending>) {
    std::panic::set_hook(Box::new(move |panic| {
        let trace = std::backtrace::Backtrace::force_capture();
        tracing::error!("{panic}\n{trace}");
        if let Some(ending) = ending.upgrade() {
            let first = ending.why() != Some(Why::Panicked);
            ending.begin(Why::Panicked);
            if !first {
                return;
            }
        }
        std::thread::spawn(|| {
            std::thread::sleep(PATIENCE);
            std::process::exit(i32::from(PANICKED));
        });
    }));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_reason_stands_but_a_panic_outranks_it() {
        let ending = Ending::default();
        assert!(!ending.token().is_cancelled());
        ending.begin(Why::Asked);
        ending.begin(Why::Signal);
        assert_eq!(ending.why().map(Why::code), Some(0));
        ending.begin(Why::Panicked);
        assert_eq!(ending.why().map(Why::code), Some(101));
        assert!(ending.token().is_cancelled());
    }

    /// Tells the test that it is its own child: the hook is the whole process's.
    const CHILD: &str = "CORAL_TEST_PANIC_CHILD";

    /// A task panics; the process ends with what the hook made of it.
    fn child() -> ! {
        let code = tokio::runtime::Runtime::new().unwrap().block_on(async {
            let ending = std::sync::Arc::new(Ending::default());
            end_on_panic(std::sync::Arc::downgrade(&ending));
            let task = tokio::spawn(async { panic!("a task fell over") });
            ending.token().cancelled().await;
            _ = task.await;
            if ending.why() == Some(Why::Panicked) { 42 } else { 43 }
        });
        std::process::exit(code)
    }

    #[test]
    fn a_panic_in_any_task_ends_the_process() {
        if std::env::var_os(CHILD).is_some() {
            child();
        }
        let name = "lifecycle::end::tests::a_panic_in_any_task_ends_the_process";
        let output = std::process::Command::new(std::env::current_exe().unwrap())
            .args(["--exact", name, "--nocapture"])
            .env(CHILD, "1")
            .output()
            .unwrap();
        assert_eq!(output.status.code(), Some(42), "{output:?}");
    }
}
